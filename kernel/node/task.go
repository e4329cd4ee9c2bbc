package node

import (
	"bytes"
	"fmt"
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
)

// task is one task from its Run to its last acknowledgement.
type task struct {
	key  id.TaskKey
	info *mesos.TaskInfo
	// executor is the framework's own that runs the task, until the task has ended; nil
	// for a command. Launched says that it was given the task, or may have been.
	executor *executor
	launched bool
	// container and sandbox are given once; a task has one container in its life, which
	// it shares with the other tasks of its executor.
	container, sandbox string
	// boot is the host's when the container was asked for.
	boot string
	// latest is the newest status; pending are the unacknowledged ones, oldest first,
	// and if there are any the last is latest.
	latest  *mesos.TaskStatus
	pending []*mesos.TaskStatus
	// started says that the container ran, as pid.
	started bool
	pid     int32
	kill    *killing
	// discard says that nobody will acknowledge: nothing is pending, ever.
	discard bool

	// resendAt is when the head of pending is sent again, resendAfter how much later
	// than that the next time.
	resendAt    step.Time
	resendAfter time.Duration
}

// killing is an order to end a task, being carried out.
type killing struct {
	since        step.Time
	grace        time.Duration
	duringLaunch bool
	message      string
	// due is when SIGKILL is sent, or sent again.
	due step.Time
}

// killOrder is what a kill asks for. Message, if any, is what the task's last status says.
type killOrder struct {
	grace   time.Duration
	message string
}

func taskOf(r *nodepb.Task, now step.Time) *task {
	t := &task{
		key:         id.TaskKey{Framework: id.Framework(r.FrameworkId), Task: id.Task(r.Info.GetTaskId().GetValue())},
		info:        r.Info,
		container:   r.ContainerId,
		sandbox:     r.Sandbox,
		boot:        r.BootId,
		latest:      r.Latest,
		pending:     r.Pending,
		started:     r.Started,
		pid:         r.Pid,
		discard:     r.Discard,
		resendAfter: resendMin,
	}
	if k := r.Kill; k != nil {
		// A clock that was set back must not prolong the grace.
		since := min(step.Time(k.SinceUnixNanos), now)
		t.kill = &killing{
			since: since, grace: time.Duration(k.GraceNanos), duringLaunch: k.DuringLaunch, message: k.Message,
			due: since.Add(time.Duration(k.GraceNanos)),
		}
	}
	return t
}

func (t *task) record() *nodepb.Task {
	r := &nodepb.Task{
		FrameworkId: string(t.key.Framework),
		Info:        t.info,
		ContainerId: t.container,
		Sandbox:     t.sandbox,
		BootId:      t.boot,
		Latest:      t.latest,
		Pending:     t.pending,
		Started:     t.started,
		Pid:         t.pid,
		Discard:     t.discard,
	}
	if k := t.kill; k != nil {
		r.Kill = &nodepb.Kill{
			SinceUnixNanos: int64(k.since), GraceNanos: int64(k.grace), DuringLaunch: k.duringLaunch, Message: k.message,
		}
	}
	return r
}

func (t *task) frameworkID() *mesos.FrameworkID {
	return &mesos.FrameworkID{Value: proto.String(string(t.key.Framework))}
}

func (t *task) ended() bool { return lifecycle.Terminal(t.latest.GetState()) }

// custom says that the task is for an executor that its framework brought.
func (t *task) custom() bool { return t.info.GetExecutor() != nil }

// killDue says that a signal will follow: what an executor runs, it also ends.
func (t *task) killDue() bool { return t.kill != nil && !t.ended() && !t.custom() }

// run takes a new task: it is on record, and its framework told, before it is launched.
func (m *Machine) run(r *linkpb.Run) {
	key := id.TaskKey{
		Framework: id.Framework(r.GetFramework().GetId().GetValue()),
		Task:      id.Task(r.GetTask().GetTaskId().GetValue()),
	}
	if t := m.tasks[key]; t != nil {
		m.stats.DuplicateRuns++
		m.answer(t)
		return
	}
	if why := refusal(key, r); why != "" || m.stopping {
		m.stats.InvalidRuns++
		m.turnAway(key, r, why)
		return
	}
	if r.Task.Executor != nil {
		m.runCustom(key, r)
		return
	}
	m.enlist(key.Framework, r.Framework)
	container := m.nameContainer()
	t := &task{
		key:       key,
		info:      r.Task,
		container: container,
		sandbox: path.Join("slaves", m.agentID, "frameworks", string(key.Framework),
			"executors", string(key.Task), "runs", container),
		boot:        m.boot,
		latest:      &mesos.TaskStatus{TaskId: r.Task.TaskId, State: mesos.TaskState_TASK_STAGING.Enum()},
		resendAfter: resendMin,
	}
	m.tasks[key], m.owners[container] = t, t
	m.report(t, m.status(t, mesos.TaskState_TASK_STARTING))
	m.out.Ask = append(m.out.Ask, Launch{Container: container, Framework: r.Framework, Task: r.Task, Sandbox: t.sandbox})
}

// turnAway says no to a task; one without a reason, since the agent is about to leave, is
// missed from the next agent's Hello.
func (m *Machine) turnAway(key id.TaskKey, r *linkpb.Run, why string) {
	if why == "" {
		return
	}
	m.refuse(key, mesos.TaskState_TASK_ERROR, mesos.TaskStatus_REASON_TASK_INVALID, why)
	k := executorKey{key.Framework, r.GetTask().GetExecutor().GetExecutorId().GetValue()}
	if r.GetLaunchExecutor() && m.executors[k] == nil {
		m.missing(k, unseen)
	}
}

// refusal says why a task can't even be put on record, or nothing if it can.
func refusal(key id.TaskKey, r *linkpb.Run) string {
	executor := r.GetTask().GetExecutor().GetExecutorId().GetValue()
	switch {
	// The master has validated ids already; here they become folders.
	case rules.ID(string(key.Framework)) != nil || rules.ID(string(key.Task)) != nil || len(keyOfTask(key)) > maxKey:
		return "the agent can't keep a task of this id"
	case r.Task.Executor != nil && (rules.ID(executor) != nil || len(keyOfExecutor(executorKey{key.Framework, executor})) > maxKey):
		return "the agent can't keep an executor of this id"
	case proto.CheckInitialized(r.Framework) != nil || proto.CheckInitialized(r.Task) != nil:
		return "the task or its framework lacks a required field"
	case proto.Size(r.Framework) > maxInfo || proto.Size(r.Task) > maxInfo:
		return fmt.Sprintf("the task or its framework takes more than %d bytes to describe: put the data where the task can fetch it", maxInfo)
	}
	return ""
}

// nameContainer gives the next container its name.
func (m *Machine) nameContainer() string {
	m.containers++
	return fmt.Sprintf("c%d-%d", m.incarnation, m.containers)
}

// enlist counts one more task or executor of a framework, and keeps what it was told last
// of the framework.
func (m *Machine) enlist(fid id.Framework, info *mesos.FrameworkInfo) {
	f := m.frameworks[fid]
	if f == nil {
		f = &framework{}
		m.frameworks[fid] = f
	}
	if !proto.Equal(f.info, info) {
		f.info = info
		m.dirtyFrameworks[fid] = true
	}
	f.members++
}

// discharge counts one less, and forgets the framework with the last.
func (m *Machine) discharge(fid id.Framework) {
	f := m.frameworks[fid]
	f.members--
	if f.members == 0 {
		delete(m.frameworks, fid)
		m.dirtyFrameworks[fid] = true
	}
}

// refuse tells the master, once and with nothing to acknowledge, that a task never was.
// If that is lost, the absence of the task from the next Hello says it as well.
func (m *Machine) refuse(key id.TaskKey, state mesos.TaskState, reason mesos.TaskStatus_Reason, why string) {
	m.send(&linkpb.ToMaster{Body: &linkpb.ToMaster_Update{Update: &linkpb.Update{
		FrameworkId: &mesos.FrameworkID{Value: proto.String(string(key.Framework))},
		Latest:      int32(state),
		Status: &mesos.TaskStatus{
			TaskId:    &mesos.TaskID{Value: proto.String(string(key.Task))},
			State:     state.Enum(),
			Source:    mesos.TaskStatus_SOURCE_AGENT.Enum(),
			Reason:    reason.Enum(),
			Message:   &why,
			AgentId:   &mesos.AgentID{Value: proto.String(m.agentID)},
			Timestamp: proto.Float64(m.now.Seconds()),
		},
	}}})
}

// kill begins to end a task. A second order may change the grace, counted from the first.
func (m *Machine) kill(k *linkpb.Kill) {
	key := id.TaskKey{Framework: id.Framework(k.GetFrameworkId().GetValue()), Task: id.Task(k.GetTaskId().GetValue())}
	t := m.tasks[key]
	if t == nil {
		m.stats.UnknownKills++
		return
	}
	m.killTask(t, killOrder{grace: graceOf(k.GetKillPolicy(), t.info)})
}

// graceOf is the time between SIGTERM and SIGKILL: the order's, else the task's.
func graceOf(order *mesos.KillPolicy, info *mesos.TaskInfo) time.Duration {
	for _, policy := range []*mesos.KillPolicy{order, info.GetKillPolicy()} {
		if policy.GetGracePeriod() != nil {
			return min(max(0, time.Duration(policy.GracePeriod.GetNanoseconds())), maxGrace)
		}
	}
	return defaultGrace
}

func (m *Machine) killTask(t *task, order killOrder) {
	if t.ended() {
		return
	}
	if t.custom() {
		m.killCustom(t, order)
		return
	}
	m.dirtyTasks[t.key] = true
	if t.kill != nil {
		t.kill.grace = order.grace
		t.kill.due = max(m.now, t.kill.since.Add(order.grace))
		return
	}
	t.kill = &killing{
		since: m.now, grace: order.grace, due: m.now.Add(order.grace),
		duringLaunch: !t.started, message: order.message,
	}
	if !t.started {
		m.killNow(t)
		return
	}
	if m.understands(t, mesos.FrameworkInfo_Capability_TASK_KILLING_STATE) {
		m.report(t, m.status(t, mesos.TaskState_TASK_KILLING))
	}
	m.signal(t, sigterm)
}

// killNow ends a task without further grace, and does so again until it has ended.
func (m *Machine) killNow(t *task) {
	t.kill.due = m.now.Add(killAgain)
	m.signal(t, sigkill)
}

// signal is worth nothing without a keeper; keeperConnected makes up for it.
func (m *Machine) signal(t *task, number int32) {
	if m.keeperUp || !t.started {
		m.out.Ask = append(m.out.Ask, Signal{Container: t.container, Number: number})
	}
}

func (m *Machine) understands(t *task, capability mesos.FrameworkInfo_Capability_Type) bool {
	return slices.ContainsFunc(m.frameworks[t.key.Framework].info.GetCapabilities(),
		func(c *mesos.FrameworkInfo_Capability) bool { return c.GetType() == capability })
}

// endFramework kills all that a framework has. Nobody will acknowledge what they end with.
func (m *Machine) endFramework(fid id.Framework) {
	for _, t := range m.ordered() {
		if t.key.Framework != fid {
			continue
		}
		t.discard, t.pending = true, nil
		m.dirtyTasks[t.key] = true
		if t.ended() {
			m.remove(t)
			continue
		}
		m.killTask(t, killOrder{grace: graceOf(nil, t.info), message: "The framework was removed"})
	}
	for _, e := range m.orderedExecutors() {
		if e.key.Framework == fid {
			m.shutdown(e, ending{killing: killing{message: "The framework was removed"}})
		}
	}
}

// acknowledge takes the head of a task's pending statuses away, and the task with the last.
func (m *Machine) acknowledge(a *linkpb.Acknowledge) {
	t := m.tasks[id.TaskKey{Framework: id.Framework(a.GetFrameworkId().GetValue()), Task: id.Task(a.GetTaskId().GetValue())}]
	if t == nil || len(t.pending) == 0 || !bytes.Equal(t.pending[0].GetUuid(), a.GetUuid()) {
		m.stats.UnknownAcks++
		return
	}
	t.pending = slices.Delete(t.pending, 0, 1)
	m.dirtyTasks[t.key] = true
	if t.ended() && len(t.pending) == 0 {
		m.remove(t)
		return
	}
	t.resendAfter = resendMin
	m.sendHead(t)
}

func (m *Machine) remove(t *task) {
	delete(m.tasks, t.key)
	delete(m.owners, t.container)
	m.dirtyTasks[t.key] = true
	m.discharge(t.key.Framework)
}

// report makes s the task's newest status and sees that its framework gets it, in turn.
func (m *Machine) report(t *task, s *mesos.TaskStatus) {
	next, verdict := lifecycle.NextTask(t.latest.GetState(), s.GetState())
	if verdict == lifecycle.Stale || verdict == lifecycle.Repeated && !t.custom() || next != s.GetState() {
		panic(fmt.Sprintf("node: task %s went from %s to %s", t.key, t.latest.GetState(), s.GetState()))
	}
	t.latest = s
	m.dirtyTasks[t.key] = true
	if t.discard {
		m.sendStatus(t, s)
		return
	}
	if n := len(t.pending); n > 1 && verdict == lifecycle.Repeated && t.crowded() {
		t.pending = t.pending[:n-1] // the newest counts
	}
	t.pending = append(t.pending, s)
	switch {
	case len(t.pending) == 1:
		t.resendAfter = resendMin
		m.sendHead(t)
	case lifecycle.Terminal(s.GetState()):
		// The status waits its turn, but what the task held is free now.
		m.sendUpdate(t, &linkpb.Update{Status: t.pending[0], Repeated: true})
	}
}

// answer says where a task stands to a master that seems not to know it.
func (m *Machine) answer(t *task) {
	if len(t.pending) == 0 {
		m.sendStatus(t, t.latest)
		return
	}
	m.sendHead(t)
}

func (m *Machine) sendHead(t *task) {
	if !m.link.welcome || len(t.pending) == 0 {
		return
	}
	m.sendStatus(t, t.pending[0])
	t.resendAt = m.now.Add(t.resendAfter)
	t.resendAfter = min(2*t.resendAfter, resendMax)
}

func (m *Machine) sendStatus(t *task, s *mesos.TaskStatus) {
	m.sendUpdate(t, &linkpb.Update{Status: s})
}

func (m *Machine) sendUpdate(t *task, u *linkpb.Update) {
	if !m.link.welcome {
		return
	}
	u.FrameworkId, u.Latest = t.frameworkID(), int32(t.latest.GetState())
	m.send(&linkpb.ToMaster{Body: &linkpb.ToMaster_Update{Update: u}})
}
