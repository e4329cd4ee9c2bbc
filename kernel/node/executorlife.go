package node

import (
	"fmt"

	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// unseen is the wait status of an executor whose end nobody saw.
const unseen = -1

// verdict is how an executor ended, for its framework and its tasks.
type verdict struct {
	// status is as of wait(2), or unseen.
	status  int32
	reason  mesos.TaskStatus_Reason
	message string
	// limitation, if any, is what the executor and its tasks needed more of.
	limitation *mesos.TaskResourceLimitation
}

// executorStarted is containerStarted for the container of an executor.
func (m *Machine) executorStarted(e *executor, pid int32) {
	switch {
	case e.boot != m.boot:
		m.stats.Strays++ // a process of this boot has the number of one that died with the last
	case e.started:
		// Known already: a keeper says it again whenever it is asked anew.
	default:
		e.started, e.pid = true, pid
		m.dirtyExecutors[e.key] = true
		if e.shutdown != nil {
			m.killExecutor(e)
			return
		}
		e.awaited = m.now.Add(registerWithin)
		m.resize(e)
	}
}

// executorExited is containerExited for the container of an executor.
func (m *Machine) executorExited(e *executor, exit *containerpb.Exit) {
	if exit.GetUnknown() && e.boot != m.boot {
		m.executorLost(e)
		return
	}
	v := verdict{status: exit.GetStatus() << 8, reason: mesos.TaskStatus_REASON_EXECUTOR_TERMINATED}
	switch {
	case exit.GetOomKilled(): // which the cgroup tells, whoever saw the end
		v.status, v.reason = sigkill, mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY
		v.limitation, v.message = memoryLimit(e.needs(), exit, "the executor and its tasks")
	case exit.GetUnknown():
		v.status, v.message = unseen, "The executor ended after its keeper had died; how it ended is not known"
	case exit.GetSignal() != 0:
		v.status, v.message = exit.GetSignal(), "Executor terminated with signal "+signalName(exit.Signal)
	default:
		v.message = fmt.Sprintf("Executor exited with status %d", exit.GetStatus())
	}
	m.executorEnded(e, v)
}

// executorLost ends an executor whose container is nowhere and left no record.
func (m *Machine) executorLost(e *executor) {
	v := verdict{status: unseen, reason: mesos.TaskStatus_REASON_EXECUTOR_TERMINATED, message: "The executor's end was not seen, as its keeper had died"}
	switch {
	case e.boot != m.boot:
		v.reason, v.message = mesos.TaskStatus_REASON_AGENT_RESTARTED, "The host was restarted while the executor ran"
	case !e.started:
		v.reason, v.message = mesos.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, "The agent or its keeper was restarted before the executor ran"
	}
	m.executorEnded(e, v)
}

// executorEnded ends the tasks of an executor, and then the executor; an order to shut it
// down explains more than how it ended.
func (m *Machine) executorEnded(e *executor, v verdict) {
	state, reason := mesos.TaskState_TASK_FAILED, &v.reason
	if k := e.shutdown; k != nil && k.message != "" {
		v.message, v.limitation, reason = k.message, nil, k.reason
		if reason == nil {
			state = mesos.TaskState_TASK_KILLED
		}
	}
	for _, t := range e.ordered() {
		s := m.agentStatus(t, state)
		s.Reason, s.Message, s.Limitation = reason, &v.message, v.limitation
		m.report(t, s)
		delete(e.tasks, t.key)
		t.executor = nil
		if t.discard {
			m.remove(t)
		}
	}
	m.unsubscribe(e)
	m.missing(e.key, v.status)
	m.forget(e.container)
	delete(m.executors, e.key)
	delete(m.hosts, e.container)
	m.dirtyExecutors[e.key] = true
	m.discharge(e.key.Framework)
}

// executorsConnected compares what the keeper holds with what the executors should have.
func (m *Machine) executorsConnected(held map[string]bool) {
	for _, e := range m.orderedExecutors() {
		switch {
		case !held[e.container] || e.boot != m.boot:
			m.executorLost(e)
		case e.shutdown != nil && m.now >= e.shutdown.since.Add(e.shutdown.grace):
			m.killExecutor(e)
		}
	}
}
