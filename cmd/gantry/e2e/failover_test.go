package e2e

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// A framework's connection breaks, and it comes back before or after its failover timeout, whatever happens to the master. Each
// part has a cluster of its own, for a master that dies often is started again ever later.
func TestFailover(t *testing.T) {
	for name, part := range map[string]func(*testing.T, *cluster, form){
		"back in time":                         isBackInTime,
		"back too late":                        isBackTooLate,
		"the newer of two wins":                theNewerWins,
		"back in time for the next master":     isBackInTimeForTheNextMaster,
		"the rest of a timeout":                theRestOfATimeoutCounts,
		"a timeout passes while there is none": aTimeoutPassesWithoutAMaster,
		"connected when the master dies":       isConnectedWhenTheMasterDies,
		"a run goes on with the next master":   aRunGoesOn,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := up(t, newWorkDir(t), "--no-demo")
			part(t, c, forms[len(name)%len(forms)])
			c.checkNothingHeld(t)
			c.end()
			c.checkNothingLeft()
		})
	}
}

// timeout is a failover timeout as a field of FrameworkInfo.
func timeout(d time.Duration) string { return fmt.Sprintf(`"failover_timeout":%g`, d.Seconds()) }

// away subscribes a framework, launches a task that stays and one that has ended and is not acknowledged, and hangs up.
func (c *cluster) away(t *testing.T, f form, patience time.Duration) (s *scheduler, stays, ended status) {
	t.Helper()
	s = c.subscribe(t, f, timeout(patience))
	o := s.offer()
	s.launch(o, task("stays", o, "exec sleep 1000"), task("ends", o, "exit 3"))
	stays = s.follow("stays", "TASK_STARTING", "TASK_RUNNING")
	s.follow("ends", "TASK_STARTING", "TASK_RUNNING")
	ended = s.want("ends", "TASK_FAILED") // is not acknowledged
	s.leave()
	return s, stays, ended
}

// leave breaks the connection, and returns when the master has noticed.
func (s *scheduler) leave() {
	s.t.Helper()
	s.hangUp()
	await(s.t, soon, "notice that the framework has left", s.c.describe, func() bool {
		f := s.c.framework(s.t, s.id)
		return f == nil || !f.GetConnected()
	})
}

// framework is what the master knows of one; nil if it is none of those that it has.
func (c *cluster) framework(t *testing.T, id string) *masterpb.Response_GetFrameworks_Framework {
	t.Helper()
	for _, f := range c.state(t).GetFrameworks.GetFrameworks() {
		if f.GetFrameworkInfo().GetId().GetValue() == id {
			return f
		}
	}
	return nil
}

// killMaster kills the master and returns when its successor answers.
func (c *cluster) killMaster(t *testing.T) {
	t.Helper()
	old := c.daemon(t, "master").PID
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, soon, "next master", c.describe, func() bool { return c.daemon(t, "master").PID != old })
}

// checkBack resubscribes a framework that was away, and has it hear that nothing has changed but what it has not acknowledged.
func checkBack(t *testing.T, c *cluster, gone *scheduler, stays, ended status, patience time.Duration) {
	t.Helper()
	s := c.resubscribe(t, gone.form, gone.id, timeout(patience))
	if again := s.follow("ends", "TASK_FAILED"); again.UUID != ended.UUID || !again.labelled("exit_status", "3") {
		t.Errorf("%+v was not acknowledged, and %+v came after the framework was away", ended, again)
	}
	s.offer()
	await(t, soon, "reconciliation of what runs", c.describe, func() bool {
		s.call("RECONCILE", `"reconcile":{"tasks":[{"task_id":{"value":"stays"}}]}`)
		s.barrier() // until the agent has come, nothing is said of the task
		return s.heard(func(e event) bool { return e.Update.Status.TaskID.Value == "stays" })
	})
	if now := s.reconciled("stays"); now.State != "TASK_RUNNING" || now.pid() != stays.pid() || commandOf(now.pid()) != "sleep 1000" {
		t.Errorf("the task was %+v and is %+v", stays, now)
	}
	s.teardown()
}

// checkEnded says that a framework was removed, and its task with it.
func checkEnded(t *testing.T, c *cluster, gone *scheduler, stays status) {
	t.Helper()
	await(t, soon, "end of the task", c.describe, func() bool { return !alive(stays.pid()) })
	again := c.open(t, gone.form, gone.id, "")
	if e := again.last(); e.Type != "ERROR" || e.Error.Message != "Framework has been removed" {
		t.Errorf("a framework that was removed subscribes, and hears %+v", e)
	}
	await(t, soon, "end of the framework", c.describe, func() bool { return c.framework(t, gone.id) == nil })
}

func isBackInTime(t *testing.T, c *cluster, f form) {
	s, stays, ended := c.away(t, f, time.Hour)
	checkBack(t, c, s, stays, ended, time.Hour)
}

func isBackTooLate(t *testing.T, c *cluster, f form) {
	s, stays, _ := c.away(t, f, time.Second)
	checkEnded(t, c, s, stays)
}

func theNewerWins(t *testing.T, c *cluster, f form) {
	old := c.subscribe(t, f, timeout(time.Hour))
	o := old.offer()
	old.launch(o, task("stays", o, "exec sleep 1000"))
	stays := old.follow("stays", "TASK_STARTING", "TASK_RUNNING")
	for range 3 { // each fails over from the one before
		next := c.resubscribe(t, f, old.id, timeout(time.Hour))
		if last := old.last(); last.Type != "ERROR" || last.Error.Message != "Framework failed over" {
			t.Errorf("the older stream ended with %+v", last)
		}
		status, text := old.try("KILL", `"kill":{"task_id":{"value":"stays"}}`)
		if status != 400 || !strings.HasPrefix(text, "The stream ID '"+old.stream+"' included in this request didn't match") {
			t.Errorf("a call on the older stream: %d %s", status, text)
		}
		old = next
	}
	old.call("RECONCILE", `"reconcile":{}`)
	if now := old.reconciled("stays"); now.State != "TASK_RUNNING" || now.pid() != stays.pid() {
		t.Errorf("the task was %+v and is %+v", stays, now)
	}
	old.offer()
	old.teardown()
}

func isBackInTimeForTheNextMaster(t *testing.T, c *cluster, f form) {
	s, stays, ended := c.away(t, f, time.Hour)
	c.killMaster(t)
	checkBack(t, c, s, stays, ended, time.Hour)
}

// A framework that was connected when its master died did nothing wrong: it has its whole timeout, and time to notice.
func isConnectedWhenTheMasterDies(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "") // without any timeout
	o := s.offer()
	s.launch(o, task("stays", o, "exec sleep 1000"), task("ends", o, "exit 3"))
	stays := s.follow("stays", "TASK_STARTING", "TASK_RUNNING")
	s.follow("ends", "TASK_STARTING", "TASK_RUNNING")
	ended := s.want("ends", "TASK_FAILED")
	c.killMaster(t)
	checkBack(t, c, s, stays, ended, 0)
}

// What is left of a timeout when the master dies is what the next one gives, and not the whole of it again.
func theRestOfATimeoutCounts(t *testing.T, c *cluster, f form) {
	const patience = 4 * time.Second
	s, stays, _ := c.away(t, f, patience)
	left := time.Now()
	c.killMaster(t)
	await(t, soon, "half of the timeout", c.describe, func() bool { return time.Since(left) > patience/2 })
	c.killMaster(t)
	checkEnded(t, c, s, stays)
}

// The timeout passes while there is no master: the next one ends what is left of the framework.
func aTimeoutPassesWithoutAMaster(t *testing.T, c *cluster, f form) {
	s, stays, _ := c.away(t, f, 2*time.Second)
	supervisor := c.cmd.Process.Pid
	if err := syscall.Kill(supervisor, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	old := c.daemon(t, "master").PID
	if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone := time.Now()
	await(t, soon, "end of the timeout", c.describe, func() bool { return time.Since(gone) > 2*time.Second })
	if !alive(stays.pid()) {
		t.Error("a task died without a master")
	}
	if err := syscall.Kill(supervisor, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	await(t, soon, "next master", c.describe, func() bool { return c.daemon(t, "master").PID != old })
	checkEnded(t, c, s, stays)
}

// `gantry run` follows its task through the death of the master.
func aRunGoesOn(t *testing.T, c *cluster, _ form) {
	run, shown := c.begin("run", "--", "sh", "-c", "echo started; until test -e go; do sleep 0.1; done; echo done; exit 3")
	await(t, soon, "output", c.describe, func() bool { return strings.Contains(shown.String(), "started") })
	c.killMaster(t)
	var box []string
	await(t, soon, "framework that is back", c.describe, func() bool {
		return slices.ContainsFunc(c.state(t).GetFrameworks.GetFrameworks(), func(f *masterpb.Response_GetFrameworks_Framework) bool {
			id := f.GetFrameworkInfo().GetId().GetValue()
			if !strings.HasPrefix(f.GetFrameworkInfo().GetName(), "gantry run") || !f.GetConnected() {
				return false
			}
			box = c.sandboxes(t, id, "*")
			return len(box) == 1
		})
	})
	touchIn(t, box, "go")
	err := run.Wait()
	if text := shown.String(); run.ProcessState.ExitCode() != 3 || text != "started\ndone\n" {
		t.Errorf("gantry run ended with %v, and showed %q", err, text)
	}
}
