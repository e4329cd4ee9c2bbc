// Package lifecycle says how the states of tasks, offers and operations may follow one
// another: a table for each, all of them here and nowhere else.
//
//	state, verdict := lifecycle.NextTask(task.State, status.GetState())
//	if verdict == lifecycle.Stale {
//		return // it was overtaken; acknowledge and forget
//	}
//
// The tables in testdata/*.txt show every pair of state and event; the tests write them.
package lifecycle
