package jobs

import (
	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

func (m *Machine) scheduler(t turn, e *schedulerpb.Event) {
	switch e.GetType() {
	case schedulerpb.Event_SUBSCRIBED:
		m.config.FrameworkID = e.GetSubscribed().GetFrameworkId().GetValue()
		m.subscribed = true
		m.appetite = appetite{}
		m.resume(t)
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

// resume asks about every run that an earlier process launched, until something is heard
// of it: the master may wait for agents itself.
func (m *Machine) resume(t turn) {
	for _, r := range m.tasks { // any order: each by itself
		r.askWait = askFirst
		r.askAt = t.now.Add(r.askWait)
	}
	m.reconcile(t)
	for _, id := range sortedKeys(m.tasks) {
		if r := m.tasks[id]; r.Doomed != "" && !t.now.Before(r.killAt) {
			m.kill(t, r)
		}
	}
}

// reconcile asks about every task we know, then about all that the master knows.
func (m *Machine) reconcile(t turn) {
	m.reconcileAt = t.now.Add(reconcileInterval)
	m.askAbout(t, func(*Run) bool { return true })
	t.call(m.config.Reconcile(nil))
}

// ask asks about runs of which nothing was heard for too long.
func (m *Machine) ask(t turn) {
	m.askAbout(t, func(r *Run) bool {
		if r.askAt == never || t.now.Before(r.askAt) {
			return false
		}
		r.askWait = min(askMost, 2*r.askWait)
		r.askAt = t.now.Add(r.askWait)
		return true
	})
}

func (m *Machine) askAbout(t turn, wanted func(*Run) bool) {
	var tasks []machine.Task
	for _, id := range sortedKeys(m.tasks) {
		if r := m.tasks[id]; wanted(r) {
			tasks = append(tasks, machine.Task{ID: id, Agent: r.Agent})
		}
	}
	if len(tasks) > 0 {
		t.call(m.config.Reconcile(tasks))
	}
}

// refused undoes what a call that was not accepted would have done.
func (m *Machine) refused(t turn, r machine.Refused) {
	if r.Call.GetType() == schedulerpb.Call_SUBSCRIBE {
		t.out.Failed = r.Reason
		return
	}
	for _, op := range r.Call.GetAccept().GetOperations() {
		for _, info := range op.GetLaunch().GetTaskInfos() {
			if run := m.tasks[info.GetTaskId().GetValue()]; run != nil && run.unheard() {
				m.neverCame(t, m.jobs[run.Job], run, mesos.TaskState_TASK_DROPPED, "the launch was refused: "+r.Reason)
			}
		}
	}
}

// neverCame deals with a launch of which nothing ever came to be.
func (m *Machine) neverCame(t turn, j *job, r *Run, state mesos.TaskState, message string) {
	if !m.relaunch(t, j, r) {
		m.over(t, j, r, state, message)
	}
}

// update applies one status and acknowledges it; what it changes is durable first.
func (m *Machine) update(t turn, s *mesos.TaskStatus) {
	id := s.GetTaskId().GetValue()
	if r := m.tasks[id]; r != nil {
		r.askAt = never
		m.progress(t, m.jobs[r.Job], r, s)
	} else if machine.Alive(s.GetState()) {
		t.call(m.config.Kill(id, s.GetAgentId().GetValue()))
	}
	t.call(m.config.Acknowledge(s))
}

func (m *Machine) progress(t turn, j *job, r *Run, s *mesos.TaskStatus) {
	switch state := s.GetState(); state {
	case mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_KILLING:
		if r.running() && state != mesos.TaskState_TASK_KILLING && r.Unreachable == never {
			return // the master is behind
		}
		m.enter(t, j, r, state)
	case mesos.TaskState_TASK_RUNNING:
		m.enter(t, j, r, state)
	case mesos.TaskState_TASK_UNREACHABLE:
		if r.Unreachable == never {
			r.Unreachable = t.now
			m.touch(j)
		}
	case mesos.TaskState_TASK_DROPPED:
		m.gone(t, j, r, s)
	case mesos.TaskState_TASK_GONE:
		if len(s.GetUuid()) > 0 {
			m.finish(t, j, r, s) // the agent tells of a task that it had
			return
		}
		m.gone(t, j, r, s)
	default:
		m.finish(t, j, r, s)
	}
}

// enter notes a state of a living run.
func (m *Machine) enter(t turn, j *job, r *Run, state mesos.TaskState) {
	if r.State == state.String() && r.Unreachable == never {
		return // a repeated update: nothing to write
	}
	r.State, r.Unreachable = state.String(), never
	if state == mesos.TaskState_TASK_RUNNING && r.Started == never {
		r.Started = t.now
	}
	m.touch(j)
}

// gone deals with a task that its agent does not have: it never came there, or what was
// heard of it says that it did.
func (m *Machine) gone(t turn, j *job, r *Run, s *mesos.TaskStatus) {
	if r.unheard() {
		m.neverCame(t, j, r, s.GetState(), s.GetMessage())
		return
	}
	m.finish(t, j, r, s)
}

func (m *Machine) finish(t turn, j *job, r *Run, s *mesos.TaskStatus) {
	r.ExitStatus = exitStatus(s)
	m.over(t, j, r, s.GetState(), s.GetMessage())
}
