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
// [Bolt] keeps everything in one file, and beside it FILE.mark, by which it notices that the
// file was exchanged. It refuses a file that is not as it was written; [Salvage] makes a
// store of what can still be read of one. The other implementation is in package etcd, for
// several processes of which one writes. All satisfy [Store] by passing the suite in storetest.
package store
