package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
)

// failpoints finds the names of those in this package.
func failpoints(t *testing.T) []string {
	t.Helper()
	var names []string
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range regexp.MustCompile(`failpoint\.Hit\("([^"]+)"\)`).FindAllSubmatch(text, -1) {
			names = append(names, string(found[1]))
		}
	}
	return names
}

// A process is killed at every failpoint, in a new store, in one with a past, and while it
// mends a damaged one. What it answered is there; who comes next finds a store that opens, or,
// as long as it is not mended, the damaged one.
func TestKilledAtEveryFailpoint(t *testing.T) {
	filler := filepath.Join(t.TempDir(), "filler")
	if out, err := exec.Command("go", "build", "-tags", "failpoints", "-o", filler, "./testdata/filler").CombinedOutput(); err != nil {
		t.Fatalf("build the filler: %v\n%s", err, out)
	}
	hit := map[string]bool{}
	for _, point := range failpoints(t) {
		for _, from := range []string{"nothing", "a store", "a damaged one"} {
			t.Run(point+", from "+from, func(t *testing.T) {
				if killFiller(t, filler, point, from) {
					hit[point] = true
				}
			})
		}
	}
	for _, point := range failpoints(t) {
		if !hit[point] {
			t.Errorf("nobody was ever killed at %s", point)
		}
	}
}

// killFiller reports whether the point was reached.
func killFiller(t *testing.T, filler, point, from string) bool {
	dir, armed := t.TempDir(), t.TempDir()
	path := filepath.Join(dir, "registry.db")
	args := []string{path}
	kept := ""
	if from != "nothing" {
		b := mustOpen(t, path)
		mustPut(t, b, "kept", "value")
		b.Close()
		kept = "value"
	}
	if from == "a damaged one" {
		args = append(args, "mend")
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, bytes.Replace(text, []byte("kept"), []byte("kepT"), -1), 0o600); err != nil {
			t.Fatal(err)
		}
		kept = ""
	}
	if err := os.WriteFile(filepath.Join(armed, point), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func() (answered []string, err error) {
		cmd := exec.Command(filler, args...)
		cmd.Env = append(os.Environ(), "GANTRY_FAILPOINTS="+armed)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		return strings.Fields(string(out)), err
	}
	answered, err := run()
	var exit *exec.ExitError
	killed := errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL
	if err != nil && !killed {
		t.Fatal(err)
	}
	b, err := OpenBolt(path)
	if errors.Is(err, ErrCorrupt) && from == "a damaged one" && len(answered) == 0 {
		if _, err = Salvage(path); err != nil { // the one before was killed before it had mended anything
			t.Fatal(err)
		}
		b, err = OpenBolt(path)
	}
	if err != nil {
		t.Fatal(err)
	}
	entries, _, err := b.List(context.Background(), "", "", 0)
	b.Close()
	got := map[string]string{}
	for _, e := range entries {
		got[e.Key] = string(e.Value)
	}
	if err != nil || got["kept"] != kept {
		t.Errorf("kept is %q, %v; want %q", got["kept"], err, kept)
	}
	for _, key := range answered {
		if got[key] != key {
			t.Errorf("the answered write %s is %q", key, got[key])
		}
	}
	if answered, err := run(); err != nil || len(answered) != 10 {
		t.Errorf("the next process: %d writes, %v", len(answered), err)
	}
	if left, _ := filepath.Glob(path + "*new*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return killed
}
