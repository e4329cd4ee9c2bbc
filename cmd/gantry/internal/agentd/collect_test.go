package agentd

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// site is a folder of sandboxes; each is named after its container, which ended so many
// hours ago.
func site(t *testing.T, hours map[string]int) (dir string, now time.Time) {
	t.Helper()
	dir, now = filepath.Join(t.TempDir(), "[a*]", "slaves"), time.Now()
	for container, ago := range hours {
		path := filepath.Join(dir, "A/frameworks/F/executors/task-of-"+container+"/runs", container)
		if err := os.MkdirAll(filepath.Join(path, "deep"), 0o755); err != nil {
			t.Fatal(err)
		}
		at := now.Add(-time.Duration(ago) * time.Hour)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	return dir, now
}

func left(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(quote(dir), "*/frameworks/*/executors/*/runs/*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range paths {
		paths[i] = filepath.Base(paths[i])
	}
	return paths
}

func TestCollect(t *testing.T) {
	hours := map[string]int{"live-old": 500, "old": 169, "older": 400, "week": 167, "day": 24, "now": 0}
	for name, c := range map[string]struct {
		usage func(removed int) float64
		left  string
	}{
		"room":      {func(int) float64 { return 0.9 }, "day live-old now week"},
		"full":      {func(int) float64 { return 1 }, "live-old"},
		"soon room": {func(asked int) float64 { return 0.95 - 0.05*float64(asked) }, "day live-old now"},
	} {
		dir, now := site(t, hours)
		asked := 0
		err := collector{
			dir: dir, delay: 7 * 24 * time.Hour, log: slog.New(slog.DiscardHandler),
			live:  func(container string) bool { return strings.HasPrefix(container, "live") },
			usage: func() (float64, error) { asked++; return c.usage(asked - 1), nil },
		}.collect(t.Context(), now)
		if err != nil {
			t.Error(err)
		}
		got := left(t, dir)
		slices.Sort(got)
		if strings.Join(got, " ") != c.left {
			t.Errorf("%s: left %v, want %s", name, got, c.left)
		}
		if tasks, err := os.ReadDir(filepath.Join(dir, "A/frameworks/F/executors")); err != nil || len(tasks) != len(got) {
			t.Errorf("%s: folders of tasks: %v, %v", name, tasks, err)
		}
	}
}

func TestCollectEnds(t *testing.T) {
	dir, now := site(t, map[string]int{"old": 200})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := collector{dir: dir, live: func(string) bool { return false }, usage: func() (float64, error) { return 0, nil }}
	if err := c.collect(ctx, now); err != nil || len(left(t, dir)) != 1 {
		t.Errorf("it goes on: %v", err)
	}
	if err := c.collect(t.Context(), now); err != nil || len(left(t, dir)) != 0 {
		t.Errorf("left: %v, %v", left(t, dir), err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("empty folders are left: %v, %v", entries, err)
	}
}

func TestDiskUsage(t *testing.T) {
	if usage, err := diskUsage(t.TempDir()); err != nil || usage <= 0 || usage > 1 {
		t.Errorf("%v, %v", usage, err)
	}
}
