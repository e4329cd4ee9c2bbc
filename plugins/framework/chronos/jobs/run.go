package jobs

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Causes of a run.
const (
	ByClock   = "schedule"
	ByParents = "parents"
	ByHand    = "manual"
)

// Waiting is the state of a run that is not launched yet; the others are task states.
const Waiting = "WAITING"

// Run is one attempt to run a job: a task, or what will be one.
type Run struct {
	Job string `json:"job"`
	// Number counts the runs of the job.
	Number uint64 `json:"number"`
	// Task is its id; it names Due, Attempt and Job.
	Task string `json:"task"`
	// Due is when it was to begin; attempts of one run share it.
	Due   time.Time `json:"due"`
	Cause string    `json:"cause"`
	// Arguments were given by the one who started it by hand.
	Arguments string `json:"arguments,omitempty"`
	// Attempt counts from 0 what was launched for Due, Failures what of that failed.
	Attempt  int    `json:"attempt"`
	Failures int    `json:"failures,omitempty"`
	Drops    int    `json:"drops,omitempty"` // launches that never arrived
	State    string `json:"state"`
	// NotBefore is when a waiting one may be launched.
	NotBefore time.Time `json:"notBefore,omitzero"`
	Queued    time.Time `json:"queued"`
	Launched  time.Time `json:"launched,omitzero"`
	Started   time.Time `json:"started,omitzero"`
	Ended     time.Time `json:"ended,omitzero"`
	Agent     string    `json:"agent,omitempty"`
	Host      string    `json:"host,omitempty"`
	// Unreachable is since when its agent is out of reach; zero while it is not.
	Unreachable time.Time `json:"unreachable,omitzero"`
	// Doomed is why it was told to end; empty while it was not.
	Doomed     string `json:"doomed,omitempty"`
	ExitStatus *int   `json:"exitStatus,omitempty"`
	Message    string `json:"message,omitempty"`

	killAt  time.Time     // it is told again
	askAt   time.Time     // the master is asked about it; never once something was heard
	askWait time.Duration // until it is asked again
}

func (r *Run) waiting() bool { return r.State == Waiting }

func (r *Run) running() bool { return r.State == mesos.TaskState_TASK_RUNNING.String() }

// over says that the task has ended.
func (r *Run) over() bool { return r.Ended != never }

// unheard says that no word of its task has come: if it does not exist, it never did.
func (r *Run) unheard() bool { return r.State == mesos.TaskState_TASK_STAGING.String() }

// overdue says that the clock began it and it was never launched.
func (r *Run) overdue() bool { return r.waiting() && r.Cause == ByClock && r.Failures == 0 }

// ready says that it may be launched now.
func (r *Run) ready(now time.Time) bool { return r.waiting() && !now.Before(r.NotBefore) }

// name gives the run its task id.
func (r *Run) name() {
	words := strings.Map(func(c rune) rune {
		if c == ';' || c == '/' || c == '\\' || c < ' ' || c >= 0x7f {
			return -1
		}
		return c
	}, r.Arguments)
	if len(words) > maxIDArguments {
		words = words[:maxIDArguments]
	}
	r.Task = fmt.Sprintf("ct:%d:%d:%s:%s", r.Due.UnixMilli(), r.Attempt, r.Job, words)
}

// maxIDArguments bounds what a task id shows of the arguments.
const maxIDArguments = 60

// enqueue adds a run that is to be launched.
func (m *Machine) enqueue(t turn, j *job, r Run) {
	j.Number++
	r.Job, r.Number, r.State, r.Queued = j.name, j.Number, Waiting, t.now
	r.Due = r.Due.Truncate(time.Millisecond)
	r.name()
	same := func(other *Run) bool { return other.Task == r.Task }
	for slices.ContainsFunc(j.Runs, same) || slices.ContainsFunc(j.history, same) { // an id is used once
		r.Due = r.Due.Add(time.Millisecond)
		r.name()
	}
	j.Runs = append(j.Runs, &r)
	m.touch(j)
}

// runDeadline is when something is due about r.
func (m *Machine) runDeadline(j *job, r *Run) time.Time {
	next := never
	soonest := func(at time.Time) {
		if at != never && (next == never || at.Before(next)) {
			next = at
		}
	}
	if r.waiting() {
		if r.NotBefore.After(m.now) {
			return r.NotBefore
		}
		return never
	}
	if m.subscribed {
		soonest(r.askAt)
		if r.Doomed != "" {
			soonest(r.killAt)
		}
	}
	soonest(m.lostAt(r))
	soonest(j.timeoutAt(r))
	return next
}

func (m *Machine) lostAt(r *Run) time.Time {
	if r.Unreachable == never {
		return never
	}
	return r.Unreachable.Add(m.config.LostAfter)
}

// timeoutAt is when r has run for too long.
func (j *job) timeoutAt(r *Run) time.Time {
	if j.spec == nil || j.spec.MaxCompletionTime == 0 || r.Started == never || r.Doomed != "" {
		return never
	}
	return r.Started.Add(time.Duration(j.spec.MaxCompletionTime) * time.Second)
}

// expire does what is due about one run, but for asking.
func (m *Machine) expire(t turn, j *job, r *Run) {
	due := func(at time.Time) bool { return at != never && !t.now.Before(at) }
	switch {
	case r.waiting():
	case due(m.lostAt(r)):
		m.counts.lost++
		m.over(t, j, r, mesos.TaskState_TASK_UNREACHABLE, fmt.Sprintf("its agent was out of reach for %s", m.config.LostAfter))
	case due(j.timeoutAt(r)):
		m.doom(t, j, r, timedOut)
	case r.Doomed != "" && m.subscribed && due(r.killAt):
		m.kill(t, r)
	}
}

// Reasons to end a run.
const (
	byRequest = "it was killed by request"
	byRemoval = "its job was removed"
	byPause   = "its job was disabled"
	timedOut  = "it ran longer than the job's maxCompletionTime"
)

// cancel ends a run, launched or not.
func (m *Machine) cancel(t turn, j *job, r *Run, why string) {
	if r.waiting() {
		j.skipPast(t.now)
		r.Doomed = why
		m.over(t, j, r, mesos.TaskState_TASK_KILLED, why+" before it was launched")
		return
	}
	m.doom(t, j, r, why)
}

// doom decides that a launched run ends, durably, and tells its agent.
func (m *Machine) doom(t turn, j *job, r *Run, why string) {
	if r.Doomed != "" {
		return
	}
	r.Doomed = why
	m.touch(j)
	if m.subscribed {
		m.kill(t, r)
	} else {
		r.killAt = t.now
	}
}

func (m *Machine) kill(t turn, r *Run) {
	r.killAt = t.now.Add(killRetry)
	t.call(m.config.Kill(r.Task, r.Agent))
}

// over ends a run for good and draws the consequences.
func (m *Machine) over(t turn, j *job, r *Run, state mesos.TaskState, message string) {
	delete(m.tasks, r.Task)
	j.Runs = slices.DeleteFunc(j.Runs, func(other *Run) bool { return other == r })
	r.State, r.Message, r.Ended = state.String(), clip(message), t.now
	if r.Doomed != "" && r.Launched != never && state == mesos.TaskState_TASK_KILLED {
		r.Message = r.Doomed
	}
	m.touch(j)
	if j.spec == nil {
		return
	}
	m.remember(t, j, r)
	switch {
	case state == mesos.TaskState_TASK_FINISHED:
		m.succeed(t, j, r.Cause == ByHand)
	case r.Doomed != "" && r.Doomed != timedOut, state == mesos.TaskState_TASK_KILLED && r.Doomed == "":
		// somebody wanted it to end: neither a success nor a failure
	case r.Failures < j.spec.Retries:
		m.enqueue(t, j, Run{
			Due: r.Due, Cause: r.Cause, Arguments: r.Arguments,
			Attempt: r.Attempt + 1, Failures: r.Failures + 1, Drops: r.Drops, NotBefore: t.now.Add(m.config.RetryDelay),
		})
	default:
		m.fail(t, j, r.Cause == ByHand)
	}
}

// relaunch puts a run back whose task never came to be; false when that was too often.
func (m *Machine) relaunch(t turn, j *job, r *Run) bool {
	if r.Drops >= maxDrops || r.Doomed != "" || j.spec == nil {
		return false
	}
	delete(m.tasks, r.Task)
	r.Drops++
	r.Attempt++
	r.name()
	r.State, r.Agent, r.Host, r.Launched, r.Unreachable = Waiting, "", "", never, never
	r.NotBefore = t.now.Add(min(dropMost, time.Second<<min(r.Drops-1, 10)))
	m.touch(j)
	return true
}

// remember adds an ended run to the history, which keeps those with the highest numbers.
func (m *Machine) remember(t turn, j *job, r *Run) {
	j.history = append(j.history, r)
	slices.SortFunc(j.history, func(a, b *Run) int { return cmp.Compare(a.Number, b.Number) })
	t.put(encode(historyKey(r), record{Run: r}))
	for len(j.history) > maxHistory {
		t.erase(historyKey(j.history[0]))
		j.history = j.history[1:]
	}
}

func (m *Machine) succeed(t turn, j *job, repair bool) {
	m.counts.succeeded++
	j.SuccessCount++
	j.ErrorsSinceLastSuccess = 0
	j.LastSuccess = t.now
	m.touch(j)
	m.tellChildren(t, j, true, repair)
}

func (m *Machine) fail(t turn, j *job, repair bool) {
	m.counts.failed++
	j.ErrorCount++
	j.ErrorsSinceLastSuccess++
	j.LastError = t.now
	m.touch(j)
	m.tellChildren(t, j, j.spec.SoftError, repair)
}

// clip bounds what is recorded of a message of others.
func clip(message string) string {
	const most = 1000
	if len(message) > most {
		return strings.ToValidUTF8(message[:most], "") + "..."
	}
	return message
}

// exitStatus reads the label in which the kernel tells how a command ended.
func exitStatus(s *mesos.TaskStatus) *int {
	for _, l := range s.GetLabels().GetLabels() {
		if n, err := strconv.Atoi(l.GetValue()); l.GetKey() == "exit_status" && err == nil {
			return &n
		}
	}
	return nil
}
