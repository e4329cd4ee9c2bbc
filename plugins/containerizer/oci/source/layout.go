package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// tagAnnotation names an image in the index of a layout.
const tagAnnotation = "org.opencontainers.image.ref.name"

// Layout reads the image PATH[:TAG] of an OCI layout, a folder below roots. Without a tag the
// layout must have one image for this host.
func Layout(roots Roots, reference string) (*Image, error) {
	dir, tag := cutTag(reference)
	root, local, err := roots.open(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	l := layout{roots, dir, root, local}
	image, err := l.image(tag)
	if err != nil {
		return nil, fmt.Errorf("OCI layout %s: %w", dir, err)
	}
	return image, nil
}

type layout struct {
	roots Roots
	dir   string
	root  *os.Root
	local string // the layout's in root
}

func (l layout) image(tag string) (*Image, error) {
	index, err := l.index()
	if err != nil {
		return nil, err
	}
	at, err := find(index, tag)
	if err != nil {
		return nil, err
	}
	if at.MediaType.IsIndex() {
		raw, err := l.document(at.Digest)
		if err != nil {
			return nil, err
		}
		inner, err := v1.ParseIndexManifest(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		if at, err = choose(inner); err != nil {
			return nil, err
		}
	}
	raw, err := l.document(at.Digest)
	if err != nil {
		return nil, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if raw, err = l.document(manifest.Config.Digest); err != nil {
		return nil, err
	}
	config, err := parseConfig(raw, manifest.Config.Digest)
	if err != nil {
		return nil, err
	}
	if err := checkLayers(manifest, config); err != nil {
		return nil, err
	}
	image := &Image{Digest: at.Digest.String(), Config: config.Config}
	for i, d := range manifest.Layers {
		image.Layers = append(image.Layers, Layer{config.RootFS.DiffIDs[i], func(context.Context) (io.ReadCloser, error) {
			return l.reopen(d.Digest)
		}})
	}
	return image, nil
}

func (l layout) index() (*v1.IndexManifest, error) {
	f, err := openFile(l.root, path.Join(l.local, "index.json"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := readAll(f, "index.json")
	if err != nil {
		return nil, err
	}
	return v1.ParseIndexManifest(bytes.NewReader(raw))
}

// find is the image of a tag, or the only one.
func find(index *v1.IndexManifest, tag string) (v1.Descriptor, error) {
	var known []string
	for _, m := range index.Manifests {
		if name := m.Annotations[tagAnnotation]; name != "" {
			known = append(known, name)
		}
		if tag != "" && m.Annotations[tagAnnotation] == tag && (m.MediaType.IsImage() || m.MediaType.IsIndex()) {
			return m, nil
		}
	}
	switch {
	case tag != "":
		return v1.Descriptor{}, fmt.Errorf("it has no image %q; it has %q", tag, known)
	case len(index.Manifests) == 0:
		return v1.Descriptor{}, errors.New("it has no images")
	case len(index.Manifests) == 1 && index.Manifests[0].MediaType.IsIndex():
		return index.Manifests[0], nil
	}
	if len(known) > 1 {
		return v1.Descriptor{}, fmt.Errorf("it has several images: name one of %q, as in oci:PATH:TAG", known)
	}
	return choose(index)
}

// document is a blob that is held against its digest.
func (l layout) document(digest v1.Hash) ([]byte, error) {
	f, err := l.blob(l.root, digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := readAll(f, digest.String())
	if err != nil {
		return nil, err
	}
	return raw, verify(raw, digest)
}

func (l layout) blob(root *os.Root, digest v1.Hash) (*os.File, error) {
	if digest.Algorithm != "sha256" || len(digest.Hex) != 64 {
		return nil, fmt.Errorf("%q is no sha256 digest", digest)
	}
	return openFile(root, path.Join(l.local, "blobs", digest.Algorithm, digest.Hex))
}

// reopen opens a layer later, when the layout may be another.
func (l layout) reopen(digest v1.Hash) (io.ReadCloser, error) {
	root, _, err := l.roots.open(l.dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return l.blob(root, digest)
}
