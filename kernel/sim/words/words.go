// Package words puts messages into the few words that a trace has for each:
//
//	w.note("master -> %s %s", host, words.Link(msg))
package words

import (
	"fmt"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Call words a call of a scheduler.
func Call(c *schedulerpb.Call) string {
	text := c.GetType().String()
	switch c.GetType() {
	case schedulerpb.Call_ACCEPT:
		for _, o := range c.Accept.OfferIds {
			text += " " + o.GetValue()
		}
		for _, op := range c.Accept.Operations {
			for _, t := range op.GetLaunch().GetTaskInfos() {
				text += " +" + t.GetTaskId().GetValue()
			}
		}
	case schedulerpb.Call_KILL:
		text += " " + c.Kill.GetTaskId().GetValue()
	case schedulerpb.Call_ACKNOWLEDGE:
		text += fmt.Sprintf(" %s %x", c.Acknowledge.GetTaskId().GetValue(), c.Acknowledge.Uuid)
	}
	return text
}

// Link words a message between a master and an agent.
func Link(msg any) string {
	switch msg := msg.(type) {
	case *linkpb.ToMaster:
		switch b := msg.Body.(type) {
		case *linkpb.ToMaster_Hello:
			h := b.Hello
			text := fmt.Sprintf("hello %s start %d.%d registered %d epoch %d", h.GetInfo().GetId().GetValue(), h.Incarnation, h.Stream, h.Registered, h.Epoch)
			for _, t := range h.Tasks {
				text += fmt.Sprintf(" %s=%s", t.GetInfo().GetTaskId().GetValue(), State(t.GetStatus().GetState()))
			}
			return text
		case *linkpb.ToMaster_Update:
			return fmt.Sprintf("update %s %s %x now %s", b.Update.Status.GetTaskId().GetValue(), State(b.Update.Status.GetState()),
				b.Update.Status.GetUuid(), State(mesos.TaskState(b.Update.Latest)))
		case *linkpb.ToMaster_ExecutorEnded:
			return fmt.Sprintf("executor %s ended with %d", b.ExecutorEnded.GetExecutorId().GetValue(), b.ExecutorEnded.Status)
		}
		return "pong"
	case *linkpb.ToAgent:
		switch b := msg.Body.(type) {
		case *linkpb.ToAgent_Welcome:
			return "welcome " + b.Welcome.GetAgentId().GetValue()
		case *linkpb.ToAgent_Refused:
			return "refused: " + b.Refused.Message
		case *linkpb.ToAgent_Run:
			return "run " + b.Run.GetTask().GetTaskId().GetValue()
		case *linkpb.ToAgent_Kill:
			return "kill " + b.Kill.GetTaskId().GetValue()
		case *linkpb.ToAgent_Acknowledge:
			return fmt.Sprintf("acknowledge %s %x", b.Acknowledge.GetTaskId().GetValue(), b.Acknowledge.Uuid)
		case *linkpb.ToAgent_EndFramework:
			return "end framework " + b.EndFramework.GetFrameworkId().GetValue()
		case *linkpb.ToAgent_ShutdownExecutor:
			return "shut down executor " + b.ShutdownExecutor.GetExecutorId().GetValue()
		}
		return "ping"
	}
	return "?"
}

// State is the name of a state without what all names have.
func State(s mesos.TaskState) string { return s.String()[len("TASK_"):] }
