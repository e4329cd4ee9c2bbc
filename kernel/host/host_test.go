package host

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gantry-project/gantry/isolators/cgroup"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
)

// hostDirEnv makes the test binary a host of its own, for a test that kills it.
const hostDirEnv = "GANTRY_TEST_HOST_DIR"

// binary is the plugin of testdata/plugin.
var binary string

func TestMain(m *testing.M) {
	if dir := os.Getenv(hostDirEnv); dir != "" {
		hostUntilKilled(dir, os.Args[1])
	}
	dir, err := os.MkdirTemp("", "gantry-host-test-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "plugin")
	build := exec.Command("go", "build", "-o", binary, "./testdata/plugin")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// hostUntilKilled runs a host of the plugin binary and prints the pid of its process.
func hostUntilKilled(dir, binary string) {
	cfg := Config{
		Manifest:      Manifest{Plugins: []Entry{{Name: "stubborn", Kind: Framework, Path: binary, MemoryMB: 64}}},
		Dir:           filepath.Join(dir, "run"),
		MasterAddress: func() string { return "" },
		Frameworks:    sink{},
		Log:           slog.New(slog.DiscardHandler),
	}
	h, err := New(cfg)
	if err != nil {
		panic(err)
	}
	go func() { panic(h.Run(context.Background())) }()
	for range time.Tick(5 * time.Millisecond) {
		if s := h.Status()[0]; s.State == Running {
			fmt.Println(s.Pid)
			select {}
		}
	}
}

// sink talks with plugins as little as it can.
type sink struct {
	answers chan *allocatorpb.FromAllocator
}

func (s sink) ServeAllocator(_ context.Context, _ string, config []byte, st AllocatorStream) error {
	snapshot := &allocatorpb.Snapshot{ConfigJson: config, Agents: []*allocatorpb.Agent{{Id: "S0"}}}
	err := st.Send(&allocatorpb.ToAllocator{Epoch: 7, Revision: 8, Body: &allocatorpb.ToAllocator_Snapshot{Snapshot: snapshot}})
	for err == nil {
		var m *allocatorpb.FromAllocator
		if m, err = st.Recv(); err == nil && s.answers != nil {
			s.answers <- m
		}
	}
	return fmt.Errorf("hear the allocator: %w", err)
}

func (sink) ServeFramework(_ context.Context, start *frameworkpb.Start, st FrameworkStream) error {
	err := st.Send(&frameworkpb.ToFramework{Body: &frameworkpb.ToFramework_Start{Start: start}})
	for err == nil {
		_, err = st.Recv()
	}
	return fmt.Errorf("hear the framework: %w", err)
}

// records keeps what is logged.
type records struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *records) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *records) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// hosted is a host under test.
type hosted struct {
	*Host
	t    *testing.T
	log  *records
	stop func()
}

func quick() pace {
	return pace{
		start: 5 * time.Second, stop: time.Second, health: 50 * time.Millisecond,
		minPause: time.Millisecond, maxPause: 10 * time.Millisecond,
		settled: time.Hour, maxFailures: 3, missed: 3,
	}
}

// launch starts a host of the entries; what change does to it comes first.
func launch(t *testing.T, change func(*Config, *pace), entries ...Entry) *hosted {
	t.Helper()
	log := &records{}
	cfg := Config{
		Manifest:      Manifest{Path: "plugins.toml", Plugins: entries},
		Dir:           filepath.Join(t.TempDir(), "run"),
		MasterAddress: func() string { return "127.0.0.1:5050" },
		Allocators:    sink{},
		Frameworks:    sink{},
		Secure:        func(h http.Handler) http.Handler { return h },
		Log:           slog.New(slog.NewTextHandler(log, nil)),
	}
	p := quick()
	if change != nil {
		change(&cfg, &p)
	}
	h, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.pace = p
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the host did not end")
		}
		for _, dir := range []string{h.cfg.Dir, h.sockets} {
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", dir, err)
			}
		}
	})
	t.Cleanup(stop)
	return &hosted{h, t, log, stop}
}

func misbehaving(name string) Entry {
	return Entry{Name: name, Kind: Framework, Path: binary, Config: []byte("{}"), MemoryMB: 256, Line: 1}
}

// await waits until the only plugin is as it should be.
func (h *hosted) await(what string, is func(Status) bool) Status {
	h.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		s := h.Status()[0]
		if is(s) {
			return s
		}
		select {
		case <-deadline:
			h.t.Fatalf("not %s: %+v\n%s", what, s, h.log)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (h *hosted) awaitState(want State) Status {
	h.t.Helper()
	return h.await(string(want), func(s Status) bool { return s.State == want })
}

// awaitGone waits until the process has ended.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	for errors.Is(err, unix.EINTR) {
		n, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10_000)
	}
	if n != 1 || err != nil {
		t.Fatalf("process %d still lives (%v)", pid, err)
	}
}

func TestHTTPOfAPlugin(t *testing.T) {
	e := misbehaving("web")
	e.Listen = "127.0.0.1:8080"
	h := launch(t, func(c *Config, _ *pace) { c.Ephemeral = true }, e)
	address := h.Listeners()["web"]
	get := func(path string) (int, string, http.Header) {
		t.Helper()
		request, err := http.NewRequest(http.MethodGet, "http://"+address, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.URL.Opaque = "http://" + address + path // as it is, on the wire
		request.Header.Set("X-Gantry-Principal", "root")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body), answer.Header
	}
	status, body, header := get("/")
	for status == http.StatusServiceUnavailable {
		if header.Get("Retry-After") == "" || !strings.Contains(body, "web is not ready") {
			t.Fatalf("503 with %q and %v", body, header)
		}
		status, body, header = get("/")
	}
	for _, path := range []string{"/", "//a//b", "/v2/apps/%2Fprod%2Fweb/tasks", "/a/../b/./c", "/x?a=1;b=2&c=%zz", "/%7Euser/%e4", "/?"} {
		status, body, _ := get(path)
		if want := fmt.Sprintf("%s %s []", path, address); status != 200 || body != want {
			t.Errorf("GET %s: %d %s, want %s", path, status, body, want)
		}
	}
	pid := h.awaitState(Running).Pid
	h.stop()
	awaitGone(t, pid)
	if _, err := http.Get("http://" + address); err == nil {
		t.Error("the listener is still open")
	}
}

func TestAllocatorConversation(t *testing.T) {
	answers := make(chan *allocatorpb.FromAllocator, 1)
	h := launch(t, func(c *Config, _ *pace) { c.Allocators = sink{answers: answers} },
		Entry{Name: "echo", Kind: Allocator, Path: binary, Config: []byte(`{"who":"me"}`), MemoryMB: 256})
	select {
	case m := <-answers:
		if m.Epoch != 7 || m.Revision != 8 || len(m.Grants) != 1 || m.Grants[0].AgentId != "S0" {
			t.Fatalf("the plugin answered %v", m)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no answer\n", h.log)
	}
}

// Each of these ends in giving up, in bounded time and with a reason.
func TestPluginsThatDoNotWork(t *testing.T) {
	for _, test := range []struct{ name, reason string }{
		{"hang", "timeout while waiting for plugin to start"},
		{"garbage", "Unrecognized remote plugin message: [31mhello, world"},
		{"long", "Unrecognized remote plugin message"},
		{"quits", "its last words: no configuration, no work"},
		{"fails", "I would rather not"},
		{"returns", "the plugin ended the conversation"},
		{"stops", "failed 3 health checks in a row"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := launch(t, func(_ *Config, p *pace) {
				p.stop = 50 * time.Millisecond
				if test.name == "hang" {
					p.start = 100 * time.Millisecond
				}
			}, misbehaving(test.name))
			s := h.awaitState(GivenUp)
			if !strings.Contains(s.Message, test.reason) || strings.ContainsRune(s.Message, '\x1b') {
				t.Errorf("given up because %q, want %q", s.Message, test.reason)
			}
			if s.Restarts != 2 || s.Pid != 0 {
				t.Errorf("given up after %d restarts with process %d", s.Restarts, s.Pid)
			}
		})
	}
}

func TestAllocatorThatRefusesItsConfiguration(t *testing.T) {
	h := launch(t, nil, Entry{Name: "echo", Kind: Allocator, Path: binary, Config: []byte(`{}`), MemoryMB: 256})
	if s := h.awaitState(GivenUp); !strings.Contains(s.Message, "configuration: nobody configured me") {
		t.Fatal(s.Message)
	}
}

func TestKilledPluginIsStartedAgain(t *testing.T) {
	h := launch(t, nil, misbehaving("idle"))
	first := h.awaitState(Running)
	if err := syscall.Kill(first.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.await("running again", func(s Status) bool { return s.State == Running && s.Pid != first.Pid && s.Restarts == 1 })
	if log := h.log.String(); !strings.Contains(log, "the process ended: signal: killed") {
		t.Error(log)
	}
}

// The plugin ignores that its conversation ended. A better one would leave by itself, and a
// stopped one gets SIGHUP as a member of an orphaned process group: neither would show
// that the parent-death signal is there.
func TestPluginsDieWithAHostThatIsKilled(t *testing.T) {
	dir := t.TempDir()
	host := exec.Command(os.Args[0], binary)
	host.Env = append(os.Environ(), hostDirEnv+"="+dir)
	out, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	var pid int
	_, scanErr := fmt.Sscan(line, &pid)
	_ = host.Process.Kill()
	_ = host.Wait()
	_ = os.RemoveAll(socketDir(filepath.Join(dir, "run"))) // nobody else will
	if err != nil || scanErr != nil {
		t.Fatalf("the host said %q (%v)", line, err)
	}
	awaitGone(t, pid)
}

// A plugin that listens but has not said that it is ready gets no traffic.
func TestNoTrafficBeforeReady(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "http")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	plugin := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "served") })}
	go plugin.Serve(listener)
	defer plugin.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFront(l, newDoor("web", socket), func(h http.Handler) http.Handler { return h })
	defer f.close()
	get := func() (int, string) {
		w := httptest.NewRecorder()
		f.server.Handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		return w.Code, w.Body.String()
	}
	if code, body := get(); code != 503 {
		t.Errorf("before ready: %d %s", code, body)
	}
	f.server.Handler.(*door).ready.Store(true)
	if code, body := get(); code != 200 || body != "served" {
		t.Errorf("when ready: %d %s", code, body)
	}
}

// A service answers at its own path, and at home for whatever is left over; what it says of its pages is
// not watered down by what the host says of everything.
func TestServicesHavePages(t *testing.T) {
	page := func(name string, home bool) Entry {
		e := misbehaving(name)
		e.Kind, e.Home = Service, home
		return e
	}
	h := launch(t, nil, page("page", true), page("other", false))
	strict := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'")
		if handler := h.Pages(r.URL.Path); handler != nil {
			handler.ServeHTTP(w, r)
			return
		}
		http.Error(w, "nobody", http.StatusNotFound)
	}
	get := func(path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		strict(w, httptest.NewRequest(http.MethodGet, "http://127.0.0.1:5050"+path, nil))
		return w
	}
	h.await("serving", func(Status) bool { return get("/").Code != 503 && get("/plugins/other/").Code != 503 })
	const where = `"/plugins/page/" home=true master=127.0.0.1:5050`
	for path, want := range map[string]string{
		"/":                  "page / " + where,
		"/a//b?c=%2F":        "page /a//b?c=%2F " + where,
		"/plugins/page/x":    "page /plugins/page/x " + where,
		"/plugins/other/x":   `other /plugins/other/x "/plugins/other/" home=false master=127.0.0.1:5050`,
		"/plugins/other":     "nobody\n",
		"/plugins/stranger/": "nobody\n",
	} {
		w := get(path)
		if w.Body.String() != want {
			t.Errorf("%s: %d %q, want %q", path, w.Code, w.Body, want)
		}
		policy := w.Header().Values("Content-Security-Policy")
		if w.Code == 200 && (len(policy) != 1 || policy[0] != "script-src 'self'") {
			t.Errorf("%s: policy %q", path, policy)
		}
	}
	if at := h.Listeners(); h.Status()[0].Listen != "" || len(at) != 1 || at["page"] != "127.0.0.1:5050" {
		t.Errorf("a service listens by itself: %v", at)
	}
}

func TestSwappedBinaryIsRefused(t *testing.T) {
	h := launch(t, nil, misbehaving("idle"))
	first := h.awaitState(Running)
	copied := filepath.Join(h.cfg.Dir, "bin", first.Digest)
	if err := os.Remove(copied); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, []byte("#!/bin/sh\nsleep 1000\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if s := h.awaitState(GivenUp); !strings.Contains(s.Message, "the binary was changed") {
		t.Fatal(s.Message)
	}
}

// A module is pinned as a binary is, and whoever runs it is told where it is and what it may.
func TestModule(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.wasm")
	if err := os.WriteFile(file, []byte("code"), 0o600); err != nil {
		t.Fatal(err)
	}
	e := Entry{Name: "module", Kind: Allocator, Path: binary, Module: &Module{file, 64, 1500}, Config: []byte("{}"), MemoryMB: 256}
	h := launch(t, nil, e)
	first := h.awaitState(Running)
	if want := fmt.Sprintf("%x", sha256.Sum256([]byte("code"))); first.Digest != want {
		t.Errorf("the digest is %s, want the module's, %s", first.Digest, want)
	}
	h.await("told", func(Status) bool {
		return strings.Contains(h.log.String(), "told -module code -cache [-memory-mb=64 -deadline=1500ms]")
	})
	copied := filepath.Join(h.cfg.Dir, "bin", first.Digest)
	if err := errors.Join(os.Remove(copied), os.WriteFile(copied, []byte("other"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(first.Pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if s := h.awaitState(GivenUp); !strings.Contains(s.Message, "the module was changed after gantry copied it") {
		t.Fatal(s.Message)
	}
}

func TestFloodOfLogLines(t *testing.T) {
	h := launch(t, nil, misbehaving("flood"))
	h.awaitState(Running)
	for deadline := time.After(30 * time.Second); ; {
		log := h.log.String()
		if strings.Contains(log, "the plugin logs too fast") {
			if strings.Contains(log, "\x1b") || !strings.Contains(log, `msg="[2Jlevel=ERROR forged line" plugin=flood`) {
				t.Errorf("the log has %q", log[:200])
			}
			if n := strings.Count(log, "forged"); n > linesAtOnce+30*linesPerSecond {
				t.Errorf("%d of 100,000 lines were logged", n)
			}
			return
		}
		select {
		case <-deadline:
			t.Fatal(len(log), "bytes of log tell of no dropped line")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// What a plugin started ends with it; what left its process group can at least not hold
// up the host.
func TestChildrenOfAPlugin(t *testing.T) {
	for _, name := range []string{"forks", "escapes"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := launch(t, nil, misbehaving(name))
			var child int
			h.await("a parent", func(Status) bool {
				_, after, ok := strings.Cut(h.log.String(), `msg="child `)
				if ok {
					_, err := fmt.Sscanf(after, "%d", &child)
					ok = err == nil
				}
				return ok
			})
			h.stop()
			if name == "escapes" {
				if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			}
			awaitGone(t, child)
		})
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("GANTRY_TEST_SECRET", "canary")
	t.Setenv("TZ", "Europe/Rome")
	h := launch(t, nil, misbehaving("env"))
	h.await("telling its environment", func(Status) bool { return strings.Contains(h.log.String(), "env ") })
	if log := h.log.String(); strings.Contains(log, "canary") || !strings.Contains(log, "TZ=Europe/Rome") {
		t.Error(log)
	}
}

func TestCgroup(t *testing.T) {
	features, err := cgroup.Probe()
	if err != nil || os.Geteuid() != 0 {
		t.Skip("no cgroups to use:", err)
	}
	parent := cgroup.Name(t.TempDir()) + "/plugins"
	t.Cleanup(func() {
		if err := cgroup.Remove(context.Background(), filepath.Dir(parent)); err != nil {
			t.Error(err)
		}
	})
	before, err := homes()
	if err != nil {
		t.Fatal(err)
	}
	h := launch(t, func(c *Config, _ *pace) { c.Cgroup = parent }, misbehaving("idle"))
	pid := h.awaitState(Running).Pid
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		t.Fatal(err)
	}
	controllers := []string{"memory", "pids"}
	if features.Unified {
		controllers = []string{""}
	}
	for _, controller := range controllers {
		if _, ok := before[controller]; ok && !strings.Contains(string(text), controller+":"+parent+"/idle\n") {
			t.Errorf("the process is not in the group of controller %q:\n%s", controller, text)
		}
	}
	threads, err := filepath.Glob("/proc/self/task/*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range threads {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), parent) {
			t.Errorf("%s: a thread of the host stayed in the plugin's group", file)
		}
	}
	h.stop()
	awaitGone(t, pid)
	for _, hierarchy := range features.Hierarchies {
		if _, err := os.Stat(filepath.Join(hierarchy.Mount, parent)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left in %s", parent, hierarchy.Mount)
		}
	}
}

func TestBinariesThatCannotRun(t *testing.T) {
	dir := t.TempDir()
	open := filepath.Join(dir, "open")
	if err := errors.Join(
		os.WriteFile(filepath.Join(dir, "plain"), []byte("x"), 0o600),
		os.WriteFile(open, []byte("x"), 0o700), os.Chmod(open, 0o777),
	); err != nil {
		t.Fatal(err)
	}
	entries := []Entry{misbehaving("gone"), misbehaving("plain"), misbehaving("open"), misbehaving("module"), misbehaving("folder")}
	for i := range entries {
		entries[i].Path, entries[i].Line = entries[i].Name, i+1
	}
	entries[3].Path, entries[3].Module = binary, &Module{Path: "x.wasm"}
	entries[4].Path, entries[4].Module = binary, &Module{Path: dir}
	h := launch(t, func(c *Config, _ *pace) { c.BinDir = dir }, entries...)
	for i, want := range []string{"there is no binary", "is not an executable file", "can be changed by anybody", "there is no module", "is not a file"} {
		problem := h.Problems()[i].String()
		if prefix := fmt.Sprintf("plugins.toml:%d: running without %s: ", i+1, entries[i].Name); !strings.HasPrefix(problem, prefix) || !strings.Contains(problem, want) {
			t.Error(problem)
		}
		if s := h.Status()[i]; s.State != Missing {
			t.Error(s)
		}
	}
}
