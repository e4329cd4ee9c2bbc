package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/gantry-project/gantry/plugins/containerizer/oci/layers"
	"github.com/gantry-project/gantry/plugins/containerizer/oci/source"
)

// config is the plugin's table of plugins.toml.
type config struct {
	// Roots are the folders, absolute, that layouts and archives may be read from. None: they
	// can't be read at all.
	Roots source.Roots `json:"roots"`
	// InsecureRegistries are HOST or HOST:PORT of registries that may be spoken to by plain
	// HTTP; those of this host may be anyway.
	InsecureRegistries []string `json:"insecure_registries"`
	// CacheMB is how large the store of layers may grow; zero: 20,480.
	CacheMB int64 `json:"cache_mb"`
	// MaxImageMB is how much one image may unpack to; zero: 8,192.
	MaxImageMB int64 `json:"max_image_mb"`
	// MaxImageFiles is how many files one image may have; zero: 500,000.
	MaxImageFiles int64 `json:"max_image_files"`
}

const (
	pulls = 8           // layers unpacked at once
	stall = time.Minute // without a byte of a layer, after which its pull ends
)

// parseConfig decodes the table strictly.
func parseConfig(text []byte) (config, error) {
	c := config{CacheMB: 20 << 10, MaxImageMB: 8 << 10, MaxImageFiles: 500_000}
	if len(bytes.TrimSpace(text)) > 0 {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil {
			return c, fmt.Errorf("read the oci table (its keys are roots, insecure_registries, cache_mb, max_image_mb and max_image_files): %w", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return c, errors.New("read the oci table: something follows it")
		}
	}
	return c, c.check()
}

func (c config) check() error {
	for _, root := range c.Roots {
		if !filepath.IsAbs(root) || filepath.Clean(root) != root || root == "/" {
			return fmt.Errorf("roots has %q: write absolute folders, such as /srv/images", root)
		}
	}
	for name, n := range map[string]int64{"cache_mb": c.CacheMB, "max_image_mb": c.MaxImageMB, "max_image_files": c.MaxImageFiles} { // any order: one is as wrong as another
		if n < 1 || n > 1<<40 {
			return fmt.Errorf("%s = %d: write a number from 1 on, or leave it out", name, n)
		}
	}
	if c.MaxImageMB > c.CacheMB {
		return fmt.Errorf("max_image_mb = %d is more than cache_mb = %d: no such image would fit", c.MaxImageMB, c.CacheMB)
	}
	return nil
}

func (c config) limits() layers.Limits {
	return layers.Limits{
		CacheBytes: c.CacheMB << 20, ImageBytes: c.MaxImageMB << 20, ImageFiles: c.MaxImageFiles, Pulls: pulls, Stall: stall,
	}
}
