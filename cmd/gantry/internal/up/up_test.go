package up

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

// The test binary is the gantry that is supervised: as `master` and `agent` it listens, publishes and waits.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "master" || os.Args[1] == "agent") {
		if err := fakeDaemon(os.Args[1], flagsOf(os.Args[2:])); err != nil {
			fmt.Fprintf(os.Stderr, "gantry: %v\n", err)
			if strings.HasPrefix(err.Error(), "refused: ") {
				os.Exit(daemon.ExitRefused)
			}
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func flagsOf(args []string) map[string]string {
	flags := map[string]string{}
	for i := 0; i+1 < len(args); i += 2 {
		flags[strings.TrimPrefix(args[i], "--")] = args[i+1]
	}
	return flags
}

func fakeDaemon(kind string, flags map[string]string) error {
	if text, err := os.ReadFile(flags["plugins"]); err == nil && len(text) > 0 {
		return errors.New(string(text)) // a manifest with anything in it is bad
	}
	l, err := net.Listen("tcp", flags["listen"])
	if err != nil {
		return err
	}
	a := daemon.Addresses{Listen: l.Addr().String()}
	if kind == "master" {
		a.Link, a.Plugins = "127.0.0.1:1", map[string]string{"marathon": a.Listen}
		go http.Serve(l, &marathon{port: l.Addr().(*net.TCPAddr).Port})
	}
	if err := daemon.Publish(flags["publish"], a); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return os.WriteFile(flags["publish"]+".ended", nil, 0o600)
}

// marathon has one application at most; its only instance is the server itself.
type marathon struct {
	mu   sync.Mutex
	port int
	app  *client.App
}

func (m *marathon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case r.URL.Path == "/":
	case r.Method == http.MethodPost:
		m.app = new(client.App)
		json.NewDecoder(r.Body).Decode(m.app)
		m.app.Instances = 1
		m.app.Tasks = []client.AppTask{{Host: "127.0.0.1", Ports: []int{m.port}}}
		w.WriteHeader(http.StatusCreated)
	case m.app == nil:
		http.Error(w, `{"message":"App '/hello-web' does not exist"}`, http.StatusNotFound)
	default:
		json.NewEncoder(w).Encode(map[string]any{"app": m.app})
	}
}

// rig is a folder with what a build leaves, and a supervisor in it.
type rig struct {
	config  Config
	removed chan string // the cgroups that were removed
	out     screen
	done    chan error
	stop    context.CancelFunc
}

// screen is a buffer that may be read while it is written.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func newRig(t *testing.T, manifest string) *rig {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"gantry-keeper": "", "plugins.toml": manifest, "examples/hello-web": "a program",
	} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(self, filepath.Join(dir, "gantry")); err != nil {
		t.Fatal(err)
	}
	return &rig{
		config: Config{
			WorkDir: filepath.Join(dir, "work"), Listen: "127.0.0.1:0", Masters: 1, Agents: 1, Executable: filepath.Join(dir, "gantry"),
		},
		removed: make(chan string, 1),
	}
}

func (r *rig) start(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	r.stop, r.done = stop, make(chan error, 1)
	parts := Parts{
		CgroupName:   func(string) string { return "/gantry-test" },
		RemoveCgroup: func(_ context.Context, group string) error { r.removed <- group; return nil },
	}
	go func() { r.done <- runWithSignals(ctx, r.config, parts, &r.out, &r.out) }()
	t.Cleanup(func() { stop() })
}

// await polls until the condition holds.
func (r *rig) await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within 30 s; the screen:\n%s", what, r.out.String())
		}
	}
}

func (r *rig) ready() bool { return strings.Contains(r.out.String(), "gantry: ready\n") }

func TestUpFromReadyToNothing(t *testing.T) {
	r := newRig(t, "")
	r.start(t)
	r.await(t, "ready", r.ready)

	cluster, err := daemon.ReadCluster(r.config.WorkDir)
	if err != nil || cluster.Master == "" || len(cluster.Agents) != 1 {
		t.Fatalf("addresses.json: %+v, %v", cluster, err)
	}
	for _, want := range []string{cluster.Master, cluster.Agents[0], "hello-web   http://127.0.0.1:"} {
		if !strings.Contains(r.out.String(), want) {
			t.Errorf("the screen does not have %q:\n%s", want, r.out.String())
		}
	}
	if text, err := os.ReadFile(filepath.Join(r.config.WorkDir, "artifacts/hello-web")); string(text) != "a program" {
		t.Errorf("the artifact is %q, %v", text, err)
	}

	run := filepath.Join(r.config.WorkDir, "run")
	before, err := daemon.Read(filepath.Join(run, "master.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(before.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.await(t, "master after a kill", func() bool {
		after, err := daemon.Read(filepath.Join(run, "master.json"))
		return err == nil && after.PID != before.PID && after.Listen == before.Listen
	})

	second := &rig{config: r.config, removed: make(chan string, 1)}
	second.start(t)
	if err := <-second.done; err == nil || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("a second supervisor in the work dir: %v, want a refusal that names the process", err)
	}

	r.stop()
	if err := <-r.done; err != nil {
		t.Fatalf("the end: %v", err)
	}
	if group := <-r.removed; group != "/gantry-test" {
		t.Errorf("removed cgroup %q", group)
	}
	for _, name := range []string{"addresses.json", "run"} {
		if _, err := os.Stat(filepath.Join(r.config.WorkDir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", name, err)
		}
	}
	if conn, err := net.Dial("tcp", cluster.Master); err == nil {
		conn.Close()
		t.Error("something still listens where the master did")
	}
}

func TestUpTellsWhyADaemonDoesNotStart(t *testing.T) {
	r := newRig(t, "plugins.toml:3: unknown kind \"alocator\"")
	r.start(t)
	err := <-r.done
	if err == nil || !strings.Contains(err.Error(), `unknown kind "alocator"`) || !strings.Contains(err.Error(), "master") {
		t.Fatalf("up: %v, want the master's last words", err)
	}
}

func TestUpDoesNotTryAgainWhatIsRefused(t *testing.T) {
	r := newRig(t, "refused: mend it first")
	r.start(t)
	err := <-r.done
	screen := r.out.String()
	if err == nil || strings.Count(screen, "mend it first") != 1 || strings.Contains(screen, "again") {
		t.Errorf("up: %v, after\n%s\nwant the refusal once", err, screen)
	}
	if len(r.removed) != 0 {
		t.Error("the cgroup was removed though tasks of an earlier start may be in it")
	}
}

func TestUpWithoutDemoAndWithSeveralAgents(t *testing.T) {
	r := newRig(t, "")
	r.config.NoDemo, r.config.JSON, r.config.Agents, r.config.KeepTasks = true, true, 2, true
	r.start(t)
	var said struct {
		daemon.Cluster
		Demo []string
	}
	r.await(t, "JSON", func() bool { return json.Unmarshal([]byte(r.out.String()), &said) == nil })
	if len(said.Agents) != 2 || said.Agents[0] == said.Agents[1] || said.Demo != nil {
		t.Errorf("said %+v, want two agents and no demo", said)
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Fatal(err)
	}
	if len(r.removed) != 0 {
		t.Error("the cgroup was removed though the tasks were to stay")
	}
}

// Executors that outlive the supervisor look for their agent where it was.
func TestUpComesBackWhereItWas(t *testing.T) {
	r := newRig(t, "")
	r.config.NoDemo, r.config.Agents = true, 2
	addresses := func() daemon.Cluster {
		t.Helper()
		r.start(t)
		r.await(t, "ready", r.ready)
		cluster, err := daemon.ReadCluster(r.config.WorkDir)
		if err != nil {
			t.Fatal(err)
		}
		r.stop()
		if err := <-r.done; err != nil {
			t.Fatal(err)
		}
		<-r.removed
		r = &rig{config: r.config, removed: r.removed}
		return cluster
	}
	first := addresses()
	if second := addresses(); second.Master != first.Master || !slices.Equal(second.Agents, first.Agents) {
		t.Errorf("at %v, and the next time at %v", first, second)
	}
	r.config.Agents = 1
	addresses()
	r.config.Agents = 2
	taken, err := net.Listen("tcp", first.Agents[0])
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if last := addresses(); last.Agents[0] == first.Agents[0] || last.Agents[1] != first.Agents[1] {
		t.Errorf("at %v, and where the first agent's port is taken at %v", first, last)
	}
}
