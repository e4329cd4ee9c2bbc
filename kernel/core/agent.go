package core

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/hello"
	"github.com/gantry-project/gantry/kernel/core/registry"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/rules"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// agentHello admits an agent, new or known, with what it holds.
func (m *Machine) agentHello(ev AgentHello, out *Effects) {
	held, err := m.checkHello(ev.Hello)
	if err != nil {
		m.refuseAgent(ev.Conn, err, out)
		return
	}
	a := m.introduce(ev, out)
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
}

// checkHello decodes a Hello and says what is wrong with it, changing nothing.
func (m *Machine) checkHello(h *linkpb.Hello) (hello.Holdings, error) {
	if n := proto.Size(h.GetInfo()); n > maxInfo {
		return hello.Holdings{}, fmt.Errorf("the agent's info has %d bytes; at most %d are taken", n, maxInfo)
	}
	if h.Epoch > m.cfg.Epoch {
		return hello.Holdings{}, fmt.Errorf("this master's epoch %d is older than %d, which the agent has seen: its store is an older copy, or its clock was set back; put the newest store back", m.cfg.Epoch, h.Epoch)
	}
	if h.GetInfo().GetId() != nil {
		if err := m.checkIdentity(h); err != nil {
			return hello.Holdings{}, err
		}
	}
	return hello.Read(h)
}

// forGood is a refusal that dialling again won't change.
type forGood string

func (f forGood) Error() string { return string(f) }

// checkIdentity says whether a Hello may be that of the agent whose id it carries.
func (m *Machine) checkIdentity(h *linkpb.Hello) error {
	if err := rules.ID(h.Info.Id.GetValue()); err != nil {
		return fmt.Errorf("agent id: %w", err)
	}
	a := m.agents[id.Agent(h.Info.Id.GetValue())]
	switch {
	case a == nil:
		return nil
	case h.Registered < a.confirmed:
		return forGood(fmt.Sprintf("the checkpoint of agent %s at %q is older than the one that it last registered with "+
			"(of start %d, and this is of start %d): restore the newest, or move it away to join as a new agent",
			a.id, h.Home, a.confirmed, h.Registered))
	case h.Incarnation < a.incarnation, h.Incarnation == a.incarnation && h.Stream < a.stream:
		return fmt.Errorf("agent %s has connected anew since", a.id)
	}
	return nil
}

func (m *Machine) refuseAgent(conn uint64, err error, out *Effects) {
	var permanent forGood
	out.Send = append(out.Send, AgentSend{Conn: conn, Close: true, Message: &linkpb.ToAgent{
		Epoch: m.cfg.Epoch,
		Body:  &linkpb.ToAgent_Refused{Refused: &linkpb.Refused{Message: err.Error(), Permanent: errors.As(err, &permanent)}},
	}})
}

// introduce finds or makes the agent of a Hello and gives it the new connection.
func (m *Machine) introduce(ev AgentHello, out *Effects) *agent {
	info := ev.Hello.Info
	aid := id.Agent(info.GetId().GetValue())
	if aid == "" {
		for aid == "" || m.agents[aid] != nil {
			aid = id.Agent(fmt.Sprintf("%s-S%d", m.cfg.ID, m.nextAgent))
			m.nextAgent++
		}
		info = proto.CloneOf(info)
		info.Id = &mesos.AgentID{Value: proto.String(string(aid))}
	}
	a := m.agents[aid]
	if a == nil {
		a = newAgent(aid)
		m.agents[aid] = a
	}
	if a.conn != 0 {
		m.refuseAgent(a.conn, fmt.Errorf("another agent with the id %s has connected", aid), out)
		m.disconnectAgent(a, out)
	}
	changed := a.unreachable || !proto.Equal(a.info, info)
	a.info, a.conn, a.version = info, ev.Conn, ev.Hello.Version
	a.incarnation, a.stream = ev.Hello.Incarnation, ev.Hello.Stream
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
		m.send(a, endFramework(f), out)
	}
}

// adopt takes over what the agent holds; the agent is right about all of it.
func (m *Machine) adopt(a *agent, held hello.Holdings, infos []*mesos.FrameworkInfo, out *Effects) {
	ended := m.adoptExecutors(a, held.Executors, infos, out)
	for _, h := range held.Tasks {
		f := m.frameworks[h.Key.Framework]
		if f == nil {
			f = m.ghost(h.Key.Framework, infos, out)
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

// ghost is a framework that was removed while one of its agents was away.
func (m *Machine) ghost(fid id.Framework, infos []*mesos.FrameworkInfo, out *Effects) *framework {
	f := newFramework(fid, "")
	f.setInfo(&mesos.FrameworkInfo{User: proto.String(""), Name: proto.String("")})
	for _, info := range infos {
		if info.GetId().GetValue() == string(fid) {
			f.setInfo(info)
		}
	}
	f.removed = true
	m.frameworks[fid] = f
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
	if a.confirmed != a.incarnation {
		a.confirmed = a.incarnation
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
