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
	for _, r := range (Host{}).task(Job{ID: "j"}, nil).Resources {
		r.Scalar.Value = proto.Float64(3.5 * r.Scalar.GetValue())
		offer.Resources = append(offer.Resources, r)
	}
	if n := fits(offer); n != 3 {
		t.Errorf("%d jobs fit an offer for three and a half", n)
	}
}

// What a process is follows from its arguments, whether it's in the cluster's cgroup, and whose folder it is told.
func TestRoles(t *testing.T) {
	two := Host{WorkDir: "/w", Group: "/gantry-1", Agents: 2}
	for _, c := range []struct {
		args    string
		inGroup bool
		want    Role
	}{
		{"/bin/gantry up --work-dir /w --agents 2", false, Role{Part: Supervisor}},
		{"/bin/gantry master --work-dir /w/master", false, Role{Part: Master}},
		{"/bin/gantry agent --master http://127.0.0.1:5050 --work-dir /w/agent-2", false, Role{Agent, "agent-2"}},
		{"/bin/gantry agent --work-dir /w2/agent-2", false, Role{}},
		{"gantry-keeper --part keeper --dir /w/agent-1/keeper --cgroup /gantry-1/agent-1/keeper", true, Role{Keeper, "agent-1"}},
		{"gantry-keeper --part heir --dir /w/agent-1/keeper", true, Role{Reaper, "agent-1"}},
		{"/bin/plugins/allocator-drf", true, Role{Part: Allocator}},
		{"/bin/plugins/allocator-drf", false, Role{}},
		{"/bin/sh /w/agent-1/odd", true, Role{}},
	} {
		if got := two.role(strings.Fields(c.args), c.inGroup); got != c.want {
			t.Errorf("%s is %q, want %q", c.args, got, c.want)
		}
	}
	for agents, want := range map[int]string{1: "[agent] 11", 3: "[agent-1 agent-2 agent-3] 21"} {
		h := Host{Agents: agents}
		if got := fmt.Sprint(h.Folders(), len(h.Roles())); got != want {
			t.Errorf("%d agents: %s, want %s", agents, got, want)
		}
	}
}

// Who gets its share of the jobs gets no more; the others get theirs.
func TestEachAgentGetsItsShare(t *testing.T) {
	l := NewLoad(LoadConfig{Seed: 1, Host: Host{Agents: 2}, Staying: 3, Running: 4})
	for _, agent := range []string{"a", "b"} {
		for range 5 {
			for _, h := range l.pick(agent, 100) {
				h.Launched, h.Agent = time.Now(), agent
			}
		}
	}
	kinds := map[string]int{}
	for _, h := range l.histories {
		kinds[fmt.Sprint(h.Agent, " ", h.Job.Kind == Stays)]++
	}
	if kinds["a false"] != 2 || kinds["b false"] != 2 || kinds["a true"] != 2 || kinds["b true"] != 1 {
		t.Errorf("the jobs are spread so: %v", kinds)
	}
}

// A process may use a little more than usual, and one goroutine for each of a few tasks that have ended is too much.
func TestGrowth(t *testing.T) {
	usual := Size{Files: 30, Threads: 10, RSSKiB: 30_000, Goroutines: 24}
	for grown, want := range map[Size]bool{
		usual: false,
		{Files: 31, Threads: 12, RSSKiB: 40_000, Goroutines: 25}: false,
		{Files: 30, Threads: 10, RSSKiB: 30_000, Goroutines: 32}: true,
		{Files: 60, Threads: 10, RSSKiB: 30_000, Goroutines: 24}: true,
	} {
		if got := grown.Exceeds(usual); got != want {
			t.Errorf("%+v exceeds %+v: %t", grown, usual, got)
		}
	}
}
