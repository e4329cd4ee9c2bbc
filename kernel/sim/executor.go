package sim

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

// executor is a framework's program in a container, which runs tasks. Its memory ends with
// the container, and survives any agent.
type executor struct {
	*world
	h    *host
	c    *container
	info *mesos.ExecutorInfo
	// events is the open subscription, if there is one.
	events *lane
	// tasks are all that it was ever given; young those that have no status on record.
	tasks map[id.Task]*container
	young map[id.Task]*mesos.TaskInfo
	// updates are not on record, oldest first; said counts all that it made.
	updates []*executorpb.Call_Update
	said    uint64
	// mute executors never subscribe.
	mute bool
}

func newExecutor(c *container, l node.Launch) *executor {
	e := &executor{
		world: c.host.world, h: c.host, c: c, info: l.Executor,
		tasks: map[id.Task]*container{}, young: map[id.Task]*mesos.TaskInfo{},
	}
	e.mute = !e.calm && e.chance(20)
	e.again()
	return e
}

// after does something if the executor still lives by then.
func (e *executor) after(d time.Duration, do func()) {
	e.world.after(d, func() {
		if !e.c.ended {
			do()
		}
	})
}

// again subscribes, sooner or later.
func (e *executor) again() {
	within := 2 * time.Second
	if !e.calm && e.chance(15) {
		within = 30 * time.Second
	}
	if !e.mute {
		e.after(e.between(10*time.Millisecond, within), e.subscribe)
	}
}

// subscribe says what the executor does not know to be on record.
func (e *executor) subscribe() {
	if e.events != nil {
		return
	}
	if !e.h.up {
		e.again()
		return
	}
	e.events = &lane{world: e.world, slowest: 2 * time.Millisecond}
	sub := &executorpb.Call_Subscribe{UnacknowledgedUpdates: e.updates}
	for _, tid := range sorted(e.young) {
		sub.UnacknowledgedTasks = append(sub.UnacknowledgedTasks, e.young[tid])
	}
	e.post(&executorpb.Call{Type: executorpb.Call_SUBSCRIBE.Enum(), Subscribe: sub})
}

// post makes a call to the agent on a connection of its own, which may break with it.
func (e *executor) post(c *executorpb.Call) {
	c.FrameworkId, c.ExecutorId = e.info.FrameworkId, e.info.ExecutorId
	if err := rules.ExecutorCall(c); err != nil {
		fail("executor %s made an invalid call: %v", e.c.id, err)
	}
	e.h.calls++
	n := e.h.calls
	e.h.callers[n] = caller{e, e.events, c.GetType() == executorpb.Call_SUBSCRIBE}
	e.h.later(e.between(0, 5*time.Millisecond), func() {
		e.note("%s: executor %s calls %s %s", e.h.name, e.c.id, c.GetType(), c.GetUpdate().GetStatus().GetTaskId().GetValue())
		e.h.step(node.ExecutorCall{Principal: e.c.id, Request: n, Stream: n, Call: c})
	})
}

// caller is who made a call, and the subscription that it had, or opened by it.
type caller struct {
	*executor
	events *lane
	opened bool
}

// reply ends the subscription of a call that was refused.
func (h *host) reply(r node.Reply) {
	by := h.callers[r.Request]
	if !by.opened {
		delete(h.callers, r.Request)
	}
	if r.Status >= 400 {
		by.note("%s: executor %s hears %d %s", h.name, by.c.id, r.Status, r.Message)
		by.hangUp(by.events)
	}
}

// tell brings an event, or the end, to an executor.
func (h *host) tell(t node.Tell) {
	by, open := h.callers[t.Stream]
	if !open {
		return
	}
	by.events.send(func() {
		switch {
		case by.c.ended || by.executor.events != by.events:
		case t.Close:
			by.hangUp(by.events)
		default:
			by.hear(t.Event)
		}
	})
}

// hangUp ends a subscription for the executor, which subscribes again.
func (e *executor) hangUp(events *lane) {
	events.dead = true
	if e.events == events {
		e.events = nil
		e.again()
	}
}

// silence is how the agent's end, or the executor's, looks from the other side.
func (h *host) silence(of func(caller) bool) {
	for _, n := range slices.Sorted(maps.Keys(h.callers)) {
		by := h.callers[n]
		if !by.opened || !of(by) {
			continue
		}
		delete(h.callers, n)
		by.events.dead = true
		by.after(by.between(0, time.Second), func() { by.hangUp(by.events) })
		h.later(h.between(0, time.Second), func() { h.step(node.ExecutorGone{Stream: n}) })
	}
}

func (e *executor) hear(ev *executorpb.Event) {
	switch ev.GetType() {
	case executorpb.Event_LAUNCH:
		e.launch(ev.Launch.Task)
	case executorpb.Event_KILL:
		if t := e.tasks[id.Task(ev.Kill.TaskId.GetValue())]; t != nil {
			e.after(e.between(0, time.Duration(ev.Kill.KillPolicy.GetGracePeriod().GetNanoseconds())), func() { e.end(t, mesos.TaskState_TASK_KILLED) })
		}
	case executorpb.Event_ACKNOWLEDGED:
		e.acknowledged(ev.Acknowledged)
	case executorpb.Event_SHUTDOWN:
		e.note("%s: executor %s is told to end", e.h.name, e.c.id)
		if e.IntN(3) > 0 {
			e.after(e.between(0, 4*time.Second), func() { e.h.keeper.end(e.c, 0, 0) })
		}
	}
}

// launch runs a task, for a while.
func (e *executor) launch(info *mesos.TaskInfo) {
	tid := id.Task(info.GetTaskId().GetValue())
	key := id.TaskKey{Framework: id.Framework(e.info.FrameworkId.GetValue()), Task: tid}
	if e.tasks[tid] != nil && e.h.c.witness.judges(key) {
		fail("executor %s on %s is given task %s twice", e.c.id, e.h.name, tid)
	}
	need, err := ledger.FromMesos(info.Resources)
	if err != nil {
		fail("resources of %s: %v", tid, err)
	}
	t := &container{id: e.c.id, key: key, host: e.h, resources: need, custom: true}
	e.tasks[tid], e.young[tid] = t, info
	e.containers++
	e.note("%s: executor %s runs %s", e.h.name, e.c.id, t.key)
	e.h.c.witness.began(t)
	if e.chance(2) {
		e.say(t, mesos.TaskState_TASK_STARTING)
	}
	e.after(e.between(0, time.Second), func() {
		if !t.ended {
			e.say(t, mesos.TaskState_TASK_RUNNING)
		}
	})
	lasts := e.between(time.Second, 2*time.Minute)
	if !e.calm && e.chance(4) {
		lasts *= 20
	}
	e.after(lasts, func() {
		e.end(t, []mesos.TaskState{mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED}[e.IntN(2)])
	})
}

// end is that of one task.
func (e *executor) end(t *container, state mesos.TaskState) {
	if !t.ended {
		t.ended = true
		e.say(t, state)
	}
}

// say reports a status; what is said without a subscription is said with the next.
func (e *executor) say(t *container, state mesos.TaskState) {
	e.said++
	t.said = state
	u := &executorpb.Call_Update{Status: &mesos.TaskStatus{
		TaskId: &mesos.TaskID{Value: proto.String(string(t.key.Task))}, State: state.Enum(),
		Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(), Uuid: binary.BigEndian.AppendUint64(make([]byte, 8), e.said),
	}}
	e.updates = append(e.updates, u)
	if e.events != nil {
		e.post(&executorpb.Call{Type: executorpb.Call_UPDATE.Enum(), Update: u})
	}
}

// acknowledged says that the agent has a status on record; of an end that is a promise.
func (e *executor) acknowledged(a *executorpb.Event_Acknowledged) {
	tid := id.Task(a.TaskId.GetValue())
	delete(e.young, tid)
	for i, u := range e.updates {
		if string(u.Status.Uuid) == string(a.Uuid) {
			e.updates = append(e.updates[:i:i], e.updates[i+1:]...)
			e.tasks[tid].kept = lifecycle.Terminal(u.Status.GetState())
			return
		}
	}
}

// all is a container with the tasks that run in it, if it is an executor's.
func (c *container) all() []*container {
	list := []*container{c}
	if c.executor != nil {
		for _, tid := range sorted(c.executor.tasks) {
			if t := c.executor.tasks[tid]; !t.ended {
				list = append(list, t)
			}
		}
	}
	return list
}

// used is what a host's containers use.
func (h *host) used() (sum ledger.Resources) {
	for _, name := range sorted(h.keeper.containers) {
		for _, c := range h.keeper.containers[name].all() {
			sum = sum.Plus(c.resources)
		}
	}
	return sum
}
