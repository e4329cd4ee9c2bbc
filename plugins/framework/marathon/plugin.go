package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
	"github.com/gantry-project/gantry/plugins/framework/marathon/rest"
	"github.com/gantry-project/gantry/sdk/framework"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
)

// settings is the plugin's table of plugins.toml.
type settings struct {
	// Role that the framework subscribes with; "*" if empty.
	Role string `json:"role"`
	// User that tasks run as when their app says nothing; "root" if empty.
	User string `json:"user"`
	// Principal of the framework; "marathon" if empty.
	Principal string `json:"principal"`
}

// decodeSettings reads the table; an unknown key is an error.
func decodeSettings(data []byte) (settings, error) {
	s := settings{Role: "*", User: "root", Principal: "marathon"}
	if len(data) > 0 {
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
			return s, fmt.Errorf("read the settings of marathon: %w; it knows role, user and principal", err)
		}
	}
	return s, nil
}

type plugin struct{}

// Run connects the machine to the kernel until the conversation ends.
func (plugin) Run(ctx context.Context, k *framework.Kernel) error {
	start := k.Start()
	config, err := configure(start)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	o, err := newOwner(ctx, k, config, log)
	var record *apps.RecordError
	if errors.As(err, &record) {
		return fmt.Errorf("%w: the apps are left as they are; to go on without the record end the master and run `gantry mend --drop %s .../master.db`",
			err, "plugin/"+start.GetName()+"/"+record.Key)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	go func() { ended <- o.run(ctx, time.Now) }()
	go func() { ended <- serve(ctx, k, o) }()
	err = <-ended
	cancel()
	return errors.Join(err, <-ended)
}

func configure(start *frameworkpb.Start) (apps.Config, error) {
	s, err := decodeSettings(start.GetConfigJson())
	if err != nil {
		return apps.Config{}, err
	}
	config := apps.Config{FrameworkID: start.GetFrameworkId(), Role: s.Role, User: s.User, Principal: s.Principal}
	config.Hostname, _ = os.Hostname()
	if address := start.GetHttpAddress(); address != "" {
		config.WebURL = "http://" + address
	}
	return config, nil
}

// serve answers the REST API; without a listener the plugin only keeps its apps running.
func serve(ctx context.Context, k *framework.Kernel, o *owner) error {
	start := k.Start()
	if start.GetHttpSocket() == "" {
		<-ctx.Done()
		return nil
	}
	return k.Serve(ctx, rest.New(o, rest.Place{Address: start.GetHttpAddress(), Master: start.GetMasterAddress()}))
}
