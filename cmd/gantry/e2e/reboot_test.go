package e2e

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/gantry-project/gantry/isolators/cgroup"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// The host is started anew: nothing runs any more, sockets and control groups are gone, processes have the numbers of others
// that died. Tasks that ran have failed, what had ended before is told as it was, and services come back.
func TestReboot(t *testing.T) {
	binaries, workDir, host := tagged(t), newWorkDir(t), t.TempDir()
	boot := func(id string) *cluster {
		if err := os.WriteFile(filepath.Join(host, "boot_id"), []byte(id+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c := prepare(t, binaries, workDir, host)
		c.ready()
		return c
	}
	c := boot("3f2a44b1-5b2c-4dd6-9d0e-2f8a1c6b7e01")
	before := c.awaitInstances(2)
	l := newLoad(t, c)
	l.launch(work{"runs", "exec sleep 100000", 0}, work{"unheard", "exec sleep 100000", 0}, work{"ended", "true", 3})
	l.tasks["unheard"].leave, l.tasks["ended"].leave = true, true
	l.until("three tasks", func() bool {
		return l.runs("runs") && len(l.tasks["unheard"].heard) == 1 && l.ran("unheard") == 1 && len(l.tasks["ended"].heard) == 1
	})
	ended := func() bool { // its status waits for that of its start to be acknowledged
		return slices.ContainsFunc(c.state(t).GetTasks.GetTasks(), func(task *mesos.Task) bool {
			return task.GetTaskId().GetValue() == "ended" && task.GetState().String() == "TASK_FAILED"
		})
	}
	await(t, soon, "end of a task", c.describe, ended)
	was := processOf(l.tasks["runs"].last().pid())

	c.crash()
	l.hangUp()
	stranger := recycle(t, was.pid)
	c = boot("81c0e6d4-0f7d-4b0a-8a56-64d2b2a97c02")
	l.c = c
	l.tasks["unheard"].leave, l.tasks["ended"].leave = false, false
	l.until("end of the tasks", func() bool { return l.ended("runs", "unheard", "ended") })
	for _, id := range []string{"runs", "unheard"} {
		if last := l.tasks[id].last(); last.State != "TASK_FAILED" || last.Reason != "REASON_AGENT_RESTARTED" || last.Message == "" || l.ran(id) != 1 {
			t.Errorf("task %s ran %d times: %s, at last %+v", id, l.ran(id), l.tasks[id].path(), last)
		}
	}
	if !l.exited("ended") {
		t.Errorf("a task that had ended with 3 before: %s, at last %+v", l.tasks["ended"].path(), l.tasks["ended"].last())
	}
	after := c.awaitInstances(2)
	for _, id := range before {
		if slices.Contains(after, id) {
			t.Errorf("instance %s is said to have lived on", id)
		}
	}
	fresh := work{"fresh", "true", 5}
	l.launch(fresh)
	l.until("end of a task", func() bool { return l.ended("fresh") })
	if !l.exited("fresh") {
		t.Errorf("a task of now: %s, at last %+v", l.tasks["fresh"].path(), l.tasks["fresh"].last())
	}
	l.teardown()
	c.must("app", "remove", "hello-web")
	c.checkNothingHeld(t)
	c.end()
	c.checkNothingLeft()
	if stranger != (process{}) && processOf(stranger.pid) != stranger {
		t.Errorf("a stranger with the number of a task, %v, is %v now", stranger, processOf(stranger.pid))
	}
}

// crash ends everything of the cluster at once, and removes what is gone when a host starts: no zombie keeps its number.
func (c *cluster) crash() {
	c.t.Helper()
	inherit := func(on uintptr) {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, on, 0, 0, 0); err != nil {
			c.t.Fatal(err)
		}
	}
	inherit(1)
	defer inherit(0)
	pids := c.processes()
	c.killKernel()
	ctx, cancel := context.WithTimeout(c.t.Context(), endWithin)
	defer cancel()
	if err := cgroup.Remove(ctx, cgroup.Name(c.workDir)); err != nil {
		c.t.Fatal(err)
	}
	for _, pid := range pids {
		if _, err := syscall.Wait4(pid, nil, 0, nil); err != nil && err != syscall.ECHILD {
			c.t.Error(err)
		}
	}
	err := filepath.WalkDir(c.workDir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type() == fs.ModeSocket {
			err = os.Remove(path)
		}
		return err
	})
	if err != nil {
		c.t.Fatal(err)
	}
}

// recycle starts a process that has the number of one that has ended; none if the kernel does not let itself be told.
func recycle(t *testing.T, pid int) process {
	t.Helper()
	for range 100 {
		err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0)
		if err != nil {
			t.Logf("no process gets the number of another: %v", err)
			return process{}
		}
		stranger := exec.Command("sleep", "100000")
		stranger.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if err := stranger.Start(); err != nil {
			t.Fatal(err)
		}
		end := func() {
			err := errors.Join(stranger.Process.Kill(), stranger.Wait())
			var exit *exec.ExitError
			if !errors.As(err, &exit) {
				t.Error(err)
			}
		}
		if stranger.Process.Pid == pid {
			t.Cleanup(end)
			return processOf(pid)
		}
		end()
	}
	t.Logf("other processes always came first to number %d", pid)
	return process{}
}
