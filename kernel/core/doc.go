// Package core is the master as a pure machine: it keeps the accounts of the cluster and
// decides nothing that is policy. Events go in, effects come out:
//
//	m := core.New(core.Config{ID: uuid, Epoch: 1})
//	var out core.Effects
//	m.Step(now, core.Recovered{}, &out)
//	m.Step(now, core.AgentHello{Conn: 1, Hello: hello}, &out)
//	// make out.Persist durable, then deliver Send, Ask, Notify and Replies in order
//	deadline, ok := m.NextDeadline() // step a Tick no later than this
//
// There is no clock, randomness, goroutine, lock or map order in it, so the same machine
// runs in production, in a seeded simulation, under a fuzzer and in replay. Ids come from
// the master's id and counters. Protobuf messages that it takes or gives are immutable.
package core
