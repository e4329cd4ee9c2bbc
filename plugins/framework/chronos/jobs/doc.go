// Package jobs is the scheduler behind the job API, as a pure machine: events in, effects
// out, time as a parameter. It holds the definitions of jobs, when each is due next, and their
// runs; it has no clock, no goroutine and no connection.
//
//	m, err := jobs.New(config, records)    // what was written before
//	var out machine.Effects
//	m.Step(now, machine.Start{}, &out)     // then as package machine tells
//
// A run is one task. That a job has come due is one write: the run and the job's next due
// time together, so that no due time begins two runs. The write is durable before the task is
// launched, and every update before it is acknowledged; a new process knows each task that
// the old one may have started, and asks the master about it before it does anything else for that run.
//
// What may be started again is decided by what is known: a task that never arrived is launched
// anew under another id; one that may have run counts as failed, and is tried again
// only as often as the job's retries say.
package jobs
