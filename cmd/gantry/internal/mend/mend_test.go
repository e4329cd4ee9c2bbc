package mend

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-project/gantry/kernel/store"
)

// mend runs the command.
func mend(args ...string) (string, error) {
	var out bytes.Buffer
	cmd := Command()
	cmd.SetArgs(args)
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	err := cmd.ExecuteContext(context.Background())
	return out.String(), err
}

// newStore makes a store of three tasks.
func newStore(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent", "checkpoint.db")
	s, err := store.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if _, err := s.Apply(context.Background(), store.Txn{Puts: []store.Entry{{Key: fmt.Sprintf("task/f/%d", i), Value: []byte("running")}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// damage makes every record of a task unreadable, in all places where the file has it.
func damage(t *testing.T, path, key string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(text, []byte(key), []byte(strings.ToUpper(key))), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestMend(t *testing.T) {
	path := newStore(t)
	says := func(want []string, args ...string) {
		t.Helper()
		out, err := mend(args...)
		if err != nil {
			t.Fatalf("mend %q: %v", args, err)
		}
		for _, part := range want {
			if !strings.Contains(out, part) {
				t.Errorf("mend %q does not say %q:\n%s", args, part, out)
			}
		}
	}
	says([]string{path + " is in order: 3 records"}, path)
	damage(t, path, "task/f/1")
	loss := []string{`damaged: ` + path, "kept      2 records", "lost      1 record\n", "Tasks that the agent has forgotten end"}
	says(append(loss, "Nothing was changed"), "--dry-run", path)
	if _, err := store.OpenBolt(path); err == nil {
		t.Fatal("a dry run has mended the store")
	}
	says(append(loss, "now "+path+".damaged-1"), path)
	says([]string{"is in order: 2 records"}, path)
	says([]string{"is in order: 1 record\n", "dropped   task/f/0"}, "--drop", "task/f/0", path)
}

func TestMendJSON(t *testing.T) {
	path := newStore(t)
	damage(t, path, "task/f/2")
	out, err := mend("--json", path)
	if err != nil {
		t.Fatal(err)
	}
	var r report
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Kept != 2 || r.Lost != 1 || r.Damage == "" || r.Meaning == "" {
		t.Errorf("%v: %s", err, out)
	}
}

func TestMendRefuses(t *testing.T) {
	path := newStore(t)
	for want, args := range map[string][]string{
		"there is no store at": {path + ".none"},
		"no regular file":      {filepath.Dir(path)},
		"has no record":        {"--drop", "task/f", path},
		"accepts 1 arg":        {},
	} {
		if out, err := mend(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("mend %q: %v, want %q\n%s", args, err, want, out)
		}
	}
	s, err := store.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := mend(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("an open store: %v", err)
	}
}
