package agentd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gantry-project/gantry/isolators/overlay"
	"github.com/gantry-project/gantry/isolators/rootfs"
	"github.com/gantry-project/gantry/kernel/host"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/kernel/run"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

const (
	openWithin    = time.Minute      // for a plugin to take its folder
	imageWithin   = 10 * time.Minute // for an image to be prepared
	returnWithin  = 30 * time.Second // for a plugin that is away to be back
	forgetWithin  = 30 * time.Second // for a plugin to clean up after one container
	imageAttempts = 3                // where the plugin dies in the middle
)

// images has containerizers prepare the containers of images. Each is asked from many
// goroutines; what it answers is not believed but checked, see accept.
type images struct {
	// dir has a folder for each plugin.
	dir string
	// kinds names the plugin for each kind of image.
	kinds map[string]string
	// unable is why no image can be had on this host; nil if they can.
	unable error
	// list finds the containers that have not been cleaned up.
	list func() ([]string, error)
	log  *slog.Logger

	mu        sync.Mutex
	connected map[string]*connection // by plugin
	changed   chan struct{}          // closed when connected changes
}

// connection is a containerizer that is open.
type connection struct {
	client containerizerpb.ContainerizerClient
	folder string
	// ended are containers that it is still to clean up after, guarded by images.mu; wake says
	// that there are some.
	ended []string
	wake  chan struct{}
}

// newImages finds out whether the host can run images, if any plugin is there to prepare them.
func newImages(dir string, plugins []host.Entry, list func() ([]string, error), log *slog.Logger) (*images, error) {
	i := &images{
		dir: dir, kinds: map[string]string{}, list: list, log: log,
		connected: map[string]*connection{}, changed: make(chan struct{}),
	}
	for _, e := range plugins {
		for _, kind := range e.Images {
			i.kinds[kind] = e.Name
		}
	}
	if len(plugins) == 0 {
		return i, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder of images: %w", err)
	}
	if err := overlay.Probe(dir); errors.Is(err, overlay.ErrUnsupported) {
		log.Warn("tasks with images will be refused", "reason", err)
		i.unable = err
	} else if err != nil {
		return nil, err
	}
	return i, nil
}

// ServeContainerizer implements host.ContainerizerSink.
func (i *images) ServeContainerizer(ctx context.Context, e host.Entry, c containerizerpb.ContainerizerClient) error {
	conn := &connection{client: c, folder: filepath.Join(i.dir, e.Name), wake: make(chan struct{}, 1)}
	if err := os.MkdirAll(conn.folder, 0o700); err != nil {
		return fmt.Errorf("make the folder of a containerizer: %w", err)
	}
	told, err := i.list()
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, openWithin)
	defer cancel()
	_, err = c.Open(within, &containerizerpb.OpenRequest{
		Name: e.Name, ConfigJson: e.Config, Folder: conn.folder, Containers: told,
	})
	if err != nil {
		return err
	}
	i.connect(e.Name, conn)
	defer i.connect(e.Name, nil)
	if err := i.settle(told); err != nil {
		return err
	}
	for {
		select {
		case <-conn.wake:
			i.sweep(ctx, conn)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// settle notes those that ended while the plugin was told that they live. It comes after
// connect: from then on cleanup notes them.
func (i *images) settle(told []string) error {
	now, err := i.list()
	if err != nil {
		return err
	}
	for _, container := range told {
		if !slices.Contains(now, container) {
			i.cleanup(container)
		}
	}
	return nil
}

// hungUp says whether an error is the end of the connection, on the plugin's side or on ours,
// when the host ended the plugin: no plugin's own error is either.
func hungUp(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.Canceled
}

// cleanup notes for all plugins that a container has ended, and waits for none of them. One
// that is away hears at its next start who still lives.
func (i *images) cleanup(container string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, c := range i.connected { // any order: each has its own
		if c == nil {
			continue
		}
		c.ended = append(c.ended, container)
		select {
		case c.wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// sweep has a plugin clean up after those that have ended. What fails is done by its next start.
func (i *images) sweep(ctx context.Context, c *connection) {
	i.mu.Lock()
	ended := c.ended
	c.ended = nil
	i.mu.Unlock()
	for _, container := range ended {
		within, cancel := context.WithTimeout(ctx, forgetWithin)
		_, err := c.client.Cleanup(within, &containerizerpb.CleanupRequest{Container: container})
		cancel()
		if err != nil && ctx.Err() == nil {
			i.log.Warn("an image is not cleaned up until its plugin starts again", "container", container, "error", err)
		}
	}
}

// connect takes a plugin's connection, or nil when it has none any more.
func (i *images) connect(plugin string, c *connection) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.connected[plugin] = c
	close(i.changed)
	i.changed = make(chan struct{})
}

// connection waits for the plugin to be there by another connection than old.
func (i *images) connection(ctx context.Context, plugin string, old *connection) (*connection, error) {
	late := time.NewTimer(returnWithin)
	defer late.Stop()
	for {
		i.mu.Lock()
		c, changed := i.connected[plugin], i.changed
		i.mu.Unlock()
		if c != nil && c != old {
			return c, nil
		}
		select {
		case <-changed:
		case <-late.C:
			return nil, fmt.Errorf("the containerizer %s does not run on this agent, whose log says why", plugin)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// prepare asks the plugin, again where it died in the middle. What it answers lies below the
// folder that comes with it.
func (i *images) prepare(ctx context.Context, r *containerizerpb.PrepareRequest) (*accepted, error) {
	plugin, ok := i.kinds[r.GetKind()]
	switch {
	case !ok:
		return nil, fmt.Errorf("no plugin of this agent prepares images of kind %q: name one in plugins.toml, with images = [%q]", r.GetKind(), r.GetKind())
	case i.unable != nil:
		return nil, i.unable
	}
	ctx, cancel := context.WithTimeoutCause(ctx, imageWithin, fmt.Errorf("it is not there after %s", imageWithin))
	defer cancel()
	var conn *connection
	for attempt := 1; ; attempt++ {
		var err error
		if conn, err = i.connection(ctx, plugin, conn); err != nil {
			return nil, err
		}
		answer, err := conn.client.Prepare(ctx, r)
		switch {
		case err == nil:
			return accept(conn.folder, answer)
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case !hungUp(err):
			return nil, errors.New(status.Convert(err).Message())
		case attempt == imageAttempts:
			return nil, fmt.Errorf("the containerizer %s died %d times over it, and its agent's log says how", plugin, attempt)
		}
	}
}

// imageFolder is what a container with an image has beside its sandbox.
func (c containers) imageFolder(container string) string {
	return filepath.Join(c.dir(), container, "image")
}

// dress has spec run what the launch's image says.
func (c containers) dress(ctx context.Context, l node.Launch, image rules.Image, spec *containerpb.Spec) (*accepted, error) {
	// There from before the plugin is asked until the container is cleaned up.
	if err := os.Mkdir(c.imageFolder(l.Container), 0o700); err != nil {
		return nil, fmt.Errorf("make the image's folder: %w", err)
	}
	p := c.programOf(l)
	got, err := c.images.prepare(ctx, &containerizerpb.PrepareRequest{
		Container: l.Container, Kind: image.Kind, Image: image.Name, Fresh: image.Fresh,
		Command: p.command, ContainerInfo: l.ContainerInfo(), Limits: spec.GetLimits(), Sandbox: rootfs.Sandbox,
		SandboxFolder: filepath.Join(c.workDir, l.Sandbox),
	})
	if err != nil {
		return nil, fmt.Errorf("prepare image %s: %w", image.Name, err)
	}
	spec.Argv, spec.Env = got.Argv, environment(l, p, got.Env)
	if got.Cwd != "" {
		spec.Cwd = got.Cwd
	}
	if got.Digest != "" {
		spec.Labels[run.ImageLabel] = got.Digest
	}
	if got.User == nil {
		return got, become(spec, userOf(l, p))
	}
	spec.Uid, spec.Gid, spec.AdditionalGids = got.User.GetUid(), got.User.GetGid(), got.User.GetAdditionalGids()
	if spec.Uid == 0 {
		spec.Capabilities = rootCapabilities
	}
	return got, nil
}

// layer makes the root filesystem of what was accepted.
func (c containers) layer(spec *containerpb.Spec, box string, got *accepted) error {
	dir := filepath.Join(c.imageFolder(spec.GetId()), "root")
	if err := rootfs.Layer(spec, dir, box, got.layers, got.ReadOnly); err != nil {
		return err
	}
	spec.Mounts = append(spec.Mounts, got.mounts...)
	return nil
}
