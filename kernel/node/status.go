package node

import (
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"strconv"

	"google.golang.org/protobuf/proto"

	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Labels of a last status: the command's exit status, or the number of the signal that
// ended it.
const (
	exitStatusLabel = "exit_status"
	exitSignalLabel = "exit_signal"
)

// status is a new one of a task, as its executor would send it.
func (m *Machine) status(t *task, state mesos.TaskState) *mesos.TaskStatus {
	s := &mesos.TaskStatus{
		TaskId:     t.info.TaskId,
		State:      state.Enum(),
		Source:     mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
		AgentId:    &mesos.AgentID{Value: proto.String(m.agentID)},
		ExecutorId: t.executorID(),
		Timestamp:  proto.Float64(m.now.Seconds()),
		Uuid:       m.uuid(),
		ContainerStatus: &mesos.ContainerStatus{
			ContainerId: &mesos.ContainerID{Value: proto.String(t.container)},
		},
	}
	switch {
	case t.executor != nil && t.executor.started:
		s.ContainerStatus.ExecutorPid = proto.Uint32(uint32(t.executor.pid))
	case t.started:
		s.ContainerStatus.ExecutorPid = proto.Uint32(uint32(t.pid))
	}
	return s
}

// executorID is that of the task's executor: a command is its own, of the same name.
func (t *task) executorID() *mesos.ExecutorID {
	if t.custom() {
		return t.info.Executor.ExecutorId
	}
	return &mesos.ExecutorID{Value: proto.String(string(t.key.Task))}
}

// uuid names a status in the form of RFC 9562's version 8, which leaves the bits to the maker: 48 of them are a hash of
// the agent's id, 22 count incarnations and 40 the statuses of one. Frameworks may know a status by its uuid alone,
// whichever agent it is from.
func (m *Machine) uuid() []byte {
	m.uuids++
	agent := fnv.New64a()
	agent.Write([]byte(m.agentID)) // never fails
	var high, low [8]byte
	binary.BigEndian.PutUint64(high[:], agent.Sum64()&^0xffff|0x8000)
	binary.BigEndian.PutUint64(low[:], 1<<63|m.incarnation&(1<<22-1)<<40|m.uuids&(1<<40-1))
	return append(high[:], low[:]...)
}

func explain(s *mesos.TaskStatus, reason mesos.TaskStatus_Reason, message string) {
	s.Reason, s.Message = reason.Enum(), &message
}

// exitStatus says how a task's command ended.
func (m *Machine) exitStatus(t *task, exit *containerpb.Exit) *mesos.TaskStatus {
	s := m.status(t, mesos.TaskState_TASK_FAILED)
	switch {
	case exit.GetNeverRan():
		explain(s, mesos.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED, "The command never began: the keeper died as it was starting it")
	case exit.GetOomKilled():
		m.explainMemory(t, exit, s)
	case exit.GetUnknown():
		explain(s, mesos.TaskStatus_REASON_EXECUTOR_TERMINATED, "The container ended after its keeper had died; how the command ended is not known")
	case exit.GetSignal() != 0:
		s.Message = proto.String("Command terminated with signal " + signalName(exit.Signal))
		label(s, exitSignalLabel, exit.GetSignal())
	default:
		s.Message = proto.String(fmt.Sprintf("Command exited with status %d", exit.GetStatus()))
		label(s, exitStatusLabel, exit.GetStatus())
		if exit.GetStatus() == 0 {
			s.State = mesos.TaskState_TASK_FINISHED.Enum()
		}
	}
	return s
}

func label(s *mesos.TaskStatus, key string, n int32) {
	s.Labels = &mesos.Labels{Labels: []*mesos.Label{{Key: &key, Value: proto.String(strconv.Itoa(int(n)))}}}
}

func (m *Machine) explainMemory(t *task, exit *containerpb.Exit, s *mesos.TaskStatus) {
	limitation, message := memoryLimit(t.info.GetResources(), exit, "the command")
	explain(s, mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY, message)
	s.Limitation = limitation
}

// memoryLimit says what who had, and that it was not enough.
func memoryLimit(resources []*mesos.Resource, exit *containerpb.Exit, who string) (*mesos.TaskResourceLimitation, string) {
	var limit float64
	limitation := &mesos.TaskResourceLimitation{}
	for _, r := range resources {
		if r.GetName() == "mem" {
			limit += r.GetScalar().GetValue()
			limitation.Resources = append(limitation.Resources, r)
		}
	}
	message := fmt.Sprintf("Memory limit exceeded: %s needed more than its %s MB", who, strconv.FormatFloat(limit, 'f', -1, 64))
	if used := exit.GetMemoryBytes(); used > 0 {
		message += fmt.Sprintf("; its peak was %d bytes", used)
	}
	return limitation, message
}

// signalName is the name that strsignal(3) gives to a signal of Linux.
func signalName(number int32) string {
	if number > 0 && int(number) < len(signalNames) && signalNames[number] != "" {
		return signalNames[number]
	}
	return strconv.Itoa(int(number))
}

var signalNames = [...]string{
	1: "Hangup", 2: "Interrupt", 3: "Quit", 4: "Illegal instruction", 5: "Trace/breakpoint trap", 6: "Aborted",
	7: "Bus error", 8: "Floating point exception", 9: "Killed", 10: "User defined signal 1", 11: "Segmentation fault",
	12: "User defined signal 2", 13: "Broken pipe", 14: "Alarm clock", 15: "Terminated", 16: "Stack fault",
	24: "CPU time limit exceeded", 25: "File size limit exceeded", 31: "Bad system call",
}
