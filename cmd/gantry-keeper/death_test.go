package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/kernel/keeper"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// upThen is a program that waits for the file go, then does as said.
func upThen(then string) []string {
	return []string{"bash", "-c", "echo up; while [ ! -e go ]; do sleep 0.02; done; " + then}
}

func signal(t *testing.T, pid int, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// redial connects to the keeper that came after the one that was.
func (h *host) redial(t *testing.T) *keeperpb.Welcome {
	t.Helper()
	was := h.pid
	for range h.client.Events() {
	}
	welcome := h.dial(t)
	if h.pid == was {
		t.Fatalf("keeper %d did not die", was)
	}
	return welcome
}

// ends collects the exits of n containers, told by the welcome or after it.
func (h *host) ends(t *testing.T, w *keeperpb.Welcome, n int) map[string]*containerpb.Exit {
	t.Helper()
	exits := make(map[string]*containerpb.Exit)
	for _, e := range w.GetExits() {
		exits[e.GetContainerId()] = e
	}
	for len(exits) < n {
		event := h.next(t)
		if event.GetExited() == nil {
			t.Fatalf("waiting for exits, got %v", event)
		}
		exits[event.GetExited().GetContainerId()] = event.GetExited()
	}
	return exits
}

// Whenever a container ends around the death of its keeper, how is known.
func TestKeeperDies(t *testing.T) {
	h := newHost(t)
	stays := h.start(t, h.spec(t, "stays", upThen("exit 6")...))
	zombie := h.start(t, h.spec(t, "zombie", upThen("exit 7")...))
	between := h.start(t, h.spec(t, "between", "sleep", "1000"))
	h.start(t, h.spec(t, "daemon", upThen(h.daemons("exit 9"))...))
	oom := h.spec(t, "oom", upThen("tail /dev/zero; exit 4")...)
	oom.Limits.MemoryBytes = 32 << 20
	h.start(t, oom)
	if exit := h.run(t, h.spec(t, "ended", "sh", "-c", "exit 8")); exit.GetStatus() != 8 {
		t.Fatal(exit)
	}
	// One ends while the keeper is about to die, one while there is none.
	signal(t, h.pid, syscall.SIGSTOP)
	end(t, h, "zombie")
	eventually(t, func() bool { return !alive(int(zombie.GetPid())) }, func() string { return "zombie does not end" })
	signal(t, h.reaper, syscall.SIGSTOP)
	signal(t, h.pid, syscall.SIGKILL)
	eventually(t, func() bool { return !alive(h.pid) }, func() string { return "the keeper does not die" })
	signal(t, int(between.GetPid()), syscall.SIGTERM) // the first process of a namespace ignores that
	signal(t, int(between.GetPid()), syscall.SIGKILL)
	eventually(t, func() bool { return !alive(int(between.GetPid())) }, func() string { return "between does not end" })
	signal(t, h.reaper, syscall.SIGCONT)

	welcome := h.redial(t)
	for _, r := range welcome.GetRunning() {
		if r.GetContainerId() == "stays" && (r.GetPid() != stays.GetPid() || r.GetStartTicks() != stays.GetStartTicks() || r.GetLabels()["task"] != "stays") {
			t.Errorf("stays was %v, and is %v", stays, r)
		}
	}
	exits := h.ends(t, welcome, 3)
	for id, want := range map[string]*containerpb.Exit{"zombie": {Status: 7}, "between": {Signal: 9}, "ended": {Status: 8}} {
		e := exits[id]
		if e.GetUnknown() || e.GetStatus() != want.GetStatus() || e.GetSignal() != want.GetSignal() || e.GetLabels()["task"] != id {
			t.Errorf("%s ended like this: %v", id, e)
		}
		if left := groups(t, cgroup.Container(h.parent, id)); len(left) > 0 {
			t.Errorf("cgroups of %s are left: %v", id, left)
		}
	}
	for id, status := range map[string]int32{"stays": 6, "daemon": 9, "oom": 4} {
		end(t, h, id)
		if exit := h.exit(t, id); exit.GetUnknown() || exit.GetStatus() != status || exit.GetOomKilled() != (id == "oom") {
			t.Errorf("adopted, and ended like this: %v", exit)
		}
	}
	h.noDaemons(t)
	if notes, err := os.ReadFile(filepath.Join(h.dir, "reaped")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the reaper's notes are not forgotten: %d bytes, %v", len(notes), err)
	}
}

// The keeper takes the place of a reaper that died, as often as need be.
func TestReaperDies(t *testing.T) {
	h := newHost(t)
	h.start(t, h.spec(t, "stays", upThen("exit 6")...))
	h.start(t, h.spec(t, "first", upThen("exit 7")...))
	was := h.pid
	signal(t, h.reaper, syscall.SIGKILL)
	welcome := h.redial(t)
	if h.reaper != was || len(welcome.GetRunning()) != 2 {
		t.Errorf("the reaper is %d, and was the keeper %d: %v", h.reaper, was, welcome)
	}
	end(t, h, "first")
	if exit := h.exit(t, "first"); exit.GetStatus() != 7 || exit.GetUnknown() {
		t.Errorf("after the reaper's death: %v", exit)
	}
	h.start(t, h.spec(t, "second", upThen("exit 8")...))
	signal(t, h.pid, syscall.SIGKILL)
	h.redial(t)
	signal(t, h.reaper, syscall.SIGKILL)
	h.redial(t)
	// By now they are nobody's here, and the kernel tells or does not.
	for id, status := range map[string]int32{"second": 8, "stays": 6} {
		end(t, h, id)
		if exit := h.exit(t, id); exit.GetUnknown() == tellsExits(t, h) || !exit.GetUnknown() && exit.GetStatus() != status {
			t.Errorf("after all: %v", exit)
		}
	}
}

// Without anybody, only what ends meanwhile is unknown, where the kernel tells the rest.
func TestReaperAndKeeperDie(t *testing.T) {
	h := newHost(t)
	h.start(t, h.spec(t, "stays", upThen("exit 6")...))
	lost := h.start(t, h.spec(t, "lost", "sleep", "1000"))
	for _, sig := range []syscall.Signal{syscall.SIGSTOP, syscall.SIGKILL} {
		signal(t, h.reaper, sig)
		signal(t, h.pid, sig)
	}
	for range h.client.Events() {
	}
	eventually(t, func() bool { _, _, err := keeper.Dial(within(t), h.dir); return errors.Is(err, keeper.ErrNotRunning) },
		func() string { return "dialling the dead does not fail" })
	signal(t, int(lost.GetPid()), syscall.SIGKILL)
	eventually(t, func() bool { return syscall.Kill(int(lost.GetPid()), 0) != nil }, func() string { return "nobody reaps it" })
	h.launch(t)
	if exit := h.ends(t, h.dial(t), 1)["lost"]; !exit.GetUnknown() || exit.GetLabels()["task"] != "lost" {
		t.Errorf("nobody saw its end: %v", exit)
	}
	end(t, h, "stays")
	if exit := h.exit(t, "stays"); exit.GetUnknown() == tellsExits(t, h) || !exit.GetUnknown() && exit.GetStatus() != 6 {
		t.Errorf("another's child ended like this: %v", exit)
	}
}
