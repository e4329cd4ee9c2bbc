package torture

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// heard is a status in few words: the state without TASK_, the uuid, and further words: a reason without REASON_, or key=value.
func heard(words string) Moment {
	parts := strings.Fields(words)
	state, known := mesos.TaskState_value["TASK_"+parts[0]]
	if !known {
		panic("no state: " + words)
	}
	s := &mesos.TaskStatus{State: mesos.TaskState(state).Enum()}
	for i, part := range parts[1:] {
		key, value, isLabel := strings.Cut(part, "=")
		reason, isReason := mesos.TaskStatus_Reason_value["REASON_"+part]
		switch {
		case isLabel:
			s.Labels = &mesos.Labels{Labels: []*mesos.Label{{Key: &key, Value: &value}}}
		case isReason:
			s.Reason = mesos.TaskStatus_Reason(reason).Enum()
		case i == 0:
			s.Uuid = []byte(part)
		default:
			panic("no reason: " + part)
		}
	}
	return Moment{Status: s}
}

func TestHistories(t *testing.T) {
	const (
		start, run = "STARTING 1", "RUNNING 2"
		lost       = "LOST RECONCILIATION"
	)
	ran := Sandbox{Began: 1, Ended: 1}
	for name, c := range map[string]struct {
		history History
		heard   []string
		left    Sandbox
		unknown bool
		wrong   string // a part of what is said; empty: it is right
	}{
		"an exit":              {heard: []string{start, run, "FINISHED 3 exit_status=0"}, left: ran},
		"an exit, in two":      {heard: []string{start, "FINISHED 3 exit_status=0"}, left: ran},
		"told again":           {heard: []string{start, start, run, run, "FINISHED 3 exit_status=0", "FINISHED 3 exit_status=0"}, left: ran},
		"on its way":           {heard: []string{start}, left: Sandbox{Began: 1}},
		"nothing yet":          {},
		"a failure":            {history: History{Job: Job{Exit: 7}}, heard: []string{start, run, "FAILED 3 exit_status=7"}, left: ran},
		"asked on the way":     {heard: []string{start, "STARTING RECONCILIATION", run, "RUNNING RECONCILIATION", "FINISHED 3 exit_status=0", "FINISHED RECONCILIATION"}, left: ran},
		"killed":               {history: History{Kill: true}, heard: []string{start, run, "KILLING 3", "KILLED 4 exit_signal=9"}, left: Sandbox{Began: 1}},
		"killed at the end":    {history: History{Kill: true, Job: Job{Exit: 3}}, heard: []string{start, run, "KILLED 4 exit_status=3"}, left: ran},
		"struck":               {history: History{Struck: true}, heard: []string{start, run, "FAILED 3 exit_signal=9"}, left: Sandbox{Began: 1}},
		"never launched":       {heard: []string{lost, "LOST RECONCILIATION"}},
		"never known":          {heard: []string{"UNKNOWN RECONCILIATION"}},
		"never started":        {heard: []string{start, "FAILED 2 CONTAINER_LAUNCH_FAILED"}},
		"unseen, with excuse":  {heard: []string{start, run, "FAILED 3 EXECUTOR_TERMINATED"}, left: ran, unknown: true},
		"unseen":               {heard: []string{start, run, "FAILED 3 EXECUTOR_TERMINATED"}, left: ran, wrong: "was to be seen"},
		"run twice":            {heard: []string{start, run, "FINISHED 3 exit_status=0"}, left: Sandbox{Began: 2, Ended: 1}, wrong: "launched 2 times"},
		"back":                 {heard: []string{run, "STARTING 3"}, wrong: "TASK_STARTING came after TASK_RUNNING"},
		"an old one again":     {heard: []string{start, run, start}, wrong: "TASK_STARTING was delivered again after TASK_RUNNING"},
		"a second end":         {heard: []string{start, run, "FINISHED 3 exit_status=0", "FAILED 4 exit_status=0"}, left: ran, wrong: "TASK_FAILED came after its end"},
		"risen":                {heard: []string{lost, start}, wrong: "TASK_STARTING came after its end"},
		"lost, and ran":        {heard: []string{lost}, left: Sandbox{Began: 1}, wrong: "TASK_LOST: it ran"},
		"forgotten":            {heard: []string{start, run, "GONE RECONCILIATION"}, left: ran, wrong: "TASK_GONE: it ran"},
		"never started, ran":   {heard: []string{start, "FAILED 2 CONTAINER_LAUNCH_FAILED"}, left: Sandbox{Began: 1}, wrong: "it ran"},
		"another exit":         {heard: []string{start, run, "FAILED 3 exit_status=7"}, left: ran, wrong: "exit status 7"},
		"an exit without it":   {heard: []string{start, run, "FINISHED 3"}, left: ran, wrong: "exit status 0"},
		"ended too early":      {heard: []string{start, run, "FINISHED 3 exit_status=0"}, left: Sandbox{Began: 1}, wrong: "ended 0 times"},
		"a signal from nobody": {heard: []string{start, run, "FAILED 3 exit_signal=9"}, left: Sandbox{Began: 1}, wrong: "signal 9"},
		"killed by nobody":     {heard: []string{start, run, "KILLED 3"}, wrong: "nobody killed it"},
		"given up":             {heard: []string{start, "UNREACHABLE AGENT_REMOVED"}, wrong: "given up"},
		"a reboot":             {heard: []string{start, run, "FAILED 3 AGENT_RESTARTED"}, wrong: "AGENT_RESTARTED"},
		"a wrong answer":       {heard: []string{start, run, "STARTING RECONCILIATION"}, wrong: "reconciliation answered TASK_STARTING after TASK_RUNNING"},
		"an error":             {heard: []string{"ERROR TASK_INVALID"}, wrong: "TASK_INVALID"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, words := range c.heard {
				c.history.Moments = append(c.history.Moments, Moment{Did: "something"}, heard(words))
			}
			wrong := strings.Join(c.history.Wrong(c.left, c.unknown), "; ")
			if c.wrong == "" && wrong != "" || !strings.Contains(wrong, c.wrong) {
				t.Errorf("wrong is %q, want %q\n%s", wrong, c.wrong, &c.history)
			}
		})
	}
}

// What a round does follows from seed and number, in order, and each victim leads once before any leads again.
func TestPlans(t *testing.T) {
	for seed := range uint64(50) {
		led := map[Victim]int{}
		for round := range 4 * len(leads) {
			plan := Plan(seed, round)
			if again := Plan(seed, round); fmt.Sprint(plan) != fmt.Sprint(again) {
				t.Fatalf("seed %d, round %d: %s, and then %s", seed, round, plan, again)
			}
			var at time.Duration
			for _, b := range plan {
				if b.At < at || b.At > firstBlow+laterBlow || b.Freeze > minFreeze+moreFreeze {
					t.Errorf("seed %d, round %d: %s", seed, round, plan)
				}
				at = b.At
			}
			lead := plan[0].Victim
			led[lead]++
			if turn := round/len(leads) + 1; led[lead] > turn {
				t.Errorf("seed %d, round %d: %s has led %d times", seed, round, lead, led[lead])
			}
		}
	}
}

func TestJobs(t *testing.T) {
	kinds := map[Kind]int{}
	for n := range 1000 {
		j := NewJob(7, n)
		if j != NewJob(7, n) {
			t.Fatalf("job %d differs from itself", n)
		}
		kinds[j.Kind]++
		if j.Exit < 0 || j.Exit > 255 || j.Kind == Runs && j.For > longest || j.After > maxAfter {
			t.Errorf("%+v", j)
		}
	}
	for _, k := range []Kind{Runs, Killed, Struck} {
		if kinds[k] < 50 {
			t.Errorf("%d of 1000 jobs are %s", kinds[k], k)
		}
	}
}

func TestAJobFitsAnOffer(t *testing.T) {
	offer := &mesos.Offer{}
	for _, r := range task(Job{ID: "j"}, nil).Resources {
		r.Scalar.Value = proto.Float64(3.5 * r.Scalar.GetValue())
		offer.Resources = append(offer.Resources, r)
	}
	if n := fits(offer); n != 3 {
		t.Errorf("%d jobs fit an offer for three and a half", n)
	}
}
