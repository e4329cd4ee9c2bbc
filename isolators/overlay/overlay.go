// Package overlay gives a container a root filesystem of layers that others share, and one
// that is its own. The mount is made on a thread with a mount namespace of its own, from
// which the container is started: no other process ever sees it, and it ends with the
// container, whoever else was killed.
//
//	err := overlay.Probe(dir) // once: can this host, and can it with its layers in dir?
//	...
//	err = overlay.Within(spec, func() error { return start(spec) })
package overlay

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gantry-project/gantry/isolators/internal/sys"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// MaxLayers bounds the directories of one root filesystem: the kernel takes one page of
// options.
const MaxLayers = 128

// ErrUnsupported says that this host can't mount overlays here.
var ErrUnsupported = errors.New("this host cannot mount overlay filesystems")

// Check says what is wrong with an overlay.
func Check(o *containerpb.Overlay) error {
	if n := len(o.GetLower()); n == 0 || n > MaxLayers {
		return fmt.Errorf("a root filesystem has 1 to %d layers, not %d", MaxLayers, n)
	}
	for _, dir := range append([]string{o.GetUpper(), o.GetWork()}, o.GetLower()...) {
		if !filepath.IsAbs(dir) {
			return fmt.Errorf("layer %q is not an absolute path", dir)
		}
	}
	return nil
}

// Within calls start where the spec's root filesystem is mounted, if it has layers. What
// start starts, with a mount namespace of its own, has it too.
func Within(spec *containerpb.Spec, start func() error) error {
	o := spec.GetOverlay()
	if o == nil {
		return start()
	}
	return sys.Apart(func() error {
		if err := sys.Overlay(o.GetLower(), o.GetUpper(), o.GetWork(), spec.GetRootfs()); err != nil {
			return fmt.Errorf("make the root filesystem: %w", err)
		}
		return start()
	})
}

// Probe finds out whether overlays of directories below dir can be mounted and written to.
// An error wraps ErrUnsupported if not.
func Probe(dir string) error {
	top, err := os.MkdirTemp(dir, "probe-")
	if err != nil {
		return fmt.Errorf("look for overlay filesystems: %w", err)
	}
	defer os.RemoveAll(top)
	path := func(name string) string { return filepath.Join(top, name) }
	for _, name := range []string{"lower", "upper", "work", "root"} {
		if err := os.Mkdir(path(name), 0o755); err != nil {
			return fmt.Errorf("look for overlay filesystems: %w", err)
		}
	}
	err = sys.Apart(func() error {
		if err := sys.Overlay([]string{path("lower")}, path("upper"), path("work"), path("root")); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(path("root"), "file"), nil, 0o600)
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return nil
}
