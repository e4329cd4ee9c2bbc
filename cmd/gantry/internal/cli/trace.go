package cli

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
)

// traceStep is one step of a task's way, and whose clock it is timed by.
type traceStep struct {
	client.Mark
	Clock string `json:"clock"` // HOST:PORT of the master or agent whose host's clock At is of

	// AfterSeconds is the time since the step before; nothing where that was on another host, whose clock may differ.
	AfterSeconds *float64 `json:"after_seconds,omitempty"`

	after time.Duration // the same, between two clocks as well
}

type traceView struct {
	ID          string      `json:"id"`
	FrameworkID string      `json:"framework_id"`
	Framework   string      `json:"framework"` // its name
	AgentID     string      `json:"agent_id"`
	Agent       string      `json:"agent"` // HOST:PORT
	Steps       []traceStep `json:"steps"`

	// Notes are sentences on what is not known, and on clocks.
	Notes []string `json:"notes,omitempty"`
}

func (s *session) taskTraceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "trace TASK",
		Short: "A task's way from its offer to its end, with times",
		Long: `Shows each step of one task's way: who did it, when, and how long after the step before.

  offered        the allocator had the master offer what the task took
  accepted       its framework launched it with that
  sent           the master sent it to the agent; received by that, and checkpointed on its disk
  prepared       its sandbox and root filesystem are there
  started        its command runs in its container; ended when nothing of it runs any more
  launched       its executor was told to run it, where it is for one; the container is that of the executor then
  reported       the agent sent a status; an update when the master had it
  delivered      its framework was told of it, and has acknowledged it

Times are by the clock of the host that CLOCK names; "~" marks a time between the clocks of two hosts, which
may differ. Masters and agents remember the tasks that live and the last 1000 that ended, until they end themselves.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, v, err := s.lookUp(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			view, err := trace(cmd.Context(), c, v)
			if err != nil {
				return err
			}
			return s.show(view, func(t *table) { drawTrace(t, view) })
		},
	}
	s.jsonFlag(c)
	return c
}

// trace puts together what master and agent remember.
func trace(ctx context.Context, c *client.Client, v taskView) (*traceView, error) {
	view := &traceView{ID: v.ID, FrameworkID: v.FrameworkID, Framework: v.Framework, AgentID: v.AgentID, Agent: v.Agent}
	marks, err := c.Trace(ctx, c.Master(), v.FrameworkID, v.ID)
	if err != nil {
		return nil, err
	}
	master := stepsBy(c.Master(), marks)
	if len(master) == 0 {
		view.note("The master does not remember it: it was launched before the master was started, or long ago.")
	}
	var agent []traceStep
	if v.Agent == "" {
		view.note("Its agent %s is not in the cluster any more.", v.AgentID)
	} else if marks, err := c.Trace(ctx, v.Agent, v.FrameworkID, v.ID); err != nil {
		view.note("What its agent knows is missing: %v.", err)
	} else if agent = stepsBy(v.Agent, marks); len(agent) == 0 {
		view.note("Its agent does not remember it: it was sent there before the agent was started, or long ago.")
	}
	view.Steps = mergeSteps(master, agent)
	for i := 1; i < len(view.Steps); i++ {
		view.measure(&view.Steps[i-1], &view.Steps[i])
	}
	return view, nil
}

func (v *traceView) note(format string, args ...any) {
	v.Notes = append(v.Notes, fmt.Sprintf(format, args...))
}

// measure sets how long after one step the next was. An effect before its cause shows how far two clocks are apart, at least.
func (v *traceView) measure(before, step *traceStep) {
	step.after = step.At.Sub(before.At)
	if sameHost(before.Clock, step.Clock) {
		seconds := step.after.Seconds()
		step.AfterSeconds = &seconds
	} else if step.after < 0 && causes(before.Mark, step.Mark) {
		v.note("The clock of %s is at least %s behind that of %s.", step.Clock, -step.after, before.Clock)
	}
}

func stepsBy(clock string, marks []client.Mark) []traceStep {
	steps := make([]traceStep, len(marks))
	for i, m := range marks {
		steps[i] = traceStep{Mark: m, Clock: clock}
	}
	return steps
}

// mergeSteps puts two lists in one order: each keeps its own, no effect comes before its cause, and beyond that the
// clocks decide.
func mergeSteps(master, agent []traceStep) []traceStep {
	merged := []traceStep{}
	for len(master)+len(agent) > 0 {
		from := &agent
		switch {
		case len(master) == 0:
		case len(agent) == 0 || waits(agent[0], master):
			from = &master
		case waits(master[0], agent):
		case !agent[0].At.Before(master[0].At):
			from = &master
		}
		merged = append(merged, (*from)[0])
		*from = (*from)[1:]
	}
	return merged
}

// waits says whether a cause of the step is among those that are still to come.
func waits(step traceStep, coming []traceStep) bool {
	for _, c := range coming {
		if causes(c.Mark, step.Mark) {
			return true
		}
	}
	return false
}

// causes says whether a message went from one host's step to the other's.
func causes(sent, received client.Mark) bool {
	return sent.Step == "sent" && received.Step == "received" ||
		sent.Step == "reported" && received.Step == "update" && sent.State == received.State
}

func sameHost(a, b string) bool {
	hostA, _, errA := net.SplitHostPort(a)
	hostB, _, errB := net.SplitHostPort(b)
	return errA == nil && errB == nil && hostA == hostB
}

func drawTrace(t *table, v *traceView) {
	t.row("STEP", "BY", "AT", "AFTER", "CLOCK")
	for i, step := range v.Steps {
		name := step.Step
		if step.State != "" {
			name += " " + stateWord(step.State)
		}
		if step.Detail != "" {
			name += " " + step.Detail
		}
		by := step.By
		if by == "framework" && v.Framework != "" {
			by += " " + v.Framework
		}
		after := step.after.Round(time.Microsecond).String()
		switch {
		case i == 0:
			after = ""
		case step.AfterSeconds == nil:
			after = "~" + after
		}
		t.row(name, by, step.At.Local().Format("2006-01-02 15:04:05.000000"), after, step.Clock)
	}
	for _, note := range v.Notes {
		t.line("%s", note)
	}
}
