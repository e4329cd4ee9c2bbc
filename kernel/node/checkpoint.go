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
)

// Keys of the checkpoint. Ids hold no slash, so a task's key is that of one task only.
const (
	agentKey        = "agent"
	frameworkPrefix = "framework/"
	taskPrefix      = "task/"
	// maxKey and maxInfo keep every record within what a store takes.
	maxKey  = 512
	maxInfo = 1 << 20
)

// Checkpoint is what an agent has made durable, decoded; its zero value is that of an
// agent that has never run. Decode makes it.
type Checkpoint struct {
	Agent      *nodepb.Agent
	Frameworks []*nodepb.Framework
	Tasks      []*nodepb.Task
}

// Decode reads a checkpoint from the writes that made it. An error names the record
// that can't be right: an agent must not go on as if its task did not exist.
func Decode(records []step.Write) (Checkpoint, error) {
	var c Checkpoint
	known := map[string]bool{}
	for _, r := range records {
		var err error
		switch {
		case r.Key == agentKey:
			c.Agent = &nodepb.Agent{}
			err = proto.Unmarshal(r.Value, c.Agent)
		case strings.HasPrefix(r.Key, frameworkPrefix):
			f := &nodepb.Framework{}
			err = proto.Unmarshal(r.Value, f)
			known[f.GetInfo().GetId().GetValue()] = true
			c.Frameworks = append(c.Frameworks, f)
		case strings.HasPrefix(r.Key, taskPrefix):
			t := &nodepb.Task{}
			err = proto.Unmarshal(r.Value, t)
			c.Tasks = append(c.Tasks, t)
		default:
			err = fmt.Errorf("no record of an agent has such a key")
		}
		if err != nil {
			return Checkpoint{}, fmt.Errorf("read checkpoint record %q: %w", r.Key, err)
		}
	}
	for _, t := range c.Tasks {
		if err := validTask(t, known); err != nil {
			return Checkpoint{}, fmt.Errorf("read checkpoint record of task %s/%s: %w", t.FrameworkId, t.GetInfo().GetTaskId().GetValue(), err)
		}
	}
	return c, nil
}

func validTask(t *nodepb.Task, frameworks map[string]bool) error {
	switch {
	case rules.ID(t.FrameworkId) != nil || rules.ID(t.GetInfo().GetTaskId().GetValue()) != nil:
		return fmt.Errorf("its id is not one")
	case t.ContainerId == "":
		return fmt.Errorf("it names no container")
	case t.Latest == nil:
		return fmt.Errorf("it has no status")
	case !frameworks[t.FrameworkId]:
		return fmt.Errorf("its framework has no record")
	case lifecycle.Terminal(t.Latest.GetState()) && (t.Discard || len(t.Pending) == 0):
		return fmt.Errorf("it ended and nobody waits for it, so it should be gone")
	case t.Kill != nil && (t.Kill.GraceNanos < 0 || t.Kill.GraceNanos > int64(maxGrace)):
		return fmt.Errorf("a grace of %d ns is not possible", t.Kill.GraceNanos)
	}
	return nil
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
