package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// config is the plugin's table of plugins.toml.
type config struct {
	// MaxModuleMB is how large a module may be.
	MaxModuleMB int64 `json:"max_module_mb"`
	// CacheMB is how much modules and their machine code may take together; those of tasks that
	// run are kept though they are more.
	CacheMB int64 `json:"cache_mb"`
	// Interpret has modules interpreted: slower by far, and without machine code.
	Interpret bool `json:"interpret"`
}

// parseConfig decodes the table strictly.
func parseConfig(text []byte) (config, error) {
	c := config{MaxModuleMB: 64, CacheMB: 2048}
	if len(bytes.TrimSpace(text)) > 0 {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&c); err != nil {
			return c, fmt.Errorf("read the wasm table (its keys are max_module_mb, cache_mb and interpret): %w", err)
		}
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return c, errors.New("read the wasm table: something follows it")
		}
	}
	switch {
	case c.MaxModuleMB < 1 || c.MaxModuleMB > 1024:
		return c, fmt.Errorf("max_module_mb = %d: write a number from 1 to 1024, or leave it out", c.MaxModuleMB)
	case c.CacheMB < 1 || c.CacheMB > 1<<30:
		return c, fmt.Errorf("cache_mb = %d: write a number from 1 on, or leave it out", c.CacheMB)
	}
	return c, nil
}
