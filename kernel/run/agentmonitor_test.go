package run_test

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// readings are what containers use; of others there is nothing, and of "broken" less.
type readings map[string]float64

func (r readings) Sample(container string, now time.Time) (*mesos.ResourceStatistics, error) {
	seconds, ok := r[container]
	switch {
	case !ok:
		return nil, fmt.Errorf("meter %s: %w", container, fs.ErrNotExist)
	case seconds < 0:
		return nil, errors.New("the meter is broken")
	}
	return &mesos.ResourceStatistics{
		Timestamp: proto.Float64(float64(now.Unix())), CpusUserTimeSecs: &seconds,
		CpusLimit: proto.Float64(99), MemLimitBytes: proto.Uint64(99),
	}, nil
}

func (m master) runWith(task string, resources ...*mesos.Resource) {
	m.t.Helper()
	m.send(&linkpb.ToAgent{Body: &linkpb.ToAgent_Run{Run: &linkpb.Run{
		Framework: &mesos.FrameworkInfo{User: proto.String("root"), Name: proto.String("f"), Id: &mesos.FrameworkID{Value: proto.String("f")}},
		Task: &mesos.TaskInfo{
			Name: proto.String(task), TaskId: &mesos.TaskID{Value: proto.String(task)}, AgentId: &mesos.AgentID{Value: proto.String("A1")},
			Command: &mesos.CommandInfo{Value: proto.String("sleep 1000")}, Resources: resources,
		},
	}}})
	m.await(task, mesos.TaskState_TASK_RUNNING)
}

func scalar(name string, value float64) *mesos.Resource {
	return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value}}
}

func TestAgentTellsWhatContainersUse(t *testing.T) {
	s := newSite(t)
	s.meter = readings{"c1-1": 1.5, "c1-3": -1}
	a, stop := s.agent()
	m := s.accept()
	m.runWith("a", scalar("cpus", 0.25), scalar("cpus", 0.25), scalar("mem", 64))
	m.runWith("b")
	m.runWith("c")
	list, err := a.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range list {
		got = append(got, strings.Join([]string{c.ID, c.Framework, c.Executor, c.Source, c.Status.GetContainerId().GetValue()}, " "))
	}
	if want := []string{"c1-1 f a a c1-1", "c1-2 f b b c1-2", "c1-3 f c c c1-3"}; !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	if st := list[0].Statistics; st.GetCpusUserTimeSecs() != 1.5 || st.GetCpusLimit() != 0.5 || st.GetMemLimitBytes() != 64<<20 {
		t.Errorf("the first uses %v", st)
	}
	if list[1].Statistics != nil || list[2].Statistics != nil {
		t.Errorf("what is not measured uses %v and %v", list[1].Statistics, list[2].Statistics)
	}
	m.kill("a")
	m.await("a", mesos.TaskState_TASK_KILLED)
	if list, err = a.Containers(t.Context()); err != nil || len(list) != 2 || list[0].ID != "c1-2" {
		t.Errorf("after one has ended: %v, %v", list, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if _, err := a.Containers(t.Context()); err == nil {
		t.Error("an agent that has ended lists containers")
	}
}

func TestAgentTracesTasks(t *testing.T) {
	s := newSite(t)
	a, stop := s.agent()
	m := s.accept()
	m.run("t", "exit 3")
	m.await("t", mesos.TaskState_TASK_FAILED)
	m.run("none", "unpreparable")
	m.await("none", mesos.TaskState_TASK_FAILED)
	for task, want := range map[string]string{
		"t":    "received, checkpointed, reported STARTING, prepared, started, reported RUNNING, ended, reported FAILED",
		"none": "received, checkpointed, reported STARTING, reported FAILED",
	} {
		var got []string
		last := time.Time{}
		for _, mark := range a.Traces("f", task)[0].Marks {
			got = append(got, strings.TrimSpace(mark.Step+" "+strings.TrimPrefix(mark.State, "TASK_")))
			if mark.At.Before(last) {
				t.Errorf("%s: %s is before the step before", task, mark.Step)
			}
			last = mark.At
		}
		if strings.Join(got, ", ") != want {
			t.Errorf("%s: got %q, want %s", task, got, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
