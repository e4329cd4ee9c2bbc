package trace

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// newTestLog has a clock that ticks once a look.
func newTestLog() *Log {
	now := time.Unix(0, 0)
	return New(func() time.Time { now = now.Add(time.Second); return now })
}

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

func TestLogKeepsTheFirstOfEachStep(t *testing.T) {
	tr, key := newTestLog(), taskKey("F", "T")
	running := func(uuid string) *mesos.TaskStatus {
		return &mesos.TaskStatus{TaskId: &mesos.TaskID{Value: proto.String("T")}, State: mesos.TaskState_TASK_RUNNING.Enum(), Uuid: []byte(uuid)}
	}
	tr.Mark(key, api.Mark{Step: "sent"}) // of nothing that is known
	tr.Begin(key, api.Mark{Step: "accepted", At: time.Unix(0, 0)})
	tr.Mark(key, api.Mark{Step: "sent"})
	tr.Acknowledged(key, nil) // of nothing that was told
	tr.Told("F", running("one"))
	tr.Told("F", running("one")) // said again
	tr.Told("G", running("one")) // another's task
	tr.Acknowledged(key, []byte("two"))
	tr.Acknowledged(key, []byte("one"))
	tr.End(key)
	tr.End(key)
	tr.Acknowledged(key, []byte("one"))
	tr.Mark(key, api.Mark{Step: "late"})
	got := tr.Traces("", "T")
	if len(got) != 1 || words(got[0]) != "accepted@0 sent@1 delivered_RUNNING@2 acknowledged_RUNNING@3 late@4" {
		t.Errorf("got %v", got)
	}
	if tr.Traces("G", "T") != nil || tr.Traces("F", "U") != nil || len(tr.ended) != 1 {
		t.Errorf("more is remembered than there was: %v", tr.ended)
	}
}

func TestLogIsBounded(t *testing.T) {
	tr := newTestLog()
	tr.Begin(taskKey("F", "lives"))
	for i := range 3 * endedTraces {
		key := taskKey("F", fmt.Sprint("T", i))
		tr.Begin(key)
		tr.End(key)
	}
	if len(tr.ways) != endedTraces+1 || len(tr.ended) != endedTraces {
		t.Errorf("%d ways, %d of them ended", len(tr.ways), len(tr.ended))
	}
	for task, want := range map[string]int{"lives": 1, fmt.Sprint("T", 2*endedTraces-1): 0, fmt.Sprint("T", 2*endedTraces): 1} {
		if got := len(tr.Traces("F", task)); got != want {
			t.Errorf("task %s has %d traces, want %d", task, got, want)
		}
	}
}

// A task may have the id of one that ended; it is the newer that is asked for, for as long as it is remembered itself.
func TestLogOfAnIDThatIsUsedAgain(t *testing.T) {
	tr, key := newTestLog(), taskKey("F", "T")
	tr.Begin(key, api.Mark{Step: "first"})
	tr.Begin(key, api.Mark{Step: "ignored"}) // it lives
	tr.End(key)
	tr.Begin(key, api.Mark{Step: "second"})
	for i := range endedTraces { // the first is forgotten
		other := taskKey("F", fmt.Sprint(i))
		tr.Begin(other)
		tr.End(other)
	}
	if got := tr.Traces("", "T"); len(got) != 1 || words(got[0]) != fmt.Sprintf("second@%d", time.Time{}.Unix()) {
		t.Errorf("got %v", got)
	}
}
