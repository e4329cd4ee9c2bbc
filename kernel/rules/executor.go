package rules

import (
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

// ExecutorCall tells whether an executor's call is complete and says nothing that an
// executor may not say. What needs the agent's state is judged later.
func ExecutorCall(c *executorpb.Call) error {
	if err := initialized(c); err != nil {
		return err
	}
	switch {
	case c.Type == nil:
		return refuse("Expecting 'type' to be present")
	case c.GetType() == executorpb.Call_SUBSCRIBE && c.Subscribe == nil:
		return refuse("Expecting 'subscribe' to be present")
	case c.GetType() == executorpb.Call_MESSAGE && c.Message == nil:
		return refuse("Expecting 'message' to be present")
	case c.GetType() == executorpb.Call_UPDATE && c.Update == nil:
		return refuse("Expecting 'update' to be present")
	case c.GetType() != executorpb.Call_UPDATE:
		return nil
	}
	s := c.GetUpdate().GetStatus()
	if s.ExecutorId != nil && s.GetExecutorId().GetValue() != c.GetExecutorId().GetValue() {
		return refuse("ExecutorID in Call: %s does not match ExecutorID in TaskStatus: %s", c.GetExecutorId().GetValue(), s.GetExecutorId().GetValue())
	}
	return ExecutorStatus(s)
}

// ExecutorStatus tells whether a status is one that an executor may give.
func ExecutorStatus(s *mesos.TaskStatus) error {
	if s.Uuid == nil {
		return refuse("Expecting 'uuid' to be present")
	}
	if err := uuid(s.GetUuid()); err != nil {
		return err
	}
	if s.Source == nil || s.GetSource() != mesos.TaskStatus_SOURCE_EXECUTOR {
		return refuse("Received Call with an invalid source, expecting 'SOURCE_EXECUTOR'")
	}
	switch s.GetState() {
	case mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_KILLING,
		mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED, mesos.TaskState_TASK_KILLED,
		mesos.TaskState_TASK_ERROR, mesos.TaskState_TASK_LOST, mesos.TaskState_TASK_DROPPED, mesos.TaskState_TASK_GONE:
		return nil
	}
	return refuse("Received %s, which is not for an executor to say", s.GetState())
}
