package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

type taskView struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	State       string  `json:"state"` // as on the wire, TASK_RUNNING
	FrameworkID string  `json:"framework_id"`
	Framework   string  `json:"framework"` // its name
	AgentID     string  `json:"agent_id"`
	Agent       string  `json:"agent"` // HOST:PORT; empty when the agent is not known any more
	CPUs        float64 `json:"cpus"`
	MemMB       float64 `json:"mem_mb"`
	Usage       *usage  `json:"usage,omitempty"`   // of its container; nothing where it is not measured
	Message     string  `json:"message,omitempty"` // of the last status

	executor string // its id
}

func (s *session) taskCommand() *cobra.Command {
	group := parent("task", "Tasks: what runs, its output, its end")
	group.Example = `  gantry task list
  gantry task logs -f hello-web.1f2e
  gantry task kill hello-web.1f2e
  gantry task trace hello-web.1f2e`
	group.AddCommand(s.taskListCommand(), s.taskLogsCommand(), s.taskKillCommand(), s.taskTraceCommand())
	return group
}

func (s *session) taskListCommand() *cobra.Command {
	var all bool
	c := &cobra.Command{
		Use:   "list",
		Short: "The tasks of every framework, and what they use",
		Long: `Lists the tasks: what each was given (CPUS, MB) and what its container has used: CPU time since
its start, memory now, bytes received and sent. Tasks of one executor share a container.
A dash stands for what is not measured, as the task has not started or the host lacks the means.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := s.client()
			if err != nil {
				return err
			}
			state, err := c.State(cmd.Context())
			if err != nil {
				return err
			}
			views := tasksOf(state)
			if !all {
				views = slices.DeleteFunc(views, func(v taskView) bool { return terminalState(v.State) })
			}
			s.measure(cmd.Context(), c, views)
			return s.show(views, func(t *table) { drawTasks(t, views) })
		},
	}
	s.jsonFlag(c)
	c.Flags().BoolVarP(&all, "all", "a", false, "include tasks that have ended")
	return c
}

func drawTasks(t *table, views []taskView) {
	t.row("TASK", "STATE", "FRAMEWORK", "AGENT", "CPUS", "CPU TIME", "MB", "MB USED", "RECEIVED", "SENT", "MESSAGE")
	for _, v := range views {
		cpuTime, mem, received, sent := v.Usage.cells()
		t.row(v.ID, stateWord(v.State), v.Framework, v.Agent, number(v.CPUs), cpuTime, number(v.MemMB), mem, received, sent, v.Message)
	}
}

// tasksOf lists every task of the state, those that ended last.
func tasksOf(state *masterpb.Response_GetState) []taskView {
	agents := map[string]string{}
	for _, a := range state.GetGetAgents().GetAgents() {
		agents[a.GetAgentInfo().GetId().GetValue()] = client.AgentAddress(a.GetAgentInfo())
	}
	names := map[string]string{}
	frameworks := state.GetGetFrameworks()
	for _, f := range slices.Concat(frameworks.GetFrameworks(), frameworks.GetCompletedFrameworks()) {
		names[f.GetFrameworkInfo().GetId().GetValue()] = f.GetFrameworkInfo().GetName()
	}
	tasks := state.GetGetTasks()
	views := []taskView{}
	for _, t := range slices.Concat(tasks.GetTasks(), tasks.GetUnreachableTasks(), tasks.GetCompletedTasks()) {
		v := taskView{
			ID:          t.GetTaskId().GetValue(),
			Name:        t.GetName(),
			State:       t.GetState().String(),
			FrameworkID: t.GetFrameworkId().GetValue(),
			Framework:   names[t.GetFrameworkId().GetValue()],
			AgentID:     t.GetAgentId().GetValue(),
			Agent:       agents[t.GetAgentId().GetValue()],
			CPUs:        scalar(t.GetResources(), "cpus"),
			MemMB:       scalar(t.GetResources(), "mem"),
			executor:    cmp.Or(t.GetExecutorId().GetValue(), t.GetTaskId().GetValue()),
		}
		if n := len(t.GetStatuses()); n > 0 {
			v.Message = t.GetStatuses()[n-1].GetMessage()
		}
		views = append(views, v)
	}
	return views
}

// shortState is a state without its prefix, in small letters: running.
func shortState(state mesos.TaskState) string { return stateWord(state.String()) }

func stateWord(state string) string { return strings.ToLower(strings.TrimPrefix(state, "TASK_")) }

// terminalState reports whether a task in the state has ended for good.
func terminalState(state string) bool {
	switch mesos.TaskState(mesos.TaskState_value[state]) {
	case mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_KILLED,
		mesos.TaskState_TASK_ERROR, mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_DROPPED,
		mesos.TaskState_TASK_GONE, mesos.TaskState_TASK_GONE_BY_OPERATOR:
		return true
	}
	return false
}

// findTask returns the task that a person means: by its id, by FRAMEWORK/TASK, or by the beginning of the id when
// only one begins so. Of tasks with equal ids the one that has not ended is meant.
func findTask(views []taskView, said string) (taskView, error) {
	match := func(fits func(taskView) bool) []taskView {
		found := slices.DeleteFunc(slices.Clone(views), func(v taskView) bool { return !fits(v) })
		live := slices.DeleteFunc(slices.Clone(found), func(v taskView) bool { return terminalState(v.State) })
		if len(live) > 0 {
			return live
		}
		return found
	}
	found := match(func(v taskView) bool { return v.ID == said || v.FrameworkID+"/"+v.ID == said })
	if len(found) == 0 {
		found = match(func(v taskView) bool { return strings.HasPrefix(v.ID, said) })
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return taskView{}, fmt.Errorf("there is no task %q: `gantry task list --all` shows every one", said)
	}
	ids := make([]string, len(found))
	for i, v := range found {
		ids[i] = v.FrameworkID + "/" + v.ID
	}
	return taskView{}, fmt.Errorf("%q could be any of %s: give more of the id", said, list(ids))
}

func (s *session) lookUp(ctx context.Context, said string) (*client.Client, taskView, error) {
	c, err := s.client()
	if err != nil {
		return nil, taskView{}, err
	}
	state, err := c.State(ctx)
	if err != nil {
		return nil, taskView{}, err
	}
	v, err := findTask(tasksOf(state), said)
	return c, v, err
}

func (s *session) taskKillCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "kill TASK",
		Short: "End a task; a service's instance is replaced",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, v, err := s.lookUp(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if terminalState(v.State) {
				return fmt.Errorf("task %s has ended already: it is %s", v.ID, stateWord(v.State))
			}
			if err := c.KillTask(cmd.Context(), v.FrameworkID, v.ID); err != nil {
				return err
			}
			answer := map[string]string{"framework_id": v.FrameworkID, "task_id": v.ID}
			return s.show(answer, func(t *table) { t.line("%s is being ended", v.ID) })
		},
	}
	s.jsonFlag(c)
	return c
}

func (s *session) taskLogsCommand() *cobra.Command {
	var follow, raw bool
	c := &cobra.Command{
		Use:   "logs TASK",
		Short: "What a task has written; with -f as it writes",
		Long: `Prints what a task has written: its stdout to stdout, its stderr to stderr.
On a terminal control characters are escaped, unless --raw is given. With --json both are
printed as one object when the end is reached.`,
		Example: "  gantry task logs -f hello-web.1f2e",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.taskLogs(cmd.Context(), args[0], follow, raw)
		},
	}
	s.jsonFlag(c)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the task ends")
	c.Flags().BoolVar(&raw, "raw", false, "pass control characters on to the terminal")
	return c
}

// taskLogs shows what the task that is meant has written.
func (s *session) taskLogs(ctx context.Context, said string, follow, raw bool) error {
	c, v, err := s.lookUp(ctx, said)
	if err != nil {
		return err
	}
	if v.Agent == "" {
		return fmt.Errorf("the agent %s, which has the output of %s, is not in the cluster any more", v.AgentID, v.ID)
	}
	done := make(chan struct{})
	if follow && !terminalState(v.State) {
		go watchEnd(ctx, c, v, done)
	} else {
		close(done)
	}
	box := client.Sandbox{Agent: v.Agent, Framework: v.FrameworkID, Task: v.ID}
	return s.logs(ctx, tail{client: c, box: box, done: done}, raw)
}

func (s *session) logs(ctx context.Context, t tail, raw bool) error {
	if !s.json {
		return t.copy(ctx, s.outputs(raw))
	}
	var out, errOut strings.Builder
	if err := t.copy(ctx, outputs{&out, &errOut}); err != nil {
		return err
	}
	return s.show(map[string]string{"stdout": out.String(), "stderr": errOut.String()}, nil)
}

// outputs are where a task's two streams go.
type outputs struct{ stdout, stderr io.Writer }

func (s *session) outputs(raw bool) outputs {
	return outputs{
		stdout: terminal{w: s.out, on: !raw && isTerminal(s.out)},
		stderr: terminal{w: s.err, on: !raw && isTerminal(s.err)},
	}
}

// watchEnd closes done when the task has ended, when the master doesn't know it any more, or with ctx.
func watchEnd(ctx context.Context, c *client.Client, v taskView, done chan<- struct{}) {
	defer close(done)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		tasks, err := c.Tasks(ctx)
		if err != nil {
			continue // a master that restarts is back soon; the agent's answers tell of greater trouble
		}
		live := slices.ContainsFunc(tasks.GetTasks(), func(t *mesos.Task) bool {
			return t.GetFrameworkId().GetValue() == v.FrameworkID && t.GetTaskId().GetValue() == v.ID &&
				!terminalState(t.GetState().String())
		})
		if !live {
			return
		}
	}
}
