// Package source reads images from where they are: a registry, an OCI layout, or what
// `docker save` wrote. It says what an image is and opens its layers; it unpacks nothing.
//
//	image, err := source.Registry{}.Image(ctx, "debian:12")
//	for _, layer := range image.Layers {
//		compressed, err := layer.Open(ctx)
//		...
//	}
//
// Nothing here is believed because it was found: a manifest and a configuration must have
// the digests that name them, and a layer is to be held against its DiffID by whoever reads
// it to the end. Files come from below the folders that the operator named, whatever links
// there are in them.
package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is what there is to know of an image before its layers are there.
type Image struct {
	// Digest names the image: that of its manifest, or in an archive that of its
	// configuration.
	Digest string
	// Config says what it runs.
	Config v1.Config
	// Layers come in the order in which they are applied, the bottom first.
	Layers []Layer
}

// Layer is one layer of an image.
type Layer struct {
	// DiffID is the digest of the layer's tar, uncompressed.
	DiffID v1.Hash
	// Open reads the layer from its source, which may be compressed with gzip or zstd.
	Open func(ctx context.Context) (io.ReadCloser, error)
}

// Bounds of what describes an image.
const (
	maxDocument = 4 << 20 // bytes of a manifest, an index or a configuration
	maxLayers   = 127
)

var (
	// ErrDenied says that an image is outside of what may be read.
	ErrDenied = errors.New("reading images there is not allowed")
	// ErrMismatch says that something has not the digest that names it.
	ErrMismatch = errors.New("it is not what its digest says")
)

// platform is the host's.
func platform() v1.Platform { return v1.Platform{OS: "linux", Architecture: runtime.GOARCH} }

// parseConfig reads a configuration, which must have the digest.
func parseConfig(raw []byte, digest v1.Hash) (*v1.ConfigFile, error) {
	if err := verify(raw, digest); err != nil {
		return nil, fmt.Errorf("the image's configuration: %w", err)
	}
	var config v1.ConfigFile
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, fmt.Errorf("the image's configuration: %w", err)
	}
	if config.OS != "" && config.OS != "linux" {
		return nil, fmt.Errorf("the image is for %s, and this host is linux", config.OS)
	}
	if config.Architecture != "" && config.Architecture != runtime.GOARCH {
		return nil, fmt.Errorf("the image is for %s, and this host is %s", config.Architecture, runtime.GOARCH)
	}
	switch n := len(config.RootFS.DiffIDs); {
	case n == 0:
		return nil, errors.New("the image has no layers")
	case n > maxLayers:
		return nil, fmt.Errorf("the image has %d layers, and %d are the most", n, maxLayers)
	}
	for _, id := range config.RootFS.DiffIDs {
		if id.Algorithm != "sha256" || len(id.Hex) != 64 {
			return nil, fmt.Errorf("the image names a layer %q, which is no sha256 digest", id)
		}
	}
	return &config, nil
}

func verify(raw []byte, digest v1.Hash) error {
	got, err := hash(raw)
	if err != nil {
		return err
	}
	if got != digest {
		return fmt.Errorf("%w: %s was to be %s", ErrMismatch, got, digest)
	}
	return nil
}

// checkLayers refuses what is no layer, or one to be had elsewhere only.
func checkLayers(manifest *v1.Manifest, config *v1.ConfigFile) error {
	if manifest.Config.Size > maxDocument {
		return fmt.Errorf("the image's configuration has %d bytes, and %d are the most", manifest.Config.Size, maxDocument)
	}
	if config != nil && len(manifest.Layers) != len(config.RootFS.DiffIDs) {
		return fmt.Errorf("the image has %d layers, but its configuration knows %d", len(manifest.Layers), len(config.RootFS.DiffIDs))
	}
	for _, l := range manifest.Layers {
		switch l.MediaType {
		case types.DockerLayer, types.DockerUncompressedLayer, types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer:
		default:
			return fmt.Errorf("layer %s is of type %q, which is none that can be unpacked", l.Digest, l.MediaType)
		}
	}
	return nil
}

// choose finds the manifest for this host in an index.
func choose(index *v1.IndexManifest) (v1.Descriptor, error) {
	want := platform()
	var known []string
	for _, m := range index.Manifests {
		switch {
		case !m.MediaType.IsImage():
		case m.Platform == nil && len(index.Manifests) == 1:
			return m, nil
		case m.Platform != nil && m.Platform.OS == want.OS && m.Platform.Architecture == want.Architecture:
			return m, nil
		case m.Platform != nil:
			known = append(known, m.Platform.String())
		}
	}
	return v1.Descriptor{}, fmt.Errorf("the image is not for %s/%s; it is for %q", want.OS, want.Architecture, known)
}
