package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The test binary is the runner, too.
func TestMain(m *testing.M) {
	if os.Getenv("WASM_RUN") != "" {
		main()
	}
	os.Exit(m.Run())
}

// runner runs the runner.
func runner(t *testing.T, args ...string) (status int, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "WASM_RUN=1")
	var said strings.Builder
	cmd.Stderr = &said
	_ = cmd.Run() // its status says more
	return cmd.ProcessState.ExitCode(), said.String()
}

// grows takes 16 pages and writes to all of its memory until there are no more, and then ends with 7.
var grows = []byte{0x03, 0x40, 0x41, 16, 0x40, 0, 0x41, 0x7f, 0x46, 0x04, 0x40, 0x41, 7, 0x10, 0, 0x0b, 0x41, 0, 0x41, 1, 0x3f, 0, 0x41, 16, 0x74, 0xfc, 0x0b, 0, 0x0c, 0, 0x0b}

func TestEnds(t *testing.T) {
	for what, test := range map[string]struct {
		code   []byte
		status int
		said   string
	}{
		"returns":        {assemble(guest{}), 0, ""},
		"exits":          {assemble(guest{start: []byte{0x41, 0xc0, 0, 0x10, 0}}), 64, ""},
		"exits with 256": {assemble(guest{start: []byte{0x41, 0x80, 2, 0x10, 0}}), 255, ""},
		"traps":          {assemble(guest{start: []byte{0}}), 134, "unreachable"},
		"calls itself":   {assemble(guest{start: []byte{0x10, 1}}), 134, "stack overflow"},
		"grows":          {assemble(guest{start: grows}), 7, ""},
		"is garbage":     {[]byte("garbage"), 126, "compile the module"},
		"begins large":   {assemble(guest{memory: []byte{0, 0x80, 8}}), 126, "compile the module"},
		"may be large":   {assemble(guest{memory: []byte{1, 1, 0x80, 8}}), 0, ""},
	} {
		file := filepath.Join(t.TempDir(), "m.wasm")
		if err := os.WriteFile(file, test.code, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, how := range [][]string{{"-interpret"}, {"-cache", t.TempDir()}} {
			status, said := runner(t, append(how, "-pages", "512", "-root", t.TempDir(), file, "m")...)
			if status != test.status || !strings.Contains(said, test.said) || test.said == "" && said != "" {
				t.Errorf("one that %s: %d, %q", what, status, said)
			}
		}
	}
	if status, said := runner(t, "module"); status != 126 || !strings.Contains(said, "usage") {
		t.Errorf("%d, %q", status, said)
	}
}

// A folder without a module's machine code, which can't be written to either, is no reason to fail.
func TestNoMachineCode(t *testing.T) {
	file := filepath.Join(t.TempDir(), "m.wasm")
	if err := os.WriteFile(file, assemble(guest{start: []byte{0x41, 5, 0x10, 0}}), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, said := runner(t, "-cache", "/proc/nothing", "-root", t.TempDir(), file, "m"); status != 5 {
		t.Errorf("%d, %q", status, said)
	}
}

func TestEnvironment(t *testing.T) {
	got := environment([]string{"A=1", "MESOS_SANDBOX=/mnt/mesos/sandbox", "PWD=/x", "B="})
	if !slices.Equal(got, []string{"MESOS_SANDBOX=/", "PWD=/", "A=1", "B="}) {
		t.Error(got)
	}
}
