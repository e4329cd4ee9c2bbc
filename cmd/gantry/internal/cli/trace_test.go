package cli

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// steps are written as "accepted@3 update:RUNNING@7", with milliseconds of the clock.
func steps(t *testing.T, clock, text string) []traceStep {
	t.Helper()
	var list []traceStep
	for word := range strings.FieldsSeq(text) {
		name, at, _ := strings.Cut(word, "@")
		step, state, _ := strings.Cut(name, ":")
		ms, err := time.ParseDuration(at + "ms")
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, traceStep{Clock: clock, Mark: client.Mark{Step: step, State: state, By: "agent", At: time.Unix(1000, 0).Add(ms)}})
	}
	return list
}

func TestMergeSteps(t *testing.T) {
	for _, c := range []struct{ name, master, agent, want string }{
		{"one clock", "offered@1 sent@3 update:A@9 delivered:A@10", "received@4 reported:A@8 started@9", "offered sent received reported update started delivered"},
		{"an agent that is behind", "offered@100 sent@103 update:A@109 delivered:A@110", "received@4 reported:A@8 started@9",
			"offered sent received reported started update delivered"},
		{"an agent that is ahead", "offered@1 sent@3 update:A@9 delivered:A@10 update:B@11", "received@904 reported:A@908 started@909 reported:B@910",
			"offered sent received reported update delivered started reported update"},
		{"the master forgot", "", "received@4 reported:A@8", "received reported"},
		{"the agent forgot", "sent@3 update:A@9", "", "sent update"},
		{"nobody knows", "", "", ""},
	} {
		var got []string
		for _, s := range mergeSteps(steps(t, "m", c.master), steps(t, "a", c.agent)) {
			got = append(got, s.Step)
		}
		if !slices.Equal(got, strings.Fields(c.want)) {
			t.Errorf("%s: got %v, want %s", c.name, got, c.want)
		}
	}
}

// A clock that is behind is found out by an effect that seems to precede its cause.
func TestTimesBetweenTwoClocks(t *testing.T) {
	view := &traceView{Steps: mergeSteps(steps(t, "10.0.0.1:5050", "accepted@100 sent@103"), steps(t, "10.0.0.2:5051", "received@4 prepared@8"))}
	for i := 1; i < len(view.Steps); i++ {
		view.measure(&view.Steps[i-1], &view.Steps[i])
	}
	if s := view.Steps[1]; s.AfterSeconds == nil || *s.AfterSeconds != 0.003 {
		t.Errorf("on one clock: %+v", s)
	}
	if s := view.Steps[2]; s.AfterSeconds != nil || s.after != -99*time.Millisecond {
		t.Errorf("between two clocks: %+v", s)
	}
	if want := "The clock of 10.0.0.2:5051 is at least 99ms behind that of 10.0.0.1:5050."; !slices.Equal(view.Notes, []string{want}) {
		t.Errorf("notes %q", view.Notes)
	}
}

func TestTrace(t *testing.T) {
	w := newWire(t)
	w.addTask("hello-web.1", mesos.TaskState_TASK_RUNNING)
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	marks := func(list ...string) string {
		var all []string
		for _, text := range list {
			ms, mark, _ := strings.Cut(text, " ")
			after, err := time.ParseDuration(ms)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, fmt.Sprintf(`{%s,"at":%q}`, mark, at.Add(after).Format(time.RFC3339Nano)))
		}
		return `{"traces":[{"framework_id":"F-0000","task_id":"hello-web.1","marks":[` + strings.Join(all, ",") + `]}]}`
	}
	both := []string{
		marks(`0ms "step":"offered","by":"allocator"`, `2500us "step":"accepted","by":"framework"`, `3ms "step":"sent","by":"master"`),
		marks(`4ms "step":"received","by":"agent"`, `54ms "step":"reported","state":"TASK_RUNNING","by":"agent"`),
	}
	w.traces = slices.Clone(both)
	status, out, errOut := gantry(t.Context(), w, "task", "trace", "hello")
	if status != 0 || errOut != "" {
		t.Fatalf("status %d, stderr %q", status, errOut)
	}
	var got []string
	for line := range strings.Lines(out) {
		f := strings.Fields(strings.ReplaceAll(line, w.address(), "CLOCK"))
		got = append(got, strings.Join(slices.DeleteFunc(f, func(s string) bool { return strings.HasPrefix(s, "2030-") || strings.Contains(s, ":") }), " "))
	}
	if want := []string{
		"STEP BY AT AFTER CLOCK", "offered allocator - CLOCK", "accepted framework marathon 2.5ms CLOCK", "sent master 500µs CLOCK",
		"received agent 1ms CLOCK", "reported running agent 50ms CLOCK",
	}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	w.traces = both
	_, out, _ = gantry(t.Context(), w, "task", "trace", "hello", "--json")
	var view traceView
	if err := json.Unmarshal([]byte(out), &view); err != nil || len(view.Steps) != 5 || *view.Steps[4].AfterSeconds != 0.05 || view.Framework != "marathon" || len(view.Notes) != 0 {
		t.Errorf("%v: %s", err, out)
	}
	if _, out, _ = gantry(t.Context(), w, "task", "trace", "hello"); strings.Count(out, "does not remember it") != 2 {
		t.Errorf("of a task that nobody remembers: %s", out)
	}
}
