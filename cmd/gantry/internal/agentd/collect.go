package agentd

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

const (
	collectEvery = time.Minute
	// collectMost bounds the sandboxes that are removed in one round.
	collectMost = 1000
	// fullAbove is the part of the disk in use above which sandboxes go before their time.
	fullAbove = 0.9
)

// collector removes the sandboxes of containers that ended long ago, and where the disk gets
// full the oldest of those that ended since. When one ended is the time of its folder.
type collector struct {
	// dir has the sandboxes: AGENT/frameworks/FRAMEWORK/executors/TASK/runs/CONTAINER.
	dir string
	// delay is how long a sandbox stays.
	delay time.Duration
	// live says whether a container may still use its sandbox.
	live func(container string) bool
	// usage is the part of the disk in use.
	usage func() (float64, error)
	log   *slog.Logger
}

// box is a sandbox that nobody uses.
type box struct {
	path  string
	ended time.Time
}

// run collects until ctx ends. One sandbox may take long, and nothing needs to wait for it.
func (c collector) run(ctx context.Context) {
	ticker := time.NewTicker(collectEvery)
	defer ticker.Stop()
	for {
		if err := c.collect(ctx, time.Now()); err != nil {
			c.log.Warn("old sandboxes are not removed", "error", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

// collect is one round.
func (c collector) collect(ctx context.Context, now time.Time) error {
	boxes, err := c.find()
	if err != nil {
		return err
	}
	if len(boxes) > collectMost {
		boxes = boxes[:collectMost]
	}
	for _, b := range boxes {
		if ctx.Err() != nil {
			return nil
		}
		if now.Sub(b.ended) < c.delay {
			usage, err := c.usage()
			if err != nil || usage <= fullAbove {
				return err
			}
			c.log.Warn("sandbox removed before its time, as the disk is nearly full", "sandbox", b.path, "used", usage)
		}
		if err := c.remove(b.path); err != nil {
			return err
		}
	}
	return nil
}

// find lists the sandboxes that nobody uses, the oldest first.
func (c collector) find() ([]box, error) {
	paths, err := filepath.Glob(filepath.Join(quote(c.dir), "*/frameworks/*/executors/*/runs/*"))
	if err != nil {
		return nil, fmt.Errorf("find sandboxes: %w", err)
	}
	var boxes []box
	for _, path := range paths {
		// The time first: a container that is cleaned up meanwhile makes it newer.
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || c.live(filepath.Base(path)) {
			continue
		}
		boxes = append(boxes, box{path, info.ModTime()})
	}
	slices.SortFunc(boxes, func(a, b box) int {
		return cmp.Or(a.ended.Compare(b.ended), cmp.Compare(a.path, b.path))
	})
	return boxes, nil
}

// remove removes a sandbox, and the folders above it that are empty then.
func (c collector) remove(path string) error {
	if err := os.RemoveAll(path); err != nil {
		return fmt.Errorf("remove sandbox: %w", err)
	}
	for dir := filepath.Dir(path); dir != c.dir; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			break // it is not empty
		}
	}
	return nil
}

// quote makes path a pattern that fits nothing else.
func quote(path string) string {
	var quoted []rune
	for _, r := range path {
		if r == '*' || r == '?' || r == '[' || r == '\\' {
			quoted = append(quoted, '\\')
		}
		quoted = append(quoted, r)
	}
	return string(quoted)
}

// diskUsage is the part of the filesystem at dir that is in use, as df(1) tells it.
func diskUsage(dir string) (float64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, fmt.Errorf("measure the disk of %s: %w", dir, err)
	}
	used := float64(fs.Blocks - fs.Bfree)
	return used / max(used+float64(fs.Bavail), 1), nil
}
