package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A module that is compiled here from C is the allocator, by configuration alone; killed, it is back, and nothing else notices.
func TestModuleAllocates(t *testing.T) {
	dir := newWorkDir(t)
	module := filepath.Join(t.TempDir(), "firstfit.wasm")
	build := exec.Command(filepath.Join("..", "..", "..", "examples", "wasm-allocator-c", "build.sh"), module)
	if out, err := build.CombinedOutput(); err != nil {
		if _, missing := exec.LookPath("wasm-ld"); missing != nil && os.Getenv("GANTRY_REQUIRE_ROOT") == "" {
			t.Skip("the module is compiled by clang and wasm-ld, which are not here")
		}
		t.Fatalf("compile the module: %v\n%s", err, out)
	}
	manifest := filepath.Join(t.TempDir(), "plugins.toml")
	text := "[plugin.firstfit]\nkind = \"allocator\"\nmodule = '" + module + "'\n\n" +
		"[plugin.marathon]\nkind = \"framework\"\nlisten = \"127.0.0.1:0\"\n"
	if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := up(t, dir, "--plugins", manifest)
	c.awaitInstances(2)
	if status, out, errOut := c.gantry("run", "--", "sh", "-c", "echo hi; exit 3"); status != 3 || out != "hi\n" {
		t.Fatalf("exit status %d: %q %q\n%s", status, out, errOut, c.describe())
	}
	pid := c.plugin("firstfit")
	if pid == 0 {
		t.Fatalf("no process of the module\n%s", c.describe())
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, soon, "module in its place", c.describe, func() bool {
		again := c.plugin("firstfit")
		return again != 0 && again != pid && strings.Contains(c.must("plugin", "list"), "running")
	})
	if status, _, errOut := c.gantry("run", "--", "true"); status != 0 {
		t.Fatalf("exit status %d after the module's death: %s\n%s", status, errOut, c.describe())
	}
	c.awaitInstances(2)
	c.end()
	c.checkNothingLeft()
}
