// Package torture has what it takes to kill parts of a running cluster for hours and to tell, from outside, whether anybody
// noticed who should not have.
//
//	plan := torture.Plan(seed, round)             // who is struck when, the same for the same seed
//	load := torture.NewLoad(torture.LoadConfig{Seed: seed, Master: address, Host: host})
//	go load.Run(ctx)                              // a scheduler over raw HTTP: launches, kills, acknowledges, reconciles;
//	                                              // some of its tasks are its executor's, which is this program (ExecutorMain)
//	probe := torture.NewProbe(host)
//	go probe.Run(ctx)                             // a request through each instance of the demo, all the time
//	...
//	for _, h := range load.Histories() {          // what each task's framework did and heard
//		wrong := h.Wrong(host.Sandbox(h.Job.ID), unknown)
//	}
//
// Nothing here imports the product's machines: the rules that a task's history is held against are written down a second
// time, and processes, cgroups, mounts and folders are read as the kernel shows them.
package torture
