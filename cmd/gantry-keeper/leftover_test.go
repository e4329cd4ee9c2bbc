package main_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gantry-project/gantry/isolators/cgroup"
)

// killBoth ends keeper and reaper, whom nothing survives but containers.
func (h *host) killBoth(t *testing.T) {
	t.Helper()
	signal(t, h.reaper, syscall.SIGSTOP)
	signal(t, h.pid, syscall.SIGKILL)
	signal(t, h.reaper, syscall.SIGKILL)
	for range h.client.Events() {
	}
	eventually(t, func() bool { return !alive(h.pid) && !alive(h.reaper) }, func() string { return "they do not die" })
}

// sleeper is a process that is none of the keeper's business.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// A new keeper removes what is dead, in the place of containers and on no record, and nothing else: processes that nobody
// knows are left alone, and told of.
func TestLeftovers(t *testing.T) {
	h := newHost(t)
	h.start(t, h.spec(t, "stays", upThen("exit 6")...))
	h.killBoth(t)
	for _, name := range []string{"containers/dir", "other"} {
		if err := os.MkdirAll(filepath.Join(h.dir, name, "x"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	stray, other := sleeper(t), sleeper(t)
	group(t, cgroup.Container(h.parent, "stray"), stray.Process.Pid)
	group(t, cgroup.Container(h.parent, "empty"))
	group(t, cgroup.Plugin(h.parent, "other"), other.Process.Pid)
	h.launch(t)
	welcome := h.dial(t)
	if len(welcome.GetRunning()) != 1 || welcome.GetRunning()[0].GetContainerId() != "stays" || len(welcome.GetExits()) != 0 {
		t.Errorf("welcome: %v", welcome)
	}
	for _, cmd := range []*exec.Cmd{stray, other} {
		if !alive(cmd.Process.Pid) {
			t.Errorf("%v was killed", cmd)
		}
	}
	if log := h.log(t); strings.Count(log, "left alone") != 1 || !strings.Contains(log, "container=stray") {
		t.Error("the log does not tell of what nobody knows")
	}
	if len(groups(t, cgroup.Container(h.parent, "empty"))) > 0 || exists(filepath.Join(h.dir, "containers", "dir")) {
		t.Error("what is dead is left")
	}
	if !exists(filepath.Join(h.dir, "other", "x")) {
		t.Error("what is no container's is gone")
	}
	if err := cgroup.Remove(within(t), cgroup.Container(h.parent, "stray")); err != nil {
		t.Error(err)
	}
	end(t, h, "stays")
	h.exit(t, "stays")
}

// group makes a control group in all hierarchies, with processes.
func group(t *testing.T, name string, pids ...int) {
	t.Helper()
	features, err := cgroup.Probe()
	if err != nil {
		t.Fatal(err)
	}
	for _, hierarchy := range features.Hierarchies {
		dir := filepath.Join(hierarchy.Mount, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, pid := range pids {
			// A cpuset without CPUs takes nobody.
			_ = os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(fmt.Sprint(pid)), 0)
		}
	}
}

// Whoever removes records, under a keeper that serves or with none, ends no container.
func TestRemovedRecords(t *testing.T) {
	h := newHost(t)
	remove := func(name string) {
		t.Helper()
		if err := os.RemoveAll(filepath.Join(h.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	var running []string
	start := func(id string) {
		t.Helper()
		h.start(t, h.spec(t, id, upThen("exit 6")...))
		running = append(running, id)
	}
	again := func() {
		t.Helper()
		h.killBoth(t)
		h.launch(t)
		var found []string
		for _, c := range h.dial(t).GetRunning() {
			found = append(found, c.GetContainerId())
		}
		if !slices.Equal(found, running) {
			t.Fatalf("%q live, and %q are found", running, found)
		}
	}
	start("a")
	start("b")
	h.killBoth(t)
	remove("started")
	h.launch(t)
	h.dial(t)
	again() // they are on record again
	remove("started/a")
	again()
	remove("started")
	start("c") // whose record is alone then
	again()
	remove("started")
	remove("exits")
	for _, id := range running {
		end(t, h, id)
		if exit := h.exit(t, id); tellsExits(t, h) && exit.GetStatus() != 6 {
			t.Errorf("%s: %v", id, exit)
		}
		eventually(t, func() bool { return exists(filepath.Join(h.dir, "exits", id)) }, func() string { return "no exit record of " + id })
	}
}

// A number that came to name another's process is no container, whatever the files say.
func TestRecycledPid(t *testing.T) {
	h := newHost(t)
	foreign := sleeper(t)
	for _, c := range []struct {
		id    string
		ticks string
	}{{"wrong-start", "1"}, {"right-start", startTicks(t, foreign.Process.Pid)}} {
		started := h.start(t, h.spec(t, c.id, "sleep", "1000"))
		h.killBoth(t)
		signal(t, int(started.GetPid()), syscall.SIGKILL)
		path := filepath.Join(h.dir, "containers", c.id, "state.json")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.NewReplacer(
			fmt.Sprintf(`"init_process_pid":%d,`, started.GetPid()), fmt.Sprintf(`"init_process_pid":%d,`, foreign.Process.Pid),
			fmt.Sprintf(`"init_process_start":%d,`, started.GetStartTicks()), fmt.Sprintf(`"init_process_start":%s,`, c.ticks),
		).Replace(string(data))
		if text == string(data) {
			t.Fatal("libcontainer's file has another form")
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		h.launch(t)
		if exit := h.ends(t, h.dial(t), 1)[c.id]; !exit.GetUnknown() {
			t.Errorf("%s: %v", c.id, exit)
		}
		if err := h.client.Forget(within(t), c.id); err != nil {
			t.Error(err)
		}
	}
	if !alive(foreign.Process.Pid) {
		t.Error("another's process was killed")
	}
}

func startTicks(t *testing.T, pid int) string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), ") ")
	return strings.Fields(after)[19]
}

// A record that was damaged costs a container nothing while it lives.
func TestDamagedRecordOfRunning(t *testing.T) {
	h := newHost(t)
	h.start(t, h.spec(t, "stays", upThen("exit 6")...))
	for range 2 {
		h.killBoth(t)
		for _, name := range []string{"started/stays", "exits/stays"} {
			if err := os.WriteFile(filepath.Join(h.dir, name), []byte("nonsense"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		h.launch(t)
		if running := h.dial(t).GetRunning(); len(running) != 1 || running[0].GetContainerId() != "stays" {
			t.Fatalf("running: %v", running)
		}
	}
	end(t, h, "stays")
	if exit := h.exit(t, "stays"); exit.GetUnknown() == tellsExits(t, h) || !exit.GetUnknown() && exit.GetStatus() != 6 {
		t.Errorf("got %v", exit)
	}
}

// A full disk refuses starts, and loses no end.
func TestFullDisk(t *testing.T) {
	h := makeHost(t, binary)
	if err := os.Mkdir(h.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", h.dir, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(h.dir, unix.MNT_DETACH) })
	h.launch(t)
	h.dial(t)
	h.start(t, h.spec(t, "own", upThen("exit 6")...))
	h.start(t, h.spec(t, "adopted", upThen("exit 7")...))
	fill(t, h)
	err := h.client.Start(within(t), h.spec(t, "refused", "true"))
	if err == nil || !strings.Contains(err.Error(), "must be on record") || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("start on a full disk: %v", err)
	}
	end(t, h, "own")
	if exit := h.exit(t, "own"); exit.GetStatus() != 6 || exit.GetUnknown() {
		t.Errorf("on a full disk: %v", exit)
	}
	// Told, but on no record; so it is known to the kernel still.
	signal(t, h.pid, syscall.SIGKILL)
	h.redial(t)
	if exit := h.exit(t, "own"); tellsExits(t, h) && (exit.GetStatus() != 6 || exit.GetUnknown()) {
		t.Errorf("told again: %v", exit)
	}
	end(t, h, "adopted")
	if exit := h.exit(t, "adopted"); tellsExits(t, h) && (exit.GetStatus() != 7 || exit.GetUnknown()) {
		t.Errorf("adopted, on a full disk: %v", exit)
	}
	if err := os.Remove(filepath.Join(h.dir, "filler")); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"own", "adopted"} {
		eventually(t, func() bool { return exists(filepath.Join(h.dir, "exits", id)) },
			func() string { return "no record of " + id + " though there is room" })
	}
	if exit := h.run(t, h.spec(t, "after", "true")); exit.GetStatus() != 0 {
		t.Error(exit)
	}
}

func fill(t *testing.T, h *host) {
	t.Helper()
	f, err := os.Create(filepath.Join(h.dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
}

func tellsExits(t *testing.T, h *host) bool {
	t.Helper()
	return !strings.Contains(h.log(t), "does not tell")
}

// log is the keeper's.
func (h *host) log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "keeper.log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
