package agentd

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/gantry-project/gantry/kernel/api"
)

func TestDoorKnowsTokens(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	door, err := openDoor(file, "/gantry-00000000")
	if err != nil {
		t.Fatal(err)
	}
	again, err := openDoor(file, "/gantry-00000000")
	if err != nil {
		t.Fatal(err)
	}
	if door.token("c1-1") == door.token("c1-2") || door.token("c1-1") != again.token("c1-1") {
		t.Error("a token must be its container's alone, and stay so over a restart")
	}
	for token, admitted := range map[string]bool{door.token("c1-1"): true, door.token("c1-2"): false, door.secret: false, "x": false} {
		if err := door.Admit("c1-1", api.ExecutorCaller{Token: token}); (err == nil) != admitted {
			t.Errorf("token %.8s…: %v", token, err)
		}
	}
}

// A connection is known by the file that holds its other end.
func TestDoorFindsSockets(t *testing.T) {
	for _, network := range []string{"tcp4", "tcp6"} {
		l, err := net.Listen(network, "localhost:0")
		if err != nil {
			t.Logf("no %s here: %v", network, err)
			continue
		}
		defer l.Close()
		conn, err := net.Dial(network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		file, err := conn.(*net.TCPConn).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		want, err := os.Readlink(filepath.Join("/proc/self/fd", strconv.Itoa(int(file.Fd()))))
		if err != nil {
			t.Fatal(err)
		}
		// For the server, what is local to the caller is remote.
		got, err := findSocket(api.ExecutorCaller{Remote: conn.LocalAddr().String(), Local: l.Addr().String()})
		if err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", network, got, err, want)
		}
		if none, err := findSocket(api.ExecutorCaller{Remote: l.Addr().String(), Local: l.Addr().String()}); none != "" || err != nil {
			t.Errorf("%s: a connection that is none: %q, %v", network, none, err)
		}
	}
}
