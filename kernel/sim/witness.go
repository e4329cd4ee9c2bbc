package sim

import (
	"bytes"
	"strconv"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// witness sees what runs on the hosts, what schedulers ask and what they hear, and knows
// what the cluster promises about it. It never looks into a machine.
type witness struct {
	c     *cluster
	tasks map[id.TaskKey]*sighting
}

// sighting is what was seen of one task.
type sighting struct {
	// container is the one that ran, if any did.
	container *container
	// heard is the furthest state that its scheduler heard of, STAGING before any.
	heard mesos.TaskState
	// uuid is that of the newest status heard.
	uuid []byte
	// lost says that a scheduler that knows no partitions heard TASK_LOST, gone that it
	// was told that nobody knows the task.
	lost, gone bool
	// judged says that what was told of its end has been compared with what happened: an
	// answer to RECONCILE has no reason, a status has.
	judged bool
	// killAsked says that its scheduler asked for its end, killTold that its agent was
	// told to bring it about.
	killAsked, killTold bool
	// condemned says that an agent has taken the order to end it.
	condemned bool
	// removed says that its framework was, at least for the master of that time.
	removed bool
}

func (w *witness) of(key id.TaskKey) *sighting {
	t := w.tasks[key]
	if t == nil {
		t = &sighting{heard: mesos.TaskState_TASK_STAGING}
		w.tasks[key] = t
	}
	return t
}

// judges says whether the witness can hold the cluster to its word about a task: not where
// the network is worse than any, or the scheduler uses an id twice.
func (w *witness) judges(key id.TaskKey) bool {
	f := w.c.frameworkOf(key.Framework)
	return !w.c.hostile && (f == nil || !f.hostile)
}

// master sees what reaches the master.
func (w *witness) master(ev core.Event) {
	if call, ok := ev.(core.Call); ok && call.Call.GetType() == schedulerpb.Call_KILL {
		w.of(id.TaskKey{
			Framework: id.Framework(call.Call.GetFrameworkId().GetValue()), Task: id.Task(call.Call.GetKill().GetTaskId().GetValue()),
		}).killAsked = true
	}
}

// toAgent sees what a master orders.
func (w *witness) toAgent(h *host, msg *linkpb.ToAgent) {
	switch b := msg.Body.(type) {
	case *linkpb.ToAgent_Welcome:
		if h.newest != nil {
			fail("%s is welcome with an old checkpoint", h.name)
		}
		h.unlisted = false
	case *linkpb.ToAgent_Kill:
		key := id.TaskKey{Framework: id.Framework(b.Kill.GetFrameworkId().GetValue()), Task: id.Task(b.Kill.GetTaskId().GetValue())}
		t, f := w.of(key), w.c.frameworkOf(key.Framework)
		t.killTold = true
		if w.judges(key) && f != nil && f.aware && !t.killAsked {
			fail("%s: the master has task %s killed, and nobody asked for it", h.name, key)
		}
	case *linkpb.ToAgent_EndFramework:
		for key, t := range w.tasks { // in any order: each alone
			if string(key.Framework) == b.EndFramework.GetFrameworkId().GetValue() {
				t.killTold, t.removed = true, true
			}
		}
	}
}

// obeyed sees that an agent has taken an order, and lives: it must not forget it any more.
func (w *witness) obeyed(h *host, life int, msg *linkpb.ToAgent) {
	if k := msg.GetKill(); k != nil && h.up && h.life == life && h.m.Linked() {
		w.of(id.TaskKey{Framework: id.Framework(k.GetFrameworkId().GetValue()), Task: id.Task(k.GetTaskId().GetValue())}).condemned = true
	}
}

// checkCondemned says that no task runs long after its agent took the order to end it. A
// kill that overtook its task, as on a hostile network, was no order.
func (w *witness) checkCondemned() {
	for _, h := range w.c.hosts {
		for _, name := range sorted(h.keeper.containers) {
			for _, c := range h.keeper.containers[name].all() {
				if t := w.of(c.key); w.judges(c.key) && t.condemned && t.container == c {
					fail("%s took the order to end %s, which runs", h.name, c.key)
				}
			}
		}
	}
}

// stopped sees an agent that is told to end its tasks.
func (w *witness) stopped(h *host) {
	for _, t := range h.m.Tasks() {
		w.of(id.TaskKey{Framework: id.Framework(t.Framework.GetId().GetValue()), Task: id.Task(t.Info.GetTaskId().GetValue())}).killTold = true
	}
}

// excuse says that the ends of a host's containers may become unknown.
func (w *witness) excuse(h *host) {
	for _, t := range w.tasks { // in any order: each alone
		if t.container != nil && t.container.host == h {
			t.container.excused = true
		}
	}
}

// began sees a container come to life.
func (w *witness) began(c *container) {
	if !w.judges(c.key) {
		return
	}
	if used := c.host.used(); !c.host.resources.Contains(used) {
		fail("%s has %s and runs tasks of %s", c.host.name, c.host.resources, used)
	}
	if c.executor != nil {
		return // which is none of its tasks
	}
	t := w.of(c.key)
	if t.container != nil {
		fail("task %s is launched twice: in %s on %s, and in %s on %s", c.key, t.container.id, t.container.host.name, c.id, c.host.name)
	}
	if lifecycle.Terminal(t.heard) || t.gone {
		fail("task %s begins to run after its scheduler heard that it is %s, gone %t", c.key, t.heard, t.gone)
	}
	t.container = c
}

// heard judges what a scheduler was told of a task.
func (w *witness) heard(f *framework, s *mesos.TaskStatus) {
	key := id.TaskKey{Framework: id.Framework(f.id), Task: id.Task(s.GetTaskId().GetValue())}
	if !w.judges(key) {
		return
	}
	t, state := w.of(key), s.GetState()
	if len(s.GetUuid()) > 0 {
		switch bytes.Compare(s.GetUuid(), t.uuid) {
		case -1:
			fail("%s hears an older status of %s again: %s after %s", f.name, key, state, t.heard)
		case 0:
			if state != t.heard {
				fail("%s hears one status of %s as %s and as %s", f.name, key, t.heard, state)
			}
		}
		t.uuid = s.GetUuid()
	}
	reconciled := s.GetReason() == mesos.TaskStatus_REASON_RECONCILIATION
	switch {
	case !f.aware && state == mesos.TaskState_TASK_LOST && s.GetSource() == mesos.TaskStatus_SOURCE_MASTER:
		t.lost = true
	case reconciled && (state == mesos.TaskState_TASK_GONE || state == mesos.TaskState_TASK_UNKNOWN):
		w.unknown(key, t, state)
	case state == mesos.TaskState_TASK_UNREACHABLE:
		if lifecycle.Terminal(t.heard) && !reconciled { // else the question may have crossed the end
			fail("%s hears that %s is unreachable, which ended as %s", f.name, key, t.heard)
		}
	default:
		w.advance(key, t, s)
	}
}

// unknown is the answer about a task that the master does not know.
func (w *witness) unknown(key id.TaskKey, t *sighting, state mesos.TaskState) {
	if lifecycle.Terminal(t.heard) {
		return // the question and the acknowledgement crossed
	}
	if t.container != nil && !t.removed && !t.container.host.forsaken(t.container) && !w.c.givenUp(t.container.host) {
		fail("task %s is %s, its scheduler hears, which heard no end of it; its container has ended: %t", key, state, t.container.ended)
	}
	t.gone = true
}

func (w *witness) advance(key id.TaskKey, t *sighting, s *mesos.TaskStatus) {
	state := s.GetState()
	if _, verdict := lifecycle.NextTask(t.heard, state); verdict == lifecycle.Stale || t.gone {
		fail("task %s went from %s to %s (gone %t), its scheduler hears", key, t.heard, state, t.gone)
	}
	t.heard = state
	if c := t.container; lifecycle.Terminal(state) && c != nil && !c.ended {
		fail("task %s has ended as %s, its scheduler hears, and runs on %s", key, state, c.host.name)
	}
	if answer := s.GetReason() == mesos.TaskStatus_REASON_RECONCILIATION && state != mesos.TaskState_TASK_DROPPED; lifecycle.Terminal(state) && !t.judged && !answer {
		w.judge(key, t, s)
		t.judged = true
	}
}

// judge compares what is told of a task's end with what happened.
func (w *witness) judge(key id.TaskKey, t *sighting, s *mesos.TaskStatus) {
	c, state := t.container, s.GetState()
	if c != nil && state != mesos.TaskState_TASK_FINISHED && state != mesos.TaskState_TASK_FAILED && state != mesos.TaskState_TASK_KILLED {
		fail("task %s ran, and its scheduler hears %s", key, state)
	}
	if c != nil && c.custom {
		w.judgeCustom(key, t, s)
		return
	}
	known := false
	for _, label := range s.GetLabels().GetLabels() {
		n, err := strconv.Atoi(label.GetValue())
		known = true
		switch {
		case c == nil || err != nil:
			fail("task %s has %s %q and never ran", key, label.GetKey(), label.GetValue())
		case label.GetKey() == "exit_status" && (c.signal != 0 || int(c.status) != n),
			label.GetKey() == "exit_signal" && int(c.signal) != n:
			fail("task %s ended with status %d, signal %d; told was %s %d", key, c.status, c.signal, label.GetKey(), n)
		}
	}
	switch {
	case state == mesos.TaskState_TASK_KILLED:
		if !t.killTold {
			fail("task %s was killed, and nobody asked for it", key)
		}
	case c == nil || known:
		if state == mesos.TaskState_TASK_FINISHED && (c == nil || c.status != 0 || c.signal != 0) {
			fail("task %s is FINISHED and did not exit with 0", key)
		}
		if s.Reason == nil && !known {
			fail("task %s is %s without a reason", key, state)
		}
	case s.Reason == nil || !c.rebooted && !c.orphaned && !c.excused:
		fail("task %s ended with status %d, signal %d, and its scheduler hears only %s: %s", key, c.status, c.signal, s.GetReason(), s.GetMessage())
	}
}

// judgeCustom is judge for a task of an executor: whoever has it on record tells what the
// executor said last.
func (w *witness) judgeCustom(key id.TaskKey, t *sighting, s *mesos.TaskStatus) {
	c, state := t.container, s.GetState()
	switch {
	case c.kept && state != c.said && !c.excused:
		fail("task %s is %s, said its executor, and its agent had it on record; its scheduler hears %s", key, c.said, state)
	case state == mesos.TaskState_TASK_FINISHED && c.said != state:
		fail("task %s is FINISHED, and its executor said no more than %s", key, c.said)
	case state == mesos.TaskState_TASK_KILLED && !t.killTold:
		fail("task %s was killed, and nobody asked for it", key)
	case state == mesos.TaskState_TASK_FAILED && s.Reason == nil && c.said != state:
		fail("task %s is FAILED without a reason", key)
	}
}
