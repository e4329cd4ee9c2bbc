package up

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
)

func TestListeners(t *testing.T) {
	for _, c := range []struct {
		listen string
		agents int
		want   string // master link agents, or a part of the error
	}{
		{"127.0.0.1:5050", 1, "127.0.0.1:5050 127.0.0.1:5049 127.0.0.1:5051"},
		{"127.0.0.1:5050", 2, "127.0.0.1:5050 127.0.0.1:5049 127.0.0.1:5051 127.0.0.1:5052"},
		{"[::1]:0", 1, "[::1]:0 [::1]:0 [::1]:0"},
		{"localhost:7000", 1, "localhost:7000 localhost:6999 localhost:7001"},
		{"0.0.0.0:5050", 1, "reachable from other machines"},
		{":5050", 1, "reachable from other machines"},
		{"example.org:5050", 1, "reachable from other machines"},
		{"5050", 1, "not HOST:PORT"},
		{"127.0.0.1:65535", 1, "leave room"},
		{"127.0.0.1:1", 1, "leave room"},
		{"127.0.0.1:http", 1, "leave room"},
	} {
		config := Config{Listen: c.listen, Masters: 1, Agents: c.agents}
		l, err := config.listeners()
		var got string
		if err != nil {
			got = err.Error()
		} else {
			got = strings.Join(append([]string{l.masters[0].api, l.masters[0].link}, l.agents...), " ")
		}
		if !strings.Contains(got, c.want) {
			t.Errorf("--listen %s with %d agents: %s; want %s", c.listen, c.agents, got, c.want)
		}
	}
}

func TestClaimsOfPortsAreApart(t *testing.T) {
	dir := t.TempDir()
	first, claim, err := claimPorts(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { claim.Close() }()
	second, other, err := claimPorts(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if first.high >= second.low && second.high >= first.low {
		t.Errorf("%s and %s overlap", first, second)
	}
	if err := errors.Join(claim.Close(), other.Close()); err != nil {
		t.Fatal(err)
	}
	// What was given out last is asked for first: tasks may have outlived the supervisor with ports of it.
	again, claim, err := claimPorts(dir, true)
	if err != nil || again != second {
		t.Errorf("%s the next time, after %s: %v", again, second, err)
	}
}

func TestAgentResources(t *testing.T) {
	if text, err := agentResources(0, 1, usual); text != "" || err != nil {
		t.Errorf("one agent alone on the host: %q, %v; want nothing said", text, err)
	}
	if text, err := agentResources(0, 1, portRange{20001, 20199}); text != "ports:[20001-20199]" || err != nil {
		t.Errorf("one agent of a second cluster: %q, %v", text, err)
	}
	text, err := agentResources(1, 2, portRange{101, 200})
	if err != nil || !strings.HasPrefix(text, "cpus:") || !strings.HasSuffix(text, ";ports:[151-200]") {
		t.Errorf("the second of two agents: %q, %v", text, err)
	}
}

func TestDemoTellsWhatIsMissing(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/queue" {
			fmt.Fprint(w, `{"queue":[{"app":{"id":"/hello-web"},"why":"a host offers 8 mem, one instance asks for 32",
				"processedOffersSummary":{"rejectSummaryLastOffers":[{"reason":"InsufficientCpus","declined":0},{"reason":"InsufficientMemory","declined":2}]}}]}`)
			return
		}
		fmt.Fprint(w, `{"app":{"id":"/hello-web","instances":2}}`)
	}))
	defer server.Close()
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	at := server.Listener.Addr().String()
	_, err := demo{client: client.New(at, at), marathon: at, binary: program, artifact: filepath.Join(dir, "copy")}.run(t.Context())
	if want := "0 of 2 instances answer: a host offers 8 mem"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q in it", err, want)
	}
}

func TestLogShowsProblemsAndStaysBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "logs/x.log")
	os.MkdirAll(filepath.Dir(path), 0o755)
	os.WriteFile(path, []byte("level=ERROR msg=\"of an earlier run\"\n"), 0o600)
	l, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	now := time.Unix(0, 0)
	l.f.WriteString("level=INFO msg=fine\nlevel=WARN msg=\x1b[2Jodd\nlevel=ERROR msg=cut")
	got, err := l.problems(now)
	if want := []string{"level=WARN msg=?[2Jodd"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("problems = %q, %v; want %q", got, err, want)
	}
	l.f.WriteString(" short\n")
	if got, err = l.problems(now); err != nil || !reflect.DeepEqual(got, []string{"level=ERROR msg=cut short"}) {
		t.Fatalf("the line that was completed: %q, %v", got, err)
	}
	l.f.WriteString(strings.Repeat("panic: again\n", 100))
	if got, err = l.problems(now); err != nil || len(got) != shownLines-2 || !strings.Contains(got[len(got)-1], path) {
		t.Fatalf("of 100 problems %d are shown, %v; the last is %q", len(got), err, got[len(got)-1])
	}
	l.f.WriteString(strings.Repeat(strings.Repeat("x", 1023)+"\n", maxLogBytes/1024))
	if _, err := l.problems(now); err != nil {
		t.Fatal(err)
	}
	now1, err1 := os.Stat(path)
	old, err2 := os.Stat(path + ".1")
	if err1 != nil || err2 != nil || now1.Size() != 0 || old.Size() < maxLogBytes {
		t.Fatalf("after rotation: %v %v, %v %v", now1, err1, old, err2)
	}
}
