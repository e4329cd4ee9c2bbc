// Package sim is a whole cluster in one process: a master, agents with their keepers and
// disks, the network between them, allocators and schedulers, all driven by one queue of
// events that a seed shuffles. The machines are the product's own (core, node); what
// surrounds them is pretended, and treats them as badly as the real thing could:
//
//	result, err := sim.Run(sim.Config{Seed: 7, Length: time.Hour})
//
// Processes crash before, between and after their writes and their effects; streams break
// with messages in flight, one direction stalls, hosts restart, clocks of new processes
// disagree with those of old ones, the master's store loses records, allocators lie,
// schedulers forget to acknowledge or fight over an id, and their executors are mute, slow
// or die. After every step the machine checks its own invariants, and a witness,
// who sees containers and what schedulers hear but nothing of the machines, checks what
// the cluster promises. In the end the faults stop, and everything must settle.
//
// The same seed gives the same run, event for event; Result.Hash is the proof.
package sim
