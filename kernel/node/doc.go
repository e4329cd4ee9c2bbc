// Package node is the agent as a pure machine: events in, effects out. It owns the truth
// about the tasks of one host: which there are, in which state, which statuses are not
// acknowledged yet, and which are to be killed when.
//
//	m := node.New(node.Config{Info: info, Version: "0.1"})
//	var out node.Effects
//	m.Step(now, node.Recovered{Checkpoint: saved, Boot: bootID}, &out)
//	m.Step(now, node.Linked{Conn: 1}, &out)
//	// make out.Persist durable, then do out.Send, out.Ask and out.Drop
//	if at, ok := m.NextDeadline(); ok {
//		// at that time: m.Step(at, node.Tick{}, &out)
//	}
//
// The machine has no clock, no randomness and no goroutine. Two machines that are given
// the same events do the same, byte for byte.
package node
