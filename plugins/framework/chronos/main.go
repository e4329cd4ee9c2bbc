// Command chronos runs jobs: commands that begin by the clock, after other jobs or by
// hand, and end. It speaks the REST API that clients of Chronos know, and is a framework plugin;
// README.md tells how to configure it. The decisions are in package jobs, the HTTP surface in
// package rest; here they are connected to the kernel.
package main

import (
	_ "time/tzdata" // time zones on hosts that have none

	"github.com/gantry-project/gantry/sdk/framework"
)

func main() { framework.Main(plugin{}) }
