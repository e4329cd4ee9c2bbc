package jobs

import (
	"fmt"
	"slices"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
)

// How the last runs of a job ended.
const (
	Fresh   = "fresh"
	Success = "success"
	Failure = "failure"
)

// Info is a job as clients see it.
type Info struct {
	// Shape has the definition, its schedule from the next run on, and the counts. Disabled is
	// true too when no runs are left.
	definition.Shape
	// Status is Fresh, Success or Failure.
	Status string
	// State is idle, queued or "3 running".
	State string
	// Next is when the clock starts it; zero for never.
	Next        time.Time
	Skipped     uint64
	LastSkipped time.Time
	// Runs are those that have not ended, oldest first.
	Runs []Run
	// History are runs that have ended, newest first.
	History  []Run
	Children []string
	// Why is a sentence about what the job waits for; empty when it waits for nothing.
	Why string
}

// Status is what there is to say about the machine as a whole.
type Status struct {
	FrameworkID          string
	Subscribed           bool
	Jobs, Queued, Active int
	// Since the process began.
	Offers, Launched, Succeeded, Failed, Lost uint64
}

// Names are all jobs, in order.
func (m *Machine) Names() []string {
	names := make([]string, 0, len(m.jobs))
	for _, name := range sortedKeys(m.jobs) {
		if m.existing(name) != nil {
			names = append(names, name)
		}
	}
	return names
}

// Job is one job with its history; false when there is none.
func (m *Machine) Job(name string) (Info, bool) {
	j := m.existing(name)
	if j == nil {
		return Info{}, false
	}
	info := m.info(j)
	for _, r := range slices.Backward(j.history) {
		info.History = append(info.History, *r)
	}
	return info, true
}

func (m *Machine) info(j *job) Info {
	info := Info{
		Shape: definition.Shape{
			Job: *j.spec, SuccessCount: j.SuccessCount, ErrorCount: j.ErrorCount,
			ErrorsSinceLastSuccess: j.ErrorsSinceLastSuccess, LastSuccess: j.LastSuccess, LastError: j.LastError,
		},
		Status: j.status(), Next: j.dueAt(),
		Skipped: j.Skipped, LastSkipped: j.LastSkipped,
		Children: slices.Clone(m.children[j.name]),
		Why:      m.why(j),
	}
	info.Schedule = j.scheduleText()
	info.Disabled = j.spec.Disabled || (j.plan != nil && j.Left == 0)
	running := 0
	for _, r := range j.Runs {
		info.Runs = append(info.Runs, *r)
		if !r.waiting() {
			running++
		}
	}
	switch {
	case running > 0:
		info.State = fmt.Sprintf("%d running", running)
	case len(j.Runs) > 0:
		info.State = "queued"
	default:
		info.State = "idle"
	}
	return info
}

// Jobs are all jobs, by name, without their histories.
func (m *Machine) Jobs() []Info {
	list := []Info{}
	for _, name := range m.Names() {
		list = append(list, m.info(m.jobs[name]))
	}
	return list
}

// status tells which came last, as Chronos tells it.
func (j *job) status() string {
	switch {
	case j.LastSuccess == never && j.LastError == never:
		return Fresh
	case j.LastError.After(j.LastSuccess):
		return Failure
	}
	return Success
}

// why is what a job waits for.
func (m *Machine) why(j *job) string {
	for _, r := range j.Runs {
		switch {
		case r.Unreachable != never:
			return fmt.Sprintf("the agent of run %s is out of reach since %s", r.Task, r.Unreachable.Format(time.RFC3339))
		case !r.waiting():
			continue
		case !m.subscribed:
			return "the master has not answered yet"
		case r.NotBefore.After(m.now) && r.Failures > 0:
			return fmt.Sprintf("attempt %d begins at %s, as the one before failed", r.Attempt, r.NotBefore.Format(time.RFC3339))
		case r.NotBefore.After(m.now):
			return fmt.Sprintf("the launch is made again at %s, as the last one did not arrive", r.NotBefore.Format(time.RFC3339))
		case j.refusal != "":
			return j.refusal
		default:
			return "no offer has come yet"
		}
	}
	return ""
}

// Status sums up.
func (m *Machine) Status() Status {
	s := Status{
		FrameworkID: m.config.FrameworkID, Subscribed: m.subscribed, Active: len(m.tasks),
		Offers: m.counts.offers, Launched: m.counts.launched, Succeeded: m.counts.succeeded, Failed: m.counts.failed, Lost: m.counts.lost,
	}
	for _, j := range m.jobs { // any order: counts
		if j.spec != nil {
			s.Jobs++
		}
		for _, r := range j.Runs {
			if r.waiting() {
				s.Queued++
			}
		}
	}
	return s
}
