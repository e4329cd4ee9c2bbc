// Package registry is how what must outlive a master stands in its store: an entry for each
// agent, framework and weight, filed under its own name.
//
//	records, err := registry.Read(entries)
//	out.Persist = append(out.Persist, registry.Agent(record), registry.WithoutFramework(id))
package registry

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/corepb"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/step"
)

const (
	agentPrefix     = "agent/"
	frameworkPrefix = "framework/"
	weightPrefix    = "weight/"
)

// Records are a registry's, each kind in the order of its entries.
type Records struct {
	Agents     []*corepb.AgentRecord
	Frameworks []*corepb.FrameworkRecord
	Weights    []*corepb.WeightRecord
}

// Read decodes entries, of which others than the registry's are left alone, and names the
// first that is not what its key says.
func Read(entries []step.Write) (Records, error) {
	var all Records
	for _, e := range entries {
		var err error
		filed := e.Key
		switch {
		case strings.HasPrefix(e.Key, agentPrefix):
			r := &corepb.AgentRecord{}
			err = proto.Unmarshal(e.Value, r)
			filed = agentPrefix + r.GetInfo().GetId().GetValue()
			all.Agents = append(all.Agents, r)
		case strings.HasPrefix(e.Key, frameworkPrefix):
			r := &corepb.FrameworkRecord{}
			err = proto.Unmarshal(e.Value, r)
			filed = frameworkPrefix + r.GetInfo().GetId().GetValue()
			all.Frameworks = append(all.Frameworks, r)
		case strings.HasPrefix(e.Key, weightPrefix):
			r := &corepb.WeightRecord{}
			if err = proto.Unmarshal(e.Value, r); err == nil && r.WeightMilli < 1 {
				err = fmt.Errorf("the weight is %d thousandths", r.WeightMilli)
			}
			filed = weightPrefix + r.GetRole()
			all.Weights = append(all.Weights, r)
		}
		if err == nil && filed != e.Key {
			err = fmt.Errorf("it is a record of %s", filed)
		}
		if err != nil {
			return Records{}, fmt.Errorf("registry: read %s: %w", e.Key, err)
		}
	}
	return all, nil
}

// Agent puts an agent on record.
func Agent(r *corepb.AgentRecord) step.Write {
	return write(agentPrefix+r.GetInfo().GetId().GetValue(), r)
}

// WithoutAgent takes an agent off the record.
func WithoutAgent(aid id.Agent) step.Write { return step.Write{Key: agentPrefix + string(aid)} }

// Framework puts a framework on record.
func Framework(r *corepb.FrameworkRecord) step.Write {
	return write(frameworkPrefix+r.GetInfo().GetId().GetValue(), r)
}

// WithoutFramework takes a framework off the record.
func WithoutFramework(fid id.Framework) step.Write {
	return step.Write{Key: frameworkPrefix + string(fid)}
}

// Weight puts a role's weight on record.
func Weight(r *corepb.WeightRecord) step.Write { return write(weightPrefix+r.GetRole(), r) }

func write(key string, r proto.Message) step.Write {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("registry: encode %s: %v", key, err))
	}
	return step.Write{Key: key, Value: b}
}
