package cli

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func TestTaskListShowsWhatTasksUse(t *testing.T) {
	w := newWire(t)
	w.addTask("hello-web.1", mesos.TaskState_TASK_RUNNING)
	w.addTask("hello-web.2", mesos.TaskState_TASK_STAGING) // not measured yet
	w.used = &mesos.ResourceStatistics{
		Timestamp: proto.Float64(1), CpusUserTimeSecs: proto.Float64(61.5), CpusSystemTimeSecs: proto.Float64(0.25),
		MemRssBytes: proto.Uint64(3 << 19), NetRxBytes: proto.Uint64(812), NetTxBytes: proto.Uint64(1_234_567),
	}
	status, out, errOut := gantry(t.Context(), w, "task", "list")
	if status != 0 || errOut != "" {
		t.Fatalf("status %d, stderr %q", status, errOut)
	}
	lines := strings.Split(out, "\n")
	for i, want := range []string{
		"TASK STATE FRAMEWORK AGENT CPUS CPU TIME MB MB USED RECEIVED SENT MESSAGE",
		"hello-web.1 running marathon " + w.address() + " 0.1 1m1.75s 32 1.5 812 B 1.2 MB -",
		"hello-web.2 staging marathon " + w.address() + " 0.1 - 32 - - - -",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d is %q, want %q", i, got, want)
		}
	}
	_, out, _ = gantry(t.Context(), w, "task", "list", "--json")
	var views []taskView
	if err := json.Unmarshal([]byte(out), &views); err != nil {
		t.Fatal(err)
	}
	if u := views[0].Usage; u == nil || u.CPUSeconds != 61.75 || *u.MemBytes != 3<<19 || *u.NetRxBytes != 812 || *u.NetTxBytes != 1_234_567 {
		t.Errorf("as JSON: %s", out)
	}
	if views[1].Usage != nil {
		t.Errorf("what is not measured is not left out: %s", out)
	}
}

// An agent that can't tell costs the list nothing else.
func TestTaskListWithoutMeasurement(t *testing.T) {
	w := newWire(t)
	w.addTask("hello-web.1", mesos.TaskState_TASK_RUNNING)
	status, out, errOut := gantry(t.Context(), w, "task", "list")
	if status != 0 || !strings.Contains(out, "hello-web.1") || !strings.Contains(errOut, "nothing is measured here") || strings.Count(errOut, "\n") != 1 {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, errOut)
	}
}

func TestSize(t *testing.T) {
	for bytes, want := range map[uint64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 kB", 1049: "1.0 kB", 999_949: "999.9 kB", 999_950: "1.0 MB", 3_200_000_000: "3.2 GB",
		math.MaxUint64: "18446.7 PB",
	} {
		if got := size(&bytes); got != want {
			t.Errorf("%d bytes are %q, want %q", bytes, got, want)
		}
	}
}
