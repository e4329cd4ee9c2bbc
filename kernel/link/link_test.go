package link_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/gantry-project/gantry/kernel/link"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const token = "secret"

// serve starts a master's side, and an HTTP server that says where it is.
func serve(t *testing.T, cfg link.ServerConfig) (master string) {
	t.Helper()
	cfg.Check = func(got string) bool { return got == token }
	cfg.Log = slog.New(slog.DiscardHandler)
	server := link.NewServer(cfg)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	where := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != link.AddressPath {
			http.NotFound(w, r)
			return
		}
		io.WriteString(w, `{"address":"`+l.Addr().String()+`","epoch":1}`)
	}))
	t.Cleanup(func() {
		where.Close()
		server.Stop()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		http.DefaultClient.CloseIdleConnections()
	})
	return where.URL
}

func dial(t *testing.T, masters ...string) *link.Conn {
	t.Helper()
	conn, err := link.Dial(t.Context(), link.DialConfig{Masters: masters, Token: token})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func hello(version string) *linkpb.ToMaster {
	return &linkpb.ToMaster{Body: &linkpb.ToMaster_Hello{Hello: &linkpb.Hello{Version: version}}}
}

func ping(epoch uint64) *linkpb.ToAgent {
	return &linkpb.ToAgent{Epoch: epoch, Body: &linkpb.ToAgent_Ping{Ping: &linkpb.Ping{}}}
}

// echo answers n hellos with as many pings, and then hangs up.
func echo(n uint64) func(context.Context, *link.Session) error {
	return func(_ context.Context, s *link.Session) error {
		for i := range n {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			if m.GetHello() == nil {
				return errors.New("no hello")
			}
			if err := s.Send(ping(i + 1)); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestConversation(t *testing.T) {
	conn := dial(t, serve(t, link.ServerConfig{Serve: echo(3)}))
	for i := range uint64(3) {
		if err := conn.Send(hello("1")); err != nil {
			t.Fatal(err)
		}
		m, err := conn.Recv()
		if err != nil || m.Epoch != i+1 {
			t.Fatalf("got %v, %v; want ping %d", m, err, i+1)
		}
	}
	if m, err := conn.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v, %v after the master hung up", m, err)
	}
	if err := conn.Send(hello("1")); !errors.Is(err, io.EOF) {
		t.Fatalf("got %v sending after the end", err)
	}
}

// What was sent before a Close arrives, in both directions.
func TestCloseFlushes(t *testing.T) {
	const n = 1000
	heard := make(chan int, 1)
	master := serve(t, link.ServerConfig{Serve: func(_ context.Context, s *link.Session) error {
		for i := range uint64(n) {
			if err := s.Send(ping(i)); err != nil {
				return err
			}
		}
		s.Close()
		count := 0
		for {
			if _, err := s.Recv(); err != nil {
				heard <- count
				return nil
			}
			count++
		}
	}})
	conn := dial(t, master)
	for i := range uint64(n) {
		if m, err := conn.Recv(); err != nil || m.Epoch != i {
			t.Fatalf("message %d: %v, %v", i, m, err)
		}
	}
	<-heard

	other := serve(t, link.ServerConfig{Serve: func(_ context.Context, s *link.Session) error {
		count := 0
		for {
			if _, err := s.Recv(); err != nil {
				heard <- count
				return err
			}
			count++
		}
	}})
	conn = dial(t, other)
	for range n {
		if err := conn.Send(hello("1")); err != nil {
			t.Fatal(err)
		}
	}
	conn.Close()
	if got := <-heard; got != n {
		t.Fatalf("the master heard %d of %d messages", got, n)
	}
}

func TestContextEndsWithTheStream(t *testing.T) {
	ended := make(chan struct{})
	conn := dial(t, serve(t, link.ServerConfig{Serve: func(ctx context.Context, _ *link.Session) error {
		<-ctx.Done()
		close(ended)
		return ctx.Err()
	}}))
	conn.Close()
	<-ended
}

func TestSlowReaderIsDisconnected(t *testing.T) {
	result := make(chan error, 1)
	dial(t, serve(t, link.ServerConfig{Serve: func(_ context.Context, s *link.Session) error {
		large := &linkpb.ToAgent{Body: &linkpb.ToAgent_Refused{Refused: &linkpb.Refused{Message: strings.Repeat("x", 1<<16)}}}
		for {
			if err := s.Send(large); err != nil {
				_, again := s.Recv()
				result <- errors.Join(err, again)
				return err
			}
		}
	}}))
	if err := <-result; !errors.Is(err, link.ErrSlow) {
		t.Fatalf("got %v; want ErrSlow", err)
	}
}

func TestRefusals(t *testing.T) {
	quiet := func(ctx context.Context, _ *link.Session) error { <-ctx.Done(); return nil }
	master := serve(t, link.ServerConfig{Serve: quiet, MaxStreams: 1})
	if _, err := link.Dial(t.Context(), link.DialConfig{Masters: []string{master}, Token: "wrong"}); !errors.Is(err, link.ErrDenied) {
		t.Errorf("a wrong token: %v", err)
	}
	if _, err := link.Dial(t.Context(), link.DialConfig{Token: token}); err == nil {
		t.Error("no masters: no error")
	}
	elsewhere := httptest.NewServer(http.NotFoundHandler())
	defer elsewhere.Close()
	nonsense := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"address":"here"}`) }))
	defer nonsense.Close()
	for _, bad := range []string{elsewhere.URL, nonsense.URL, "127.0.0.1:1", "http://%zz"} {
		_, err := link.Dial(t.Context(), link.DialConfig{Masters: []string{bad}, Token: token})
		if err == nil || !strings.Contains(err.Error(), bad) {
			t.Errorf("dialling %s: %v", bad, err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := link.Dial(gone, link.DialConfig{Masters: []string{master}, Token: token}); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that has ended: %v", err)
	}
}

// The second master is asked when the first does not answer; a standby redirects.
func TestOtherMasters(t *testing.T) {
	leader := serve(t, link.ServerConfig{Serve: echo(1)})
	standby := httptest.NewServer(http.RedirectHandler(leader+link.AddressPath, http.StatusTemporaryRedirect))
	defer standby.Close()
	conn := dial(t, "127.0.0.1:1", strings.TrimPrefix(standby.URL, "http://"))
	if err := conn.Send(hello("1")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Recv(); err != nil {
		t.Fatal(err)
	}
}

// Of several masters one says that there is a newer leader, and the one that the agent is attached to says nothing.
func TestANewerLeaderIsNoticed(t *testing.T) {
	held := make(chan struct{})
	first := serve(t, link.ServerConfig{Serve: func(ctx context.Context, s *link.Session) error {
		<-held
		return nil
	}})
	t.Cleanup(func() { close(held) })
	var newer atomic.Bool
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !newer.Load() {
			http.Redirect(w, r, first+link.AddressPath, http.StatusTemporaryRedirect)
			return
		}
		io.WriteString(w, `{"address":"127.0.0.1:1","epoch":2}`)
	}))
	defer second.Close()
	conn := dial(t, second.URL, first)
	newer.Store(true)
	if _, err := conn.Recv(); !errors.Is(err, link.ErrNewer) {
		t.Errorf("the stream to the older leader ended with %v, want ErrNewer", err)
	}
}

func TestPair(t *testing.T) {
	session, conn := link.Pair()
	if err := conn.Send(hello("1")); err != nil {
		t.Fatal(err)
	}
	if m, err := session.Recv(); err != nil || m.GetHello().GetVersion() != "1" {
		t.Fatal(m, err)
	}
	if err := session.Send(ping(7)); err != nil {
		t.Fatal(err)
	}
	session.Close()
	session.Close()
	if m, err := conn.Recv(); err != nil || m.Epoch != 7 {
		t.Fatalf("what was sent before the close: %v, %v", m, err)
	}
	if _, err := conn.Recv(); !errors.Is(err, link.ErrClosed) {
		t.Fatal(err)
	}
	if err := conn.Send(hello("2")); !errors.Is(err, link.ErrClosed) {
		t.Fatal(err)
	}
	session, conn = link.Pair()
	for err := error(nil); !errors.Is(err, link.ErrSlow); {
		err = conn.Send(hello("1"))
	}
	if _, err := session.Recv(); err != nil {
		t.Fatal("the first of many was lost:", err)
	}
}
