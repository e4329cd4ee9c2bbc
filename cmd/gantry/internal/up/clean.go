package up

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

// clean removes what must not outlive the cluster, after its daemons have ended. With KeepTasks the tasks, their
// keeper and its socket stay for the next start.
func (u *cluster) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cleanTimeout)
	defer cancel()
	err := u.removeRuntimeFiles()
	if !u.KeepTasks {
		err = errors.Join(err, u.parts.RemoveCgroup(ctx, u.cgroup), u.removeSockets())
	}
	for _, c := range slices.Concat(u.masters, u.agents) {
		err = errors.Join(err, c.log.close())
	}
	if err != nil {
		return fmt.Errorf("clean up: %w", err)
	}
	return nil
}

// removeRuntimeFiles removes what is true only while a supervisor runs.
func (u *cluster) removeRuntimeFiles() error {
	err := os.Remove(daemon.ClusterFile(u.WorkDir))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return errors.Join(err, os.RemoveAll(u.path("run")))
}

// removeSockets removes sockets of daemons that were killed. Those in sandboxes are their tasks' business.
func (u *cluster) removeSockets() error {
	return filepath.WalkDir(u.WorkDir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == "slaves":
			return fs.SkipDir
		case entry.Type() == fs.ModeSocket:
			return os.Remove(path)
		}
		return nil
	})
}
