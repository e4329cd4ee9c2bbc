// Command oci is the containerizer for images of registries, OCI layouts and archives of
// `docker save`. See README.md.
package main

import (
	"log/slog"
	"os"

	"github.com/gantry-project/gantry/sdk/containerizer"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	containerizer.Main(func(r *containerizerpb.OpenRequest) (containerizer.Plugin, error) {
		return open(r, log)
	})
}
