package jobs

import (
	"fmt"
	"slices"
	"strings"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
	"github.com/gantry-project/gantry/plugins/framework/chronos/schedule"
	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
)

// Put creates or replaces a job. Runs under way go on; so do the counts that are not set.
type Put struct {
	Job    definition.Job
	Counts definition.Counts
}

// Remove removes a job and kills its tasks. Its children run after its parents instead,
// or by its schedule.
type Remove struct{ Job string }

// Start starts a job now, a disabled one too. The reply's value is the Run.
type Start struct {
	Job string
	// Arguments are added to its command.
	Arguments string
}

// Kill ends the runs of a job, waiting ones too.
type Kill struct{ Job string }

// Succeed counts a success that nobody saw, and starts children as a success does.
type Succeed struct{ Job string }

func (m *Machine) request(t turn, r machine.Request) {
	reply := machine.Reply{Token: r.Token}
	switch op := r.Op.(type) {
	case Put:
		reply.Err = m.put(t, op)
	case Remove:
		reply.Err = m.each(op.Job, func(j *job) { m.remove(t, j) })
	case Start:
		reply.Value, reply.Err = m.start(t, op)
	case Kill:
		reply.Err = m.each(op.Job, func(j *job) { m.cancelAll(t, j, byRequest, true) })
	case Succeed:
		reply.Err = m.each(op.Job, func(j *job) { m.succeed(t, j, true) })
	default:
		panic(fmt.Sprintf("jobs: unknown request %T", r.Op))
	}
	t.out.Replies = append(t.out.Replies, reply)
}

// existing is a job that was not removed.
func (m *Machine) existing(name string) *job {
	if j := m.jobs[name]; j != nil && j.spec != nil {
		return j
	}
	return nil
}

// each does something to the job of that name.
func (m *Machine) each(name string, do func(*job)) error {
	j := m.existing(name)
	if j == nil {
		return NotFound(name)
	}
	do(j)
	return nil
}

func (m *Machine) put(t turn, op Put) error {
	spec := op.Job
	old := m.existing(spec.Name)
	if old == nil && len(m.jobs) >= maxJobs {
		return refusef("there are %d jobs already, which is the most", maxJobs)
	}
	if err := m.checkParents(spec.Name, spec.Parents); err != nil {
		return err
	}
	var plan *schedule.Schedule
	if len(spec.Parents) == 0 {
		parsed, err := planOf(t, &spec)
		if err != nil {
			return err
		}
		plan = &parsed
	}
	j := m.job(spec.Name)
	paused := old != nil && old.spec.Disabled
	again := old != nil && plan != nil && old.spec.Schedule == spec.Schedule && old.spec.ScheduleTimeZone == spec.ScheduleTimeZone
	m.disown(j.name, j.parents())
	j.spec, j.plan = &spec, plan
	m.adopt(j.name, spec.Parents)
	if !again {
		j.reschedule(t)
	}
	if paused { // what passed meanwhile was not missed
		j.skipPast(t.now)
	}
	j.count(op.Counts)
	for parent := range j.Heard { // any order: each by itself
		if !slices.Contains(spec.Parents, parent) {
			delete(j.Heard, parent)
		}
	}
	if spec.Disabled {
		m.cancelAll(t, j, byPause, false)
	}
	m.touch(j)
	t.define(j)
	return nil
}

// planOf reads the schedule of spec and writes it out in full.
func planOf(t turn, spec *definition.Job) (schedule.Schedule, error) {
	if spec.Schedule == "" {
		spec.Schedule = "R1//PT24H" // once, now
	}
	plan, err := schedule.Parse(spec.Schedule, spec.ScheduleTimeZone, t.now)
	if err != nil {
		return plan, refusal(err.Error())
	}
	first, ok := plan.First(t.now)
	if !ok {
		return plan, refusef("the schedule %s of job %s never comes", spec.Schedule, spec.Name)
	}
	spec.Schedule = plan.Text(first, plan.Runs())
	return plan, nil
}

// reschedule begins a new plan. A due time that has begun a run begins no other, so that
// a definition that is sent again does not run the job again.
func (j *job) reschedule(t turn) {
	if j.plan == nil {
		j.Left, j.Next = schedule.Forever, never
		return
	}
	j.Left = j.plan.RunsAfter(j.LastDue)
	j.Next, _ = j.plan.First(t.now)
	if !j.Next.After(j.LastDue) {
		j.Next = j.after(j.LastDue)
	}
	if j.Left == 0 {
		j.Next = never
	}
}

// count takes over what a client set.
func (j *job) count(c definition.Counts) {
	for _, n := range []struct{ to, from *uint64 }{
		{&j.SuccessCount, c.SuccessCount}, {&j.ErrorCount, c.ErrorCount}, {&j.ErrorsSinceLastSuccess, c.ErrorsSinceLastSuccess},
	} {
		if n.from != nil {
			*n.to = *n.from
		}
	}
	if c.LastSuccess != nil {
		j.LastSuccess = *c.LastSuccess
	}
	if c.LastError != nil {
		j.LastError = *c.LastError
	}
}

// cancelAll ends the runs of j: all of them, or those that are not launched.
func (m *Machine) cancelAll(t turn, j *job, why string, launched bool) {
	for _, r := range slices.Clone(j.Runs) {
		if launched || r.waiting() {
			m.cancel(t, j, r, why)
		}
	}
}

func (m *Machine) remove(t turn, j *job) {
	for _, name := range slices.Clone(m.children[j.name]) {
		m.bequeath(t, j, m.jobs[name])
	}
	m.disown(j.name, j.parents())
	for _, r := range j.history {
		t.erase(historyKey(r))
	}
	t.erase(jobPrefix + j.name)
	j.spec, j.plan, j.history = nil, nil, nil
	j.state = state{Number: j.Number, Runs: j.Runs}
	m.cancelAll(t, j, byRemoval, true)
	m.touch(j)
}

// bequeath gives child the parents of j in its place, or its schedule.
func (m *Machine) bequeath(t turn, j, child *job) {
	spec := *child.spec
	spec.Parents = nil
	for _, parent := range slices.Concat(child.spec.Parents, j.spec.Parents) {
		if parent != j.name && !slices.Contains(spec.Parents, parent) {
			spec.Parents = append(spec.Parents, parent)
		}
	}
	m.disown(child.name, child.spec.Parents)
	if len(spec.Parents) == 0 {
		spec.Schedule, spec.ScheduleTimeZone = j.scheduleText(), j.spec.ScheduleTimeZone
		child.plan, child.Left, child.Next = j.plan, j.Left, j.Next
		child.LastDue = j.LastDue
	}
	child.spec = &spec
	m.adopt(child.name, spec.Parents)
	delete(child.Heard, j.name)
	m.touch(child)
	t.define(child)
}

// scheduleText is the schedule from the next due time on, as clients see it.
func (j *job) scheduleText() string {
	if j.plan == nil {
		return ""
	}
	next := j.Next
	if next == never {
		if next = j.after(j.LastDue); next == never {
			return j.spec.Schedule
		}
	}
	return j.plan.Text(next, j.Left)
}

const maxArguments = 4096

func (m *Machine) start(t turn, op Start) (any, error) {
	j := m.existing(op.Job)
	switch {
	case j == nil:
		return nil, NotFound(op.Job)
	case len(op.Arguments) > maxArguments || strings.Contains(op.Arguments, "\x00"):
		return nil, refusef("arguments may hold %d bytes, and no NUL character", maxArguments)
	case !j.open() && !j.spec.Concurrent:
		return nil, refusef("job %s is already queued or running, and it is not concurrent: kill that run or wait for its end", j.name)
	case !j.open():
		return nil, refusef("job %s has %d runs already, which is the most", j.name, maxRuns)
	}
	m.enqueue(t, j, Run{Due: t.now, Cause: ByHand, Arguments: op.Arguments})
	return *j.Runs[len(j.Runs)-1], nil
}
