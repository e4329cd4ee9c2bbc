package run

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/run/trace"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

func taskKey(framework, task string) id.TaskKey {
	return id.TaskKey{Framework: id.Framework(framework), Task: id.Task(task)}
}

// words are the steps of a trace, with their seconds.
func words(trace api.Trace) string {
	var all []string
	for _, m := range trace.Marks {
		all = append(all, fmt.Sprintf("%s%s@%d", m.Step, strings.TrimPrefix(m.State, "TASK"), m.At.Unix()))
	}
	return strings.Join(all, " ")
}

// A task on an executor is launched when that is told of it; the way of the one that brought
// the executor has the start of its container as well, and not its end.
func TestTracesOfTasksOnExecutors(t *testing.T) {
	now := time.Unix(0, 0)
	clock := func() time.Time { now = now.Add(time.Second); return now }
	a := &Agent{cfg: AgentConfig{Now: clock}, trace: trace.New(clock), traced: map[string]id.TaskKey{}}
	framework := &mesos.FrameworkInfo{Id: &mesos.FrameworkID{Value: proto.String("F")}}
	executor := &mesos.ExecutorInfo{FrameworkId: framework.Id, ExecutorId: &mesos.ExecutorID{Value: proto.String("e")}}
	task := func(name string) *mesos.TaskInfo {
		return &mesos.TaskInfo{TaskId: &mesos.TaskID{Value: &name}, Executor: executor}
	}
	receive := func(name string, brings bool) {
		a.traceEvent(node.FromMaster{Message: &linkpb.ToAgent{Body: &linkpb.ToAgent_Run{Run: &linkpb.Run{
			Framework: framework, Task: task(name), LaunchExecutor: brings,
		}}}})
	}
	tell := func(name string) node.Tell {
		return node.Tell{Event: &executorpb.Event{Type: executorpb.Event_LAUNCH.Enum(), Launch: &executorpb.Event_Launch{Task: task(name)}}}
	}
	receive("first", true)
	receive("second", false)
	a.traceEffects(&node.Effects{
		Persist: []step.Write{{Key: "executor/F/e", Value: []byte{1}}, {Key: "task/F/first", Value: []byte{1}}, {Key: "task/F/second", Value: []byte{1}}},
		Ask:     []node.Ask{node.Launch{Container: "c", Framework: framework, Executor: executor}},
	})
	a.traceKeeper("c", "started")
	a.traceEffects(&node.Effects{Tell: []node.Tell{tell("first"), {Event: &executorpb.Event{Type: executorpb.Event_SUBSCRIBED.Enum()}}, tell("second")}})
	a.traceEffects(&node.Effects{Persist: []step.Write{{Key: "task/F/first"}}, Dropped: []id.TaskKey{taskKey("F", "first")}})
	a.traceKeeper("c", "ended")
	for name, want := range map[string]string{
		"first":  "received@1 checkpointed@3 started@5 launched@6",
		"second": "received@2 checkpointed@4 launched@7",
	} {
		if got := a.Traces("F", name); len(got) != 1 || words(got[0]) != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
}

func TestExecutorName(t *testing.T) {
	for _, c := range []struct {
		shell     bool
		value     string
		arguments []string
		want      string
	}{
		{true, "sleep 1", nil, "sh -c 'sleep 1'"},
		{true, "123456789012345", nil, "sh -c '123456789012345'"},
		{true, "1234567890123456", nil, "sh -c '123456789012...'"},
		{true, "12345678901éééé", nil, "sh -c '12345678901...'"},
		{false, "/bin/ls", []string{"ls", "-l"}, "[/bin/ls, ls, -l]"},
		{false, "/bin/ls", []string{"ls", "-l", "x"}, "[/bin/ls, ls,...]"},
		{false, "", nil, "[]"},
	} {
		info := &mesos.TaskInfo{
			TaskId:  &mesos.TaskID{Value: proto.String("T")},
			Command: &mesos.CommandInfo{Shell: &c.shell, Value: &c.value, Arguments: c.arguments},
		}
		if got, want := executorName(info), "Command Executor (Task: T) (Command: "+c.want+")"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
