package core_test

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

func executorID(e string) *mesos.ExecutorID { return &mesos.ExecutorID{Value: proto.String(e)} }

func executorInfo(name, resources string) *mesos.ExecutorInfo {
	r, err := ledger.Parse(resources)
	if err != nil {
		panic(err)
	}
	return &mesos.ExecutorInfo{
		ExecutorId: executorID(name), Resources: r.Mesos(""), Command: &mesos.CommandInfo{Value: proto.String("./executor")},
	}
}

// custom makes a task one for an executor, if the command says so.
func (s script) custom(t *mesos.TaskInfo) *mesos.TaskInfo {
	if s.d.HasArg("exec") {
		t.Command, t.Executor = nil, executorInfo(s.arg("exec", ""), s.arg("each", "cpus:0.5;mem:32"))
		if s.d.HasArg("command") {
			t.Executor.Command.Value = proto.String(s.arg("command", ""))
		}
	}
	return t
}

func (s script) heldExecutors() (held []*linkpb.HeldExecutor) {
	for _, name := range s.list("execs") {
		info := executorInfo(name, s.arg("executor", "cpus:0.5;mem:32"))
		info.FrameworkId = frameworkID(s.arg("f", ""))
		held = append(held, &linkpb.HeldExecutor{FrameworkId: info.FrameworkId, Info: info})
	}
	return held
}

// executor plays what an agent says of an executor, if the command is that.
func (s script) executor() bool {
	msg := &linkpb.ToMaster{}
	fid, eid := frameworkID(s.arg("f", "")), executorID(s.arg("exec", "e"))
	switch s.d.Cmd {
	case "executor-ended":
		msg.Body = &linkpb.ToMaster_ExecutorEnded{ExecutorEnded: &linkpb.ExecutorEnded{
			FrameworkId: fid, ExecutorId: eid, Status: int32(s.number("status", 0)),
		}}
	case "executor-says":
		msg.Body = &linkpb.ToMaster_ExecutorMessage{ExecutorMessage: &linkpb.ExecutorMessage{FrameworkId: fid, ExecutorId: eid, Data: []byte("ho")}}
	case "executors":
		for _, e := range s.c.m.Executors().Executors {
			r, _ := ledger.FromMesos(e.ExecutorInfo.Resources)
			s.c.seen += fmt.Sprintf("%s on %s: %s\n", e.ExecutorInfo.ExecutorId.GetValue(), e.AgentId.GetValue(), r)
		}
		for _, a := range s.c.m.Agents().Agents {
			r, _ := ledger.FromMesos(a.AllocatedResources)
			s.c.seen += fmt.Sprintf("%s allocates %s\n", a.AgentInfo.Id.GetValue(), r)
		}
		return true
	default:
		return false
	}
	s.c.step(core.AgentMessage{Conn: s.number("conn", 1), Message: msg})
	return true
}

func executorText(r *linkpb.Run) string {
	if r.Task.Executor == nil {
		return ""
	}
	own, _ := ledger.FromMesos(r.Task.Executor.Resources)
	text := fmt.Sprintf(" on executor %s of %s (%s)", r.Task.Executor.ExecutorId.GetValue(), r.Task.Executor.FrameworkId.GetValue(), own)
	if r.LaunchExecutor {
		text += ", a new one"
	}
	return text
}

func failureText(f *schedulerpb.Event_Failure) string {
	switch {
	case f.ExecutorId == nil:
		return ""
	case f.Status == nil:
		return fmt.Sprintf(" executor %s", f.ExecutorId.GetValue())
	}
	return fmt.Sprintf(" executor %s status %d", f.ExecutorId.GetValue(), f.GetStatus())
}

// executorsOf may be asked of no agent.
func executorsOf(a *stormAgent) map[string]*linkpb.HeldExecutor {
	if a == nil {
		return nil
	}
	return a.executors
}

// endExecutors ends some executors of an agent, which tells the master if it can.
func (s *storm) endExecutors(a *stormAgent, which func(*linkpb.HeldExecutor) bool) {
	for _, key := range sortedKeys(a.executors) {
		e := a.executors[key]
		if !which(e) {
			continue
		}
		delete(a.executors, key)
		if a.conn != 0 {
			s.step(core.AgentMessage{Conn: a.conn, Message: &linkpb.ToMaster{Body: &linkpb.ToMaster_ExecutorEnded{
				ExecutorEnded: &linkpb.ExecutorEnded{FrameworkId: e.FrameworkId, ExecutorId: e.Info.ExecutorId, Status: 256},
			}}})
		}
	}
}
