package main_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/rootfs"
	"github.com/gantry-project/gantry/isolators/sandbox"
	"github.com/gantry-project/gantry/kernel/keeper"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// binary is the keeper under test: $GANTRY_KEEPER, or built as it ships.
var binary = os.Getenv("GANTRY_KEEPER")

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		fmt.Println("these tests start containers, which needs root")
		if os.Getenv("GANTRY_REQUIRE_ROOT") == "1" {
			os.Exit(1)
		}
		os.Exit(0)
	}
	if binary != "" {
		os.Exit(m.Run())
	}
	os.Exit(buildAndRun(m))
}

func buildAndRun(m *testing.M) int {
	dir, err := os.MkdirTemp("", "gantry-keeper-")
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "gantry-keeper")
	build := exec.Command("go", "build", "-tags", "seccomp netgo osusergo",
		"-ldflags", `-s -w -extldflags "-static"`, "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=1")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Printf("build the keeper: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// host is a keeper with a directory and cgroup of its own.
type host struct {
	work   string
	dir    string
	parent string
	client *keeper.Client
	// pid is the keeper's.
	pid int
}

func newHost(t testing.TB) *host {
	t.Helper()
	work, err := os.MkdirTemp("", "gantry-test-")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{work: work, dir: filepath.Join(work, "keeper"), parent: cgroup.Name(work)}
	t.Cleanup(func() { h.close(t) })
	h.launch(t)
	h.dial(t)
	return h
}

func (h *host) launch(t testing.TB) {
	t.Helper()
	err := keeper.Launch(within(t), keeper.LaunchConfig{Binary: binary, Dir: h.dir, Cgroup: cgroup.Keeper(h.parent)})
	if err != nil {
		t.Fatal(err)
	}
}

func (h *host) dial(t testing.TB) *keeperpb.Welcome {
	t.Helper()
	client, welcome, err := keeper.Dial(within(t), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	h.client, h.pid = client, int(welcome.GetPid())
	return welcome
}

// close shuts the keeper down and requires that nothing is left of it on the host.
func (h *host) close(t testing.TB) {
	if h.client != nil {
		if err := h.client.Shutdown(within(t)); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		for _, dir := range groups(t, h.parent+"/containers") {
			if entries, _ := filepath.Glob(dir + "/*/cgroup.procs"); len(entries) > 0 {
				t.Errorf("cgroups of containers are left: %v", entries)
			}
		}
	}
	if err := cgroup.Remove(within(t), h.parent); err != nil {
		t.Error(err)
	}
	if left := groups(t, h.parent); len(left) > 0 {
		t.Errorf("cgroups are left: %v", left)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Error(err)
	}
	if strings.Contains(string(mounts), h.work) {
		t.Errorf("mounts are left below %s", h.work)
	}
	if h.pid != 0 && syscall.Kill(h.pid, 0) == nil {
		state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.pid))
		if !strings.Contains(string(state), "State:\tZ") && len(state) > 0 {
			t.Errorf("keeper %d still runs", h.pid)
		}
	}
	if t.Failed() {
		log, _ := os.ReadFile(filepath.Join(h.dir, "keeper.log"))
		t.Logf("keeper.log:\n%s", log)
	}
	if err := os.RemoveAll(h.work); err != nil {
		t.Error(err)
	}
}

// groups are the directories that group has in the host's hierarchies.
func groups(t testing.TB, group string) []string {
	t.Helper()
	features, err := cgroup.Probe()
	if err != nil {
		t.Fatal(err)
	}
	var dirs []string
	for _, h := range features.Hierarchies {
		if dir := filepath.Join(h.Mount, group); exists(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// spec prepares a container as an agent does.
func (h *host) spec(t testing.TB, id string, argv ...string) *containerpb.Spec {
	t.Helper()
	box := h.sandbox(id)
	if err := sandbox.Prepare(within(t), sandbox.Config{Dir: box}, nil); err != nil {
		t.Fatal(err)
	}
	spec := &containerpb.Spec{
		Id:         id,
		Argv:       argv,
		Env:        []string{"PATH=/usr/local/bin:/usr/bin:/bin", "MESOS_SANDBOX=" + rootfs.Sandbox},
		Cwd:        rootfs.Sandbox,
		Cgroup:     cgroup.Container(h.parent, id),
		Limits:     cgroup.Limits(500, 64<<20),
		StdoutPath: filepath.Join(box, "stdout"),
		StderrPath: filepath.Join(box, "stderr"),
		Hostname:   "box",
		Labels:     map[string]string{"task": id},
	}
	if err := rootfs.Compose(spec, filepath.Join(h.work, "roots", id), box); err != nil {
		t.Fatal(err)
	}
	return spec
}

func (h *host) sandbox(id string) string { return filepath.Join(h.work, "sandboxes", id) }

func (h *host) output(t testing.TB, id, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(h.sandbox(id), name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(data)
}

// start starts a container and waits until it runs.
func (h *host) start(t testing.TB, spec *containerpb.Spec) *keeperpb.Started {
	t.Helper()
	if err := h.client.Start(within(t), spec); err != nil {
		t.Fatal(err)
	}
	event := h.next(t)
	if event.GetStarted().GetContainerId() != spec.GetId() {
		t.Fatalf("%s did not start: %v", spec.GetId(), event)
	}
	return event.GetStarted()
}

// run starts a container and waits for its end.
func (h *host) run(t testing.TB, spec *containerpb.Spec) *containerpb.Exit {
	t.Helper()
	h.start(t, spec)
	return h.exit(t, spec.GetId())
}

func (h *host) exit(t testing.TB, id string) *containerpb.Exit {
	t.Helper()
	event := h.next(t)
	if event.GetExited().GetContainerId() != id {
		t.Fatalf("waiting for the exit of %s, got %v", id, event)
	}
	return event.GetExited()
}

func (h *host) next(t testing.TB) *keeperpb.FromKeeper {
	t.Helper()
	select {
	case event, ok := <-h.client.Events():
		if !ok {
			t.Fatal("the connection ended")
		}
		return event
	case <-within(t).Done():
		t.Fatal("no event came")
	}
	return nil
}

// outputs waits until a container has written want.
func (h *host) outputs(t testing.TB, id, want string) {
	t.Helper()
	eventually(t, func() bool { return strings.Contains(h.output(t, id, "stdout"), want) },
		func() string {
			return fmt.Sprintf("%s did not write %q: %q %q", id, want, h.output(t, id, "stdout"), h.output(t, id, "stderr"))
		})
}

func eventually(t testing.TB, ok func() bool, or func() string) {
	t.Helper()
	for ctx := within(t); !ok(); {
		if ctx.Err() != nil {
			t.Fatal(or())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// within bounds what would otherwise hang the tests.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
