package bench

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
)

// Launch says what to measure; nought of something leaves it out.
type Launch struct {
	// Tasks run one after the other, for the time from ACCEPT to RUNNING.
	Tasks int

	// Burst tasks run as many at once as offers have room for, for the rate.
	Burst int

	// Live tasks run all at the same time, for the memory of each.
	Live int

	// Executable is the gantry binary whose cluster is measured; Master, HOST:PORT, one that is there instead: no more
	// is known of that than what its API tells.
	Executable, Master string

	// Plugins is the path of the plugins.toml of a cluster that is started; empty is the one that gantry up would find.
	Plugins string
}

const (
	// settleFor is when a cluster that has just started is taken for idle.
	settleFor = 5 * time.Second

	// Small tasks: as many as possible fit. Memory is limited to 32 MiB, the least that a container can have.
	taskCPUs, taskMemMB = 0.1, 32
	liveCPUs, liveMemMB = 0.001, 8
)

// Latency is how long some tasks took, in milliseconds.
type Latency struct {
	Tasks int     `json:"tasks"`
	P50   float64 `json:"p50_ms"`
	P90   float64 `json:"p90_ms"`
	P99   float64 `json:"p99_ms"`
	// DaemonCPU is the CPU time of the daemons for each, and ChildCPU that of the containers, their setting up included.
	DaemonCPU float64 `json:"daemon_cpu_ms,omitempty"`
	ChildCPU  float64 `json:"container_cpu_ms,omitempty"`
	// Recounted is how many were found on the agent's disk.
	Recounted int `json:"recounted,omitempty"`
}

// Rate is how many tasks went through in a second.
type Rate struct {
	Tasks     int     `json:"tasks"`
	PerSecond float64 `json:"tasks_per_second"`
	DaemonCPU float64 `json:"daemon_cpu_ms,omitempty"`
	ChildCPU  float64 `json:"container_cpu_ms,omitempty"`
	Recounted int     `json:"recounted,omitempty"`

	// Runc is nil if there is no runc.
	Runc *RuncRate `json:"runc,omitempty"`
}

// RuncRate is the same of the runc command.
type RuncRate struct {
	Version   string  `json:"version"`
	PerSecond float64 `json:"containers_per_second"`
	// Parallel is with as many at once as there are processors.
	Parallel float64 `json:"parallel_containers_per_second"`
	// Ratio is our rate to that of the loop.
	Ratio float64 `json:"ratio"`
}

// Memory is what tasks that stay cost the daemons.
type Memory struct {
	Tasks      int     `json:"tasks"`
	KiBPerTask float64 `json:"daemon_kib_per_task"`
}

// Report is what was measured. What was left out is nil.
type Report struct {
	Machine Machine   `json:"machine"`
	Idle    []process `json:"idle,omitempty"`
	Latency *Latency  `json:"latency,omitempty"`
	Rate    *Rate     `json:"rate,omitempty"`
	Memory  *Memory   `json:"memory,omitempty"`
	After   []process `json:"after,omitempty"`
}

// bench is one measurement on the way.
type bench struct {
	Launch
	say     func(format string, args ...any)
	cluster *cluster // nil where the cluster was there
	client  *client.Client
	report  Report
}

// Run measures; say gets a line before each part.
func (l Launch) Run(ctx context.Context, say func(format string, args ...any)) (Report, error) {
	b := &bench{Launch: l, say: say}
	var err error
	if b.report.Machine, err = machine(); err != nil {
		return b.report, err
	}
	if l.Master != "" {
		b.client = client.New(l.Master, "")
		return b.report, b.measure(ctx)
	}
	say("starting a cluster")
	if b.cluster, err = start(ctx, l); err != nil {
		return b.report, err
	}
	b.client = b.cluster.client
	select {
	case <-time.After(settleFor):
		err = b.measure(ctx)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return b.report, errors.Join(err, b.cluster.stop())
}

func (b *bench) measure(ctx context.Context) error {
	var err error
	if b.report.Idle, err = b.daemons(); err != nil {
		return err
	}
	for _, part := range []struct {
		tasks int
		run   func(context.Context) error
	}{{b.Tasks, b.latency}, {b.Burst, b.rate}, {b.Live, b.memory}} {
		if part.tasks == 0 {
			continue
		}
		if err := part.run(ctx); err != nil {
			return err
		}
	}
	b.report.After, err = b.daemons()
	return err
}

func (b *bench) daemons() ([]process, error) {
	if b.cluster == nil {
		return nil, nil
	}
	return daemons(b.cluster.cmd.Process.Pid)
}

// finish drives l until its tasks have ended, and says what became of them and what it cost.
func (b *bench) finish(ctx context.Context, l load) (outcome, usage, error) {
	before, err := b.daemons()
	if err != nil {
		return outcome{}, usage{}, err
	}
	d, err := drive(ctx, b.client, l)
	if err != nil {
		return outcome{}, usage{}, err
	}
	after, err := b.daemons()
	if err = errors.Join(err, d.end(ctx)); err != nil {
		return outcome{}, usage{}, err
	}
	if d.outcome.exited != l.tasks {
		return outcome{}, usage{}, fmt.Errorf("%d of %d tasks have told an exit status of 0", d.outcome.exited, l.tasks)
	}
	was, is := sum(before), sum(after)
	return d.outcome, usage{cpu: is.cpu - was.cpu, children: is.children - was.children}, nil
}

// recount is an error if another number of tasks ran than the API told.
func (b *bench) recount(o outcome, tasks int) (int, error) {
	if b.cluster == nil {
		return 0, nil
	}
	n, err := b.cluster.recount(o.framework)
	if err == nil && n != tasks {
		err = fmt.Errorf("the agent's disk has %d runs of %d tasks", n, tasks)
	}
	return n, err
}

func (b *bench) latency(ctx context.Context) error {
	b.say("%d tasks, one after the other", b.Tasks)
	o, used, err := b.finish(ctx, load{
		name: "latency", argv: []string{"true"}, cpus: taskCPUs, memMB: taskMemMB, tasks: b.Tasks, window: 1,
	})
	if err != nil {
		return err
	}
	n, err := b.recount(o, b.Tasks)
	b.report.Latency = &Latency{
		Tasks: b.Tasks, P50: percentile(o.toRunning, 50), P90: percentile(o.toRunning, 90), P99: percentile(o.toRunning, 99),
		DaemonCPU: perTask(used.cpu, b.Tasks), ChildCPU: perTask(used.children, b.Tasks), Recounted: n,
	}
	return err
}

func (b *bench) rate(ctx context.Context) (err error) {
	l := load{name: "burst", argv: []string{"true"}, cpus: taskCPUs, memMB: taskMemMB, tasks: b.Burst, window: b.Burst}
	var runc RuncRate
	dir := ""
	if b.cluster != nil {
		dir = b.cluster.dir
	}
	p, err := newPeer(ctx, dir, l)
	switch {
	case b.cluster == nil, errors.Is(err, exec.ErrNotFound):
		b.say("no runc beside it: it has to be installed (apt-get install runc), and the cluster to be ours")
		p = nil
	case err != nil:
		return err
	default:
		defer func() { err = errors.Join(err, p.remove(ctx)) }()
	}
	// Half of the loop before and half after, because machines change.
	half := max(b.Burst/4, 1)
	first, err := b.compare(ctx, p, half)
	if err != nil {
		return err
	}
	b.say("%d tasks, as many at once as offers have room for", b.Burst)
	o, used, err := b.finish(ctx, l)
	if err != nil {
		return err
	}
	n, err := b.recount(o, b.Burst)
	if err != nil {
		return err
	}
	b.report.Rate = &Rate{
		Tasks: b.Burst, PerSecond: float64(b.Burst) / o.took.Seconds(),
		DaemonCPU: perTask(used.cpu, b.Burst), ChildCPU: perTask(used.children, b.Burst), Recounted: n,
	}
	second, err := b.compare(ctx, p, half)
	if p == nil || err != nil {
		return err
	}
	runc.Version = p.version
	runc.PerSecond = 2 * float64(half) / (first + second).Seconds()
	runc.Ratio = b.report.Rate.PerSecond / runc.PerSecond
	took, err := p.loop(ctx, 2*half, runtime.NumCPU())
	runc.Parallel = 2 * float64(half) / took.Seconds()
	b.report.Rate.Runc = &runc
	return err
}

// compare runs n containers by the loop of the runc command, where there is one.
func (b *bench) compare(ctx context.Context, p *peer, n int) (time.Duration, error) {
	if p == nil {
		return 0, nil
	}
	b.say("%d containers by a loop of %s", n, p.version)
	return p.loop(ctx, n, 1)
}

func (b *bench) memory(ctx context.Context) error {
	if b.cluster == nil {
		return nil
	}
	b.say("%d tasks that stay", b.Live)
	before, err := b.daemons()
	if err != nil {
		return err
	}
	d, err := drive(ctx, b.client, load{
		name: "live", argv: []string{"sleep", "100000"}, cpus: liveCPUs, memMB: liveMemMB, tasks: b.Live, window: b.Live, stay: true,
	})
	if err != nil {
		return err
	}
	after, err := b.daemons()
	if err = errors.Join(err, d.end(ctx)); err != nil {
		return err
	}
	b.report.Memory = &Memory{Tasks: b.Live, KiBPerTask: float64(sum(after).rssKiB-sum(before).rssKiB) / float64(b.Live)}
	return nil
}

// percentile is by nearest rank, in milliseconds.
func percentile(all []time.Duration, percent int) float64 {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	rank := (len(sorted)*percent + 99) / 100
	return milliseconds(sorted[max(rank, 1)-1])
}

func perTask(d time.Duration, tasks int) float64 { return milliseconds(d) / float64(tasks) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
