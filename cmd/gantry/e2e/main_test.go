// Package e2e tests the built binaries as a person uses them: real processes, containers and cgroups, looked at from
// outside. It needs root; `make test` builds what it runs.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// bin is where the binaries are.
var bin = filepath.Join("..", "..", "..", "bin")

func TestMain(m *testing.M) {
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
