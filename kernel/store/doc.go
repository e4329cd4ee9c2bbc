// Package store is the small durable registry of a process: keyed values, changed by
// conditional transactions, each of which is on disk before Apply returns.
//
//	s, err := store.OpenBolt(filepath.Join(workDir, "master", "registry.db"))
//	res, err := s.Apply(ctx, store.Txn{
//		Conditions: []store.Condition{{Key: "epoch", Revision: seen}},
//		Puts:       []store.Entry{{Key: "epoch", Value: next}},
//	})
//	if err == nil && !res.Applied {
//		// someone else wrote epoch after it was seen
//	}
//
// [Bolt] keeps everything in one file. Other implementations satisfy [Store] by passing
// the suite in storetest.
package store
