// Package hello reads what an agent says when it connects: what it has, and what runs on
// it. All of it is checked before the master changes anything:
//
//	held, err := hello.Read(msg)
package hello

import (
	"cmp"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/rules"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Holdings are what an agent has, and what holds it: all fits.
type Holdings struct {
	Total     ledger.Resources
	Tasks     []Task     // each once
	Executors []Executor // each once
}

// Task is a task of a Hello.
type Task struct {
	Key       id.TaskKey
	Role      string // that its resources are allocated to; empty if it does not say
	Resources ledger.Resources
	Msg       *linkpb.HeldTask
}

// ExecutorKey is unique on one agent.
type ExecutorKey struct {
	Framework id.Framework
	Executor  string
}

// Compare orders by framework, then executor.
func (k ExecutorKey) Compare(o ExecutorKey) int {
	return cmp.Or(cmp.Compare(k.Framework, o.Framework), cmp.Compare(k.Executor, o.Executor))
}

// Executor is an executor of a Hello.
type Executor struct {
	Key       ExecutorKey
	Role      string // as of a Task
	Resources ledger.Resources
	Msg       *linkpb.HeldExecutor
}

// Read decodes a Hello, or says in a sentence what is wrong with it.
func Read(h *linkpb.Hello) (Holdings, error) {
	if err := checkID(h); err != nil {
		return Holdings{}, err
	}
	if host := h.GetInfo().GetHostname(); host == "" || !utf8.ValidString(host) {
		return Holdings{}, fmt.Errorf("the agent's hostname is %q: it must be text", host)
	}
	total, err := ledger.FromMesos(h.Info.Resources)
	if err != nil {
		return Holdings{}, fmt.Errorf("resources of the agent: %w", err)
	}
	held := Holdings{Total: total}
	rest, err := held.readTasks(h.Tasks)
	if err == nil {
		err = held.readExecutors(h.Executors, rest)
	}
	if err != nil {
		return Holdings{}, err
	}
	return held, nil
}

// readTasks returns what the tasks leave of the agent.
func (held *Holdings) readTasks(list []*linkpb.HeldTask) (ledger.Resources, error) {
	rest := held.Total
	seen := map[id.TaskKey]bool{}
	for _, msg := range list {
		t, err := readTask(msg)
		if err == nil && seen[t.Key] {
			err = errors.New("it stands twice")
		}
		if err != nil {
			return rest, fmt.Errorf("task %s: %w", t.Key, err)
		}
		seen[t.Key] = true
		held.Tasks = append(held.Tasks, t)
		if lifecycle.Terminal(msg.Status.GetState()) {
			continue
		}
		left, fits := rest.Minus(t.Resources)
		if !fits {
			return rest, fmt.Errorf("the agent has %s, of which task %s, beside its others, can't hold %s: start it with more", held.Total, t.Key, t.Resources)
		}
		rest = left
	}
	return rest, nil
}

func readTask(msg *linkpb.HeldTask) (Task, error) {
	t := Task{Msg: msg, Key: id.TaskKey{
		Framework: id.Framework(msg.GetFrameworkId().GetValue()), Task: id.Task(msg.GetInfo().GetTaskId().GetValue()),
	}}
	err := checkIDs(string(t.Key.Framework), string(t.Key.Task))
	if err == nil {
		t.Resources, t.Role, err = readResources(msg.GetInfo().GetResources())
	}
	if err == nil && (msg.GetStatus() == nil || !Says(msg.GetStatus().GetState())) {
		err = fmt.Errorf("%s is not for an agent to say", msg.GetStatus().GetState())
	}
	return t, err
}

// readExecutors takes executors, which must fit into the rest of the agent.
func (held *Holdings) readExecutors(list []*linkpb.HeldExecutor, rest ledger.Resources) error {
	seen := map[ExecutorKey]bool{}
	for _, msg := range list {
		e, err := readExecutor(msg)
		if err == nil && seen[e.Key] {
			err = errors.New("it stands twice")
		}
		if err != nil {
			return fmt.Errorf("executor %s of framework %s: %w", e.Key.Executor, e.Key.Framework, err)
		}
		left, fits := rest.Minus(e.Resources)
		if !fits {
			return fmt.Errorf("the agent can't hold executor %s of framework %s with %s: start it with more", e.Key.Executor, e.Key.Framework, e.Resources)
		}
		rest, seen[e.Key] = left, true
		held.Executors = append(held.Executors, e)
	}
	return nil
}

func readExecutor(msg *linkpb.HeldExecutor) (Executor, error) {
	e := Executor{Msg: msg, Key: ExecutorKey{
		id.Framework(msg.GetFrameworkId().GetValue()), msg.GetInfo().GetExecutorId().GetValue(),
	}}
	err := checkIDs(string(e.Key.Framework), e.Key.Executor)
	if err == nil {
		e.Resources, e.Role, err = readResources(msg.GetInfo().GetResources())
	}
	return e, err
}

func checkIDs(ids ...string) error {
	for _, s := range ids {
		if err := rules.ID(s); err != nil {
			return err
		}
	}
	return nil
}

func readResources(list []*mesos.Resource) (ledger.Resources, string, error) {
	resources, err := ledger.FromMesos(list)
	if err != nil {
		return resources, "", err
	}
	role, err := ledger.AllocationRole(list)
	if err == nil && role != "" {
		err = rules.Role(role)
	}
	return resources, role, err
}

// Says tells whether a state may come from an agent; the others are the master's.
func Says(s mesos.TaskState) bool {
	switch s {
	case mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_KILLING,
		mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_KILLED, mesos.TaskState_TASK_ERROR,
		mesos.TaskState_TASK_DROPPED, mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_GONE:
		return true
	}
	return false
}
