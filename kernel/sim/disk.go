package sim

import (
	"maps"
	"slices"

	"github.com/gantry-project/gantry/kernel/step"
)

// disk is what outlives a process.
type disk map[string][]byte

func (d disk) apply(writes []step.Write) {
	for _, w := range writes {
		if w.Value == nil {
			delete(d, w.Key)
		} else {
			d[w.Key] = w.Value
		}
	}
}

// records lists the keys in order, as a store does.
func (d disk) records() []step.Write {
	list := make([]step.Write, 0, len(d))
	for _, key := range sorted(d) {
		list = append(list, step.Write{Key: key, Value: d[key]})
	}
	return list
}

// sorted lists the keys of a map in order: the only way that maps are walked here, or the
// same seed would not give the same run.
func sorted[K ~string, V any](all map[K]V) []K { return slices.Sorted(maps.Keys(all)) }
