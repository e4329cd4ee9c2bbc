package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// removeTimeout bounds one Remove.
const removeTimeout = 30 * time.Second

// Remove kills every process in group and below it and removes them all, in every
// hierarchy. It refuses to do so where the calling process is among them. A group that
// does not exist is no error.
func Remove(ctx context.Context, group string) error {
	f, err := Probe()
	if err != nil {
		return fmt.Errorf("remove cgroup %s: %w", group, err)
	}
	return f.Remove(ctx, group)
}

// Remove is like the function, for hosts that were probed before.
func (f Features) Remove(ctx context.Context, group string) error {
	if err := Check(group); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	var failed error
	for _, h := range f.Hierarchies {
		if err := removeTree(ctx, filepath.Join(h.Mount, group)); err != nil {
			failed = errors.Join(failed, fmt.Errorf("remove cgroup %s: %w", group, err))
		}
	}
	return failed
}

func removeTree(ctx context.Context, dir string) error {
	for try := 0; ; try++ {
		err := removeOnce(dir)
		if err == nil || errors.Is(err, errSelf) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, at last: %w", ctx.Err(), err)
		case <-time.After(retryPause(try)):
		}
	}
}

var errSelf = errors.New("the calling process is in it")

func removeOnce(dir string) error {
	pids, err := members(dir)
	if err != nil {
		return err
	}
	if slices.Contains(pids, os.Getpid()) {
		return errSelf
	}
	if len(pids) > 0 {
		if err := kill(dir); err != nil {
			return err
		}
	}
	return removeDirs(dir)
}

// kill sends SIGKILL to all in the tree, at once where the kernel can.
func kill(dir string) error {
	err := write(dir, "cgroup.kill", "1")
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	reached, err := signalAll(dir, syscall.SIGKILL)
	return errors.Join(err, closeAll(reached))
}

// removeDirs removes the groups of a tree, deepest first. Their files are the kernel's
// and go with them.
func removeDirs(dir string) error {
	entries, err := os.ReadDir(dir)
	if vanished(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeDirs(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := syscall.Rmdir(dir); err != nil && !vanished(err) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
