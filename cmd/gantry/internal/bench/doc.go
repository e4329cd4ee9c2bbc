// Package bench is `gantry bench`: the measurements of BENCHMARKS.md on the reader's own machine, against the built
// binaries and over the APIs that everybody uses.
//
//	root.AddCommand(bench.Command())
//
// A measurement starts a cluster of its own in a temporary work dir, drives it as a scheduler would, counts afterwards on
// the agent's disk what really ran, and removes everything. What it is compared with runs in between on the same machine,
// so that ratios hold on a busy one, too.
package bench
