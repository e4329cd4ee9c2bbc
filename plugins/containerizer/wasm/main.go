// Command wasm is the containerizer for WASM modules that are tasks. See README.md.
package main

import (
	"flag"
	"log/slog"
	"os"

	"github.com/gantry-project/gantry/sdk/containerizer"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

func main() {
	runner := flag.String("runner", "", "`FILE` with the program that runs modules")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	containerizer.Main(func(r *containerizerpb.OpenRequest) (containerizer.Plugin, error) {
		return open(r, *runner, log)
	})
}
