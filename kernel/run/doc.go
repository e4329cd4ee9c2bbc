// Package run holds the shells of the two machines: what owns them, gives them time and
// events, makes their writes durable and delivers their effects. NewMaster runs a
// core.Machine, NewAgent a node.Machine; nothing else does beside the simulator.
//
//	m, err := run.NewMaster(ctx, run.MasterConfig{Store: s, Log: log})
//	go m.Run(ctx) // until ctx ends or a write fails
//
// The HTTP API, the link and the plugin host call the master's methods from any goroutine;
// each becomes an event for the one that owns the machine.
package run
