package cli

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const (
	measureWithin = 5 * time.Second // for all agents to answer
	measureAtOnce = 16              // agents
)

// usage is what a container has used; what is not measured is nil.
type usage struct {
	// The times are since its start.
	CPUSeconds       float64 `json:"cpu_seconds"`
	CPUUserSeconds   float64 `json:"cpu_user_seconds"`
	CPUSystemSeconds float64 `json:"cpu_system_seconds"`
	MemBytes         *uint64 `json:"mem_bytes,omitempty"` // now, without the page cache
	NetRxBytes       *uint64 `json:"net_rx_bytes,omitempty"`
	NetTxBytes       *uint64 `json:"net_tx_bytes,omitempty"`
}

func usageOf(s *mesos.ResourceStatistics) *usage {
	if s == nil {
		return nil
	}
	return &usage{
		CPUSeconds:       s.GetCpusUserTimeSecs() + s.GetCpusSystemTimeSecs(),
		CPUUserSeconds:   s.GetCpusUserTimeSecs(),
		CPUSystemSeconds: s.GetCpusSystemTimeSecs(),
		MemBytes:         s.MemRssBytes,
		NetRxBytes:       s.NetRxBytes,
		NetTxBytes:       s.NetTxBytes,
	}
}

// cells are those of a table, empty for what is not known.
func (u *usage) cells() (cpuTime, mem, received, sent string) {
	if u == nil {
		return
	}
	cpuTime = time.Duration(u.CPUSeconds * float64(time.Second)).Round(10 * time.Millisecond).String()
	if u.MemBytes != nil {
		mem = strconv.FormatFloat(float64(*u.MemBytes)/(1<<20), 'f', 1, 64)
	}
	return cpuTime, mem, size(u.NetRxBytes), size(u.NetTxBytes)
}

// size is a number of bytes as people read it: 812 B, 1.5 kB, 3.2 MB, in powers of 1000.
func size(bytes *uint64) string {
	if bytes == nil {
		return ""
	}
	if *bytes < 1000 {
		return fmt.Sprintf("%d B", *bytes)
	}
	amount := float64(*bytes)
	unit := -1
	for ; amount >= 999.95 && unit < 4; unit++ { // which would be written as 1000.0
		amount /= 1000
	}
	return fmt.Sprintf("%.1f %cB", amount, "kMGTP"[unit])
}

// measure asks the agents for what the tasks use that have not ended. What an agent does not tell stays unknown, and
// that is said: a list without it is worth more than none.
func (s *session) measure(ctx context.Context, c *client.Client, views []taskView) {
	ctx, cancel := context.WithTimeout(ctx, measureWithin)
	defer cancel()
	var agents []string
	for _, v := range views {
		if v.Agent != "" && !terminalState(v.State) {
			agents = append(agents, v.Agent)
		}
	}
	slices.Sort(agents)
	var mu sync.Mutex
	used := map[[2]string]*usage{} // by framework and executor
	var asked errgroup.Group
	asked.SetLimit(measureAtOnce)
	for _, agent := range slices.Compact(agents) {
		asked.Go(func() error {
			containers, err := c.Containers(ctx, agent)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				fmt.Fprintf(terminal{w: s.err, on: isTerminal(s.err)}, "gantry: what tasks use is not known: %v\n", err)
			}
			for _, c := range containers {
				used[[2]string{c.GetFrameworkId().GetValue(), c.GetExecutorId().GetValue()}] = usageOf(c.ResourceStatistics)
			}
			return nil
		})
	}
	_ = asked.Wait() // what failed has been told
	for i, v := range views {
		if !terminalState(v.State) {
			views[i].Usage = used[[2]string{v.FrameworkID, v.executor}]
		}
	}
}
