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
	"testing"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/rootfs"
	"github.com/gantry-project/gantry/isolators/sandbox"
	"github.com/gantry-project/gantry/kernel/keeper"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

var (
	// binary is the keeper under test: $GANTRY_KEEPER, or built as it ships.
	binary = os.Getenv("GANTRY_KEEPER")
	// failing is the same with failpoints: $GANTRY_KEEPER_FAILPOINTS, or built; empty where
	// only the first was given.
	failing = os.Getenv("GANTRY_KEEPER_FAILPOINTS")
)

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
	binary, failing = filepath.Join(dir, "gantry-keeper"), filepath.Join(dir, "failing")
	for path, tags := range map[string]string{binary: "", failing: " failpoints"} {
		build := exec.Command("go", "build", "-tags", "seccomp netgo osusergo"+tags,
			"-ldflags", `-s -w -extldflags "-static"`, "-o", path, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=1")
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Printf("build the keeper: %v\n%s", err, out)
			return 1
		}
	}
	return m.Run()
}

// host is a keeper with a directory and cgroup of its own.
type host struct {
	binary string
	work   string
	dir    string
	parent string
	client *keeper.Client
	// pid is the keeper's, and reaper that of the process above it.
	pid, reaper int
}

func newHost(t testing.TB) *host {
	t.Helper()
	h := makeHost(t, binary)
	h.launch(t)
	h.dial(t)
	return h
}

// newFailingHost has a keeper with failpoints, which is not launched, and returns the
// folder that arms them.
func newFailingHost(t testing.TB) (*host, string) {
	t.Helper()
	if failing == "" {
		t.Skip("there is no keeper with failpoints here, only the one that ships")
	}
	points := t.TempDir()
	t.Setenv("GANTRY_FAILPOINTS", points)
	return makeHost(t, failing), points
}

func makeHost(t testing.TB, binary string) *host {
	t.Helper()
	work, err := os.MkdirTemp("", "gantry-test-")
	if err != nil {
		t.Fatal(err)
	}
	h := &host{binary: binary, work: work, dir: filepath.Join(work, "keeper"), parent: cgroup.Name(work)}
	t.Cleanup(func() { h.close(t) })
	return h
}

func (h *host) launch(t testing.TB) {
	t.Helper()
	if err := h.tryLaunch(t); err != nil {
		t.Fatal(err)
	}
}

func (h *host) tryLaunch(t testing.TB) error {
	return keeper.Launch(within(t), keeper.LaunchConfig{Binary: h.binary, Dir: h.dir, Cgroup: cgroup.Keeper(h.parent)})
}

func (h *host) dial(t testing.TB) *keeperpb.Welcome {
	t.Helper()
	client, welcome, err := keeper.Dial(within(t), h.dir)
	if err != nil {
		t.Fatal(err)
	}
	h.client, h.pid = client, int(welcome.GetPid())
	h.reaper = parentOf(t, h.pid)
	return welcome
}

func parentOf(t testing.TB, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), "PPid:")
	var parent int
	if _, err := fmt.Sscan(after, &parent); err != nil {
		t.Fatal(err)
	}
	return parent
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
	for _, pid := range []int{h.pid, h.reaper} {
		if pid != 0 && alive(pid) {
			t.Errorf("%d, the keeper %d or its reaper, still runs", pid, h.pid)
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
	if err := rootfs.Compose(spec, filepath.Join(h.work, "roots"), box); err != nil {
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
