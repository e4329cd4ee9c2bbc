package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/gantry-project/gantry/kernel/keeper"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

func TestAgentComesBack(t *testing.T) {
	h := newHost(t)
	started := h.start(t, h.spec(t, "stays", "sleep", "1000"))
	h.start(t, h.spec(t, "ends", "sh", "-c", "echo up; while [ ! -e go ]; do sleep 0.02; done; exit 6"))
	if err := h.client.Close(); err != nil {
		t.Fatal(err)
	}
	end(t, h, "ends")
	eventually(t, func() bool { return exists(filepath.Join(h.dir, "exits", "ends")) }, func() string { return "no exit record" })

	if err := keeper.Launch(within(t), keeper.LaunchConfig{Binary: h.binary, Dir: h.dir}); !errors.Is(err, keeper.ErrRunning) {
		t.Errorf("a second keeper in the directory: %v", err)
	}
	var exits []*containerpb.Exit
	eventually(t, func() bool {
		welcome := h.dial(t)
		if len(welcome.GetRunning()) == 2 {
			// The record is on disk, and the cleaning up goes on.
			return h.client.Close() != nil
		}
		exits = welcome.GetExits()
		if len(welcome.GetRunning()) != 1 || welcome.GetRunning()[0].GetPid() != started.GetPid() ||
			welcome.GetRunning()[0].GetStartTicks() != started.GetStartTicks() ||
			welcome.GetRunning()[0].GetLabels()["task"] != "stays" {
			t.Fatalf("welcome: %v", welcome)
		}
		return true
	}, func() string { return "the exit is never told" })
	if len(exits) != 1 || exits[0].GetContainerId() != "ends" || exits[0].GetStatus() != 6 {
		t.Fatalf("exits: %v", exits)
	}
	if err := h.client.Start(within(t), h.spec(t, "ends-again", "true")); err != nil {
		t.Fatal(err)
	}
	h.next(t)
	h.exit(t, "ends-again")
	for _, id := range []string{"ends", "ends", "ends-again", "never-was"} {
		if err := h.client.Forget(within(t), id); err != nil {
			t.Errorf("forget %s: %v", id, err)
		}
	}
	if err := h.client.Forget(within(t), "stays"); !errors.Is(err, keeper.ErrRefused) {
		t.Errorf("forget a running container: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(h.dir, "exits")); err != nil || len(left) > 0 {
		t.Errorf("records are left: %v, %v", left, err)
	}
	_ = h.client.Close()
	if welcome := h.dial(t); len(welcome.GetExits()) != 0 || len(welcome.GetRunning()) != 1 {
		t.Errorf("welcome: %v", welcome)
	}
}

// end lets a container that waits for the file go in its sandbox end.
func end(t *testing.T, h *host, id string) {
	t.Helper()
	h.outputs(t, id, "up\n")
	if err := os.WriteFile(filepath.Join(h.sandbox(id), "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// alive is false for a zombie, too: the process may be another's child.
func alive(pid int) bool {
	_, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe")
	return err == nil
}

func TestNewerAgentReplacesOlder(t *testing.T) {
	h := newHost(t)
	older := h.client
	h.dial(t)
	for range older.Events() {
	}
	if err := older.Forget(within(t), "x"); !errors.Is(err, keeper.ErrClosed) {
		t.Errorf("the older agent's request: %v", err)
	}
	if exit := h.run(t, h.spec(t, "true", "true")); exit.GetStatus() != 0 {
		t.Error(exit)
	}
}

func TestShutdownKillsAll(t *testing.T) {
	h := newHost(t)
	for _, id := range []string{"a", "b", "c"} {
		// The last may still be starting when the end comes.
		if err := h.client.Start(within(t), h.spec(t, id, "sh", "-c", "trap '' TERM; while :; do sleep 0.1; done")); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.client.Shutdown(within(t)); err != nil {
		t.Fatal(err)
	}
	h.client = nil
	var ids []string
	entries, err := os.ReadDir(filepath.Join(h.dir, "exits"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		ids = append(ids, e.Name())
	}
	if !slices.Equal(ids, []string{"a", "b", "c"}) {
		t.Errorf("exit records: %v", ids)
	}
}
