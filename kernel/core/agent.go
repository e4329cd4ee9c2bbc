package core

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/hello"
	"github.com/gantry-project/gantry/kernel/core/registry"
	"github.com/gantry-project/gantry/kernel/core/wire"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// agentHello admits an agent, new or known, with what it holds.
func (m *Machine) agentHello(ev AgentHello, out *Effects) {
	a := m.introducing(ev.Hello)
	held, err := m.checkHello(ev.Hello, a)
	if err != nil {
		m.refuseAgent(ev.Conn, err, out)
		return
	}
	a = m.introduce(ev, a, out)
	m.dropMissing(a, held.Tasks, out)
	m.dropMissingExecutors(a, held.Executors, out)
	if _, admitted := m.ledger.Total(a.id); admitted {
		must(m.ledger.Resize(a.id, held.Total))
	} else {
		must(m.ledger.Admit(a.id, held.Total))
		m.tellAgentAdded(a, out)
	}
	m.send(a, &linkpb.ToAgent{Body: &linkpb.ToAgent_Welcome{Welcome: &linkpb.Welcome{
		AgentId: a.info.Id, PingSeconds: m.cfg.PingInterval.Seconds(),
	}}}, out)
	m.adopt(a, held, ev.Hello.Frameworks, out)
	a.unreachable, a.recovered = false, false
	m.ask(&allocatorpb.Delta{Body: &allocatorpb.Delta_Agent{Agent: m.allocatorAgent(a)}}, out)
	a.announced = true
	m.answer(a.id, out)
}

// introducing finds the agent that a Hello is of, if the master knows it. One that has no id
// may be that of an agent whose welcome was lost.
func (m *Machine) introducing(h *linkpb.Hello) *agent {
	if aid := h.GetInfo().GetId().GetValue(); aid != "" {
		return m.agents[id.Agent(aid)]
	}
	var found *agent
	for _, a := range m.agents { // any order: the first of all
		if a.Expects(h) && (found == nil || a.id < found.id) {
			found = a
		}
	}
	return found
}

// checkHello decodes a Hello and says what is wrong with it, changing nothing.
func (m *Machine) checkHello(h *linkpb.Hello, a *agent) (hello.Holdings, error) {
	if n := proto.Size(h.GetInfo()); n > maxInfo {
		return hello.Holdings{}, fmt.Errorf("the agent's info has %d bytes; at most %d are taken", n, maxInfo)
	}
	if h.Epoch > m.cfg.Epoch {
		return hello.Holdings{}, fmt.Errorf("this master's epoch %d is older than %d, which the agent has seen: its store is an older copy, or its clock was set back; put the newest store back", m.cfg.Epoch, h.Epoch)
	}
	if a != nil {
		if err := a.Check(h); err != nil {
			return hello.Holdings{}, err
		}
	}
	return hello.Read(h)
}

func (m *Machine) refuseAgent(conn uint64, err error, out *Effects) {
	var permanent hello.ForGood
	out.Send = append(out.Send, AgentSend{Conn: conn, Close: true, Message: &linkpb.ToAgent{
		Epoch: m.cfg.Epoch,
		Body:  &linkpb.ToAgent_Refused{Refused: &linkpb.Refused{Message: err.Error(), Permanent: errors.As(err, &permanent)}},
	}})
}

// introduce gives the agent of a Hello, which it makes if there is none, the new connection.
func (m *Machine) introduce(ev AgentHello, a *agent, out *Effects) *agent {
	h, info := ev.Hello, proto.CloneOf(ev.Hello.Info)
	if a == nil {
		aid := id.Agent(info.GetId().GetValue())
		a = newAgent(aid)
		a.stranger = aid != ""
		for a.id == "" || m.agents[a.id] != nil {
			a.id = id.Agent(fmt.Sprintf("%s-S%d", m.cfg.ID, m.nextAgent))
			m.nextAgent++
		}
		m.agents[a.id] = a
	}
	info.Id = &mesos.AgentID{Value: proto.String(string(a.id))}
	if a.conn != 0 {
		m.refuseAgent(a.conn, fmt.Errorf("another agent with the id %s has connected", a.id), out)
		m.disconnectAgent(a, out)
	}
	changed := a.unreachable || !proto.Equal(a.info, info)
	a.info, a.conn, a.version = info, ev.Conn, h.Version
	a.Met(h)
	a.unponged, a.since = 0, m.now
	if a.registered == 0 {
		a.registered = m.now
	}
	m.conns[ev.Conn] = a
	m.agentDeadline(a, m.cfg.PingInterval)
	if changed {
		wasUnreachable := a.unreachable
		a.unreachable = false
		m.persistAgent(a, out)
		a.unreachable = wasUnreachable
	}
	return a
}

func newAgent(aid id.Agent) *agent {
	return &agent{
		id: aid, tasks: map[id.TaskKey]*task{}, offers: map[id.Offer]*offer{}, executors: map[executorKey]*executor{},
	}
}

// dropMissing ends the tasks that the agent should have and has not (they never reached
// it, or its checkpoint has lost them), and frees what those held that ended or turn out to hold something else.
func (m *Machine) dropMissing(a *agent, held []hello.Task, out *Effects) {
	has := map[id.TaskKey]hello.Task{}
	for _, h := range held {
		has[h.Key] = h
	}
	for _, key := range sortedTasks(a.tasks) {
		t := a.tasks[key]
		h, there := has[t.wireKey()]
		if !there || lifecycle.Terminal(h.Msg.Status.GetState()) || !t.resources.Equal(h.Resources) {
			m.release(t, out)
		}
		if there {
			t.resources = h.Resources
			continue
		}
		if !lifecycle.Terminal(t.state) {
			why := "The task never reached the agent"
			if t.told != nil {
				why = "The agent has no record of the task any more"
			}
			m.masterUpdate(m.frameworks[key.Framework], t, verdict{
				state: mesos.TaskState_TASK_DROPPED, reason: mesos.TaskStatus_REASON_RECONCILIATION, message: why,
			}, out)
		}
		m.dropTask(t, out)
	}
}

// endRemoved tells the agent, once, that a framework of which it holds something is no more.
func (m *Machine) endRemoved(a *agent, f *framework, ended map[id.Framework]bool, out *Effects) {
	if f.removed && !ended[f.id] {
		ended[f.id] = true
		m.send(a, wire.EndFramework(f.info), out)
	}
}

// adopt takes over what the agent holds; the agent is right about all of it.
func (m *Machine) adopt(a *agent, held hello.Holdings, infos []*mesos.FrameworkInfo, out *Effects) {
	ended := m.adoptExecutors(a, held.Executors, infos, out)
	for _, h := range held.Tasks {
		f := m.frameworks[h.Key.Framework]
		if f == nil {
			f = m.ghost(a, h.Key.Framework, infos, out)
		}
		m.endRemoved(a, f, ended, out)
		t := a.find(h.Key)
		if t == nil {
			t = m.found(a, f, h, out)
		}
		if t != nil {
			m.resume(a, t, h.Msg, out)
		}
	}
}

// found files a task that the master did not know, or knows to be on another agent: then
// the one that came second is killed. Of that one's end nobody waits to hear.
func (m *Machine) found(a *agent, f *framework, h hello.Task, out *Effects) *task {
	t := &task{key: h.Key, agent: a.id, info: h.Msg.Info, resources: h.Resources, role: h.Role, state: mesos.TaskState_TASK_STAGING}
	if t.role == "" {
		t.role = append(slices.Clone(f.roles), "*")[0]
	}
	ended := lifecycle.Terminal(h.Msg.Status.GetState())
	if f.tasks[t.key.Task] != nil {
		if ended {
			return nil
		}
		t.key, t.stray = strayKey(h.Key, a), true
	}
	if t.stray || a.unreachable && !f.partitionAware() && !ended {
		t.kill = &linkpb.Kill{FrameworkId: h.Msg.FrameworkId, TaskId: t.info.TaskId}
	}
	m.add(t, a, f)
	m.tellTaskAdded(t, out)
	return t
}

// resume brings a task's state and its account in line with what the agent says.
func (m *Machine) resume(a *agent, t *task, h *linkpb.HeldTask, out *Effects) {
	before := t.state
	returned := before == mesos.TaskState_TASK_UNREACHABLE
	t.note(h.Status)
	t.state = h.Status.GetState()
	m.moved(t, before, h.Status, out)
	if !t.stray {
		t.pending, t.told, t.acked = h.Unacknowledged, cmp.Or(h.Unacknowledged, h.Status), false
	}
	if lifecycle.Terminal(t.state) {
		return // the agent sends the update itself
	}
	if !t.held {
		must(m.ledger.Use(ledger.Use{Task: t.key, Agent: a.id, Role: t.role, Resources: t.resources}))
		t.held = true
	}
	if returned && !t.stray {
		f := m.frameworks[t.key.Framework]
		m.notifyUpdate(f, m.status(f, t.info.TaskId, a.info.Id, verdict{
			state: t.told.GetState(), reason: mesos.TaskStatus_REASON_AGENT_REREGISTERED,
			message: "The agent became reachable again",
		}), out)
	}
	if t.kill != nil {
		m.send(a, &linkpb.ToAgent{Body: &linkpb.ToAgent_Kill{Kill: t.kill}}, out)
	}
}

// ghost is a framework that only an agent knows. It was removed while the agent was away; but
// where the registry has lost the agent, it may have lost the framework, too, which has a
// while to return.
func (m *Machine) ghost(a *agent, fid id.Framework, infos []*mesos.FrameworkInfo, out *Effects) *framework {
	f := newFramework(fid, "")
	f.removed = true
	f.setInfo(&mesos.FrameworkInfo{User: proto.String(""), Name: proto.String("")})
	for _, info := range infos {
		if info.GetId().GetValue() == string(fid) {
			f.setInfo(info)
			f.removed = !a.stranger
		}
	}
	m.frameworks[fid] = f
	if !f.removed {
		f.recovered, f.principal, f.registered = true, f.info.GetPrincipal(), m.now
		m.frameworkDeadline(f, m.cfg.ReconnectGrace)
		m.persistFramework(f, out)
	}
	m.tellFrameworkAdded(f, out)
	return f
}

// agentMessage handles what a connected agent says.
func (m *Machine) agentMessage(ev AgentMessage, out *Effects) {
	a := m.conns[ev.Conn]
	if a == nil {
		return // an older connection of an agent that has a newer one
	}
	a.unponged = 0
	if a.Confirm() {
		m.persistAgent(a, out)
	}
	switch body := ev.Message.GetBody().(type) {
	case *linkpb.ToMaster_Update:
		m.agentUpdate(a, body.Update, out)
	case *linkpb.ToMaster_ExecutorEnded:
		m.executorEnded(a, body.ExecutorEnded, out)
	case *linkpb.ToMaster_ExecutorMessage:
		m.executorSays(a, body.ExecutorMessage, out)
	}
}

// agentGone says that a connection has ended; the agent has a while to return.
func (m *Machine) agentGone(conn uint64, out *Effects) {
	a := m.conns[conn]
	if a == nil {
		return
	}
	m.disconnectAgent(a, out)
	m.agentDeadline(a, m.patience())
}

// disconnectAgent takes back the agent's offers and tells the allocator that it is away.
func (m *Machine) disconnectAgent(a *agent, out *Effects) {
	for _, oid := range sorted(a.offers) {
		m.rescind(a.offers[oid], 0, out)
	}
	m.ask(&allocatorpb.Delta{Body: &allocatorpb.Delta_AgentRemoved{AgentRemoved: string(a.id)}}, out)
	delete(m.conns, a.conn)
	a.conn, a.announced, a.since = 0, false, m.now
}

// agentDue pings a connected agent, gives up a silent one, or forgets one that was given
// up long ago.
func (m *Machine) agentDue(a *agent, out *Effects) {
	switch {
	case a.conn != 0 && a.unponged < m.cfg.PingMisses:
		a.unponged++
		m.send(a, &linkpb.ToAgent{Body: &linkpb.ToAgent_Ping{Ping: &linkpb.Ping{}}}, out)
		m.agentDeadline(a, m.cfg.PingInterval)
	case a.conn != 0:
		m.refuseAgent(a.conn, fmt.Errorf("no answer to %d pings", a.unponged), out)
		m.disconnectAgent(a, out)
		m.unreachable(a, out)
	case !a.unreachable:
		m.unreachable(a, out)
	default:
		m.forget(a, out)
	}
}

// unreachable gives an agent up, and its resources; it may return with its tasks.
func (m *Machine) unreachable(a *agent, out *Effects) {
	a.unreachable, a.recovered, a.since = true, false, m.now
	m.agentDeadline(a, forgetAfter)
	m.persistAgent(a, out)
	m.ledger.Remove(a.id)
	for _, key := range sortedTasks(a.tasks) {
		t := a.tasks[key]
		f := m.frameworks[key.Framework]
		t.held = false
		// An end that the framework was not told of yet is out of reach, too.
		ended := lifecycle.Terminal(t.told.GetState())
		if !ended {
			m.masterUpdate(f, t, verdict{
				state: mesos.TaskState_TASK_UNREACHABLE, reason: mesos.TaskStatus_REASON_AGENT_REMOVED,
				message: fmt.Sprintf("Agent %s (%s) became unreachable", a.id, a.info.GetHostname()),
			}, out)
		}
		// What ended, and is not acknowledged, is said again if the agent returns.
		if f.removed || t.stray || ended && t.acked || !ended && !f.partitionAware() {
			m.dropTask(t, out)
		}
	}
	for _, e := range sortedExecutors(a) {
		m.dropExecutor(e, out)
	}
	m.tellAgentRemoved(a, out)
	m.everyFramework(&schedulerpb.Event{
		Type:    schedulerpb.Event_FAILURE.Enum(),
		Failure: &schedulerpb.Event_Failure{AgentId: a.info.Id},
	}, out)
}

// forget lets go of an agent that has been unreachable for long.
func (m *Machine) forget(a *agent, out *Effects) {
	for _, key := range sortedTasks(a.tasks) {
		m.dropTask(a.tasks[key], out)
	}
	delete(m.agents, a.id)
	out.Persist = append(out.Persist, registry.WithoutAgent(a.id))
}

func (m *Machine) everyFramework(ev *schedulerpb.Event, out *Effects) {
	for _, fid := range sorted(m.frameworks) {
		m.notify(m.frameworks[fid], ev, out)
	}
}

// must is for the ledger's answers to what was checked before: a refusal is a broken
// invariant.
func must(err error) {
	if err != nil {
		panic(fmt.Sprintf("core: the ledger refused what was checked: %v", err))
	}
}
