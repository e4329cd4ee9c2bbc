// Command webui is the web page of a cluster: what its agents have, what its tasks were
// promised and use, offers, applications, jobs and plugins, and the output of each task. It
// is a service plugin; README.md tells how to configure it. The page is in folder ui, and
// speaks with the master itself; what other addresses have (agents, the plugins of
// applications and jobs) it gets through here.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/gantry-project/gantry/sdk/service"
)

func main() { service.Main(plugin{}) }

// settings is the plugin's table of plugins.toml.
type settings struct {
	// Applications is the name of the plugin that speaks Marathon's API; "marathon" if empty.
	Applications string `json:"applications"`
	// Jobs is the name of the plugin that speaks Chronos' API; "chronos" if empty.
	Jobs string `json:"jobs"`
}

// decodeSettings reads the table; an unknown key is an error.
func decodeSettings(data []byte) (settings, error) {
	s := settings{Applications: "marathon", Jobs: "chronos"}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
		return s, fmt.Errorf("read the settings of webui: %w; it knows applications and jobs, each the name of a plugin", err)
	}
	return s, nil
}

type plugin struct{}

// Run serves the page until the conversation ends.
func (plugin) Run(ctx context.Context, k *service.Kernel) error {
	start := k.Start()
	s, err := decodeSettings(start.GetConfigJson())
	if err != nil {
		return err
	}
	p, err := newPages(files)
	if err != nil {
		return err
	}
	return k.Serve(ctx, &site{path: start.GetHttpPath(), pages: p, data: newData(k, s)})
}
