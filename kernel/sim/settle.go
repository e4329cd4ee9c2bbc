package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// settling is longer than every timeout of the cluster: of agents that have to register
// anew, frameworks that have to return, statuses that are sent again.
const settling = 25 * time.Minute

// killing is longer than it takes to end a task, if agent and keeper were just started.
const killing = 5 * time.Minute

// settle ends the faults and checks that everything comes to rest.
func (c *cluster) settle() {
	c.note("calm")
	c.calm = true
	c.master.trap = noTrap
	if !c.master.up {
		c.master.start()
	}
	if c.master.paused {
		c.master.resume()
	}
	for _, h := range c.hosts {
		h.soothe()
	}
	for _, f := range c.frameworks {
		f.idle, f.deaf = true, false
		f.call(&schedulerpb.Call{Type: schedulerpb.Call_DECLINE.Enum(), Decline: &schedulerpb.Call_Decline{OfferIds: f.lost}})
		if f.hostile {
			f.teardown()
		}
	}
	c.master.allocator.takeOffice()
	c.runFor(killing)
	c.witness.checkCondemned()
	c.runFor(settling - killing)
	c.checkTasks()
	c.checkHosts()
	c.checkMaster()
	c.probe()
}

// soothe ends what is wrong with a host. The connection to the keeper is opened anew, and
// the stream where a hostile network may have lost something on it.
func (h *host) soothe() {
	h.trap = noTrap
	h.heal()
	if h.keeper.paused {
		h.keeper.resume()
	}
	switch {
	case h.newest != nil:
		h.repair()
	case h.up && h.paused:
		h.resume()
	}
	if !h.up {
		h.start()
	}
	if h.stream != nil && h.hostile {
		h.stream.sever(0, 0)
	}
	h.after(12*time.Minute, func() {
		if h.kept != nil {
			h.loseKeeper(h.kept, 0)
		}
	})
}

// checkTasks compares what each scheduler believes with what runs.
func (c *cluster) checkTasks() {
	for _, f := range c.frameworks {
		if f.away || f.over || f.id == "" {
			continue
		}
		if f.current() == nil {
			fail("%s is not subscribed", f.name)
		}
		for _, tid := range sorted(f.tasks) {
			d := f.tasks[tid]
			t := c.witness.of(id.TaskKey{Framework: id.Framework(f.id), Task: tid})
			runs := t.container != nil && !t.container.ended
			switch {
			case c.hostile:
			case lifecycle.Terminal(t.heard) && !t.judged:
				fail("%s heard that %s is %s in answers only, never from its agent", f.name, tid, t.heard)
			case lifecycle.Terminal(d.state):
				if runs {
					fail("%s believes that %s is %s, and it runs on %s", f.name, tid, d.state, t.container.host.name)
				}
				if t.gone && t.container != nil && !t.removed && !t.container.host.forsaken(t.container) {
					fail("%s was told that %s is unknown, and it ran on %s", f.name, tid, t.container.host.name)
				}
			case d.state == mesos.TaskState_TASK_UNREACHABLE && c.retired(d.agent):
			case d.state == mesos.TaskState_TASK_RUNNING && runs:
			case d.state == mesos.TaskState_TASK_STAGING && c.retired(d.agent):
			default:
				fail("%s believes that %s is %s, and it runs: %t", f.name, tid, d.state, runs)
			}
		}
	}
}

// retired says that no agent has this id: its checkpoint is gone.
func (c *cluster) retired(agent string) bool {
	return !slices.ContainsFunc(c.hosts, func(h *host) bool { return string(h.m.AgentID()) == agent })
}

// checkHosts says that nothing is left on a host but tasks that run for somebody.
func (c *cluster) checkHosts() {
	for _, h := range c.hosts {
		if !h.up || !h.m.Linked() {
			fail("%s is not with the master", h.name)
		}
		for _, t := range h.m.Tasks() {
			if t.Latest.GetState() != mesos.TaskState_TASK_RUNNING || h.keeper.containers[t.Container] == nil {
				fail("%s still has task %s, %s", h.name, t.Info.GetTaskId().GetValue(), t.Latest.GetState())
			}
		}
		own := 0
		for _, t := range h.m.Tasks() {
			if t.Info.Executor == nil {
				own++
			}
		}
		for _, e := range h.m.Executors() {
			own++
			if c := h.keeper.containers[e.Container]; c == nil || !e.Subscribed {
				fail("%s still has executor %s of %s, subscribed: %t", h.name, e.Info.ExecutorId.GetValue(), e.Framework.Id.GetValue(), e.Subscribed)
			}
		}
		if len(h.keeper.containers) != own || len(h.keeper.started) != own {
			fail("%s has %d tasks and executors, %d containers and %d records of starts", h.name, own, len(h.keeper.containers), len(h.keeper.started))
		}
		for _, name := range sorted(h.keeper.exits) {
			fail("%s keeps the record of the end of %s for ever", h.name, name)
		}
	}
}

// checkMaster says that the master holds what runs, and for whom.
func (c *cluster) checkMaster() {
	known := 0
	for _, key := range sorted(c.master.store) {
		if strings.HasPrefix(key, "agent/") {
			known++
		}
	}
	if known > c.names {
		fail("%d hosts had %d agents, and the master has records of %d", len(c.hosts), c.names, known)
	}
	state := c.master.m.State()
	subscribed := map[string]bool{}
	for _, f := range c.frameworks {
		if f.current() != nil {
			subscribed[f.id] = true
		}
	}
	for _, f := range state.GetFrameworks.Frameworks {
		if fid := f.FrameworkInfo.GetId().GetValue(); !subscribed[fid] {
			fail("framework %s is still there, with tasks %v", fid, c.tasksOf(fid))
		}
	}
	if n := len(state.GetFrameworks.Frameworks); n != len(subscribed) {
		fail("the master has %d frameworks, and %d are subscribed", n, len(subscribed))
	}
	running := map[string]ledger.Resources{}
	for _, h := range c.hosts {
		running[string(h.m.AgentID())] = h.used()
	}
	for _, a := range state.GetAgents.Agents {
		aid := a.AgentInfo.GetId().GetValue()
		used, err := ledger.FromMesos(a.AllocatedResources)
		if err != nil || !used.Equal(running[aid]) {
			fail("on agent %s run tasks of %s, and the master counts %s", aid, running[aid], used)
		}
	}
	for _, t := range state.GetTasks.Tasks {
		// What an agent that is no more had to say can't be acknowledged any more.
		if t.GetState() != mesos.TaskState_TASK_RUNNING && !c.retired(t.GetAgentId().GetValue()) {
			fail("the master still has task %s, %s", t.GetTaskId().GetValue(), t.GetState())
		}
	}
}

// probe has a new framework use the whole cluster: what is free must be offered.
func (c *cluster) probe() {
	f := c.addFramework()
	f.info.Roles, f.info.Capabilities, f.aware = nil, nil, false
	f.act()
	c.runFor(3 * time.Minute)
	finished := 0
	for _, d := range f.tasks {
		if d.state == mesos.TaskState_TASK_FINISHED || d.state == mesos.TaskState_TASK_FAILED {
			finished++
		}
	}
	if finished == 0 && c.hasRoom() {
		fail("a new framework had three minutes and no task of it ended; it launched %d", len(f.tasks))
	}
}

// tasksOf lists what the master says of a framework's tasks.
func (c *cluster) tasksOf(fid string) (list []string) {
	tasks := c.master.m.Tasks()
	for _, t := range slices.Concat(tasks.Tasks, tasks.UnreachableTasks) {
		if t.GetFrameworkId().GetValue() == fid {
			list = append(list, fmt.Sprintf("%s on %s: %s", t.GetTaskId().GetValue(), t.GetAgentId().GetValue(), t.GetState()))
		}
	}
	return list
}

func (c *cluster) hasRoom() bool {
	for _, h := range c.hosts {
		if rest, _ := h.resources.Minus(h.used()); rest.Scalar("cpus") >= 1500 && rest.Scalar("mem") >= 640_000 {
			return true
		}
	}
	return false
}
