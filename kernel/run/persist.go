package run

import (
	"context"

	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/kernel/store"
)

// applyWrites makes writes durable in order; of several to a key the last one counts, and
// what exceeds one transaction goes into the next.
func applyWrites(ctx context.Context, s store.Store, writes []step.Write) error {
	last := make(map[string]int, len(writes))
	for i, w := range writes {
		last[w.Key] = i
	}
	var txn store.Txn
	size := 0
	flush := func() error {
		if size == 0 {
			return nil
		}
		_, err := s.Apply(ctx, txn)
		txn, size = store.Txn{}, 0
		return err
	}
	for i, w := range writes {
		if last[w.Key] != i {
			continue
		}
		cost := len(w.Key) + len(w.Value)
		if size+cost > store.MaxTxn || len(txn.Puts)+len(txn.Deletes) == store.MaxOps {
			if err := flush(); err != nil {
				return err
			}
		}
		size += cost
		if w.Value == nil {
			txn.Deletes = append(txn.Deletes, w.Key)
		} else {
			txn.Puts = append(txn.Puts, store.Entry{Key: w.Key, Value: w.Value})
		}
	}
	return flush()
}

// loadAll reads every entry with one of the prefixes, in order.
func loadAll(ctx context.Context, s store.Store, prefixes ...string) ([]step.Write, error) {
	var all []step.Write
	for _, prefix := range prefixes {
		after := ""
		for more := true; more; {
			var entries []store.Entry
			var err error
			if entries, more, err = s.List(ctx, prefix, after, 0); err != nil {
				return nil, err
			}
			for _, e := range entries {
				all = append(all, step.Write{Key: e.Key, Value: e.Value})
				after = e.Key
			}
		}
	}
	return all, nil
}
