package cli

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// launched returns the task of an ACCEPT.
func launched(call *schedulerpb.Call) *mesos.TaskInfo {
	return call.GetAccept().GetOperations()[0].GetLaunch().GetTaskInfos()[0]
}

func exited(status string) *mesos.TaskStatus {
	return &mesos.TaskStatus{
		State: mesos.TaskState_TASK_FAILED.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
		Message: proto.String("Command exited with status " + status),
		Labels:  &mesos.Labels{Labels: []*mesos.Label{{Key: proto.String("exit_status"), Value: &status}}},
	}
}

// playTask runs whatever is launched: it writes its output and ends as last says.
func playTask(last *mesos.TaskStatus) func(*wire, *schedulerpb.Call) {
	return func(w *wire, call *schedulerpb.Call) {
		if call.GetType() != schedulerpb.Call_ACCEPT {
			return
		}
		task := launched(call).GetTaskId().GetValue()
		w.mu.Lock()
		for _, stream := range []string{"stdout", "stderr"} {
			w.files["/frameworks/F-0001/executors/"+task+"/runs/latest/"+stream] = "hello from " + stream + "\n"
		}
		w.mu.Unlock()
		w.update(task, &mesos.TaskStatus{State: mesos.TaskState_TASK_RUNNING.Enum()})
		w.update(task, last)
	}
}

func TestRunEndsAsTheTaskEnds(t *testing.T) {
	w := newWire(t)
	w.play = playTask(exited("3"))
	w.offer("O0", 0.05, 4096) // too small
	w.offer("O1", 2, 4096)
	status, out, errOut := gantry(t.Context(), w, "run", "--env", "A=b=c", "--", "sh", "-c", "echo hi; exit 3")
	if status != 3 || out != "hello from stdout\n" || errOut != "hello from stderr\n" {
		t.Fatalf("status %d, stdout %q, stderr %q", status, out, errOut)
	}
	for what, want := range map[schedulerpb.Call_Type]int{
		schedulerpb.Call_DECLINE: 1, schedulerpb.Call_ACCEPT: 1, schedulerpb.Call_ACKNOWLEDGE: 2,
		schedulerpb.Call_SUPPRESS: 1, schedulerpb.Call_TEARDOWN: 1,
	} {
		if got := w.said(what); got != want {
			t.Errorf("%d calls of %s, want %d", got, what, want)
		}
	}
	for _, call := range w.calls {
		if call.GetType() != schedulerpb.Call_ACCEPT {
			continue
		}
		task := launched(call)
		if c := task.GetCommand(); c.GetShell() || c.GetValue() != "sh" || fmt.Sprint(c.GetArguments()) != "[sh -c echo hi; exit 3]" ||
			c.GetEnvironment().GetVariables()[0].GetValue() != "b=c" {
			t.Errorf("command %v", task.GetCommand())
		}
		if scalar(task.GetResources(), "cpus") != 0.1 || scalar(task.GetResources(), "mem") != 32 {
			t.Errorf("resources %v", task.GetResources())
		}
		if role := task.GetResources()[0].GetAllocationInfo().GetRole(); role != "*" {
			t.Errorf("allocated to role %q", role)
		}
	}
}

func TestRunJSON(t *testing.T) {
	w := newWire(t)
	w.play = playTask(&mesos.TaskStatus{State: mesos.TaskState_TASK_FINISHED.Enum()})
	w.offer("O1", 2, 4096)
	status, out, errOut := gantry(t.Context(), w, "run", "--json", "--name", "a b", "true")
	if status != 0 || !strings.Contains(out, `"state": "TASK_FINISHED"`) || !strings.Contains(out, `"task_id": "a-b.`) {
		t.Fatalf("status %d, stdout %q", status, out)
	}
	if !strings.Contains(errOut, "hello from stdout") {
		t.Errorf("stderr %q has not the output", errOut)
	}
}

func TestRunTellsWhyATaskEnded(t *testing.T) {
	for name, c := range map[string]struct {
		last   *mesos.TaskStatus
		status int
		says   string
	}{
		"memory": {&mesos.TaskStatus{
			State: mesos.TaskState_TASK_FAILED.Enum(), Reason: mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY.Enum(),
		}, 137, "more than its 32 MB"},
		"signal": {&mesos.TaskStatus{
			State: mesos.TaskState_TASK_FAILED.Enum(), Message: proto.String("Command terminated with signal Segmentation fault"),
			Labels: &mesos.Labels{Labels: []*mesos.Label{{Key: proto.String("exit_signal"), Value: proto.String("11")}}},
		}, 139, "Segmentation fault"},
		"refused": {&mesos.TaskStatus{
			State: mesos.TaskState_TASK_ERROR.Enum(), Source: mesos.TaskStatus_SOURCE_MASTER.Enum(), Message: proto.String("no such user"),
		}, exitNotRun, "no such user"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t)
			w.play = playTask(c.last)
			w.offer("O1", 2, 4096)
			status, _, errOut := gantry(t.Context(), w, "run", "true")
			if status != c.status || !strings.Contains(errOut, c.says) {
				t.Errorf("status %d, stderr %q; want %d and %q", status, errOut, c.status, c.says)
			}
		})
	}
}

func TestRunTriesAgainWhenTheOfferWasWithdrawn(t *testing.T) {
	w := newWire(t)
	dropped := false
	w.play = func(w *wire, call *schedulerpb.Call) {
		switch {
		case call.GetType() == schedulerpb.Call_ACCEPT && !dropped:
			dropped = true
			w.update(launched(call).GetTaskId().GetValue(), &mesos.TaskStatus{
				State: mesos.TaskState_TASK_DROPPED.Enum(), Reason: mesos.TaskStatus_REASON_INVALID_OFFERS.Enum(),
			})
		case call.GetType() == schedulerpb.Call_REVIVE:
			w.offer("O2", 2, 4096)
		default:
			playTask(exited("7"))(w, call)
		}
	}
	w.offer("O1", 2, 4096)
	if status, _, errOut := gantry(t.Context(), w, "run", "true"); status != 7 {
		t.Errorf("status %d, stderr %q", status, errOut)
	}
}

func TestRunGivesUpWhenNothingFits(t *testing.T) {
	w := newWire(t)
	w.offer("O1", 1, 1024)
	w.offer("O2", 2, 512)
	w.play = nil
	status, _, errOut := gantry(t.Context(), w, "run", "--cpus", "100", "--wait", "300ms", "true")
	want := "no agent offers cpus:100 mem:32; the largest has cpus:2 mem:512"
	if status != exitNotRun || strings.Count(errOut, want) == 0 {
		t.Errorf("status %d, stderr %q; want %q", status, errOut, want)
	}
	if w.said(schedulerpb.Call_TEARDOWN) != 1 {
		t.Error("the framework was not torn down")
	}
}

func TestRunEndsTheTaskOnInterrupt(t *testing.T) {
	w := newWire(t)
	ctx, interrupt := context.WithCancel(t.Context())
	var task string
	w.play = func(w *wire, call *schedulerpb.Call) {
		switch call.GetType() {
		case schedulerpb.Call_ACCEPT:
			task = launched(call).GetTaskId().GetValue()
			w.update(task, &mesos.TaskStatus{State: mesos.TaskState_TASK_RUNNING.Enum()})
		case schedulerpb.Call_ACKNOWLEDGE:
			interrupt()
		case schedulerpb.Call_KILL:
			w.update(task, &mesos.TaskStatus{State: mesos.TaskState_TASK_KILLED.Enum()})
		}
	}
	w.offer("O1", 2, 4096)
	status, _, errOut := gantry(ctx, w, "run", "sleep", "1000")
	if status != 130 || w.said(schedulerpb.Call_KILL) != 1 {
		t.Errorf("status %d, %d kills, stderr %q", status, w.said(schedulerpb.Call_KILL), errOut)
	}
}

// The connection breaks while the task is launched, once; what the next master knows of the task is told when it is asked.
func TestRunRejoins(t *testing.T) {
	for name, c := range map[string]struct {
		play func(w *wire, task string) // tells of the task
		want map[schedulerpb.Call_Type]int
	}{
		"the task runs": {func(w *wire, task string) {
			w.reconciled(task, mesos.TaskState_TASK_RUNNING)
			w.update(task, exited("7"))
		}, map[schedulerpb.Call_Type]int{schedulerpb.Call_ACCEPT: 1, schedulerpb.Call_REVIVE: 0}},
		"the task was lost with the master": {func(w *wire, task string) {
			w.reconciled(task, mesos.TaskState_TASK_GONE)
		}, map[schedulerpb.Call_Type]int{schedulerpb.Call_ACCEPT: 2, schedulerpb.Call_REVIVE: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t)
			var task string
			broken := false
			w.play = func(w *wire, call *schedulerpb.Call) {
				switch call.GetType() {
				case schedulerpb.Call_ACCEPT:
					task = launched(call).GetTaskId().GetValue()
					if broken {
						w.update(task, exited("7"))
						return
					}
					broken = true
					w.server.CloseClientConnections()
				case schedulerpb.Call_RECONCILE:
					if got := call.GetReconcile().GetTasks()[0].GetTaskId().GetValue(); got != task {
						t.Errorf("task %s is asked for, want %s", got, task)
					}
					c.play(w, task)
				case schedulerpb.Call_REVIVE:
					w.offer("O2", 2, 4096)
				}
			}
			w.offer("O1", 2, 4096)
			if status, _, errOut := gantry(t.Context(), w, "run", "true"); status != 7 {
				t.Errorf("status %d, stderr %q", status, errOut)
			}
			for what, want := range c.want {
				if got := w.said(what); got != want {
					t.Errorf("%d calls of %s, want %d", got, what, want)
				}
			}
		})
	}
}

func TestRunEndsWhenTheFrameworkIsNoMore(t *testing.T) {
	w := newWire(t)
	w.play = func(w *wire, call *schedulerpb.Call) {
		if call.GetType() == schedulerpb.Call_ACCEPT {
			w.refuse("Framework has been removed")
			w.server.CloseClientConnections()
		}
	}
	w.offer("O1", 2, 4096)
	status, _, errOut := gantry(t.Context(), w, "run", "true")
	if status != exitNotRun || !strings.Contains(errOut, "Framework has been removed") {
		t.Errorf("status %d, stderr %q", status, errOut)
	}
}
