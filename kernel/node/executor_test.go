package node_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

func executorID(e string) *mesos.ExecutorID { return &mesos.ExecutorID{Value: proto.String(e)} }

// forExecutor makes a task one for an executor of 32 MB.
func forExecutor(r *linkpb.Run, executor string, launch bool) {
	r.LaunchExecutor = launch
	r.Task.Executor = &mesos.ExecutorInfo{
		Type: mesos.ExecutorInfo_CUSTOM.Enum(), ExecutorId: executorID(executor), FrameworkId: r.Framework.Id,
		Command: &mesos.CommandInfo{Value: proto.String("./executor")},
		Resources: []*mesos.Resource{{
			Name: proto.String("mem"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(32)},
		}},
	}
}

func custom(framework, task, executor string, launch bool) *linkpb.Run {
	r := run(framework, task, 0, false)
	forExecutor(r, executor, launch)
	return r
}

// amount is the memory of a list of resources.
func amount(list []*mesos.Resource) string {
	if len(list) == 0 {
		return ""
	}
	mem := 0.0
	for _, r := range list {
		mem += r.GetScalar().GetValue()
	}
	return fmt.Sprintf(" with %v MB", mem)
}

func told(t node.Tell) string {
	if t.Close {
		return "the end"
	}
	text := t.Event.GetType().String()
	for _, task := range []*mesos.TaskID{t.Event.GetLaunch().GetTask().GetTaskId(), t.Event.GetKill().GetTaskId(), t.Event.GetAcknowledged().GetTaskId()} {
		if task != nil {
			text += " " + task.GetValue()
		}
	}
	return text
}

func arg(t testing.TB, d *datadriven.TestData, key, otherwise string) string {
	d.MaybeScanArgs(t, key, &otherwise)
	return otherwise
}

// says is a status as an executor gives it.
func says(task, state, uuid string) *mesos.TaskStatus {
	return &mesos.TaskStatus{
		TaskId: taskID(task), State: mesos.TaskState(mesos.TaskState_value["TASK_"+state]).Enum(),
		Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(), Uuid: []byte(fmt.Sprintf("%016s", uuid)),
	}
}

func (h *host) executorCall(d *datadriven.TestData, f, task string) node.Event {
	call := &executorpb.Call{FrameworkId: frameworkID(f), ExecutorId: executorID(arg(h.t, d, "exec", "e"))}
	ev := node.ExecutorCall{
		Request: 1, Call: call,
		Principal: arg(h.t, d, "from", h.m.ExecutorContainer(f, call.ExecutorId.GetValue())),
	}
	d.MaybeScanArgs(h.t, "stream", &ev.Stream)
	state := arg(h.t, d, "state", "RUNNING")
	switch d.Cmd {
	case "subscribe":
		call.Type, call.Subscribe = executorpb.Call_SUBSCRIBE.Enum(), &executorpb.Call_Subscribe{}
		for _, a := range d.CmdArgs {
			for _, val := range a.Vals {
				switch a.Key {
				case "tasks":
					call.Subscribe.UnacknowledgedTasks = append(call.Subscribe.UnacknowledgedTasks, &mesos.TaskInfo{TaskId: taskID(val)})
				case "said":
					call.Subscribe.UnacknowledgedUpdates = append(call.Subscribe.UnacknowledgedUpdates, &executorpb.Call_Update{Status: says(val, state, val+state)})
				}
			}
		}
	case "say":
		call.Type = executorpb.Call_UPDATE.Enum()
		call.Update = &executorpb.Call_Update{Status: says(task, state, arg(h.t, d, "uuid", task+state))}
	case "note":
		call.Type, call.Message = executorpb.Call_MESSAGE.Enum(), &executorpb.Call_Message{Data: []byte("ho")}
	}
	return ev
}

// call makes a call from inside executor f/e.
func (h *host) call(stream uint64, c *executorpb.Call) {
	c.FrameworkId, c.ExecutorId = frameworkID("f"), executorID("e")
	h.step(node.ExecutorCall{Principal: "c1-1", Request: 1, Stream: stream, Call: c})
}

func (h *host) subscribe(stream uint64, knows ...string) {
	c := &executorpb.Call{Type: executorpb.Call_SUBSCRIBE.Enum(), Subscribe: &executorpb.Call_Subscribe{}}
	for _, t := range knows {
		c.Subscribe.UnacknowledgedTasks = append(c.Subscribe.UnacknowledgedTasks, &mesos.TaskInfo{TaskId: taskID(t)})
	}
	h.call(stream, c)
}

func (h *host) say(state string) {
	h.call(0, &executorpb.Call{Type: executorpb.Call_UPDATE.Enum(), Update: &executorpb.Call_Update{Status: says("t", state, state)}})
}

// customSituations are the states that executor f/e with task t can be in.
var customSituations = []situation{
	{"absent", "", func(*host) {}},
	{"launching", "absent", func(h *host) { h.master(custom("f", "t", "e", true)) }},
	{"launching, task killed", "launching", func(h *host) { h.master(kill("f", "t", 0)) }},
	{"started", "launching", func(h *host) { h.step(node.ContainerStarted{Container: "c1-1", Pid: 7}) }},
	{"subscribed, task given", "started", func(h *host) { h.subscribe(7) }},
	{"task running", "subscribed, task given", func(h *host) { h.say("RUNNING") }},
	{"task killed", "task running", func(h *host) { h.master(kill("f", "t", 0)) }},
	{"task finished", "task running", func(h *host) { h.say("FINISHED") }},
	{"idle", "task finished", func(h *host) { h.master(h.ack("f", "t")); h.master(h.ack("f", "t")) }},
	{"disconnected", "task running", func(h *host) { h.step(node.ExecutorGone{Stream: 7}) }},
	{"agent restarted, task given", "subscribed, task given", func(h *host) { reconnect(h) }},
	{"agent restarted, task running", "task running", func(h *host) { reconnect(h) }},
	{"shutting down", "task running", func(h *host) { h.master(shutdown()) }},
	{"removed", "task running", func(h *host) { h.master(simple("end-framework", "f")) }},
}

func shutdown() *linkpb.ShutdownExecutor {
	return &linkpb.ShutdownExecutor{FrameworkId: frameworkID("f"), ExecutorId: executorID("e")}
}

// reconnect restarts the agent under a container that goes on.
func reconnect(h *host) {
	h.restart()
	h.step(node.KeeperUp{Running: []node.ContainerStarted{{Container: "c1-1", Pid: 7}}})
	h.link(2)
	h.master(welcome("A1"))
}

// customHappenings are all that can happen to it.
var customHappenings = []happening{
	{"run, launch", func(h *host) { h.master(custom("f", "u", "e", true)) }},
	{"run", func(h *host) { h.master(custom("f", "u", "e", false)) }},
	{"kill", func(h *host) { h.master(kill("f", "t", time.Second)) }},
	{"shutdown", func(h *host) { h.master(shutdown()) }},
	{"end framework", func(h *host) { h.master(simple("end-framework", "f")) }},
	{"message to it", func(h *host) {
		h.master(&linkpb.ExecutorMessage{FrameworkId: frameworkID("f"), ExecutorId: executorID("e"), Data: []byte("hi")})
	}},
	{"message from it", func(h *host) {
		h.call(0, &executorpb.Call{Type: executorpb.Call_MESSAGE.Enum(), Message: &executorpb.Call_Message{Data: []byte("ho")}})
	}},
	{"heartbeat", func(h *host) { h.call(0, &executorpb.Call{Type: executorpb.Call_HEARTBEAT.Enum()}) }},
	{"call of another container", func(h *host) {
		h.step(node.ExecutorCall{Principal: "c9-9", Request: 1, Stream: 9, Call: &executorpb.Call{
			FrameworkId: frameworkID("f"), ExecutorId: executorID("e"), Type: executorpb.Call_SUBSCRIBE.Enum(),
		}})
	}},
	{"subscribe", func(h *host) { h.subscribe(8) }},
	{"subscribe, knows the task", func(h *host) { h.subscribe(8, "t") }},
	{"unsubscribe", func(h *host) { h.step(node.ExecutorGone{Stream: 7}) }},
	{"says running", func(h *host) { h.say("RUNNING") }},
	{"says finished", func(h *host) { h.say("FINISHED") }},
	{"says unreachable", func(h *host) { h.say("UNREACHABLE") }},
	{"started", func(h *host) { h.step(node.ContainerStarted{Container: "c1-1", Pid: 7}) }},
	{"failed", func(h *host) { h.step(node.ContainerFailed{Container: "c1-1", Message: "no such program"}) }},
	{"exited", func(h *host) { h.step(exited(&containerpb.Exit{Status: 3})) }},
	{"signalled", func(h *host) { h.step(exited(&containerpb.Exit{Signal: 9})) }},
	{"out of memory", func(h *host) { h.step(exited(&containerpb.Exit{Signal: 9, OomKilled: true})) }},
	{"exited unseen", func(h *host) { h.step(exited(&containerpb.Exit{Unknown: true})) }},
	{"keeper, empty", func(h *host) { h.step(node.KeeperUp{}) }},
	{"deadline", func(h *host) {
		if at, some := h.m.NextDeadline(); some {
			h.now = at
		}
		h.step(node.Tick{})
	}},
	{"stop, kill", func(h *host) { h.step(node.Stop{KillTasks: true}) }},
	{"restart", func(h *host) { h.restart(); h.link(3) }},
	{"reboot", func(h *host) { h.boot = "b2"; h.restart(); h.step(node.KeeperUp{}) }},
}

// TestExecutorMatrix has everything happen to an executor in every situation, and compares
// what follows with testdata/executors.txt.
func TestExecutorMatrix(t *testing.T) {
	matrix{customSituations, customHappenings, func(h *host) string {
		return fmt.Sprintf("task %s, executors %d", standing(h), len(h.m.Executors()))
	}}.run(t, "testdata/executors.txt")
}

// TestAFloodOfStatusesIsBounded: an executor that never stops talking, to a framework that
// never listens, does not fill the agent.
func TestAFloodOfStatusesIsBounded(t *testing.T) {
	h := newHost(t)
	h.restart()
	h.link(1)
	h.master(welcome("A1"))
	h.step(node.KeeperUp{})
	reach(h, customSituations, "task running")
	status := func(n int) *mesos.TaskStatus {
		s := says("t", "RUNNING", fmt.Sprint(n))
		s.Data = make([]byte, 60<<10)
		return s
	}
	for n := range 200 {
		h.call(0, &executorpb.Call{Type: executorpb.Call_UPDATE.Enum(), Update: &executorpb.Call_Update{Status: status(n)}})
	}
	const most = 1 << 20
	if size := len(h.disk["task/f/t"]); size > most {
		t.Errorf("the task's record has %d bytes, more than %d", size, most)
	}
	h.say("FINISHED")
	for range 300 {
		h.master(h.ack("f", "t"))
	}
	if len(h.m.Tasks()) != 0 {
		t.Errorf("the task is still there: %v", h.m.Tasks())
	}
}
