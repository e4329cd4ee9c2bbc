// Package disk is what outlives a process of a simulation: records by their keys.
//
//	d := disk.Disk{}
//	d.Apply(out.Persist)
//	machine.Step(now, core.Recovered{Entries: d.Records()}, out)
package disk

import (
	"maps"
	"slices"

	"github.com/gantry-project/gantry/kernel/step"
)

// Disk holds records. Copies of it can be made with maps.Clone.
type Disk map[string][]byte

// Apply makes writes, of which those without a value delete.
func (d Disk) Apply(writes []step.Write) {
	for _, w := range writes {
		if w.Value == nil {
			delete(d, w.Key)
		} else {
			d[w.Key] = w.Value
		}
	}
}

// Records lists what there is in the order of the keys, as a store does.
func (d Disk) Records() []step.Write {
	list := make([]step.Write, 0, len(d))
	for _, key := range slices.Sorted(maps.Keys(d)) {
		list = append(list, step.Write{Key: key, Value: d[key]})
	}
	return list
}
