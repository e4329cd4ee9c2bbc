// Package e2e tests the built binaries as a person uses them: real processes, containers and cgroups, looked at from
// outside. It needs root; `make test` builds what it runs.
package e2e

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/gantry-project/gantry/cmd/gantry/e2e/faultfs"
	"github.com/gantry-project/gantry/cmd/gantry/e2e/torture"
)

// bin is where the binaries are, unless $GANTRY_BIN names another folder, laid out alike.
var bin = cmp.Or(os.Getenv("GANTRY_BIN"), filepath.Join("..", "..", "..", "bin"))

func TestMain(m *testing.M) {
	executorMain() // as this, in a container
	torture.ExecutorMain()
	faultfs.Main() // what serves a filesystem with faults is this program again: it gets no further
	if os.Geteuid() != 0 {
		fmt.Println("e2e: containers need root: skipped")
		if os.Getenv("GANTRY_REQUIRE_ROOT") != "" {
			os.Exit(1)
		}
		return
	}
	absolute, err := filepath.Abs(bin)
	if err != nil {
		fmt.Println("e2e:", err)
		os.Exit(1)
	}
	bin = absolute
	if _, err := os.Stat(filepath.Join(bin, "gantry")); err != nil {
		build := exec.Command("make", "-C", filepath.Dir(bin), "build")
		build.Stdout, build.Stderr = os.Stdout, os.Stderr
		if err := build.Run(); err != nil {
			fmt.Println("e2e: make build:", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
