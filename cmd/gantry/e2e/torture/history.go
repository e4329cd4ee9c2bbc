package torture

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Moment is one thing that a framework did or heard about one of its tasks.
type Moment struct {
	At time.Time
	// Status is what was heard; nil for what was done.
	Status *mesos.TaskStatus
	// Did is what was done and what was answered.
	Did string
}

// History is a task as its framework knows it.
type History struct {
	Job     Job
	Moments []Moment
	// Launched is when it was first asked for.
	Launched time.Time
	// Agent is where.
	Agent string
	// Pid and Container are where it was last said to run; 0 and empty before.
	Pid       int
	Container string
	// Kill and Struck say that its end was ordered, and that it was brought about.
	Kill, Struck bool
	// Ended says that the framework has heard the last of it.
	Ended bool
}

func (h *History) did(format string, args ...any) {
	h.Moments = append(h.Moments, Moment{At: time.Now(), Did: fmt.Sprintf(format, args...)})
}

// String tells the whole history, a line for each moment.
func (h *History) String() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%+v\n", h.Job)
	for _, m := range h.Moments {
		fmt.Fprintf(&text, "  %s  ", m.At.Format("15:04:05.000"))
		if m.Status == nil {
			fmt.Fprintln(&text, m.Did)
			continue
		}
		s := m.Status
		fmt.Fprintf(&text, "%s uuid %x", s.GetState(), s.GetUuid())
		if s.Reason != nil {
			fmt.Fprintf(&text, " %s", s.GetReason())
		}
		for _, l := range s.GetLabels().GetLabels() {
			fmt.Fprintf(&text, " %s=%s", l.GetKey(), l.GetValue())
		}
		fmt.Fprintf(&text, " %s %q pid %d\n", s.GetSource(), s.GetMessage(), s.GetContainerStatus().GetExecutorPid())
	}
	return text.String()
}

// Sandbox is what a task has left in its sandboxes.
type Sandbox struct {
	// Began and Ended count the lines that its commands wrote there.
	Began, Ended int
}

// rank orders the states that a task passes; what may not be said by an agent of a task that it has is 0.
var rank = map[mesos.TaskState]int{
	mesos.TaskState_TASK_STAGING: 1, mesos.TaskState_TASK_STARTING: 2, mesos.TaskState_TASK_RUNNING: 3, mesos.TaskState_TASK_KILLING: 4,
	mesos.TaskState_TASK_FINISHED: last, mesos.TaskState_TASK_FAILED: last, mesos.TaskState_TASK_KILLED: last, mesos.TaskState_TASK_ERROR: last,
	mesos.TaskState_TASK_LOST: last, mesos.TaskState_TASK_DROPPED: last, mesos.TaskState_TASK_GONE: last,
}

const last = 5

// Final reports whether nothing can follow a status. UNKNOWN is an answer of which a framework makes an end: nobody
// has the task, and it will never run.
func Final(s *mesos.TaskStatus) bool {
	return rank[s.GetState()] == last || s.GetState() == mesos.TaskState_TASK_UNKNOWN
}

// neverRan are the ends of a task that has not run anywhere.
func neverRan(s mesos.TaskState) bool {
	return s == mesos.TaskState_TASK_LOST || s == mesos.TaskState_TASK_DROPPED || s == mesos.TaskState_TASK_GONE || s == mesos.TaskState_TASK_UNKNOWN
}

func reconciled(s *mesos.TaskStatus) bool {
	return s.GetReason() == mesos.TaskStatus_REASON_RECONCILIATION && len(s.GetUuid()) == 0
}

// Wrong returns what must not be in a history, given what the task left behind; unknown says that its end may have been
// seen by nobody. It returns nothing for a task that has gone one legal way, and may still be on it.
func (h *History) Wrong(left Sandbox, unknown bool) []string {
	end, wrong := h.path()
	if left.Began > 1 {
		wrong = append(wrong, fmt.Sprintf("it was launched %d times", left.Began))
	}
	if end != nil {
		wrong = append(wrong, h.wrongEnd(end, left, unknown)...)
	}
	return wrong
}

// path follows the statuses in the order in which they came, and returns the end and what was wrong on the way.
func (h *History) path() (end *mesos.TaskStatus, wrong []string) {
	var at *mesos.TaskStatus // the last that was news
	var seen []string
	for _, m := range h.Moments {
		s := m.Status
		if s == nil {
			continue
		}
		uuid := string(s.GetUuid())
		switch {
		case s.GetState() == mesos.TaskState_TASK_UNREACHABLE:
			wrong = append(wrong, "the agent was given up")
		case reconciled(s) && !neverRan(s.GetState()):
			if rank[s.GetState()] < rank[at.GetState()] || end != nil && s.GetState() != end.GetState() {
				wrong = append(wrong, fmt.Sprintf("reconciliation answered %s after %s", s.GetState(), at.GetState()))
			}
		case uuid != "" && uuid == string(at.GetUuid()): // delivered again
		case uuid != "" && slices.Contains(seen, uuid):
			wrong = append(wrong, fmt.Sprintf("%s was delivered again after %s", s.GetState(), at.GetState()))
		case end != nil && neverRan(end.GetState()) && neverRan(s.GetState()): // said twice, in different words
		case end != nil:
			wrong = append(wrong, fmt.Sprintf("%s came after its end, %s", s.GetState(), end.GetState()))
		case rank[s.GetState()] <= rank[at.GetState()] && s.GetState() != mesos.TaskState_TASK_UNKNOWN:
			wrong = append(wrong, fmt.Sprintf("%s came after %s", s.GetState(), at.GetState()))
		default:
			at = s
			seen = append(seen, uuid)
		}
		if at == s && Final(s) {
			end = s
		}
	}
	return end, wrong
}

// wrongEnd compares an end with what the task did.
func (h *History) wrongEnd(end *mesos.TaskStatus, left Sandbox, unknown bool) []string {
	var wrong []string
	expect := func(holds bool, format string, args ...any) {
		if !holds {
			wrong = append(wrong, fmt.Sprintf("%s: ", end.GetState())+fmt.Sprintf(format, args...))
		}
	}
	status, exited := label(end, "exit_status")
	signal, signalled := label(end, "exit_signal")
	state := end.GetState()
	switch {
	case neverRan(state), state == mesos.TaskState_TASK_FAILED && end.GetReason() == mesos.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED:
		expect(left.Began == 0, "it ran")
	case state == mesos.TaskState_TASK_KILLED:
		expect(h.Kill, "nobody killed it")
		expect(!exited || status == h.Job.Exit && left.Ended == 1, "exit status %d", status)
		expect(!signalled || signal == 9 || signal == 15, "signal %d", signal)
	case state == mesos.TaskState_TASK_FINISHED, state == mesos.TaskState_TASK_FAILED && exited:
		expect(left.Began == 1 && left.Ended == 1, "it began %d times and ended %d times", left.Began, left.Ended)
		expect(exited && status == h.Job.Exit, "exit status %d", status)
		expect((state == mesos.TaskState_TASK_FINISHED) == (h.Job.Exit == 0), "it exits with %d", h.Job.Exit)
	case state == mesos.TaskState_TASK_FAILED && signalled:
		expect(h.Struck && signal == 9, "signal %d", signal)
		expect(left.Began <= 1 && left.Ended == 0, "it began %d times and ended %d times", left.Began, left.Ended)
	case state == mesos.TaskState_TASK_FAILED && end.GetReason() == mesos.TaskStatus_REASON_EXECUTOR_TERMINATED:
		expect(unknown, "how it ended is not known, and was to be seen (it began %d times and ended %d times)", left.Began, left.Ended)
	default:
		expect(false, "%s %s", end.GetReason(), end.GetMessage())
	}
	return wrong
}

func label(s *mesos.TaskStatus, key string) (int, bool) {
	for _, l := range s.GetLabels().GetLabels() {
		if l.GetKey() == key {
			n, err := strconv.Atoi(l.GetValue())
			return n, err == nil
		}
	}
	return 0, false
}
