package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// process is one process for good: ids are used again.
type process struct {
	pid   int
	ticks string // of its start
}

func processOf(pid int) process { return process{pid, statOf(pid, 22)} }

// statOf is a field of /proc/PID/stat, counted as its manual does; empty if there is no such process.
func statOf(pid, field int) string {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat")) // an error says that it has ended
	_, rest, found := bytes.Cut(text[max(0, bytes.LastIndexByte(text, ')')):], []byte(") "))
	if fields := bytes.Fields(rest); found && len(fields) > field-3 {
		return string(fields[field-3])
	}
	return ""
}

// kernel returns the cluster's processes that are in none of its containers.
func (c *cluster) kernel() []int {
	c.t.Helper()
	return slices.DeleteFunc(c.processes(), func(pid int) bool {
		return strings.Contains(groupsOf(pid), "/containers/") || statOf(pid, 3) == "Z"
	})
}

func groupsOf(pid int) string {
	text, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	return string(text)
}

// keepers returns the agent's keeper and what keeps it up, parents first.
func (c *cluster) keepers() []int {
	c.t.Helper()
	pids := slices.DeleteFunc(c.kernel(), func(pid int) bool {
		return !strings.HasPrefix(commandOf(pid), "gantry-keeper --")
	})
	slices.SortFunc(pids, func(a, b int) int {
		if statOf(b, 4) == strconv.Itoa(a) {
			return -1
		}
		return 1
	})
	return pids
}

// plugin returns the process of a plugin.
func (c *cluster) plugin(name string) int {
	c.t.Helper()
	for _, pid := range c.kernel() {
		if groups := groupsOf(pid); strings.Contains(groups, "/plugins/"+name+"\n") || strings.Contains(groups, "/containerizers/"+name+"\n") {
			return pid
		}
	}
	return 0
}

// victim is what can die, and how its process is found; 0 says that there is none.
type victim struct {
	name string
	find func(*testing.T, *cluster) int
}

var victims = []victim{
	{"agent", func(t *testing.T, c *cluster) int { return c.daemon(t, "agent").PID }},
	{"master", func(t *testing.T, c *cluster) int { return c.daemon(t, "master").PID }},
	{"keeper", func(_ *testing.T, c *cluster) int {
		pids := append([]int{0}, c.keepers()...)
		return pids[len(pids)-1]
	}},
	{"parent of the keeper", func(_ *testing.T, c *cluster) int {
		if pids := c.keepers(); len(pids) > 1 {
			return pids[0]
		}
		return 0
	}},
	{"allocator", func(_ *testing.T, c *cluster) int { return c.plugin("drf") }},
	{"Marathon", func(_ *testing.T, c *cluster) int { return c.plugin("marathon") }},
}

// Whoever is killed, no task dies of it, no exit status is lost, nothing runs twice, and what was not acknowledged comes again.
func TestKill(t *testing.T) {
	workDir := newWorkDir(t)
	c := up(t, workDir)
	l := newLoad(t, c)
	h := &household{t: t, c: c, l: l, alive: map[string]process{}}
	h.begin()
	for _, v := range victims {
		t.Run(v.name, func(t *testing.T) {
			l.t, h.t = t, t
			victim := v.find(t, c)
			if victim == 0 {
				t.Skip("there is none")
			}
			batch := h.batch(8)
			for _, w := range batch[:4] {
				l.touch(w.id, "go")
			}
			began := time.Now()
			if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			await(t, soon, v.name+" in its place", c.describe, func() bool {
				pid := v.find(t, c)
				return pid != 0 && pid != victim && alive(pid)
			})
			h.settle(batch, false)
			t.Logf("everything has settled %s after the %s's death", time.Since(began).Round(time.Millisecond), v.name)
		})
	}
	l.t, h.t = t, t
	h.allButTheTasks()
	h.l.teardown()
	await(t, soon, "end of the tasks", h.c.describe, func() bool { return !h.lives() })
	h.c.must("app", "remove", "hello-web")
	h.c.checkNothingHeld(t)
	h.c.end()
	h.c.checkNothingLeft()
}

// household is a cluster with tasks that stay.
type household struct {
	t       *testing.T
	c       *cluster
	l       *load
	alive   map[string]process // by the task
	batches int
}

// begin launches tasks that stay: of one that no status is acknowledged.
func (h *household) begin() {
	h.t.Helper()
	var stay []work
	for i := range 5 {
		stay = append(stay, work{fmt.Sprintf("stay-%d", i), "exec sleep 100000", 0})
	}
	h.l.launch(stay...)
	h.l.tasks["stay-4"].leave = true
	h.l.until("five tasks", func() bool {
		return h.l.runs("stay-0", "stay-1", "stay-2", "stay-3") && h.l.tasks["stay-4"].path() == "STARTING"
	})
	for id := range h.l.tasks {
		if pid := h.l.tasks[id].last().pid(); pid != 0 {
			h.alive[id] = processOf(pid)
		}
	}
	for i, pid := range h.c.instances() {
		h.alive[fmt.Sprintf("hello-web %d", i)] = processOf(pid)
	}
	if len(h.alive) != 6 {
		h.t.Fatalf("%v lives, want four tasks and two instances", h.alive)
	}
}

// batch launches tasks that run until they find a file.
func (h *household) batch(n int) []work {
	h.t.Helper()
	h.batches++
	var batch []work
	for i := range n {
		batch = append(batch, work{fmt.Sprintf("short-%d-%d", h.batches, i), "until test -e go; do sleep 0.05; done", i})
	}
	h.l.launch(batch...)
	h.l.until("short tasks", func() bool { return h.l.runs(ids(batch)...) })
	return batch
}

func ids(tasks []work) []string {
	var ids []string
	for _, w := range tasks {
		ids = append(ids, w.id)
	}
	return ids
}

// settle has the rest of a batch end, and checks that all is as it should be. The first half has ended around a death.
func (h *household) settle(batch []work, mayBeUnknown bool) {
	h.t.Helper()
	l := h.l
	again := l.tasks["stay-4"].again
	for _, w := range batch {
		l.touch(w.id, "go")
	}
	l.until("end of the short tasks", func() bool { return l.ended(ids(batch)...) })
	for _, w := range batch {
		if !l.exited(w.id) && !(mayBeUnknown && l.unknown(w.id)) {
			h.t.Errorf("task %s, which exits with %d, ran %d times: %s, at last %+v", w.id, w.exit, l.ran(w.id), l.tasks[w.id].path(), l.tasks[w.id].last())
		}
	}
	l.until("offer", func() bool { return len(l.offers) > 0 })
	for id, p := range h.alive {
		if now := processOf(p.pid); now != p {
			h.t.Errorf("%s was process %v, and is %v", id, p, now)
		}
	}
	for _, id := range []string{"stay-0", "stay-1", "stay-2", "stay-3"} {
		l.tasks[id].unsure = true
		l.until("reconciliation", func() bool { return !l.tasks[id].unsure })
		if now := l.tasks[id]; now.now.State != "TASK_RUNNING" || l.ran(id) != 1 {
			h.t.Errorf("task %s has run %d times and is %+v", id, l.ran(id), now.now)
		}
	}
	if got := l.tasks["stay-4"]; got.path() != "STARTING" {
		h.t.Errorf("of a task whose statuses nobody acknowledges was heard: %s", got.path())
	}
	if l.began > 1 && l.tasks["stay-4"].again == 0 {
		h.t.Errorf("a status that was not acknowledged did not come again (%d before)", again)
	}
}

// lives says whether any of the tasks that stay does.
func (h *household) lives() bool {
	for id, p := range h.alive {
		if strings.HasPrefix(id, "stay") && processOf(p.pid) == p {
			return true
		}
	}
	return false
}

// allButTheTasks kills every process of the cluster that is in no container, has half of a batch end, and starts the cluster
// again.
func (h *household) allButTheTasks() {
	h.t.Helper()
	batch := h.batch(8)
	h.c.killKernel()
	h.l.hangUp()
	for _, w := range batch[:4] {
		h.l.touch(w.id, "go")
	}
	h.c = up(h.t, h.c.workDir)
	h.l.c = h.c
	h.settle(batch, true) // nobody was there to see the ends
	for _, w := range batch[4:] {
		if !h.l.exited(w.id) {
			h.t.Errorf("task %s ended after the new start: %s, at last %+v", w.id, h.l.tasks[w.id].path(), h.l.tasks[w.id].last())
		}
	}
	h.c.awaitInstances(2)
}

// killKernel kills every process of the cluster that is in no container.
func (c *cluster) killKernel() {
	c.t.Helper()
	await(c.t, soon, "end of the cluster's own processes", c.describe, func() bool {
		pids := c.kernel()
		for _, pid := range pids {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && err != syscall.ESRCH {
				c.t.Error(err)
			}
		}
		return len(pids) == 0
	})
	<-c.ended
}

// How long an agent with fifty tasks needs to find them again after its death, and until the next status comes.
func TestAnAgentOfFiftyTasksDies(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	l := newLoad(t, c)
	var tasks []work
	for i := range 50 {
		tasks = append(tasks, work{fmt.Sprintf("task-%d", i), "until test -e go; do sleep 0.05; done", i % 8})
	}
	l.launch(tasks...)
	l.until("fifty tasks", func() bool { return l.runs(ids(tasks)...) })
	pids := map[string]process{}
	for _, w := range tasks {
		pids[w.id] = processOf(l.tasks[w.id].last().pid())
	}
	for range 3 {
		last := tasks[len(tasks)-1]
		tasks = tasks[:len(tasks)-1]
		old := c.daemon(t, "agent").PID
		began := time.Now()
		c.killAgent(t)
		l.touch(last.id, "go")
		var back time.Duration
		l.until("agent with all its tasks, and a status", func() bool {
			if back == 0 && c.daemon(t, "agent").PID != old && c.found(t) == len(tasks) {
				back = time.Since(began)
			}
			return back != 0 && l.ended(last.id)
		})
		t.Logf("%d tasks found again after %s, the next status after %s", len(tasks), back.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		if !l.exited(last.id) {
			t.Errorf("a task that ended meanwhile: %s, at last %+v", l.tasks[last.id].path(), l.tasks[last.id].last())
		}
	}
	for _, w := range tasks {
		if now := processOf(pids[w.id].pid); now != pids[w.id] || l.ran(w.id) != 1 {
			t.Errorf("task %s ran %d times; its process was %v and is %v", w.id, l.ran(w.id), pids[w.id], now)
		}
	}
	l.teardown()
	c.checkNothingHeld(t)
	c.end()
	c.checkNothingLeft()
}

// found counts the tasks that run on an agent which is there, as the master knows.
func (c *cluster) found(t *testing.T) int {
	t.Helper()
	now := c.state(t)
	if agents := now.GetAgents.GetAgents(); len(agents) != 1 || !agents[0].GetActive() {
		return 0
	}
	running := 0
	for _, task := range now.GetTasks.GetTasks() {
		if task.GetState() == mesos.TaskState_TASK_RUNNING {
			running++
		}
	}
	return running
}
