package node

import (
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Numbers of the two signals that end tasks, as Linux has them.
const (
	sigkill = 9
	sigterm = 15
)

// keeperConnected compares what the keeper holds with what the tasks should have.
func (m *Machine) keeperConnected(ev KeeperUp) {
	m.keeperUp = true
	clear(m.strays)
	held := map[string]bool{}
	for _, container := range ev.Starting {
		held[container] = true
	}
	for _, exit := range ev.Exits {
		m.containerExited(exit)
	}
	for _, running := range ev.Running {
		held[running.Container] = true
		m.containerStarted(running)
	}
	for _, t := range m.ordered() {
		switch {
		case t.ended(), t.custom():
		case !held[t.container] || t.boot != m.boot:
			m.lost(t)
		case t.kill != nil && m.now >= t.kill.since.Add(t.kill.grace):
			m.killNow(t)
		case t.kill != nil && t.started:
			m.signal(t, sigterm)
		}
	}
	m.executorsConnected(held)
}

func (m *Machine) containerStarted(ev ContainerStarted) {
	t := m.owners[ev.Container]
	switch {
	case m.hosts[ev.Container] != nil:
		m.executorStarted(m.hosts[ev.Container], ev.Pid)
	case t != nil && t.boot != m.boot:
		// A process of this boot has the number of one that died with the last: to
		// signal it would hit a stranger.
		m.stats.Strays++
	case t == nil:
		m.stats.Strays++
		m.stray(ev.Container, false)
	case t.ended():
		m.stats.Strays++
		m.out.Ask = append(m.out.Ask, Signal{Container: ev.Container, Number: sigkill})
	case t.started:
		// Known already: a keeper says it again whenever it is asked anew.
	case t.kill != nil:
		t.started, t.pid = true, ev.Pid
		m.dirtyTasks[t.key] = true
		m.killNow(t)
	default:
		t.started, t.pid = true, ev.Pid
		m.report(t, m.status(t, mesos.TaskState_TASK_RUNNING))
	}
}

func (m *Machine) containerFailed(ev ContainerFailed) {
	if e := m.hosts[ev.Container]; e != nil && !e.started {
		m.executorEnded(e, verdict{
			status: unseen, reason: mesos.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, message: ev.Message,
		})
		return
	}
	t := m.owners[ev.Container]
	if t == nil || t.ended() || t.started {
		m.forget(ev.Container)
		return
	}
	s := m.status(t, mesos.TaskState_TASK_FAILED)
	s.Reason = mesos.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED.Enum()
	s.Message = &ev.Message
	m.end(t, s)
}

func (m *Machine) containerExited(exit *containerpb.Exit) {
	t := m.owners[exit.GetContainerId()]
	switch {
	case m.hosts[exit.GetContainerId()] != nil:
		m.executorExited(m.hosts[exit.GetContainerId()], exit)
	case t == nil:
		m.stray(exit.GetContainerId(), true)
	case t.ended(): // it is on record, and its Forget was lost
		m.forget(exit.GetContainerId())
	case exit.GetUnknown() && t.boot != m.boot:
		m.lost(t)
	default:
		m.end(t, m.exitStatus(t, exit))
	}
}

// stray ends a container that no task owns, or remembers it until that is certain.
func (m *Machine) stray(container string, ended bool) {
	switch {
	case !m.link.welcome:
		m.strays[container] = ended
	case ended:
		m.forget(container)
	default:
		m.out.Ask = append(m.out.Ask, Signal{Container: container, Number: sigkill})
	}
}

// lost ends a task whose container is nowhere and left no record.
func (m *Machine) lost(t *task) {
	s := m.status(t, mesos.TaskState_TASK_FAILED)
	switch {
	case t.boot != m.boot:
		explain(s, mesos.TaskStatus_REASON_AGENT_RESTARTED, "The host was restarted while the task ran")
	case !t.started:
		explain(s, mesos.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, "The agent or its keeper was restarted before the container ran")
	default:
		explain(s, mesos.TaskStatus_REASON_EXECUTOR_TERMINATED, "The container's end was not seen, as its keeper had died; how the command ended is not known")
	}
	m.end(t, s)
}

// end makes s the last status of a task; one that was to be killed was killed, whatever
// it ended with.
func (m *Machine) end(t *task, s *mesos.TaskStatus) {
	if t.kill != nil {
		s.State = mesos.TaskState_TASK_KILLED.Enum()
		s.Reason, s.Limitation = nil, nil
		if t.kill.duringLaunch {
			explain(s, mesos.TaskStatus_REASON_TASK_KILLED_DURING_LAUNCH, "The task was killed before its container ran")
		}
		if t.kill.message != "" {
			s.Message = &t.kill.message
		}
	}
	m.report(t, s)
	m.forget(t.container)
	if t.discard {
		m.remove(t)
	}
}

func (m *Machine) forget(container string) {
	m.out.Ask = append(m.out.Ask, Forget{Container: container})
}
