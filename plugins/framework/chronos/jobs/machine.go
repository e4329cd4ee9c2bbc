package jobs

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
	"github.com/gantry-project/gantry/plugins/framework/chronos/schedule"
	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Config says who the framework is and how patient.
type Config struct {
	machine.Identity
	// RetryDelay passes between a failed run and its next attempt.
	RetryDelay time.Duration
	// LostAfter passes until a run on an agent that is out of reach counts as failed.
	LostAfter time.Duration
}

// Times and bounds of the machine.
const (
	killRetry         = 10 * time.Second // until a KILL is sent again
	reconcileInterval = 600 * time.Second
	reviveInterval    = 250 * time.Millisecond // between two REVIVEs
	refuseHungry      = 5 * time.Second
	refuseSated       = 120 * time.Second
	// askFirst and askMost are between two questions about a run that nothing was heard of:
	// after a failover, and at most. A run just launched is asked about after askLaunched.
	askFirst    = time.Second
	askMost     = time.Minute
	askLaunched = 30 * time.Second
	// dropMost bounds the delay before a launch that never arrived is made again, and
	// maxDrops how often that is.
	dropMost = time.Minute
	maxDrops = 50

	maxJobs     = 10000
	maxChildren = 1000
	maxRuns     = 100 // of one job at once
	maxHistory  = 25  // runs kept of a job
	maxDue      = 500 // jobs that come due in one step
)

// Machine is the state of the framework. It has one owner; use New.
type Machine struct {
	config   Config
	jobs     map[string]*job
	children map[string][]string // names by parent, sorted
	tasks    map[string]*Run     // launched runs by task id
	touched  map[string]bool     // jobs whose state is to be written at the end of the step
	orphans  []string            // jobs that were loaded without a definition
	now      time.Time           // of the last step

	subscribed  bool
	reconcileAt time.Time
	appetite    appetite
	counts      counts
}

// counts are what metrics show, since the process began.
type counts struct{ offers, launched, succeeded, failed, lost uint64 }

// job is a definition with what runs of it.
type job struct {
	name string
	spec *definition.Job    // nil when it was removed and tasks of it are still ending
	plan *schedule.Schedule // nil for a job with parents
	state
	history []*Run // those that have ended, by number
	// refusal is why the last offers did not do, for a person.
	refusal string
}

// state is what is recorded of a job besides its definition.
type state struct {
	// Left is how often the clock will start it, or schedule.Forever.
	Left int `json:"left"`
	// Next is when; zero for never.
	Next time.Time `json:"next,omitzero"`
	// LastDue is the last due time that began a run; no earlier one ever will.
	LastDue time.Time `json:"lastDue,omitzero"`
	// Number is that of the last run.
	Number                 uint64    `json:"number"`
	SuccessCount           uint64    `json:"successCount"`
	ErrorCount             uint64    `json:"errorCount"`
	ErrorsSinceLastSuccess uint64    `json:"errorsSinceLastSuccess"`
	LastSuccess            time.Time `json:"lastSuccess,omitzero"`
	LastError              time.Time `json:"lastError,omitzero"`
	// Skipped counts due times that passed over a run that had not ended.
	Skipped     uint64    `json:"skipped,omitempty"`
	LastSkipped time.Time `json:"lastSkipped,omitzero"`
	// Heard is, by parent, how its last run ended since this job was last started.
	Heard map[string]bool `json:"heard,omitempty"`
	// Runs are those that have not ended, oldest first.
	Runs []*Run `json:"runs,omitempty"`
}

// turn is one step: the time of it and where its effects go.
type turn struct {
	now time.Time
	out *machine.Effects
}

func (t turn) call(c *schedulerpb.Call) {
	if c != nil {
		t.out.Calls = append(t.out.Calls, c)
	}
}

func (t turn) put(w machine.Write) { t.out.Persist = append(t.out.Persist, w) }

// Step applies ev at now and appends what it asks for to out. Events must come in the
// order in which they happened. Time may go back: what is due then waits.
func (m *Machine) Step(now time.Time, ev machine.Event, out *machine.Effects) {
	m.now = now.Round(0).UTC()
	t := turn{now: m.now, out: out}
	switch e := ev.(type) {
	case machine.Start:
		m.sweep(t)
		t.call(m.config.Subscribe())
	case machine.Scheduler:
		m.scheduler(t, e.Event)
	case machine.Refused:
		m.refused(t, e)
	case machine.Request:
		m.request(t, e)
	case machine.Tick:
		m.tick(t)
	default:
		panic(fmt.Sprintf("jobs: unknown event %T", ev))
	}
	m.saveTouched(t)
	m.feed(t)
}

func (m *Machine) touch(j *job) { m.touched[j.name] = true }

// tick does what is due. More jobs than one step should write are left for the next.
func (m *Machine) tick(t turn) {
	came := 0
	for _, name := range sortedKeys(m.jobs) {
		j := m.jobs[name]
		if at := j.dueAt(); at != never && !t.now.Before(at) && came < maxDue {
			came++
			m.comeDue(t, j)
		}
		for _, r := range slices.Clone(j.Runs) {
			m.expire(t, j, r)
		}
	}
	if m.subscribed {
		m.ask(t)
		if !t.now.Before(m.reconcileAt) {
			m.reconcile(t)
		}
	}
}

// never is no deadline.
var never = time.Time{}

// dueAt is when the clock starts j next. While a run of an earlier due time waits to be
// launched there is none: what is missed meanwhile is that one late run.
func (j *job) dueAt() time.Time {
	if j.spec == nil || j.spec.Disabled || j.Left == 0 || slices.ContainsFunc(j.Runs, (*Run).overdue) {
		return never
	}
	return j.Next
}

// comeDue begins a run, or passes over the due time because another run has not ended.
func (m *Machine) comeDue(t turn, j *job) {
	m.touch(j)
	due := j.Next
	if !j.open() {
		j.Skipped, j.LastSkipped = j.Skipped+1, due
		j.skipPast(t.now)
		return
	}
	j.LastDue = due
	if j.Left > 0 {
		j.Left--
	}
	j.skipPast(t.now)
	m.enqueue(t, j, Run{Due: due, Cause: ByClock})
}

// open says whether one more run may begin.
func (j *job) open() bool {
	return len(j.Runs) == 0 || (j.spec.Concurrent && len(j.Runs) < maxRuns)
}

// skipPast moves the next due time beyond now.
func (j *job) skipPast(now time.Time) {
	if j.plan == nil || j.Left == 0 {
		j.Next = never
		return
	}
	if j.Next != never && !j.Next.After(now) {
		j.Next = j.after(now)
	}
}

// after is the first due time after t, or never.
func (j *job) after(t time.Time) time.Time {
	if next, ok := j.plan.Next(t); ok {
		return next
	}
	return never
}

// NextDeadline is when a Tick is due.
func (m *Machine) NextDeadline() (time.Time, bool) {
	next := never
	soonest := func(at time.Time) {
		if at != never && (next == never || at.Before(next)) {
			next = at
		}
	}
	for _, j := range m.jobs { // any order: the soonest of all
		soonest(j.dueAt())
		for _, r := range j.Runs {
			soonest(m.runDeadline(j, r))
		}
	}
	if m.subscribed {
		soonest(m.reconcileAt)
		soonest(m.appetite.deadline())
	}
	return next, next != never
}

// Check verifies what must always hold; it is for tests.
func (m *Machine) Check() error {
	launched := 0
	for name, j := range m.jobs { // any order: any that is wrong will do
		if j.name != name || (j.spec == nil && len(j.Runs) == 0) || (j.spec != nil && (j.plan == nil) != (len(j.spec.Parents) > 0)) {
			return fmt.Errorf("job %s: is filed as %s, with schedule %v and definition %+v", j.name, name, j.plan, j.spec)
		}
		if j.Next != never && !j.Next.After(j.LastDue) {
			return fmt.Errorf("job %s: began a run at %s and is due at %s", name, j.LastDue, j.Next)
		}
		if j.spec != nil && !j.spec.Concurrent && m.livingWell(j) > 1 {
			return fmt.Errorf("job %s: has %d runs and is not concurrent", name, len(j.Runs))
		}
		ids := map[string]bool{}
		for _, r := range j.Runs {
			if ids[r.Task] || r.Job != name || r.Number > j.Number || r.over() {
				return fmt.Errorf("job %s: has run %+v of %d", name, r, j.Number)
			}
			ids[r.Task] = true
			if r.waiting() != (m.tasks[r.Task] != r) {
				return fmt.Errorf("run %s: is %s and filed as %+v", r.Task, r.State, m.tasks[r.Task])
			}
			if !r.waiting() {
				launched++
			}
		}
		for _, parent := range j.parents() {
			if p := m.jobs[parent]; p == nil || p.spec == nil || !slices.Contains(m.children[parent], name) {
				return fmt.Errorf("job %s: its parent %s does not know it", name, parent)
			}
		}
	}
	if launched != len(m.tasks) {
		return fmt.Errorf("%d tasks are filed, %d runs are launched", len(m.tasks), launched)
	}
	return nil
}

// livingWell counts runs that nobody has told to end.
func (m *Machine) livingWell(j *job) int {
	n := 0
	for _, r := range j.Runs {
		if r.Doomed == "" {
			n++
		}
	}
	return n
}

// sortedKeys makes walking a map repeatable.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
