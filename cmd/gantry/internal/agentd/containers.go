package agentd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gantry-project/gantry/isolators/rootfs"
	"github.com/gantry-project/gantry/isolators/sandbox"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/rules"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// containers prepares tasks for the keeper with the isolators that every task has: the
// sandbox and the composed root filesystem. Limits and namespaces are the keeper's part.
type containers struct {
	workDir   string
	fetchRoot string
	cgroup    string
}

// Prepare makes the sandbox, fetches into it, and composes the root filesystem.
func (c containers) Prepare(ctx context.Context, l node.Launch) (*containerpb.Spec, error) {
	if err := rules.Supported(l.Task); err != nil {
		return nil, err
	}
	box := filepath.Join(c.workDir, l.Sandbox)
	spec, err := specOf(l, c.cgroup, box)
	if err != nil {
		return nil, err
	}
	err = sandbox.Prepare(ctx, sandbox.Config{
		Dir: box, FetchRoot: c.fetchRoot, UID: int(spec.Uid), GID: int(spec.Gid),
	}, l.Task.GetCommand().GetUris())
	if err != nil {
		return nil, err
	}
	return spec, rootfs.Compose(spec, c.rootfs(l.Container), box)
}

// Cleanup removes the root filesystem; the sandbox stays for whoever wants to read it.
func (c containers) Cleanup(_ context.Context, container string) error {
	if err := rootfs.Remove(c.rootfs(container)); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(c.dir(), container))
}

// Retain cleans up after the containers that are not in keep.
func (c containers) Retain(ctx context.Context, keep map[string]bool) error {
	entries, err := os.ReadDir(c.dir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find root filesystems to remove: %w", err)
	}
	var failed error
	for _, entry := range entries {
		if !keep[entry.Name()] && ctx.Err() == nil {
			failed = errors.Join(failed, c.Cleanup(ctx, entry.Name()))
		}
	}
	return failed
}

func (c containers) dir() string { return filepath.Join(c.workDir, "containers") }

func (c containers) rootfs(container string) string {
	return filepath.Join(c.dir(), container, "rootfs")
}
