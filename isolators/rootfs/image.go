package rootfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// network is what a container with a root filesystem of an image needs to use the host's
// network by names; the image can't know it.
var network = []string{"/etc/resolv.conf", "/etc/hosts"}

// Layer makes layers, absolute host directories with the topmost first, the root of spec: it
// sets Rootfs, Overlay and Mounts, with the host directory sandbox mounted writable at
// Sandbox. What the container writes goes to dir, which must not exist and is the container's
// alone: whoever removes dir when the container has ended removes all that was made.
func Layer(spec *containerpb.Spec, dir, sandbox string, layers []string, readOnly bool) error {
	overlay := &containerpb.Overlay{Lower: layers, Upper: filepath.Join(dir, "upper"), Work: filepath.Join(dir, "work")}
	spec.Rootfs, spec.WritableRootfs, spec.Overlay = filepath.Join(dir, "root"), !readOnly, overlay
	if err := makeLayer(spec); err != nil {
		return fmt.Errorf("make root filesystem of container %s: %w", spec.GetId(), err)
	}
	c := &composer{spec: spec}
	c.kernelFilesystems()
	if readOnly {
		c.temporary()
	}
	spec.Links, spec.Mounts = nil, append(c.mounts, &containerpb.Mount{
		Source: sandbox, Target: Sandbox, Type: "bind", Options: []string{"rbind", "nosuid", "nodev"},
	})
	return nil
}

// makeLayer makes the container's own directories, and in the topmost layer the host's files
// for the network: copies, since a place to mount them at may be anything in an image.
func makeLayer(spec *containerpb.Spec) error {
	o := spec.GetOverlay()
	if err := os.Mkdir(filepath.Dir(o.GetUpper()), 0o755); err != nil {
		return err
	}
	for _, dir := range []string{spec.GetRootfs(), o.GetUpper(), o.GetWork()} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	if plain, err := plainEtc(o.GetLower()); !plain || err != nil {
		return err
	}
	etc := filepath.Join(o.GetUpper(), "etc")
	if err := os.Mkdir(etc, 0o755); err != nil {
		return err
	}
	for _, path := range network {
		if err := copySmall(path, filepath.Join(etc, filepath.Base(path))); err != nil {
			return err
		}
	}
	return nil
}

// plainEtc says whether /etc of the layers is a directory, or is not there: anything else
// is the image's own business.
func plainEtc(layers []string) (bool, error) {
	for _, layer := range layers {
		info, err := os.Lstat(filepath.Join(layer, "etc"))
		if err == nil {
			return info.IsDir(), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return true, nil
}

// copySmall copies a small file of the host, if it has one of that name.
func copySmall(from, to string) error {
	f, err := os.Open(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, copyBytes))
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o644)
}
