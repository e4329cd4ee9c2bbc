package core

import (
	"bytes"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/hello"
	"github.com/gantry-project/gantry/kernel/core/wire"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/kernel/step"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// verdict is what the master itself says of a task.
type verdict struct {
	state   mesos.TaskState
	reason  mesos.TaskStatus_Reason
	message string
}

// removal is how the tasks of a removed framework end.
func removal(f *framework) verdict {
	return verdict{mesos.TaskState_TASK_KILLED, mesos.TaskStatus_REASON_FRAMEWORK_REMOVED, "Framework " + string(f.id) + " removed"}
}

// status words a verdict for a framework: no uuid, since nobody waits for its
// acknowledgement, and the state as the framework's capabilities know it.
func (m *Machine) status(f *framework, tid *mesos.TaskID, aid *mesos.AgentID, v verdict) *mesos.TaskStatus {
	s := &mesos.TaskStatus{
		TaskId: tid, AgentId: aid,
		State: f.sees(v.state).Enum(), Source: mesos.TaskStatus_SOURCE_MASTER.Enum(), Reason: v.reason.Enum(),
		Timestamp: proto.Float64(m.now.Seconds()),
	}
	if v.message != "" {
		s.Message = proto.String(v.message)
	}
	if a := m.agents[id.Agent(aid.GetValue())]; a != nil && v.state == mesos.TaskState_TASK_UNREACHABLE {
		s.UnreachableTime = wire.Time(a.since)
	}
	return s
}

// sees translates a state for frameworks that are not partition aware.
func (f *framework) sees(s mesos.TaskState) mesos.TaskState {
	if f.partitionAware() {
		return s
	}
	return lifecycle.Legacy(s)
}

func (m *Machine) notifyUpdate(f *framework, s *mesos.TaskStatus, out *Effects) {
	if seen := f.sees(s.GetState()); seen != s.GetState() {
		s = proto.CloneOf(s)
		s.State = seen.Enum()
	}
	m.notify(f, &schedulerpb.Event{
		Type:   schedulerpb.Event_UPDATE.Enum(),
		Update: &schedulerpb.Event_Update{Status: s},
	}, out)
}

// masterUpdate changes a task's state on the master's own account.
func (m *Machine) masterUpdate(f *framework, t *task, v verdict, out *Effects) {
	s := m.status(f, t.info.TaskId, m.agents[t.agent].info.Id, v)
	before := t.state
	t.state = v.state
	t.note(s)
	m.moved(t, before, s, out)
	if !t.stray {
		m.notifyUpdate(f, s, out)
	}
}

// note keeps the newest statuses, one for each state.
func (t *task) note(s *mesos.TaskStatus) {
	if n := len(t.statuses); n > 0 && t.statuses[n-1].GetState() == s.GetState() {
		t.statuses[n-1] = s
		return
	}
	if len(t.statuses) == maxStatuses {
		t.statuses = slices.Delete(t.statuses, 0, 1)
	}
	t.statuses = append(t.statuses, s)
}

// launch is one task of an ACCEPT.
type launch struct {
	framework *framework
	agent     *agent
	role      string
	offered   step.Time
	info      *mesos.TaskInfo
}

// launch starts a task from the pool and returns what remains of it; a task that may not
// run is answered with TASK_ERROR and takes nothing.
func (m *Machine) launch(l launch, pool ledger.Resources, out *Effects) ledger.Resources {
	key := id.TaskKey{Framework: l.framework.id, Task: id.Task(l.info.GetTaskId().GetValue())}
	var err error
	if n := proto.Size(l.info); n > maxTaskInfo || l.agent.taskBytes+n > maxAgentTasks { // before anything walks over it
		err = sentencef("TaskInfo has %d bytes; at most %d are taken, and %d for all tasks of an agent", n, maxTaskInfo, maxAgentTasks)
	}
	if err == nil {
		err = rules.Task(l.info, rules.TaskContext{
			Agent: l.agent.id, Offered: pool, AllocationRole: l.role,
			Known: l.framework.tasks[key.Task] != nil, Framework: l.framework.info, Running: l.agent.executorInfo(l.framework, l.info),
		})
	}
	if err == nil {
		err = rules.Supported(l.info)
	}
	var need ledger.Resources
	if err == nil {
		need, err = ledger.FromMesos(l.info.GetResources())
	}
	refuse := func(state mesos.TaskState, reason mesos.TaskStatus_Reason, err error) ledger.Resources {
		m.ended[state]++
		m.notifyUpdate(l.framework, m.status(l.framework, l.info.GetTaskId(), l.info.GetAgentId(), verdict{state, reason, err.Error()}), out)
		return pool
	}
	if err != nil {
		return refuse(mesos.TaskState_TASK_ERROR, mesos.TaskStatus_REASON_TASK_INVALID, err)
	}
	executor, isNew, pool, err := m.bringExecutor(l, pool)
	if err != nil {
		return refuse(mesos.TaskState_TASK_DROPPED, mesos.TaskStatus_REASON_EXECUTOR_TERMINATED, err)
	}
	rest, ok := pool.Minus(need)
	if !ok {
		panic("core: rules.Task passed a task that does not fit its offer")
	}
	// Two offers of one call may share what they offer: only the ledger knows.
	if err := m.ledger.Use(ledger.Use{Task: key, Agent: l.agent.id, Role: l.role, Resources: need}); err != nil {
		if isNew {
			m.dropExecutor(l.agent.executorOf(l.framework, l.info), out)
		}
		return refuse(mesos.TaskState_TASK_DROPPED, mesos.TaskStatus_REASON_INVALID_OFFERS, err)
	}
	info := proto.CloneOf(l.info)
	info.Resources, info.Executor = need.Mesos(l.role), executor
	t := &task{
		key: key, agent: l.agent.id, info: info, role: l.role, resources: need,
		state: mesos.TaskState_TASK_STAGING, held: true,
	}
	m.add(t, l.agent, l.framework)
	m.tellTaskAdded(t, out)
	out.Launched = append(out.Launched, Launched{Task: key, Agent: l.agent.id, Offered: l.offered, Accepted: m.now})
	m.send(l.agent, &linkpb.ToAgent{Body: &linkpb.ToAgent_Run{Run: &linkpb.Run{
		Framework: l.framework.info, Task: info, LaunchExecutor: isNew,
	}}}, out)
	return rest
}

// agentUpdate takes a status update: it moves the task on, frees what ended, and passes
// the update to the framework, whose acknowledgement the agent waits for.
func (m *Machine) agentUpdate(a *agent, u *linkpb.Update, out *Effects) {
	s := u.GetStatus()
	f := m.frameworks[id.Framework(u.GetFrameworkId().GetValue())]
	t := a.find(id.TaskKey{Framework: id.Framework(u.GetFrameworkId().GetValue()), Task: id.Task(s.GetTaskId().GetValue())})
	if f == nil || t == nil || !hello.Says(s.GetState()) {
		// Acknowledged before, never launched, or nonsense: nobody waits for it.
		m.sendAck(a, u.GetFrameworkId(), s.GetTaskId(), s.GetUuid(), out)
		return
	}
	if why := removal(f); f.removed && s.GetState() == why.state { // the master's doing, whoever carried it out
		s = proto.CloneOf(s)
		s.Source, s.Reason, s.Message = mesos.TaskStatus_SOURCE_MASTER.Enum(), why.reason.Enum(), &why.message
	}
	latest := mesos.TaskState(u.GetLatest())
	if !hello.Says(latest) {
		latest = s.GetState()
	}
	before := t.state
	if next, v := lifecycle.NextTask(t.state, latest); v == lifecycle.Advanced {
		t.state = next
	}
	t.note(s)
	m.moved(t, before, s, out)
	if lifecycle.Terminal(t.state) {
		m.release(t, out)
	}
	if len(s.GetUuid()) == 0 { // said once, and not waited for
		m.notifyUpdate(f, s, out)
		if lifecycle.Terminal(s.GetState()) {
			m.dropTask(t, out)
		}
		return
	}
	if f.removed || t.stray { // nobody hears of it, whatever stands in line
		m.sendAck(a, u.GetFrameworkId(), s.GetTaskId(), s.GetUuid(), out)
		if lifecycle.Terminal(t.state) {
			m.dropTask(t, out)
		}
		return
	}
	switch told := bytes.Equal(t.told.GetUuid(), s.GetUuid()); {
	case told && t.pending == nil: // the agent said it again before the acknowledgement reached it
		m.sendAck(a, u.GetFrameworkId(), s.GetTaskId(), s.GetUuid(), out)
		return
	case told && u.GetRepeated():
		return // the framework has it
	}
	t.pending, t.told = s, s
	m.notifyUpdate(f, s, out)
}

func (m *Machine) sendAck(a *agent, fid *mesos.FrameworkID, tid *mesos.TaskID, uuid []byte, out *Effects) {
	m.send(a, &linkpb.ToAgent{Body: &linkpb.ToAgent_Acknowledge{Acknowledge: &linkpb.Acknowledge{
		FrameworkId: fid, TaskId: tid, Uuid: uuid,
	}}}, out)
}

// acknowledgeUnheard acknowledges for a framework that is no more.
func (m *Machine) acknowledgeUnheard(a *agent, t *task, out *Effects) {
	if t.pending != nil {
		m.sendAck(a, m.frameworks[t.key.Framework].info.Id, t.info.TaskId, t.pending.GetUuid(), out)
		t.pending = nil
	}
}

// release gives back the resources of a task that holds some.
func (m *Machine) release(t *task, out *Effects) {
	if !t.held {
		return
	}
	t.held = false
	u, ok := m.ledger.Unuse(t.key)
	if !ok {
		panic("core: task " + t.key.String() + " has no use in the ledger")
	}
	m.recovered(ledger.Holding{Agent: t.agent, Framework: t.key.Framework, Role: t.role, Resources: u.Resources}, 0, out)
}

// dropTask moves a task to the completed ones of its framework.
func (m *Machine) dropTask(t *task, out *Effects) {
	m.release(t, out)
	f := m.frameworks[t.key.Framework]
	a := m.agents[t.agent]
	delete(a.tasks, t.key)
	delete(f.tasks, t.key.Task)
	out.Dropped = append(out.Dropped, t.key)
	a.taskBytes -= proto.Size(t.info)
	f.completed = append(f.completed, t)
	if len(f.completed) > maxCompletedTasks {
		f.completed = slices.Delete(f.completed, 0, 1)
	}
	m.settle(f, out)
}

// acknowledge passes an acknowledgement on; that of a terminal status ends the task.
func (m *Machine) acknowledge(f *framework, c *schedulerpb.Call_Acknowledge, out *Effects) {
	a := m.agents[id.Agent(c.GetAgentId().GetValue())]
	t := f.tasks[id.Task(c.GetTaskId().GetValue())]
	if a == nil || t != nil && t.agent != a.id {
		m.invalidAcks++
		return // whoever has the task still waits
	}
	m.sendAck(a, f.info.Id, c.GetTaskId(), c.GetUuid(), out)
	if t == nil || t.pending == nil || !bytes.Equal(t.pending.GetUuid(), c.GetUuid()) {
		return
	}
	if a.conn == 0 && !a.unreachable {
		t.acked = true
		return
	}
	terminal := lifecycle.Terminal(t.pending.GetState())
	t.pending = nil
	if terminal {
		m.dropTask(t, out)
	}
}

// kill asks the agent to end a task, and remembers it for an agent that is away. Of an
// unknown task the framework is told what is known, as for RECONCILE.
func (m *Machine) kill(f *framework, c *schedulerpb.Call_Kill, out *Effects) {
	t := f.tasks[id.Task(c.GetTaskId().GetValue())]
	if t == nil || lifecycle.Terminal(t.state) {
		m.reconcile(f, []*schedulerpb.Call_Reconcile_Task{{TaskId: c.GetTaskId(), AgentId: c.GetAgentId()}}, out)
		return
	}
	if c.AgentId != nil && c.GetAgentId().GetValue() != string(t.agent) {
		return // the task that is meant is not this one
	}
	t.kill = &linkpb.Kill{FrameworkId: f.info.Id, TaskId: c.GetTaskId(), KillPolicy: c.GetKillPolicy()}
	m.send(m.agents[t.agent], &linkpb.ToAgent{Body: &linkpb.ToAgent_Kill{Kill: t.kill}}, out)
	if t.state == mesos.TaskState_TASK_UNREACHABLE {
		m.reconcileKnown(f, t, out)
	}
}

// reconcile tells the framework the state of the named tasks, or of all that it has.
func (m *Machine) reconcile(f *framework, tasks []*schedulerpb.Call_Reconcile_Task, out *Effects) {
	if len(tasks) == 0 {
		for _, tid := range sorted(f.tasks) {
			if t := f.tasks[tid]; !t.stray {
				m.reconcileKnown(f, t, out)
			}
		}
		return
	}
	for _, asked := range tasks {
		if t := f.tasks[id.Task(asked.GetTaskId().GetValue())]; t != nil {
			m.reconcileKnown(f, t, out)
		} else if v, at := m.unknownTask(f, asked.GetAgentId()); at <= m.now {
			m.notifyUpdate(f, m.status(f, asked.GetTaskId(), asked.AgentId, v), out)
		} else if aid := asked.GetAgentId().GetValue(); m.asked.Add(id.Agent(aid), id.TaskKey{Framework: f.id, Task: id.Task(asked.GetTaskId().GetValue())}) {
			m.deadlines.Add(at, step.Owner{Kind: answerDeadline, ID: aid})
		}
	}
}

// reconcileKnown repeats what the framework was told last: what is newer stands in line
// behind it, and would be followed by it.
func (m *Machine) reconcileKnown(f *framework, t *task, out *Effects) {
	state := mesos.TaskState_TASK_STAGING
	switch {
	case t.state == mesos.TaskState_TASK_UNREACHABLE:
		state = t.state
	case t.told != nil:
		state = t.told.GetState()
	}
	s := m.status(f, t.info.TaskId, m.agents[t.agent].info.Id, verdict{
		state: state, reason: mesos.TaskStatus_REASON_RECONCILIATION, message: "Reconciliation: Latest task state",
	})
	if last := t.told; last != nil {
		s.Healthy, s.ContainerStatus, s.ExecutorId, s.Labels = last.Healthy, last.ContainerStatus, last.ExecutorId, last.Labels
	}
	m.notifyUpdate(f, s, out)
}

// answer says what was asked about tasks of an agent, which is back or was waited for.
func (m *Machine) answer(aid id.Agent, out *Effects) {
	for _, key := range m.asked.Take(aid) {
		q := &schedulerpb.Call_Reconcile_Task{TaskId: &mesos.TaskID{Value: proto.String(string(key.Task))}}
		if aid != "" {
			q.AgentId = &mesos.AgentID{Value: proto.String(string(aid))}
		}
		if f := m.frameworks[key.Framework]; f != nil && !f.removed {
			m.reconcile(f, []*schedulerpb.Call_Reconcile_Task{q}, out)
		}
	}
}

// unknownTask says what is known of a task from its agent alone, or, while an agent of an
// earlier master may still come with it, when to look again. The records of such an agent
// and its framework may be lost; but what this master launched it knows.
func (m *Machine) unknownTask(f *framework, aid *mesos.AgentID) (v verdict, at step.Time) {
	v.reason = mesos.TaskStatus_REASON_RECONCILIATION
	a := m.agents[id.Agent(aid.GetValue())]
	older := !strings.HasPrefix(string(f.id), m.cfg.ID+"-")
	switch {
	case a != nil && a.recovered && !a.unreachable:
		return v, max(a.deadline, m.now+1)
	case aid == nil && m.anyRecovered():
		return v, m.now.Add(m.cfg.ReconnectGrace)
	case aid == nil && older && f.registered >= m.start:
		at = m.start.Add(m.cfg.ReconnectGrace)
	case aid != nil && a == nil && older:
		at = m.start.Add(m.cfg.ReregisterTimeout)
	}
	switch {
	case a != nil && a.unreachable:
		v.state, v.message = mesos.TaskState_TASK_UNREACHABLE, "Reconciliation: Task is unreachable"
	case a != nil:
		v.state, v.message = mesos.TaskState_TASK_GONE, "Reconciliation: Task is gone"
	default:
		v.state, v.message = mesos.TaskState_TASK_UNKNOWN, "Reconciliation: Task is unknown"
	}
	return v, at
}

func (m *Machine) anyRecovered() bool {
	for _, a := range m.agents { // any order: only whether there is one
		if a.recovered && !a.unreachable {
			return true
		}
	}
	return false
}
