package run

import (
	"strings"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/step"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// Traces returns what the agent knows of the ways of tasks that were sent to it since it
// was started.
func (a *Agent) Traces(framework, task string) []api.Trace { return a.trace.Traces(framework, task) }

// traceEvent notes what comes in for a task.
func (a *Agent) traceEvent(ev node.Event) {
	if m, ok := ev.(node.FromMaster); ok && m.Message.GetRun() != nil {
		r := m.Message.GetRun()
		key := id.TaskKey{
			Framework: id.Framework(r.GetFramework().GetId().GetValue()), Task: id.Task(r.GetTask().GetTaskId().GetValue()),
		}
		a.trace.Begin(key, api.Mark{Step: "received", By: "agent", At: a.cfg.Now()})
		if r.GetLaunchExecutor() {
			a.trace.Bring(key, r.GetTask().GetExecutor().GetExecutorId().GetValue())
		}
	}
}

// traceEffects notes what the machine has decided and is durable.
func (a *Agent) traceEffects(out *node.Effects) {
	for _, w := range out.Persist {
		if key, ok := taskOf(w); ok {
			a.trace.Mark(key, api.Mark{Step: "checkpointed", By: "agent"})
		}
	}
	for _, ask := range out.Ask {
		switch ask := ask.(type) {
		case node.Launch:
			a.traced[ask.Container] = keyOf(ask)
			if ask.Executor != nil {
				a.traced[ask.Container] = a.trace.Bringer(keyOf(ask).Framework, ask.Executor.GetExecutorId().GetValue())
			}
		case node.Forget:
			delete(a.traced, ask.Container)
		}
	}
	for _, t := range out.Tell {
		if task := t.Event.GetLaunch().GetTask(); task != nil {
			a.trace.Mark(id.TaskKey{
				Framework: id.Framework(task.GetExecutor().GetFrameworkId().GetValue()), Task: id.Task(task.GetTaskId().GetValue()),
			}, api.Mark{Step: "launched", By: "agent"})
		}
	}
	for _, s := range out.Send {
		u := s.Message.GetUpdate()
		if u == nil {
			continue
		}
		key := id.TaskKey{Framework: id.Framework(u.GetFrameworkId().GetValue()), Task: id.Task(u.GetStatus().GetTaskId().GetValue())}
		a.trace.Mark(key, api.Mark{Step: "reported", State: u.GetStatus().GetState().String(), By: "agent"})
		if lifecycle.Terminal(u.GetStatus().GetState()) { // it may be that of a task that was refused
			a.trace.End(key)
		}
	}
	for _, key := range out.Dropped {
		a.trace.End(key)
	}
}

// traceKeeper notes what the keeper did to the container of a command, or of an executor that
// a task brought with it, whose end is none of the task. What an earlier agent launched has no
// trace.
func (a *Agent) traceKeeper(container, step string) {
	if key := a.traced[container]; step != "ended" || !a.trace.Brings(key) {
		a.trace.Mark(key, api.Mark{Step: step, By: "keeper"})
	}
}

// preparedMark tells which image the container has, if it has one.
func preparedMark(spec *containerpb.Spec) api.Mark {
	m := api.Mark{Step: "prepared", By: "agent"}
	if digest := spec.GetLabels()[ImageLabel]; digest != "" {
		m.Detail = "image " + digest
	}
	return m
}

// keyOf is the task of a launch; that of an executor is for no single one.
func keyOf(l node.Launch) id.TaskKey {
	return id.TaskKey{Framework: id.Framework(l.Framework.GetId().GetValue()), Task: id.Task(l.Task.GetTaskId().GetValue())}
}

// taskOf is the task that a checkpoint is of.
func taskOf(w step.Write) (key id.TaskKey, ok bool) {
	path, ok := strings.CutPrefix(w.Key, "task/")
	framework, task, _ := strings.Cut(path, "/")
	return id.TaskKey{Framework: id.Framework(framework), Task: id.Task(task)}, ok && w.Value != nil
}
