// Package machine is what a scheduler's pure machine and the shell around it say to each
// other: events in, effects out, time as a parameter.
//
//	var out machine.Effects
//	m.Step(now, machine.Start{}, &out)  // asks for SUBSCRIBE
//	// 1. make out.Persist durable  2. make out.Calls  3. answer out.Replies
//	deadline, ok := m.NextDeadline()    // Step with Tick when it has passed
//
// It is pure, and has the calls that every scheduler makes alike.
package machine

import (
	"time"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Machine is a scheduler without clock, goroutine or connection. It has one owner.
type Machine interface {
	// Step applies ev at now and appends what it asks for to out. What one step persists
	// belongs together: all of it becomes durable, or nothing.
	Step(now time.Time, ev Event, out *Effects)
	// NextDeadline is when a Tick is due; false when nothing is waited for.
	NextDeadline() (time.Time, bool)
}

// Event is something that happened: one of the types below, plain data.
type Event interface{ event() }

// Start begins a session with the kernel.
type Start struct{}

// Scheduler is an event of the scheduler API.
type Scheduler struct{ Event *schedulerpb.Event }

// Refused says that the kernel answered a call of Effects with a refusal.
type Refused struct {
	Call   *schedulerpb.Call
	Reason string
}

// Request is what a client asks; its Reply carries the token.
type Request struct {
	Token uint64
	Op    any // of the machine's own types
}

// Tick says that the deadline of NextDeadline has passed, or that some time has.
type Tick struct{}

func (Start) event()     {}
func (Scheduler) event() {}
func (Refused) event()   {}
func (Request) event()   {}
func (Tick) event()      {}

// Effects is what a step asks for, in the order in which it must happen.
type Effects struct {
	// Persist is durable before anything below it happens.
	Persist []Write
	Calls   []*schedulerpb.Call
	Replies []Reply
	// Failed, when not empty, ends the session; the reason is the master's.
	Failed string
}

// Empty says that nothing is left to do.
func (e *Effects) Empty() bool {
	return len(e.Persist)+len(e.Calls)+len(e.Replies) == 0 && e.Failed == ""
}

// Write puts Value at Key; a nil Value deletes it.
type Write struct {
	Key   string
	Value []byte
}

// Reply answers the Request of the same token.
type Reply struct {
	Token uint64
	Value any // of the machine's own types; nil where there is nothing to say
	Err   error
}

// Identity says who a framework is.
type Identity struct {
	// FrameworkID is the one the kernel keeps; empty before the first subscription.
	FrameworkID string
	Name        string
	Role        string
	User        string
	Principal   string
	// Hostname and WebURL are shown to operators.
	Hostname string
	WebURL   string
}

// failoverTimeout is how long the kernel keeps the tasks of a framework that is away.
const failoverTimeout = 7 * 24 * time.Hour

// Call is a call of this framework, without a body.
func (i Identity) Call(kind schedulerpb.Call_Type) *schedulerpb.Call {
	c := &schedulerpb.Call{Type: kind.Enum()}
	if i.FrameworkID != "" {
		c.FrameworkId = &mesos.FrameworkID{Value: new(i.FrameworkID)}
	}
	return c
}

// Subscribe asks for a session.
func (i Identity) Subscribe() *schedulerpb.Call {
	info := &mesos.FrameworkInfo{
		User:            new(i.User),
		Name:            new(i.Name),
		FailoverTimeout: new(failoverTimeout.Seconds()),
		Checkpoint:      new(true),
		Roles:           []string{i.Role},
		Principal:       new(i.Principal),
	}
	if i.Hostname != "" {
		info.Hostname = new(i.Hostname)
	}
	if i.WebURL != "" {
		info.WebuiUrl = new(i.WebURL)
	}
	for _, c := range []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_MULTI_ROLE,
		mesos.FrameworkInfo_Capability_PARTITION_AWARE,
		mesos.FrameworkInfo_Capability_TASK_KILLING_STATE,
		mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT,
	} {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
	}
	c := i.Call(schedulerpb.Call_SUBSCRIBE)
	info.Id = c.FrameworkId
	c.Subscribe = &schedulerpb.Call_Subscribe{FrameworkInfo: info}
	return c
}

// Kill asks for the end of a task; agent may be empty.
func (i Identity) Kill(task, agent string) *schedulerpb.Call {
	kill := &schedulerpb.Call_Kill{TaskId: &mesos.TaskID{Value: &task}}
	if agent != "" {
		kill.AgentId = &mesos.AgentID{Value: &agent}
	}
	c := i.Call(schedulerpb.Call_KILL)
	c.Kill = kill
	return c
}

// Acknowledge says that a status is known durably; nil when it does not ask for that.
func (i Identity) Acknowledge(s *mesos.TaskStatus) *schedulerpb.Call {
	if len(s.GetUuid()) == 0 {
		return nil
	}
	c := i.Call(schedulerpb.Call_ACKNOWLEDGE)
	c.Acknowledge = &schedulerpb.Call_Acknowledge{AgentId: s.GetAgentId(), TaskId: s.GetTaskId(), Uuid: s.GetUuid()}
	return c
}

// Task names a task and where it is.
type Task struct{ ID, Agent string }

// Reconcile asks for the state of tasks, of all that the master knows when there are none.
func (i Identity) Reconcile(tasks []Task) *schedulerpb.Call {
	c := i.Call(schedulerpb.Call_RECONCILE)
	c.Reconcile = &schedulerpb.Call_Reconcile{}
	for _, task := range tasks {
		c.Reconcile.Tasks = append(c.Reconcile.Tasks, &schedulerpb.Call_Reconcile_Task{
			TaskId:  &mesos.TaskID{Value: new(task.ID)},
			AgentId: &mesos.AgentID{Value: new(task.Agent)},
		})
	}
	return c
}

// Alive says that a task in this state is known to run or to be about to.
func Alive(s mesos.TaskState) bool {
	switch s {
	case mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING:
		return true
	}
	return false
}
