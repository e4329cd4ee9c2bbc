package node

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node/nodepb"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

// executorKey is unique on an agent.
type executorKey struct {
	Framework id.Framework
	Executor  string
}

func (k executorKey) String() string { return string(k.Framework) + "/" + k.Executor }

func (k executorKey) compare(o executorKey) int {
	return cmp.Or(cmp.Compare(k.Framework, o.Framework), cmp.Compare(k.Executor, o.Executor))
}

// executor is a program that a framework brought to run its tasks: one container, from
// the first task that is for it until the container has ended.
type executor struct {
	key                executorKey
	info               *mesos.ExecutorInfo
	container, sandbox string
	// boot is the host's when the container was asked for.
	boot string
	// started says that the container ran, as pid; registered that the executor has
	// subscribed at least once.
	started    bool
	pid        int32
	registered bool
	// stream is that of its subscription, zero while there is none.
	stream uint64
	// awaited is when an executor without a subscription is given up; zero: never.
	awaited step.Time
	// tasks are those that have not ended.
	tasks map[id.TaskKey]*task
	// shutdown is set from the moment that the executor must end.
	shutdown *ending
}

// ending is an order to end an executor, being carried out.
type ending struct {
	killing
	// reason is why its tasks fail; nil where they count as killed.
	reason *mesos.TaskStatus_Reason
}

func executorOf(r *nodepb.Executor, now step.Time) *executor {
	e := &executor{
		key:       executorKey{id.Framework(r.FrameworkId), r.Info.GetExecutorId().GetValue()},
		info:      r.Info,
		container: r.ContainerId,
		sandbox:   r.Sandbox,
		boot:      r.BootId,
		started:   r.Started, pid: r.Pid, registered: r.Registered,
		tasks: map[id.TaskKey]*task{},
	}
	switch {
	case e.registered:
		e.awaited = now.Add(reregisterWithin)
	case e.started:
		e.awaited = now.Add(registerWithin)
	}
	if k := r.Shutdown; k != nil {
		since := min(step.Time(k.SinceUnixNanos), now)
		e.shutdown = &ending{killing: killing{
			since: since, grace: time.Duration(k.GraceNanos), message: k.Message, due: since.Add(time.Duration(k.GraceNanos)),
		}}
		if k.Reason != nil {
			e.shutdown.reason = mesos.TaskStatus_Reason(*k.Reason).Enum()
		}
	}
	return e
}

func (e *executor) record() *nodepb.Executor {
	r := &nodepb.Executor{
		FrameworkId: string(e.key.Framework), Info: e.info, ContainerId: e.container, Sandbox: e.sandbox, BootId: e.boot,
		Started: e.started, Pid: e.pid, Registered: e.registered,
	}
	if k := e.shutdown; k != nil {
		r.Shutdown = &nodepb.Kill{SinceUnixNanos: int64(k.since), GraceNanos: int64(k.grace), Message: k.message}
		if k.reason != nil {
			r.Shutdown.Reason = proto.Int32(int32(*k.reason))
		}
	}
	return r
}

// deadline is when the executor is looked at next.
func (e *executor) deadline() (step.Time, bool) {
	switch {
	case e.shutdown != nil:
		return e.shutdown.due, true
	case e.stream == 0 && e.awaited != 0:
		return e.awaited, true
	}
	return 0, false
}

// ordered lists the tasks in order.
func (e *executor) ordered() []*task {
	return slices.SortedFunc(maps.Values(e.tasks), func(a, b *task) int { return compareKeys(a.key, b.key) })
}

// needs is what the container is to have: the executor's own and that of its tasks.
func (e *executor) needs() []*mesos.Resource {
	all := slices.Clone(e.info.GetResources())
	for _, t := range e.ordered() {
		all = append(all, t.info.GetResources()...)
	}
	return all
}

// Executor is one executor as it stands; its messages are shared and must not be changed.
type Executor struct {
	Framework *mesos.FrameworkInfo
	Info      *mesos.ExecutorInfo
	Container string
	// Sandbox is relative to the work dir.
	Sandbox string
	// Subscribed says that its event stream is open.
	Subscribed bool
}

// Executors lists the executors, ordered by framework and executor id.
func (m *Machine) Executors() []Executor {
	var list []Executor
	for _, e := range m.orderedExecutors() {
		list = append(list, Executor{
			Framework: m.frameworks[e.key.Framework].info, Info: e.info,
			Container: e.container, Sandbox: e.sandbox, Subscribed: e.stream != 0,
		})
	}
	return list
}

// ExecutorContainer names the container of an executor, or nothing if there is no such
// executor.
func (m *Machine) ExecutorContainer(framework, executor string) string {
	if e := m.executors[executorKey{id.Framework(framework), executor}]; e != nil {
		return e.container
	}
	return ""
}

func (m *Machine) orderedExecutors() []*executor {
	return slices.SortedFunc(maps.Values(m.executors), func(a, b *executor) int { return a.key.compare(b.key) })
}

// runCustom takes a new task for an executor, and starts the executor if it is the first.
func (m *Machine) runCustom(key id.TaskKey, r *linkpb.Run) {
	ek := executorKey{key.Framework, r.Task.GetExecutor().GetExecutorId().GetValue()}
	e := m.executors[ek]
	if e == nil && !r.LaunchExecutor || e != nil && e.shutdown != nil {
		m.refuse(key, mesos.TaskState_TASK_DROPPED, mesos.TaskStatus_REASON_EXECUTOR_TERMINATED,
			"The task's executor ended before the task reached it")
		return
	}
	m.enlist(key.Framework, r.Framework)
	first := e == nil
	if first {
		m.enlist(key.Framework, r.Framework)
		container := m.nameContainer()
		e = &executor{
			key: ek, info: r.Task.Executor, container: container, boot: m.boot,
			sandbox: path.Join("slaves", m.agentID, "frameworks", string(ek.Framework), "executors", ek.Executor, "runs", container),
			tasks:   map[id.TaskKey]*task{},
		}
		m.executors[ek], m.hosts[container] = e, e
		m.dirtyExecutors[ek] = true
	}
	t := &task{
		key: key, info: r.Task, executor: e, container: e.container, sandbox: e.sandbox, boot: e.boot,
		latest:      &mesos.TaskStatus{TaskId: r.Task.TaskId, State: mesos.TaskState_TASK_STAGING.Enum()},
		resendAfter: resendMin,
	}
	m.tasks[key], e.tasks[key] = t, t
	m.dirtyTasks[key] = true
	if first {
		m.out.Ask = append(m.out.Ask, Launch{
			Container: e.container, Framework: r.Framework, Executor: e.info, Sandbox: e.sandbox, Resources: e.needs(),
		})
		return
	}
	m.resize(e)
	if e.stream != 0 {
		m.give(t)
	}
}

// missing tells the master that an executor that it accounts for is not there.
func (m *Machine) missing(k executorKey, status int32) {
	if !m.link.welcome {
		return
	}
	m.send(&linkpb.ToMaster{Body: &linkpb.ToMaster_ExecutorEnded{ExecutorEnded: &linkpb.ExecutorEnded{
		FrameworkId: &mesos.FrameworkID{Value: proto.String(string(k.Framework))},
		ExecutorId:  &mesos.ExecutorID{Value: proto.String(k.Executor)},
		Status:      status,
	}}})
}

// resize has the container's limits follow its tasks.
func (m *Machine) resize(e *executor) {
	if e.started && e.shutdown == nil {
		m.out.Ask = append(m.out.Ask, Resize{Container: e.container, Resources: e.needs()})
	}
}

// tell sends an event to a subscribed executor.
func (m *Machine) tell(e *executor, ev *executorpb.Event) {
	if e.stream != 0 {
		m.out.Tell = append(m.out.Tell, Tell{Stream: e.stream, Event: ev})
	}
}

// give hands a task to its executor.
func (m *Machine) give(t *task) {
	t.launched = true
	m.tell(t.executor, &executorpb.Event{
		Type: executorpb.Event_LAUNCH.Enum(), Launch: &executorpb.Event_Launch{Task: t.info},
	})
}

// executorCall answers one call of an executor.
func (m *Machine) executorCall(ev ExecutorCall) {
	c := ev.Call
	k := executorKey{id.Framework(c.GetFrameworkId().GetValue()), c.GetExecutorId().GetValue()}
	e := m.executors[k]
	status, message := statusAccepted, ""
	switch {
	case m.frameworks[k.Framework] == nil:
		status, message = statusBadRequest, "Framework cannot be found"
	case e == nil:
		status, message = statusBadRequest, "Executor cannot be found"
	case ev.Principal != e.container:
		status, message = statusForbidden, "The call does not come from the executor that it names"
	case c.GetType() == executorpb.Call_SUBSCRIBE:
		status = statusOK
	case e.stream == 0:
		status, message = statusForbidden, "Executor is not subscribed"
	case c.GetType() == executorpb.Call_UPDATE && proto.Size(c.GetUpdate().GetStatus()) > maxStatus:
		status, message = statusBadRequest, fmt.Sprintf("The status takes more than %d bytes: put the data where its reader can fetch it", maxStatus)
	}
	m.out.Replies = append(m.out.Replies, Reply{Request: ev.Request, Status: status, Message: message})
	if message != "" {
		return
	}
	switch c.GetType() {
	case executorpb.Call_SUBSCRIBE:
		m.subscribe(e, ev.Stream, c.GetSubscribe())
	case executorpb.Call_UPDATE:
		m.executorUpdate(e, c.GetUpdate().GetStatus())
	case executorpb.Call_MESSAGE:
		if m.link.welcome {
			m.send(&linkpb.ToMaster{Body: &linkpb.ToMaster_ExecutorMessage{ExecutorMessage: &linkpb.ExecutorMessage{
				FrameworkId: c.FrameworkId, ExecutorId: c.ExecutorId, Data: c.GetMessage().GetData(),
			}}})
		}
	}
}

// subscribe opens an executor's event stream. What it has not heard of, and what it has
// said and was not told to be on record, is settled here: a task that is neither among
// its unacknowledged tasks nor has a status never reached it, and is given to it again.
func (m *Machine) subscribe(e *executor, stream uint64, c *executorpb.Call_Subscribe) {
	m.unsubscribe(e)
	e.stream, e.awaited = stream, 0
	if !e.registered {
		e.registered = true
		m.dirtyExecutors[e.key] = true
	}
	agent := proto.CloneOf(m.cfg.Info)
	agent.Id = &mesos.AgentID{Value: proto.String(m.agentID)}
	m.tell(e, &executorpb.Event{Type: executorpb.Event_SUBSCRIBED.Enum(), Subscribed: &executorpb.Event_Subscribed{
		ExecutorInfo: e.info, FrameworkInfo: m.frameworks[e.key.Framework].info, AgentInfo: agent,
		ContainerId: &mesos.ContainerID{Value: proto.String(e.container)},
	}})
	knows := map[string]bool{}
	for _, t := range c.GetUnacknowledgedTasks() {
		knows[t.GetTaskId().GetValue()] = true
	}
	for _, u := range c.GetUnacknowledgedUpdates() {
		knows[u.GetStatus().GetTaskId().GetValue()] = true
		m.executorUpdate(e, u.GetStatus())
	}
	if e.shutdown != nil {
		m.tell(e, &executorpb.Event{Type: executorpb.Event_SHUTDOWN.Enum()})
		return
	}
	for _, t := range e.ordered() {
		t.launched = knows[string(t.key.Task)] || t.latest.GetState() != mesos.TaskState_TASK_STAGING
		switch {
		case t.launched && t.kill != nil:
			m.tellKill(t)
		case t.launched:
		case t.kill != nil:
			m.killUnheard(t)
		default:
			m.give(t)
		}
	}
}

// unsubscribe ends the event stream, if there is one.
func (m *Machine) unsubscribe(e *executor) {
	if e.stream != 0 {
		m.out.Tell = append(m.out.Tell, Tell{Stream: e.stream, Close: true})
		e.stream = 0
	}
}

func (m *Machine) executorGone(stream uint64) {
	for _, e := range m.executors { // any order: streams have one executor each
		if e.stream == stream {
			e.stream = 0
		}
	}
}

// executorUpdate takes a status of one of the executor's tasks. Whatever becomes of it,
// the executor is told that it need not say it again.
func (m *Machine) executorUpdate(e *executor, s *mesos.TaskStatus) {
	defer m.tell(e, &executorpb.Event{Type: executorpb.Event_ACKNOWLEDGED.Enum(), Acknowledged: &executorpb.Event_Acknowledged{
		TaskId: s.GetTaskId(), Uuid: s.GetUuid(),
	}})
	t := e.tasks[id.TaskKey{Framework: e.key.Framework, Task: id.Task(s.GetTaskId().GetValue())}]
	if t == nil || rules.ExecutorStatus(s) != nil || proto.Size(s) > maxStatus {
		m.stats.UnknownUpdates++
		return
	}
	if t.hasSaid(s.GetUuid()) {
		return
	}
	if _, verdict := lifecycle.NextTask(t.latest.GetState(), s.GetState()); verdict == lifecycle.Stale {
		m.stats.UnknownUpdates++
		return
	}
	s = proto.CloneOf(s)
	s.AgentId = &mesos.AgentID{Value: proto.String(m.agentID)}
	s.ExecutorId = e.info.ExecutorId
	if s.Timestamp == nil {
		s.Timestamp = proto.Float64(m.now.Seconds())
	}
	if s.ContainerStatus == nil {
		s.ContainerStatus = &mesos.ContainerStatus{ContainerId: &mesos.ContainerID{Value: proto.String(e.container)}}
		s.ContainerStatus.ExecutorPid = proto.Uint32(uint32(e.pid))
	}
	t.launched = true
	m.reportCustom(t, s)
}

// hasSaid says whether a status is on record.
func (t *task) hasSaid(uuid []byte) bool {
	same := func(s *mesos.TaskStatus) bool { return bytes.Equal(s.GetUuid(), uuid) }
	return same(t.latest) || slices.ContainsFunc(t.pending, same)
}

// reportCustom reports a status of an executor's task, the last of which ends the task.
func (m *Machine) reportCustom(t *task, s *mesos.TaskStatus) {
	m.report(t, s)
	if !t.ended() {
		return
	}
	e := t.executor
	delete(e.tasks, t.key)
	t.executor = nil
	m.resize(e)
	if t.discard {
		m.remove(t)
	}
}

// crowded says that no further status can wait for the framework.
func (t *task) crowded() bool {
	size := 0
	for _, s := range t.pending {
		size += proto.Size(s)
	}
	return len(t.pending) >= maxPending || size > maxPendingBytes
}

// killCustom has the executor end a task: how soon is the executor's affair.
func (m *Machine) killCustom(t *task, order killOrder) {
	m.dirtyTasks[t.key] = true
	if t.kill == nil {
		t.kill = &killing{since: m.now, message: order.message, duringLaunch: !t.launched}
	}
	t.kill.grace = order.grace
	switch {
	case t.launched:
		m.tellKill(t)
	case !t.executor.registered || t.executor.stream != 0:
		m.killUnheard(t)
	}
}

func (m *Machine) tellKill(t *task) {
	m.tell(t.executor, &executorpb.Event{Type: executorpb.Event_KILL.Enum(), Kill: &executorpb.Event_Kill{
		TaskId:     t.info.TaskId,
		KillPolicy: &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: proto.Int64(int64(t.kill.grace))}},
	}})
}

// killUnheard ends a task that its executor was never given, and an executor that was
// started for nothing else.
func (m *Machine) killUnheard(t *task) {
	e := t.executor
	s := m.agentStatus(t, mesos.TaskState_TASK_KILLED)
	explain(s, mesos.TaskStatus_REASON_TASK_KILLED_DURING_LAUNCH, "The task was killed before its executor had it")
	if t.kill.message != "" {
		s.Message = &t.kill.message
	}
	m.reportCustom(t, s)
	if !e.registered && len(e.tasks) == 0 {
		m.shutdown(e, ending{killing: killing{message: "No task is left that the executor was started for"}})
	}
}

// agentStatus is a status that the agent gives of an executor's task.
func (m *Machine) agentStatus(t *task, state mesos.TaskState) *mesos.TaskStatus {
	s := m.status(t, state)
	s.Source = mesos.TaskStatus_SOURCE_AGENT.Enum()
	return s
}

// shutdown ends an executor: one that listens is asked first, and has its grace.
func (m *Machine) shutdown(e *executor, why ending) {
	if e.shutdown != nil {
		return
	}
	why.since, why.grace = m.now, 0
	if e.stream != 0 {
		why.grace = defaultShutdownGrace
		if own := e.info.GetShutdownGracePeriod(); own != nil {
			why.grace = min(max(0, time.Duration(own.GetNanoseconds())), maxGrace)
		}
	}
	why.due = m.now.Add(why.grace)
	e.shutdown = &why
	m.dirtyExecutors[e.key] = true
	if e.stream != 0 {
		m.tell(e, &executorpb.Event{Type: executorpb.Event_SHUTDOWN.Enum()})
		return
	}
	m.killExecutor(e)
}

// killExecutor ends an executor without further grace, and does so again until it has ended.
func (m *Machine) killExecutor(e *executor) {
	e.shutdown.due = m.now.Add(killAgain)
	if m.keeperUp || !e.started {
		m.out.Ask = append(m.out.Ask, Signal{Container: e.container, Number: sigkill})
	}
}

// executorDue kills an executor that was given its grace, or gives up one that never came.
func (m *Machine) executorDue(e *executor) {
	at, some := e.deadline()
	switch {
	case !some || m.now < at:
	case e.shutdown != nil:
		m.killExecutor(e)
	case e.registered:
		m.shutdown(e, ending{
			reason:  mesos.TaskStatus_REASON_EXECUTOR_REREGISTRATION_TIMEOUT.Enum(),
			killing: killing{message: fmt.Sprintf("Executor did not re-register within %s", reregisterWithin)},
		})
	default:
		m.shutdown(e, ending{
			reason:  mesos.TaskStatus_REASON_EXECUTOR_REGISTRATION_TIMEOUT.Enum(),
			killing: killing{message: fmt.Sprintf("Executor did not register within %s", registerWithin)},
		})
	}
}

// masterShutdown ends an executor for its framework. The end of one that is not there was
// told; to tell it again could be taken for the end of its successor.
func (m *Machine) masterShutdown(s *linkpb.ShutdownExecutor) {
	e := m.executors[executorKey{id.Framework(s.GetFrameworkId().GetValue()), s.GetExecutorId().GetValue()}]
	if e != nil {
		m.shutdown(e, ending{})
	}
}

// masterMessage passes a framework's data on to its executor, if that listens.
func (m *Machine) masterMessage(msg *linkpb.ExecutorMessage) {
	k := executorKey{id.Framework(msg.GetFrameworkId().GetValue()), msg.GetExecutorId().GetValue()}
	if e := m.executors[k]; e != nil {
		m.tell(e, &executorpb.Event{Type: executorpb.Event_MESSAGE.Enum(), Message: &executorpb.Event_Message{Data: msg.GetData()}})
	}
}
