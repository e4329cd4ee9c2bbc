package run

import (
	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
)

// Traces returns what the master knows of the ways of tasks that it launched.
func (m *Master) Traces(framework, task string) []api.Trace { return m.trace.Traces(framework, task) }

// traceEvent notes what comes in of a task.
func (m *Master) traceEvent(ev core.Event) {
	msg, ok := ev.(core.AgentMessage)
	if !ok || msg.Message.GetUpdate() == nil {
		return
	}
	u := msg.Message.GetUpdate()
	key := id.TaskKey{Framework: id.Framework(u.GetFrameworkId().GetValue()), Task: id.Task(u.GetStatus().GetTaskId().GetValue())}
	m.trace.Mark(key, api.Mark{Step: "update", State: u.GetStatus().GetState().String(), By: "agent"})
}

// traceEffects notes what is about to leave of tasks: it is durable. It must come before
// the delivery, whose answers may be quick.
func (m *Master) traceEffects(out *core.Effects) {
	for _, l := range out.Launched {
		m.trace.Begin(l.Task,
			api.Mark{Step: "offered", By: "allocator", At: l.Offered.Time()},
			api.Mark{Step: "accepted", By: "framework", At: l.Accepted.Time()})
	}
	for _, s := range out.Send {
		if r := s.Message.GetRun(); r != nil {
			m.trace.Mark(id.TaskKey{
				Framework: id.Framework(r.GetFramework().GetId().GetValue()), Task: id.Task(r.GetTask().GetTaskId().GetValue()),
			}, api.Mark{Step: "sent", By: "master"})
		}
		if a := s.Message.GetAcknowledge(); a != nil {
			m.trace.Acknowledged(id.TaskKey{
				Framework: id.Framework(a.GetFrameworkId().GetValue()), Task: id.Task(a.GetTaskId().GetValue()),
			}, a.GetUuid())
		}
	}
	for _, n := range out.Notify {
		if s := n.Event.GetUpdate().GetStatus(); s != nil {
			m.trace.Told(n.Framework, s)
		}
	}
	for _, key := range out.Dropped {
		m.trace.End(key)
	}
}
