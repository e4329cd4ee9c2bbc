package agentd

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/meter"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// gauge is the meter of one agent's containers. What can't be measured costs no task its
// run: it is only told.
type gauge struct {
	meter  *meter.Meter
	parent string // of the containers' groups
	log    *slog.Logger
}

// openGauge measures by eBPF where the host lets it in, and else says what is missing.
func openGauge(parent string, log *slog.Logger) (*gauge, error) {
	features, err := cgroup.Probe()
	if err != nil {
		return nil, err
	}
	m, err := meter.Open(features)
	if errors.Is(err, meter.ErrUnavailable) {
		log.Warn("tasks' network traffic is not counted, and their CPU time comes from cgroup files", "reason", err)
		m, err = meter.Files(features), nil
	}
	return &gauge{meter: m, parent: parent, log: log}, err
}

// track begins to measure a container; one of an earlier agent goes on from where it was.
func (g *gauge) track(container string) {
	if err := g.meter.Track(cgroup.Container(g.parent, container)); err != nil {
		g.log.Warn("a container is not measured", "container", container, "error", err)
	}
}

func (g *gauge) untrack(container string) error {
	return g.meter.Untrack(cgroup.Container(g.parent, container))
}

// Sample tells what a container has used. The error wraps fs.ErrNotExist where nothing is
// measured.
func (g *gauge) Sample(container string, now time.Time) (*mesos.ResourceStatistics, error) {
	s, err := g.meter.Sample(cgroup.Container(g.parent, container), now)
	if errors.Is(err, meter.ErrUntracked) {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	return s, err
}

func (g *gauge) close() {
	if err := g.meter.Close(); err != nil {
		g.log.Warn("the meter did not close", "error", err)
	}
}
