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

	"github.com/gantry-project/gantry/plugins/framework/chronos/jobs"
	"github.com/gantry-project/gantry/plugins/framework/chronos/rest"
	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
	"github.com/gantry-project/gantry/plugins/framework/internal/shell"
	"github.com/gantry-project/gantry/sdk/framework"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
)

// settings is the plugin's table of plugins.toml.
type settings struct {
	// Role that the framework subscribes with; "*" if empty.
	Role string `json:"role"`
	// User that tasks run as when their job says nothing; "root" if empty.
	User string `json:"user"`
	// Principal of the framework; "chronos" if empty.
	Principal string `json:"principal"`
	// RetrySeconds pass between a run that failed and its next attempt; 60 if absent.
	RetrySeconds int `json:"retry_seconds"`
	// LostSeconds pass until a run on an agent that is out of reach counts as failed; 600 if absent.
	LostSeconds int `json:"lost_seconds"`
}

const maxSeconds = 24 * 3600

// decodeSettings reads the table; an unknown key is an error.
func decodeSettings(data []byte) (settings, error) {
	s := settings{Role: "*", User: "root", Principal: "chronos", RetrySeconds: 60, LostSeconds: 600}
	if len(data) > 0 {
		d := json.NewDecoder(bytes.NewReader(data))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
			return s, fmt.Errorf("read the settings of chronos: %w; it knows role, user, principal, retry_seconds and lost_seconds", err)
		}
	}
	if s.RetrySeconds < 0 || s.RetrySeconds > maxSeconds || s.LostSeconds < 1 || s.LostSeconds > maxSeconds {
		return s, fmt.Errorf("read the settings of chronos: retry_seconds must be from 0, lost_seconds from 1, both to %d", maxSeconds)
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
	owner, err := shell.Load(ctx, k, log, func(records []machine.Write) (*jobs.Machine, error) {
		return jobs.New(config, records)
	})
	var record *jobs.RecordError
	if errors.As(err, &record) {
		return fmt.Errorf("%w: the jobs are left as they are; the record is %s in the master's store", err, "plugin/"+start.GetName()+"/"+record.Key)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 2)
	go func() { ended <- owner.Run(ctx, time.Now) }()
	go func() { ended <- serve(ctx, k, owner) }()
	err = <-ended
	cancel()
	return errors.Join(err, <-ended)
}

func configure(start *frameworkpb.Start) (jobs.Config, error) {
	s, err := decodeSettings(start.GetConfigJson())
	if err != nil {
		return jobs.Config{}, err
	}
	config := jobs.Config{
		Identity: machine.Identity{
			FrameworkID: start.GetFrameworkId(), Name: "chronos", Role: s.Role, User: s.User, Principal: s.Principal,
		},
		RetryDelay: time.Duration(s.RetrySeconds) * time.Second,
		LostAfter:  time.Duration(s.LostSeconds) * time.Second,
	}
	config.Hostname, _ = os.Hostname()
	if address := start.GetHttpAddress(); address != "" {
		config.WebURL = "http://" + address
	}
	return config, nil
}

// serve answers the REST API; without a listener the plugin only keeps its jobs running.
func serve(ctx context.Context, k *framework.Kernel, owner *shell.Owner[*jobs.Machine]) error {
	start := k.Start()
	if start.GetHttpSocket() == "" {
		<-ctx.Done()
		return nil
	}
	return k.Serve(ctx, rest.New(owner, start.GetHttpAddress()))
}
