package node

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/node/nodepb"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Keys of the checkpoint. Ids hold no slash, so a task's key is that of one task only.
const (
	agentKey        = "agent"
	frameworkPrefix = "framework/"
	executorPrefix  = "executor/"
	taskPrefix      = "task/"
	// maxKey and maxInfo keep every record within what a store takes.
	maxKey  = 512
	maxInfo = 1 << 20
	// An executor's statuses wait for its framework within these bounds; beyond them only
	// the newest of a state is kept.
	maxStatus       = 128 << 10
	maxPending      = 64
	maxPendingBytes = 512 << 10
)

// Checkpoint is what an agent has made durable, decoded; its zero value is that of an
// agent that has never run. Decode makes it.
type Checkpoint struct {
	Agent      *nodepb.Agent
	Frameworks []*nodepb.Framework
	Executors  []*nodepb.Executor
	Tasks      []*nodepb.Task
}

// Decode reads a checkpoint from the writes that made it. An error names the record
// that can't be right: an agent must not go on as if its task did not exist. Frameworks are
// those on record, and those of which only a task or an executor is.
func Decode(records []step.Write) (Checkpoint, error) {
	var c Checkpoint
	known, owned := map[string]bool{}, map[string]bool{}
	for _, r := range records {
		var err error
		filed := r.Key
		switch {
		case r.Key == agentKey:
			c.Agent = &nodepb.Agent{}
			err = proto.Unmarshal(r.Value, c.Agent)
		case strings.HasPrefix(r.Key, frameworkPrefix):
			f := &nodepb.Framework{}
			err = proto.Unmarshal(r.Value, f)
			known[f.GetInfo().GetId().GetValue()] = true
			filed = frameworkPrefix + f.GetInfo().GetId().GetValue()
			c.Frameworks = append(c.Frameworks, f)
		case strings.HasPrefix(r.Key, executorPrefix):
			e := &nodepb.Executor{}
			err = proto.Unmarshal(r.Value, e)
			c.Executors = append(c.Executors, e)
		case strings.HasPrefix(r.Key, taskPrefix):
			t := &nodepb.Task{}
			err = proto.Unmarshal(r.Value, t)
			c.Tasks = append(c.Tasks, t)
			filed = keyOfTask(id.TaskKey{Framework: id.Framework(t.FrameworkId), Task: id.Task(t.GetInfo().GetTaskId().GetValue())})
		default:
			err = fmt.Errorf("no record of an agent has such a key")
		}
		if err == nil && filed != r.Key {
			err = fmt.Errorf("it is the record of %q", filed)
		}
		if err != nil {
			return Checkpoint{}, fmt.Errorf("read checkpoint record %q: %w", r.Key, err)
		}
	}
	hosts := map[string]string{}
	for _, e := range c.Executors {
		key := e.FrameworkId + "/" + e.GetInfo().GetExecutorId().GetValue()
		c.rebuild(e.FrameworkId, known)
		err := validExecutor(e)
		if err == nil && owned[e.ContainerId] {
			err = fmt.Errorf("its container %s is another executor's, too", e.ContainerId)
		}
		if err != nil {
			return Checkpoint{}, fmt.Errorf("read checkpoint record of executor %s: %w", key, err)
		}
		owned[e.ContainerId], hosts[e.ContainerId] = true, key
	}
	for _, t := range c.Tasks {
		c.rebuild(t.FrameworkId, known)
		err := validTask(t)
		custom := t.GetInfo().GetExecutor()
		switch {
		case err != nil:
		case custom == nil && owned[t.ContainerId]:
			err = fmt.Errorf("its container %s is another task's, too", t.ContainerId)
		case custom == nil:
			owned[t.ContainerId] = true
		case !lifecycle.Terminal(t.Latest.GetState()) && hosts[t.ContainerId] != t.FrameworkId+"/"+custom.GetExecutorId().GetValue():
			err = fmt.Errorf("its executor has no record")
		}
		if err != nil {
			return Checkpoint{}, fmt.Errorf("read checkpoint record of task %s/%s: %w", t.FrameworkId, t.GetInfo().GetTaskId().GetValue(), err)
		}
	}
	return c, nil
}

// CheckHome says whether the checkpoint was made at this home, the host and folder where
// it was found: the shell asks before Recovered. A copy that runs in another place, beside
// the original or after it, would have two agents speak for the same tasks. An empty home,
// here or there, is one that nobody knows.
func (c Checkpoint) CheckHome(home string) error {
	made := c.Agent.GetHome()
	if home == "" || made == "" || made == home {
		return nil
	}
	return fmt.Errorf("this is the checkpoint of agent %s at %s, found at %s: bring it back to where it was, or move it away to join as a new agent",
		c.Agent.GetAgentId(), made, home)
}

// rebuild makes up for the lost record of a framework that has a task or an executor: what
// counts about it is its id, and with its next task comes the rest.
func (c *Checkpoint) rebuild(fid string, known map[string]bool) {
	if !known[fid] {
		known[fid] = true
		c.Frameworks = append(c.Frameworks, &nodepb.Framework{Info: &mesos.FrameworkInfo{
			Id: &mesos.FrameworkID{Value: &fid}, User: proto.String(""), Name: proto.String("(its record was lost)"),
		}})
	}
}

func validTask(t *nodepb.Task) error {
	switch {
	case rules.ID(t.FrameworkId) != nil || rules.ID(t.GetInfo().GetTaskId().GetValue()) != nil:
		return fmt.Errorf("its id is not one")
	case t.ContainerId == "":
		return fmt.Errorf("it names no container")
	case t.Latest == nil:
		return fmt.Errorf("it has no status")
	case t.Kill != nil && (t.Kill.GraceNanos < 0 || t.Kill.GraceNanos > int64(maxGrace)):
		return fmt.Errorf("a grace of %d ns is not possible", t.Kill.GraceNanos)
	}
	for _, s := range append([]*mesos.TaskStatus{t.Latest}, t.Pending...) {
		_, ends := lifecycle.NextTask(s.GetState(), mesos.TaskState_TASK_FAILED)
		if ends == lifecycle.Stale && !lifecycle.Terminal(s.GetState()) {
			return fmt.Errorf("%s is no state of a task", s.GetState())
		}
	}
	return taskOf(t, 0).check()
}

func validExecutor(e *nodepb.Executor) error {
	switch {
	case rules.ID(e.FrameworkId) != nil || rules.ID(e.GetInfo().GetExecutorId().GetValue()) != nil:
		return fmt.Errorf("its id is not one")
	case e.ContainerId == "":
		return fmt.Errorf("it names no container")
	case e.Shutdown != nil && (e.Shutdown.GraceNanos < 0 || e.Shutdown.GraceNanos > int64(maxGrace)):
		return fmt.Errorf("a grace of %d ns is not possible", e.Shutdown.GraceNanos)
	}
	return nil
}

func keyOfExecutor(k executorKey) string {
	return executorPrefix + string(k.Framework) + "/" + k.Executor
}

func keyOfTask(k id.TaskKey) string {
	return taskPrefix + string(k.Framework) + "/" + string(k.Task)
}

// encode never fails: what it is given was decoded, or checked by refusal.
func encode(m proto.Message) []byte {
	value, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("node: encode %T: %v", m, err))
	}
	return value
}
