// Gantry is a cluster manager. This is the composition root: it names the parts and joins them; every command's own
// package has the rest.
package main

import (
	"os"

	"github.com/gantry-project/gantry/cmd/gantry/internal/agentd"
	"github.com/gantry-project/gantry/cmd/gantry/internal/bench"
	"github.com/gantry-project/gantry/cmd/gantry/internal/cli"
	"github.com/gantry-project/gantry/cmd/gantry/internal/masterd"
	"github.com/gantry-project/gantry/cmd/gantry/internal/mend"
	"github.com/gantry-project/gantry/cmd/gantry/internal/up"
	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/kernel/store"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], cli.Daemons{
		Up:     up.Command(up.Parts{CgroupName: cgroup.Name, RemoveCgroup: cgroup.Remove}),
		Master: masterd.Command(),
		Agent:  agentd.Command(),
		Mend:   mend.Command(),
		Bench:  bench.Command(),

		Refused: store.Refused,
	}))
}
