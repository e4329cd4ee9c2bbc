package core

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/wire"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/rules"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// Agents answers GET_AGENTS.
func (m *Machine) Agents() *masterpb.Response_GetAgents {
	r := &masterpb.Response_GetAgents{}
	for _, aid := range sorted(m.agents) {
		a := m.agents[aid]
		if a.recovered || a.unreachable {
			if !a.unreachable {
				r.RecoveredAgents = append(r.RecoveredAgents, a.info)
			}
			continue
		}
		r.Agents = append(r.Agents, m.viewAgent(a))
	}
	return r
}

func (m *Machine) viewAgent(a *agent) *masterpb.Response_GetAgents_Agent {
	total, _ := m.ledger.Total(a.id)
	used, offered := m.held(a)
	return &masterpb.Response_GetAgents_Agent{
		AgentInfo: a.info, Pid: proto.String(wire.PID(a.info)), Active: proto.Bool(a.conn != 0), Deactivated: proto.Bool(false),
		Version: proto.String(a.version), RegisteredTime: wire.Time(a.registered), ReregisteredTime: wire.Time(a.since),
		Capabilities: rules.AgentCapabilities(), TotalResources: total.Mesos(""), AllocatedResources: used.Mesos(""), OfferedResources: offered.Mesos(""),
	}
}

// held is what tasks and executors use of an agent, and what is offered of it.
func (m *Machine) held(a *agent) (used, offered ledger.Resources) {
	for _, key := range sortedTasks(a.tasks) {
		if t := a.tasks[key]; t.held {
			used = used.Plus(t.resources)
		}
	}
	for _, e := range sortedExecutors(a) {
		used = used.Plus(e.resources)
	}
	for _, oid := range sorted(a.offers) {
		c, _ := m.ledger.ClaimOf(oid)
		offered = offered.Plus(c.Resources)
	}
	return used, offered
}

// Frameworks answers GET_FRAMEWORKS.
func (m *Machine) Frameworks() *masterpb.Response_GetFrameworks {
	r := &masterpb.Response_GetFrameworks{}
	for _, fid := range sorted(m.frameworks) {
		r.Frameworks = append(r.Frameworks, m.viewFramework(m.frameworks[fid]))
	}
	for _, f := range m.completed {
		r.CompletedFrameworks = append(r.CompletedFrameworks, m.viewFramework(f))
	}
	return r
}

func (m *Machine) viewFramework(f *framework) *masterpb.Response_GetFrameworks_Framework {
	used, offered := m.executorsUse(f), map[string]ledger.Resources{}
	for _, tid := range sorted(f.tasks) {
		if t := f.tasks[tid]; t.held {
			used[t.role] = used[t.role].Plus(t.resources)
		}
	}
	v := &masterpb.Response_GetFrameworks_Framework{
		FrameworkInfo: f.info, Active: proto.Bool(f.stream != ""), Connected: proto.Bool(f.stream != ""),
		Recovered: proto.Bool(f.recovered), RegisteredTime: wire.Time(f.registered), ReregisteredTime: wire.Time(f.subscribed),
		UnregisteredTime: wire.Time(f.ended),
	}
	for _, oid := range sorted(f.offers) {
		c, _ := m.ledger.ClaimOf(oid)
		offered[c.Role] = offered[c.Role].Plus(c.Resources)
		v.Offers = append(v.Offers, m.wireOffer(f.offers[oid], m.agents[c.Agent], f, c.Resources))
	}
	v.AllocatedResources, v.OfferedResources = byRole(used), byRole(offered)
	return v
}

// byRole is resources with the roles that they are allocated to.
func byRole(all map[string]ledger.Resources) (list []*mesos.Resource) {
	for _, role := range sorted(all) {
		list = append(list, all[role].Mesos(role)...)
	}
	return list
}

// Tasks answers GET_TASKS.
func (m *Machine) Tasks() *masterpb.Response_GetTasks {
	r := &masterpb.Response_GetTasks{}
	for _, fid := range sorted(m.frameworks) {
		f := m.frameworks[fid]
		for _, tid := range sorted(f.tasks) {
			if t := f.tasks[tid]; t.state == mesos.TaskState_TASK_UNREACHABLE {
				r.UnreachableTasks = append(r.UnreachableTasks, viewTask(t))
			} else {
				r.Tasks = append(r.Tasks, viewTask(t))
			}
		}
		r.CompletedTasks = appendViews(r.CompletedTasks, f.completed)
	}
	for _, f := range m.completed {
		r.CompletedTasks = appendViews(r.CompletedTasks, f.completed)
	}
	return r
}

func appendViews(list []*mesos.Task, tasks []*task) []*mesos.Task {
	for _, t := range tasks {
		list = append(list, viewTask(t))
	}
	return list
}

func viewTask(t *task) *mesos.Task {
	v := &mesos.Task{
		Name: t.info.Name, TaskId: t.info.TaskId, AgentId: t.info.AgentId,
		FrameworkId: &mesos.FrameworkID{Value: proto.String(string(t.key.Framework))},
		ExecutorId:  t.executorID(),
		State:       t.state.Enum(), Resources: t.info.Resources, Statuses: slices.Clone(t.statuses),
		Labels: t.info.Labels, Discovery: t.info.Discovery, Container: t.info.Container,
		HealthCheck: t.info.HealthCheck, KillPolicy: t.info.KillPolicy, Limits: t.info.Limits,
	}
	if user := t.info.GetCommand().GetUser(); user != "" {
		v.User = &user
	}
	if t.pending != nil {
		v.StatusUpdateState, v.StatusUpdateUuid = t.pending.State, t.pending.Uuid
	}
	return v
}

// executorID is that of the task's executor: a command is its own, of the same name.
func (t *task) executorID() *mesos.ExecutorID {
	if t.info.Executor != nil {
		return t.info.Executor.ExecutorId
	}
	return &mesos.ExecutorID{Value: proto.String(string(t.wireKey().Task))}
}

// State answers GET_STATE.
func (m *Machine) State() *masterpb.Response_GetState {
	return &masterpb.Response_GetState{
		GetTasks: m.Tasks(), GetExecutors: m.Executors(),
		GetFrameworks: m.Frameworks(), GetAgents: m.Agents(),
	}
}

// PluginFramework is the framework id that a framework plugin has; empty before its first
// subscription.
func (m *Machine) PluginFramework(plugin string) id.Framework { return m.plugins[plugin] }
