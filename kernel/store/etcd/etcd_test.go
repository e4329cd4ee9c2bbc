package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/kernel/store"
	"github.com/gantry-project/gantry/kernel/store/etcd"
	"github.com/gantry-project/gantry/kernel/store/storetest"
)

// server starts an etcd as the system has it, with all its usual limits, and returns where it answers.
func server(t *testing.T) (endpoint string) {
	t.Helper()
	binary, err := exec.LookPath("etcd")
	if err != nil {
		if os.Getenv("GANTRY_REQUIRE_ROOT") != "" {
			t.Fatal("etcd is not installed: make test-deps installs it")
		}
		t.Skip("etcd is not installed")
	}
	at, peer := free(t), free(t)
	cmd := exec.Command(binary, "--data-dir", t.TempDir(), "--name", "one", "--initial-cluster", "one=http://"+peer,
		"--listen-client-urls", "http://"+at, "--advertise-client-urls", "http://"+at,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer, "--log-level", "error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return at
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func dial(t *testing.T, endpoint, prefix string) *etcd.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		c, err := etcd.Dial(ctx, etcd.Config{Endpoints: []string{endpoint}, Prefix: prefix})
		if err == nil {
			t.Cleanup(func() { c.Close() })
			return c
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}

func lead(t *testing.T, c *etcd.Cluster, announcement string) *etcd.Store {
	t.Helper()
	s, err := c.Lead(t.Context(), announcement)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestEtcdConforms(t *testing.T) {
	endpoint, n := server(t), 0
	storetest.Run(t, func(t *testing.T) func() store.Store {
		n++
		cluster := dial(t, endpoint, fmt.Sprintf("/%d/", n))
		return func() store.Store { return lead(t, cluster, "here") }
	})
}

func put(key, value string) store.Txn {
	return store.Txn{Puts: []store.Entry{{Key: key, Value: []byte(value)}}}
}

// anyone is a ballot that elects whoever stands.
type anyone struct{}

func (anyone) Elect(ctx context.Context, _ string) (context.Context, func(), error) {
	return ctx, func() {}, nil
}
func (anyone) Leader(context.Context) (string, error) { return "", nil }
func (anyone) Close() error                           { return nil }

func TestOneOfTwoLeadersWrites(t *testing.T) {
	cluster := etcd.WithBallot(dial(t, server(t), "/x/"), anyone{})
	first := lead(t, cluster, "")
	if _, err := first.Apply(t.Context(), put("k", "first")); err != nil {
		t.Fatal(err)
	}
	second := lead(t, cluster, "")
	if _, err := second.Apply(t.Context(), put("k", "second")); err != nil {
		t.Fatal(err)
	}
	large := store.Txn{}
	for i := range 300 {
		large.Puts = append(large.Puts, store.Entry{Key: fmt.Sprint("k", i)})
	}
	for name, ask := range map[string]func(s store.Store) error{
		"a write":       func(s store.Store) error { _, err := s.Apply(t.Context(), put("k", "late")); return err },
		"a large write": func(s store.Store) error { _, err := s.Apply(t.Context(), large); return err },
		"a mere check":  func(s store.Store) error { _, err := s.Apply(t.Context(), store.Txn{}); return err },
		"a failed check": func(s store.Store) error {
			_, err := s.Apply(t.Context(), store.Txn{Conditions: []store.Condition{{Key: "k"}}})
			return err
		},
		"a list": func(s store.Store) error { _, _, err := s.List(t.Context(), "", "", 0); return err },
	} {
		if err := ask(first); !errors.Is(err, store.ErrDeposed) {
			t.Errorf("%s of a deposed leader: %v, want ErrDeposed", name, err)
		}
	}
	select {
	case <-first.Lost():
	default:
		t.Error("the deposed leader does not know that it is")
	}
	entries, _, err := second.List(t.Context(), "", "", 0)
	if err != nil || len(entries) != 1 || string(entries[0].Value) != "second" {
		t.Errorf("the leader reads %v, %v", entries, err)
	}
}

func TestALargeTransactionIsWholeWhereverItIsInterrupted(t *testing.T) {
	endpoint := server(t)
	large := store.Txn{Deletes: []string{"gone"}}
	for i := range 230 {
		large.Puts = append(large.Puts, store.Entry{Key: fmt.Sprintf("k%03d", i), Value: []byte(strings.Repeat("v", 9000))})
	}
	for stop := 0; ; stop++ {
		plain := dial(t, endpoint, fmt.Sprintf("/%d/", stop))
		cluster, cut := etcd.Interrupted(plain)
		s := lead(t, etcd.WithBallot(cluster, anyone{}), "")
		before, err := s.Apply(t.Context(), put("gone", "x"))
		if err != nil {
			t.Fatal(err)
		}
		cut(stop)
		res, failed := s.Apply(t.Context(), large)
		s = lead(t, etcd.WithBallot(plain, anyone{}), "")
		entries, _, err := s.List(t.Context(), "", "", 0)
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case len(entries) == 1 && entries[0].Key == "gone" && failed != nil:
		case len(entries) == 230 && entries[7].Revision == before.Revision+1 && entries[229].Revision == before.Revision+1:
		default:
			t.Fatalf("interrupted at request %d: %d entries, %v", stop, len(entries), failed)
		}
		next, err := s.Apply(t.Context(), put("next", ""))
		if err != nil || next.Revision <= before.Revision {
			t.Fatalf("the next transaction: %+v, %v", next, err)
		}
		if failed == nil {
			if res.Revision != before.Revision+1 || stop < 5 {
				t.Fatalf("whole after %d requests: %+v", stop, res)
			}
			return
		}
	}
}

func TestALeaderGoesAndTheNextComes(t *testing.T) {
	endpoint := server(t)
	a, b := dial(t, endpoint, "/x/"), dial(t, endpoint, "/x/")
	if at, err := b.Leader(t.Context()); err != nil || at != "" {
		t.Fatalf("before anyone leads: %q, %v", at, err)
	}
	first := lead(t, a, "at a")
	if at, err := b.Leader(t.Context()); err != nil || at != "at a" {
		t.Fatalf("while a leads: %q, %v", at, err)
	}
	next := make(chan *etcd.Store)
	go func() {
		s, err := b.Lead(t.Context(), "at b")
		if err != nil {
			t.Error(err)
		}
		next <- s
	}()
	if _, err := first.Apply(t.Context(), put("k", "1")); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second := <-next
	defer second.Close()
	if at, err := a.Leader(t.Context()); err != nil || at != "at b" {
		t.Fatalf("while b leads: %q, %v", at, err)
	}
	if entries, _, err := second.List(t.Context(), "", "", 0); err != nil || len(entries) != 1 {
		t.Fatalf("b reads %v, %v", entries, err)
	}
}
