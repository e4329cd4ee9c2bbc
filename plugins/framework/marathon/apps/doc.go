// Package apps is the scheduler behind the service API, as a pure machine: events in,
// effects out, time as a parameter. It holds app definitions, the instances that run them
// and the deployments that lead from one to the other; it has no clock, no goroutine and
// no connection.
//
//	m, err := apps.New(config, records)   // what was written before
//	var out apps.Effects
//	m.Step(now, apps.Start{}, &out)       // asks for SUBSCRIBE
//	// 1. make out.Persist durable  2. make out.Calls  3. start out.Probes  4. answer out.Replies
//	deadline, ok := m.NextDeadline()      // Step with Tick when it has passed
//
// An instance is one task. Its life is in its record, which is durable before the task is
// launched, before an update about it is acknowledged and before it is killed; so a new
// process knows every task that the old one may have started, and reconciliation settles
// the rest.
package apps
