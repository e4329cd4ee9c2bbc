package masterd

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDoorStaysOpenWhileWhoServesChanges(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d := newDoor(l)
	greet := func(l net.Listener, name string) {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, name)
			conn.Close()
		}
	}
	call := func() net.Conn {
		conn, err := net.Dial("tcp", d.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	for _, name := range []string{"first", "second"} {
		early := call() // while nobody serves
		tenant := d.lend()
		go greet(tenant, name)
		for _, conn := range []net.Conn{early, call()} {
			if text, err := io.ReadAll(conn); err != nil || string(text) != name {
				t.Errorf("%s serves, and said %q, %v", name, text, err)
			}
		}
		if err := tenant.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := tenant.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("who has given the door back accepts: %v", err)
		}
	}
	waiting := call()
	d.Close()
	if _, err := d.lend().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed door accepts: %v", err)
	}
	if text, _ := io.ReadAll(waiting); len(text) != 0 { // it is hung up on, one way or the other
		t.Errorf("a closed door says %q", text)
	}
}

func TestStoreIsChecked(t *testing.T) {
	peers := map[string]string{"a": "http://127.0.0.1:1", "b": "http://127.0.0.1:2"}
	begun := t.TempDir()
	if err := os.WriteFile(filepath.Join(begun, boltFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		config Config
		want   string
	}{
		"bolt":               {Config{Store: "bolt"}, ""},
		"embedded":           {Config{Store: "etcd-embedded", Name: "a", Peers: peers}, ""},
		"external":           {Config{Store: "etcd://127.0.0.1:2379,[::1]:2379"}, ""},
		"nothing":            {Config{Store: "zookeeper"}, "bolt, etcd-embedded or etcd://"},
		"peers of bolt":      {Config{Store: "bolt", Peers: peers}, "for --store etcd-embedded"},
		"name of external":   {Config{Store: "etcd://127.0.0.1:2379", Name: "a"}, "for --store etcd-embedded"},
		"none of the peers":  {Config{Store: "etcd-embedded", Name: "c", Peers: peers}, "none of the peers"},
		"far peers":          {Config{Store: "etcd-embedded", Name: "a", Peers: map[string]string{"a": "http://192.0.2.1:1"}}, "only a loopback address"},
		"no endpoint":        {Config{Store: "etcd://"}, "not HOST:PORT"},
		"a URL":              {Config{Store: "etcd://http://127.0.0.1"}, "not HOST:PORT"},
		"another store here": {Config{Store: "etcd://127.0.0.1:2379", WorkDir: begun}, "was written with --store bolt"},
	} {
		if c.config.WorkDir == "" {
			c.config.WorkDir = t.TempDir()
		}
		err := c.config.checkStore()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
