package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/gantry-project/gantry/plugins/containerizer/oci/source"
)

const (
	// maxKnown bounds the images that are remembered; the one looked up longest ago goes.
	maxKnown = 1000
	// maxRecord bounds what is remembered of one; what is larger is looked up each time.
	maxRecord = 256 << 10
)

// known remembers what registries said of images, so that one whose layers are here needs no
// registry to start.
type known struct{ dir string }

// record is what is remembered of an image.
type record struct {
	Name   string    `json:"name"`
	Digest string    `json:"digest"`
	Config v1.Config `json:"config"`
	Layers []v1.Hash `json:"layers"`
}

func openKnown(dir string) (*known, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("open the list of known images: %w", err)
	}
	k := &known{dir}
	return k, k.bound()
}

// bound forgets the oldest beyond maxKnown.
func (k *known) bound() error {
	entries, err := os.ReadDir(k.dir)
	if err != nil {
		return fmt.Errorf("open the list of known images: %w", err)
	}
	var all []fs.FileInfo
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			all = append(all, info)
		}
	}
	slices.SortFunc(all, func(a, b fs.FileInfo) int {
		return cmp.Or(b.ModTime().Compare(a.ModTime()), cmp.Compare(a.Name(), b.Name()))
	})
	for i, info := range all {
		if i >= maxKnown {
			if err := os.Remove(filepath.Join(k.dir, info.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("forget an image: %w", err)
			}
		}
	}
	return nil
}

func (k *known) path(name string) string {
	sum := sha256.Sum256([]byte(name))
	return filepath.Join(k.dir, hex.EncodeToString(sum[:]))
}

// find is what is known of an image.
func (k *known) find(name string) (image, bool) {
	raw, err := os.ReadFile(k.path(name))
	var found record
	if err != nil || json.Unmarshal(raw, &found) != nil || found.Name != name {
		return image{}, false
	}
	i := image{&source.Image{Digest: found.Digest, Config: found.Config}}
	for _, id := range found.Layers {
		i.Layers = append(i.Layers, source.Layer{DiffID: id, Open: collected})
	}
	return i, true
}

// collected is for a layer that is here, and so need not be opened.
func collected(context.Context) (io.ReadCloser, error) {
	return nil, errors.New("it is not in the store any more: start the task again")
}

// keep remembers an image. That it can't is no reason for a task to fail.
func (k *known) keep(name string, i image) {
	raw, err := json.Marshal(record{name, i.Digest, i.Config, i.ids()})
	if err != nil || len(raw) > maxRecord {
		return
	}
	f, err := os.CreateTemp(k.dir, "*.new")
	if err != nil {
		return
	}
	_, err = f.Write(raw)
	if errors.Join(err, f.Close()) != nil || os.Rename(f.Name(), k.path(name)) != nil {
		os.Remove(f.Name()) // or it goes with the oldest
	}
	_ = k.bound() // or the next start does
}
