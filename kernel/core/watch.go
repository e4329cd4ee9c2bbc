package core

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// maxWatchers follow the cluster at most; one more, and the oldest goes.
const maxWatchers = 1000

// watch begins with the state as it is now; whatever happens from here on is told.
func (m *Machine) watch(ev Watch, out *Effects) {
	if len(m.watchers) == maxWatchers {
		out.News = append(out.News, News{Stream: m.watchers[0], Close: true})
		m.watchers = slices.Delete(m.watchers, 0, 1)
	}
	m.watchers = append(m.watchers, ev.Stream)
	out.News = append(out.News, News{Stream: ev.Stream, Event: &masterpb.Event{
		Type: masterpb.Event_SUBSCRIBED.Enum(),
		Subscribed: &masterpb.Event_Subscribed{
			GetState: m.State(), HeartbeatIntervalSeconds: proto.Float64(m.cfg.Heartbeat.Seconds()),
		},
	}})
}

func (m *Machine) watcherGone(stream id.Stream) {
	if i := slices.Index(m.watchers, stream); i >= 0 {
		m.watchers = slices.Delete(m.watchers, i, i+1)
	}
}

// tell appends an event for all watchers; its maker runs only if there are any.
func (m *Machine) tell(event func() *masterpb.Event, out *Effects) {
	if len(m.watchers) > 0 {
		out.News = append(out.News, News{Event: event()})
	}
}

// A stray copy of a task is not told of: it has the name of the task that counts.
func (m *Machine) tellTaskAdded(t *task, out *Effects) {
	if t.stray {
		return
	}
	m.tell(func() *masterpb.Event {
		return &masterpb.Event{Type: masterpb.Event_TASK_ADDED.Enum(), TaskAdded: &masterpb.Event_TaskAdded{Task: viewTask(t)}}
	}, out)
}

// moved counts and tells that a task has left the state it had before by a status.
func (m *Machine) moved(t *task, before mesos.TaskState, s *mesos.TaskStatus, out *Effects) {
	if t.state == before || t.stray {
		return
	}
	if lifecycle.Terminal(t.state) {
		m.ended[t.state]++
	}
	m.tell(func() *masterpb.Event {
		return &masterpb.Event{Type: masterpb.Event_TASK_UPDATED.Enum(), TaskUpdated: &masterpb.Event_TaskUpdated{
			FrameworkId: &mesos.FrameworkID{Value: proto.String(string(t.key.Framework))}, Status: s, State: t.state.Enum(),
		}}
	}, out)
}

func (m *Machine) tellAgentAdded(a *agent, out *Effects) {
	m.tell(func() *masterpb.Event {
		return &masterpb.Event{Type: masterpb.Event_AGENT_ADDED.Enum(), AgentAdded: &masterpb.Event_AgentAdded{Agent: m.viewAgent(a)}}
	}, out)
}

func (m *Machine) tellAgentRemoved(a *agent, out *Effects) {
	m.tell(func() *masterpb.Event {
		return &masterpb.Event{Type: masterpb.Event_AGENT_REMOVED.Enum(), AgentRemoved: &masterpb.Event_AgentRemoved{AgentId: a.info.Id}}
	}, out)
}

func (m *Machine) tellFrameworkAdded(f *framework, out *Effects) {
	m.tell(func() *masterpb.Event {
		return &masterpb.Event{Type: masterpb.Event_FRAMEWORK_ADDED.Enum(), FrameworkAdded: &masterpb.Event_FrameworkAdded{Framework: m.viewFramework(f)}}
	}, out)
}

func (m *Machine) tellFrameworkUpdated(f *framework, out *Effects) {
	m.tell(func() *masterpb.Event {
		return &masterpb.Event{Type: masterpb.Event_FRAMEWORK_UPDATED.Enum(), FrameworkUpdated: &masterpb.Event_FrameworkUpdated{Framework: m.viewFramework(f)}}
	}, out)
}

func (m *Machine) tellFrameworkRemoved(f *framework, out *Effects) {
	m.tell(func() *masterpb.Event {
		return &masterpb.Event{Type: masterpb.Event_FRAMEWORK_REMOVED.Enum(), FrameworkRemoved: &masterpb.Event_FrameworkRemoved{FrameworkInfo: f.info}}
	}, out)
}
