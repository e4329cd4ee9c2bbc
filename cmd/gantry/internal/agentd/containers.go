package agentd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gantry-project/gantry/isolators/rootfs"
	"github.com/gantry-project/gantry/isolators/sandbox"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/rules"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// containers prepares tasks for the keeper with the isolators that every task has: the
// sandbox and the composed root filesystem. Limits and namespaces are the keeper's part.
//
// A container's folder in the work dir has links to its sandbox and to its root filesystem,
// which others may share. It is there from before the sandbox is made until the container has
// ended and is cleaned up.
type containers struct {
	workDir   string
	fetchRoot string
	// fetchBytes bounds what one container fetches; zero is the sandbox's default.
	fetchBytes int64
	cgroup     string
	// endpoint is where executors find the agent, HOST:PORT; door knows them again.
	endpoint string
	door     doorkeeper
	gauge    *gauge
	images   *images
	// old are the containers that were there when the agent started.
	old []string
}

// Prepare makes the sandbox, fetches into it, and makes the root filesystem: of an image, or
// composed of the host's.
func (c containers) Prepare(ctx context.Context, l node.Launch) (*containerpb.Spec, error) {
	if err := supported(l); err != nil {
		return nil, err
	}
	box := filepath.Join(c.workDir, l.Sandbox)
	spec := c.specOf(l, box)
	if err := c.own(l.Container, box); err != nil {
		return nil, err
	}
	c.gauge.track(l.Container)
	image, layered := rules.ImageOf(l.ContainerInfo())
	if layered {
		return spec, c.prepareImage(ctx, l, image, spec, box)
	}
	if err := become(spec, userOf(l, c.programOf(l))); err != nil {
		return nil, err
	}
	if err := c.fetch(ctx, l, box, int(spec.Uid), int(spec.Gid)); err != nil {
		return nil, err
	}
	return spec, c.compose(spec, box)
}

// prepareImage has the image's plugin look at what was fetched: the image may be in there. Whose
// the sandbox is, is known after that.
func (c containers) prepareImage(ctx context.Context, l node.Launch, image rules.Image, spec *containerpb.Spec, box string) error {
	if err := c.fetch(ctx, l, box, 0, 0); err != nil {
		return err
	}
	prepared, err := c.dress(ctx, l, image, spec)
	if err != nil {
		return err
	}
	if err := sandbox.Give(box, int(spec.Uid), int(spec.Gid)); err != nil {
		return err
	}
	return c.layer(spec, box, prepared)
}

// fetch makes the sandbox of a user.
func (c containers) fetch(ctx context.Context, l node.Launch, box string, uid, gid int) error {
	return sandbox.Prepare(ctx, sandbox.Config{
		Dir: box, FetchRoot: c.fetchRoot, UID: uid, GID: gid, MaxBytes: c.fetchBytes,
	}, c.programOf(l).command.GetUris())
}

// compose makes the root filesystem of a container without an image.
func (c containers) compose(spec *containerpb.Spec, box string) error {
	if err := rootfs.Compose(spec, c.roots(), box); err != nil {
		return err
	}
	if err := os.Symlink(spec.Rootfs, c.root(spec.Id)); err != nil {
		return fmt.Errorf("note the container's root filesystem: %w", err)
	}
	return nil
}

func supported(l node.Launch) error {
	if l.Executor != nil {
		return rules.SupportedExecutor(l.Executor)
	}
	return rules.Supported(l.Task)
}

// own notes that the sandbox is the container's, so that nobody takes it for an old one.
func (c containers) own(container, box string) error {
	dir := filepath.Join(c.dir(), container)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make the container's folder: %w", err)
	}
	if err := os.Symlink(box, filepath.Join(dir, "sandbox")); err != nil {
		return fmt.Errorf("note the container's sandbox: %w", err)
	}
	return nil
}

// Cleanup removes the container's folder; the sandbox stays for whoever wants to read it, and
// for as long as a collector lets it from now on.
func (c containers) Cleanup(_ context.Context, container string) error {
	dir, now := filepath.Join(c.dir(), container), time.Now()
	err := os.Chtimes(filepath.Join(dir, "sandbox"), now, now)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	_, noImage := os.Lstat(c.imageFolder(container))
	err = errors.Join(err, os.RemoveAll(dir), c.gauge.untrack(container))
	if noImage == nil {
		// After the folder: a plugin that opens meanwhile looks who still has one, see settle.
		c.images.cleanup(container)
	}
	return err
}

// Retain cleans up after the containers that were there when the agent started and are not
// in keep; those are measured from now on.
func (c containers) Retain(ctx context.Context, keep map[string]bool) error {
	var failed error
	for _, container := range c.old {
		switch {
		case ctx.Err() != nil:
			return failed
		case !keep[container]:
			failed = errors.Join(failed, c.Cleanup(ctx, container))
		default:
			failed = errors.Join(failed, c.resume(container))
		}
	}
	return errors.Join(failed, c.prune())
}

// prune removes the root filesystems that no container has: the host's files have changed
// since they were made.
func (c containers) prune() error {
	all, err := c.list()
	if err != nil {
		return err
	}
	var used []string
	for _, container := range all {
		if root, err := os.Readlink(c.root(container)); err == nil {
			used = append(used, root)
		}
	}
	return rootfs.Prune(c.roots(), used)
}

// resume measures a container again, unless it is cleaned up meanwhile, which ends with
// untrack.
func (c containers) resume(container string) error {
	c.gauge.track(container)
	if c.live(container) {
		return nil
	}
	return c.gauge.untrack(container)
}

// live says whether a container has not been cleaned up.
func (c containers) live(container string) bool {
	_, err := os.Lstat(filepath.Join(c.dir(), container))
	return !errors.Is(err, fs.ErrNotExist)
}

// list finds the containers that have not been cleaned up.
func (c containers) list() ([]string, error) {
	entries, err := os.ReadDir(c.dir())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find the containers that were: %w", err)
	}
	var found []string
	for _, entry := range entries {
		found = append(found, entry.Name())
	}
	return found, nil
}

func (c containers) dir() string { return filepath.Join(c.workDir, "containers") }

func (c containers) roots() string { return filepath.Join(c.workDir, "roots") }

func (c containers) root(container string) string {
	return filepath.Join(c.dir(), container, "root")
}
