package apps

import (
	"slices"
	"time"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// TaskFailure is the last end of one of an app's tasks that nobody asked for.
type TaskFailure struct {
	AppID     string    `json:"appId"`
	Host      string    `json:"host"`
	Message   string    `json:"message"`
	State     string    `json:"state"`
	TaskID    string    `json:"taskId"`
	Timestamp time.Time `json:"timestamp"`
	Version   string    `json:"version"`
	AgentID   string    `json:"slaveId,omitempty"`
}

func (m *Machine) subscribe() *schedulerpb.Call {
	info := &mesos.FrameworkInfo{
		User:            new(m.config.User),
		Name:            new("marathon"),
		FailoverTimeout: new(failoverTimeout.Seconds()),
		Checkpoint:      new(true),
		Roles:           []string{m.config.Role},
		Principal:       new(m.config.Principal),
	}
	if m.config.Hostname != "" {
		info.Hostname = new(m.config.Hostname)
	}
	if m.config.WebURL != "" {
		info.WebuiUrl = new(m.config.WebURL)
	}
	for _, c := range []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_MULTI_ROLE,
		mesos.FrameworkInfo_Capability_PARTITION_AWARE,
		mesos.FrameworkInfo_Capability_TASK_KILLING_STATE,
		mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT,
	} {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
	}
	c := m.newCall(schedulerpb.Call_SUBSCRIBE)
	info.Id = c.FrameworkId
	c.Subscribe = &schedulerpb.Call_Subscribe{FrameworkInfo: info}
	return c
}

func (m *Machine) scheduler(t turn, e *schedulerpb.Event) {
	switch e.GetType() {
	case schedulerpb.Event_SUBSCRIBED:
		m.config.FrameworkID = e.GetSubscribed().GetFrameworkId().GetValue()
		m.subscribed = true
		m.appetite = appetite{}
		m.reconcile(t)
	case schedulerpb.Event_OFFERS:
		m.offers(t, e.GetOffers().GetOffers())
	case schedulerpb.Event_UPDATE:
		m.update(t, e.GetUpdate().GetStatus())
	case schedulerpb.Event_ERROR:
		t.out.Failed = e.GetError().GetMessage()
	default:
		// Offers are answered in the step that brings them, so a RESCIND finds none;
		// FAILURE is followed by updates; heartbeats and messages say nothing.
	}
}

// reconcile asks about every task we know, then about all that the master knows.
func (m *Machine) reconcile(t turn) {
	m.reconcileAt = t.now.Add(reconcileInterval)
	if len(m.tasks) > 0 {
		c := m.newCall(schedulerpb.Call_RECONCILE)
		c.Reconcile = &schedulerpb.Call_Reconcile{}
		for _, id := range sortedKeys(m.tasks) {
			c.Reconcile.Tasks = append(c.Reconcile.Tasks, &schedulerpb.Call_Reconcile_Task{
				TaskId:  &mesos.TaskID{Value: new(id)},
				AgentId: &mesos.AgentID{Value: new(m.tasks[id].Agent)},
			})
		}
		t.call(c)
	}
	c := m.newCall(schedulerpb.Call_RECONCILE)
	c.Reconcile = &schedulerpb.Call_Reconcile{}
	t.call(c)
	for _, id := range sortedKeys(m.tasks) {
		if i := m.tasks[id]; i.Doomed && !t.now.Before(i.killAt) {
			m.kill(t, i)
		}
	}
}

// refused undoes what a call that was not accepted would have done.
func (m *Machine) refused(t turn, r Refused) {
	if r.Call.GetType() == schedulerpb.Call_SUBSCRIBE {
		t.out.Failed = r.Reason
		return
	}
	for _, op := range r.Call.GetAccept().GetOperations() {
		for _, info := range op.GetLaunch().GetTaskInfos() {
			if i := m.tasks[info.GetTaskId().GetValue()]; i != nil && i.staging() {
				m.over(t, i, mesos.TaskState_TASK_DROPPED, "The launch was refused: "+r.Reason)
			}
		}
	}
}

// update applies one status and acknowledges it; what it changes is durable first.
func (m *Machine) update(t turn, s *mesos.TaskStatus) {
	id := s.GetTaskId().GetValue()
	if i := m.tasks[id]; i != nil {
		m.progress(t, i, s)
	} else if alive(s.GetState()) {
		t.call(m.killCall(id, s.GetAgentId().GetValue()))
	}
	if len(s.GetUuid()) > 0 {
		c := m.newCall(schedulerpb.Call_ACKNOWLEDGE)
		c.Acknowledge = &schedulerpb.Call_Acknowledge{AgentId: s.GetAgentId(), TaskId: s.GetTaskId(), Uuid: s.GetUuid()}
		t.call(c)
	}
}

// alive says that a task in this state is known to run or to be about to.
func alive(s mesos.TaskState) bool {
	switch s {
	case mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING:
		return true
	}
	return false
}

func (m *Machine) progress(t turn, i *instance, s *mesos.TaskStatus) {
	a := m.apps[i.App]
	switch state := s.GetState(); state {
	case mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING:
		if i.running() && i.Unreachable == never {
			return // the master is behind
		}
		m.enter(t, a, i, s)
		a.backoff.advance(t.now)
	case mesos.TaskState_TASK_RUNNING:
		if i.Started == never {
			i.Started = t.now
			a.backoff.advance(t.now)
			i.watch(t.now)
		}
		m.enter(t, a, i, s)
	case mesos.TaskState_TASK_KILLING:
		m.enter(t, a, i, s)
	case mesos.TaskState_TASK_UNREACHABLE:
		m.lose(t, a, i)
	default:
		m.over(t, i, state, s.GetMessage())
		if s.GetReason() == mesos.TaskStatus_REASON_AGENT_DRAINING {
			a.backoff = backoff{}
		}
	}
}

// enter notes a state of a living instance.
func (m *Machine) enter(t turn, a *app, i *instance, s *mesos.TaskStatus) {
	addresses := addressesOf(s)
	if len(addresses) == 0 {
		addresses = i.Addresses
	}
	state := s.GetState().String()
	if i.State == state && i.Unreachable == never && slices.Equal(addresses, i.Addresses) {
		return // a repeated update: nothing to write
	}
	i.State, i.Unreachable, i.Addresses = state, never, addresses
	t.save(i)
	m.touched[a.id] = true
}

func addressesOf(s *mesos.TaskStatus) []string {
	var list []string
	for _, network := range s.GetContainerStatus().GetNetworkInfos() {
		for _, address := range network.GetIpAddresses() {
			list = append(list, address.GetIpAddress())
		}
	}
	return list
}

// lose notes that i's agent is out of reach.
func (m *Machine) lose(t turn, a *app, i *instance) {
	if i.Unreachable == never {
		i.State, i.Unreachable = mesos.TaskState_TASK_UNREACHABLE.String(), t.now
		t.save(i)
		m.touched[a.id] = true
	}
	if at := i.lostAt(a); i.Doomed || (at != never && !t.now.Before(at)) {
		m.forget(t, a, i)
	}
}

// over ends an instance that is in a last state, or that nobody knows.
func (m *Machine) over(t turn, i *instance, state mesos.TaskState, message string) {
	a := m.apps[i.App]
	m.forget(t, a, i)
	if i.Doomed || a.removed {
		return
	}
	switch state {
	case mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_ERROR,
		mesos.TaskState_TASK_DROPPED, mesos.TaskState_TASK_GONE:
		a.backoff.increase(t.now, a.spec())
	}
	switch state {
	case mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_KILLED:
	default:
		m.fail(t, a, i, state, message)
	}
}

// fail records the last failure of an app.
func (m *Machine) fail(t turn, a *app, i *instance, state mesos.TaskState, message string) {
	m.counts.failed++
	a.failure = &TaskFailure{
		AppID: a.id, Host: i.Host, Message: message, State: state.String(), TaskID: i.Task,
		Timestamp: t.now.Truncate(time.Millisecond), Version: i.Version, AgentID: i.Agent,
	}
	t.put(encode(failureKey(a.id), record{Failure: a.failure}))
}
