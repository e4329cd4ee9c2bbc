package core

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/hello"
	"github.com/gantry-project/gantry/kernel/core/wire"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

type executorKey = hello.ExecutorKey

// executor is a framework's own, on one agent, from the launch of the first task that is
// for it until the agent says that it has ended: for so long it holds resources, whether
// it has tasks or not.
type executor struct {
	key       executorKey
	agent     id.Agent
	info      *mesos.ExecutorInfo
	role      string
	resources ledger.Resources
	// shutdown says that its framework wants it to end; the agent is told so again when it
	// returns.
	shutdown bool
}

// use names what an executor holds in the ledger: task ids have no slashes.
func (e *executor) use() id.TaskKey {
	return id.TaskKey{Framework: e.key.Framework, Task: id.Task("executor/" + e.key.Executor + "/" + string(e.agent))}
}

func sortedExecutors(a *agent) []*executor {
	return slices.SortedFunc(maps.Values(a.executors), func(x, y *executor) int { return x.key.Compare(y.key) })
}

// executorOf is the executor that a task is for, if it runs already.
func (a *agent) executorOf(f *framework, info *mesos.TaskInfo) *executor {
	return a.executors[executorKey{Framework: f.id, Executor: info.GetExecutor().GetExecutorId().GetValue()}]
}

// bringExecutor accounts for the executor of a task that has been found sound, and
// returns it as the agent is to have it. Without an executor it changes nothing.
func (m *Machine) bringExecutor(l launch, pool ledger.Resources) (info *mesos.ExecutorInfo, isNew bool, rest ledger.Resources, err error) {
	if l.info.Executor == nil {
		return nil, false, pool, nil
	}
	if e := l.agent.executorOf(l.framework, l.info); e != nil {
		if e.shutdown {
			return nil, false, pool, sentencef("Executor %s is being shut down", e.key.Executor)
		}
		return e.info, false, pool, nil
	}
	need, err := ledger.FromMesos(l.info.Executor.GetResources())
	if err != nil {
		return nil, false, pool, err
	}
	rest, ok := pool.Minus(need)
	if !ok {
		panic("core: rules.Task passed an executor that does not fit its offer")
	}
	e := &executor{
		key:   executorKey{Framework: l.framework.id, Executor: l.info.Executor.GetExecutorId().GetValue()},
		agent: l.agent.id, role: l.role, resources: need, info: proto.CloneOf(l.info.Executor),
	}
	e.info.FrameworkId, e.info.Resources = l.framework.info.Id, need.Mesos(l.role)
	e.info.Type = mesos.ExecutorInfo_CUSTOM.Enum()
	if err := m.ledger.Use(ledger.Use{Task: e.use(), Agent: e.agent, Role: e.role, Resources: need}); err != nil {
		return nil, false, pool, err
	}
	m.addExecutor(e, l.agent, l.framework)
	return e.info, true, rest, nil
}

func (m *Machine) addExecutor(e *executor, a *agent, f *framework) {
	a.executors[e.key] = e
	a.taskBytes += proto.Size(e.info)
	f.executors++
}

// dropExecutor lets go of an executor, and of what it holds unless its agent is given up.
func (m *Machine) dropExecutor(e *executor, out *Effects) {
	a, f := m.agents[e.agent], m.frameworks[e.key.Framework]
	if u, ok := m.ledger.Unuse(e.use()); ok {
		m.recovered(ledger.Holding{Agent: e.agent, Framework: e.key.Framework, Role: e.role, Resources: u.Resources}, 0, out)
	}
	delete(a.executors, e.key)
	a.taskBytes -= proto.Size(e.info)
	f.executors--
	m.settle(f, out)
}

// executorEnded frees what an executor held and tells its framework. A status that nobody
// saw is not told.
func (m *Machine) executorEnded(a *agent, ended *linkpb.ExecutorEnded, out *Effects) {
	e := a.executors[executorKey{Framework: id.Framework(ended.GetFrameworkId().GetValue()), Executor: ended.GetExecutorId().GetValue()}]
	if e == nil {
		return
	}
	failure := &schedulerpb.Event_Failure{AgentId: a.info.Id, ExecutorId: e.info.ExecutorId}
	if ended.GetStatus() >= 0 {
		failure.Status = proto.Int32(ended.GetStatus())
	}
	m.notify(m.frameworks[e.key.Framework], &schedulerpb.Event{Type: schedulerpb.Event_FAILURE.Enum(), Failure: failure}, out)
	m.dropExecutor(e, out)
}

// executorSays passes an executor's message on to its framework, if that listens.
func (m *Machine) executorSays(a *agent, msg *linkpb.ExecutorMessage, out *Effects) {
	if f := m.frameworks[id.Framework(msg.GetFrameworkId().GetValue())]; f != nil && msg.GetExecutorId() != nil {
		m.notify(f, &schedulerpb.Event{Type: schedulerpb.Event_MESSAGE.Enum(), Message: &schedulerpb.Event_Message{
			AgentId: a.info.Id, ExecutorId: msg.ExecutorId, Data: append([]byte{}, msg.GetData()...),
		}}, out)
	}
}

// message passes a framework's message on to its executor, if its agent is connected.
func (m *Machine) message(f *framework, c *schedulerpb.Call_Message, out *Effects) {
	if a := m.agents[id.Agent(c.GetAgentId().GetValue())]; a != nil {
		m.send(a, &linkpb.ToAgent{Body: &linkpb.ToAgent_ExecutorMessage{ExecutorMessage: &linkpb.ExecutorMessage{
			FrameworkId: f.info.Id, ExecutorId: c.GetExecutorId(), Data: c.GetData(),
		}}}, out)
	}
}

// shutdown ends an executor for its framework.
func (m *Machine) shutdown(f *framework, c *schedulerpb.Call_Shutdown, out *Effects) {
	a := m.agents[id.Agent(c.GetAgentId().GetValue())]
	if a == nil {
		return
	}
	if e := a.executors[executorKey{Framework: f.id, Executor: c.GetExecutorId().GetValue()}]; e != nil {
		e.shutdown = true
		m.sendShutdown(a, e, out)
	}
}

func (m *Machine) sendShutdown(a *agent, e *executor, out *Effects) {
	m.send(a, &linkpb.ToAgent{Body: &linkpb.ToAgent_ShutdownExecutor{ShutdownExecutor: &linkpb.ShutdownExecutor{
		FrameworkId: e.info.FrameworkId, ExecutorId: e.info.ExecutorId,
	}}}, out)
}

// dropMissingExecutors lets go of the executors that the agent has no more, or as others.
func (m *Machine) dropMissingExecutors(a *agent, held []hello.Executor, out *Effects) {
	has := map[executorKey]hello.Executor{}
	for _, h := range held {
		has[h.Key] = h
	}
	for _, e := range sortedExecutors(a) {
		h, there := has[e.key]
		if !there {
			m.executorEnded(a, &linkpb.ExecutorEnded{FrameworkId: e.info.FrameworkId, ExecutorId: e.info.ExecutorId, Status: -1}, out)
		} else if !e.resources.Equal(h.Resources) {
			m.dropExecutor(e, out)
		}
	}
}

// adoptExecutors takes over the executors that the agent holds. It returns the removed
// frameworks that the agent was told to end.
func (m *Machine) adoptExecutors(a *agent, held []hello.Executor, infos []*mesos.FrameworkInfo, out *Effects) map[id.Framework]bool {
	ended := map[id.Framework]bool{}
	for _, h := range held {
		f := m.frameworks[h.Key.Framework]
		if f == nil {
			f = m.ghost(a, h.Key.Framework, infos, out)
		}
		m.endRemoved(a, f, ended, out)
		e := a.executors[h.Key]
		if e == nil {
			e = &executor{key: h.Key, agent: a.id, info: h.Msg.Info, resources: h.Resources, role: h.Role}
			if e.role == "" {
				e.role = append(slices.Clone(f.roles), "*")[0]
			}
			must(m.ledger.Use(ledger.Use{Task: e.use(), Agent: a.id, Role: e.role, Resources: e.resources}))
			m.addExecutor(e, a, f)
		}
		if e.shutdown {
			m.sendShutdown(a, e, out)
		}
	}
	return ended
}

// endExecutors tells the agents of a removed framework's executors that have not heard of
// its end; those that are away are told when they return.
func (m *Machine) endExecutors(f *framework, told map[id.Agent]bool, out *Effects) {
	if f.executors == 0 {
		return
	}
	for _, aid := range sorted(m.agents) {
		a := m.agents[aid]
		of := func(e *executor) bool { return e.key.Framework == f.id }
		if !told[aid] && slices.ContainsFunc(sortedExecutors(a), of) {
			told[aid] = true
			m.send(a, wire.EndFramework(f.info), out)
		}
	}
}

// executorIDs are those of the framework's executors on the agent, for its offers.
func (a *agent) executorIDs(f *framework) []*mesos.ExecutorID {
	if f.executors == 0 {
		return nil
	}
	var ids []*mesos.ExecutorID
	for _, e := range sortedExecutors(a) {
		if e.key.Framework == f.id {
			ids = append(ids, e.info.ExecutorId)
		}
	}
	return ids
}

// executorInfo is that of the running executor that a task names, or nil.
func (a *agent) executorInfo(f *framework, info *mesos.TaskInfo) *mesos.ExecutorInfo {
	if e := a.executorOf(f, info); info.Executor != nil && e != nil {
		return e.info
	}
	return nil
}

// executorsUse is what a framework's executors hold everywhere, by role.
func (m *Machine) executorsUse(f *framework) map[string]ledger.Resources {
	used := map[string]ledger.Resources{}
	if f.executors == 0 {
		return used
	}
	for _, aid := range sorted(m.agents) {
		for _, e := range sortedExecutors(m.agents[aid]) {
			if e.key.Framework == f.id {
				used[e.role] = used[e.role].Plus(e.resources)
			}
		}
	}
	return used
}

// Executors answers GET_EXECUTORS.
func (m *Machine) Executors() *masterpb.Response_GetExecutors {
	r := &masterpb.Response_GetExecutors{}
	for _, aid := range sorted(m.agents) {
		a := m.agents[aid]
		for _, e := range sortedExecutors(a) {
			r.Executors = append(r.Executors, &masterpb.Response_GetExecutors_Executor{ExecutorInfo: e.info, AgentId: a.info.Id})
		}
	}
	return r
}

// checkExecutors: every executor has its use, and its framework counts it.
func (m *Machine) checkExecutors() error {
	counts := map[id.Framework]int{}
	for _, aid := range sorted(m.agents) {
		a := m.agents[aid]
		for _, e := range sortedExecutors(a) {
			counts[e.key.Framework]++
			if a.unreachable || e.agent != aid || m.frameworks[e.key.Framework] == nil {
				return fmt.Errorf("executor %s of framework %s is on agent %s, which can't have it", e.key.Executor, e.key.Framework, aid)
			}
		}
	}
	for _, fid := range sorted(m.frameworks) {
		if f := m.frameworks[fid]; f.executors != counts[fid] {
			return fmt.Errorf("framework %s counts %d executors and has %d", fid, f.executors, counts[fid])
		}
	}
	return nil
}
