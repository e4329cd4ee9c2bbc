package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/e2e/torture"
	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
	"github.com/gantry-project/gantry/isolators/cgroup"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

var (
	tortureSeed   = flag.Uint64("seed", 1, "what TestTorture does to its cluster")
	tortureRounds = flag.Int("rounds", 10, "how often")
)

const (
	webInstances = 3
	staying      = 3
	running      = 16 // jobs at a time

	afterBlows   = 6                // launches, which need offers
	settleWithin = 90 * time.Second // on a loaded machine
	calibration  = 2                // rounds that say what processes use
)

// Whatever is killed, at whatever moment, no task notices that is not meant, and nobody loses sight of any.
func TestTorture(t *testing.T) {
	o := newOrdeal(t, *tortureSeed)
	t.Logf("seed %d, %d rounds", o.seed, *tortureRounds)
	o.begin()
	for o.round = range *tortureRounds {
		o.endure()
		if t.Failed() {
			o.report()
			break
		}
	}
	o.finish()
}

// ordeal is a cluster that is tortured, and what watches it.
type ordeal struct {
	t     *testing.T
	seed  uint64
	round int
	c     *cluster
	host  torture.Host
	load  *torture.Load
	probe *torture.Probe
	// master is HOST:PORT, or empty while nobody knows.
	master atomic.Value
	at     daemon.Cluster
	api    *client.Client // of at
	stop   context.CancelFunc
	watch  sync.WaitGroup

	// Of this round.
	began    time.Time
	done     []string                // to whom, when
	struck   map[torture.Victim]bool // killed or stopped
	killed   map[torture.Victim]bool
	tasks    map[string]torture.Process // that have to live on, by Key
	parts    map[torture.Victim]torture.Process
	thawing  sync.WaitGroup
	judged   map[string]bool // histories by id of the job
	excused  map[string]bool // those whose end nobody may have seen
	usual    map[torture.Victim]torture.Size
	entries  int
	kills    map[string]int
	failures int // of the probe, told already
}

func newOrdeal(t *testing.T, seed uint64) *ordeal {
	workDir := newWorkDir(t)
	o := &ordeal{
		t: t, seed: seed, host: torture.Host{WorkDir: workDir, Group: cgroup.Name(workDir)},
		judged: map[string]bool{}, excused: map[string]bool{}, usual: map[torture.Victim]torture.Size{}, kills: map[string]int{},
	}
	o.master.Store("")
	o.load = torture.NewLoad(torture.LoadConfig{
		Seed: seed, Master: func() string { return o.master.Load().(string) }, Host: o.host, Staying: staying, Running: running,
	})
	o.probe = torture.NewProbe(o.host)
	return o
}

// begin starts the cluster and waits until it is as it should be between two rounds.
func (o *ordeal) begin() {
	o.c = launch(o.t, o.host.WorkDir)
	o.up()
	o.c.must("app", "scale", "hello-web", fmt.Sprint(webInstances))
	ctx, cancel := context.WithCancel(context.Background())
	o.stop = cancel
	o.t.Cleanup(func() { cancel(); o.watch.Wait() })
	o.load.Pause(true)
	o.watch.Go(func() { o.load.Run(ctx) })
	o.watch.Go(func() { o.probe.Run(ctx) })
	o.settle()
}

// up waits until the cluster is ready that was started last, and tells the load where it is.
func (o *ordeal) up() {
	if o.master.Load() != "" {
		return
	}
	o.await(func() []string {
		if strings.Contains(o.c.screen.String(), "gantry: ready\n") {
			return nil
		}
		return []string{"gantry up is not ready"}
	})
	at, err := daemon.ReadCluster(o.host.WorkDir)
	if err != nil {
		o.t.Fatal(err)
	}
	o.master.Store(at.Master)
}

// endure is one round.
func (o *ordeal) endure() {
	o.began, o.done, o.struck, o.killed = time.Now(), nil, map[torture.Victim]bool{}, map[torture.Victim]bool{}
	o.tasks, o.parts = o.survivors()
	o.load.Pause(false)
	for _, blow := range torture.Plan(o.seed, o.round) {
		time.Sleep(time.Until(o.began.Add(blow.At)))
		o.strike(blow)
	}
	o.thawing.Wait()
	o.up()
	launched := o.load.Count().Launched
	o.await(func() []string {
		if n := o.load.Count().Launched - launched; n < afterBlows {
			return []string{fmt.Sprintf("offers do not flow: %d launches since the last blow", n)}
		}
		return nil
	})
	o.load.Pause(true)
	o.settle()
	o.t.Logf("round %d: settled %.1f s after its beginning: %s", o.round, time.Since(o.began).Seconds(), strings.Join(o.done, "; "))
	o.checkSurvivors()
	o.checkHistories(func(h torture.History) bool { return !o.judged[h.Job.ID] })
	o.checkProbe()
	o.checkLogs()
	o.checkGrowth()
}

// survivors returns the processes that are to live on: those in containers, and the parts of kernel and plugins.
func (o *ordeal) survivors() (tasks map[string]torture.Process, parts map[torture.Victim]torture.Process) {
	o.t.Helper()
	all := o.processes()
	tasks, parts = map[string]torture.Process{}, map[torture.Victim]torture.Process{}
	for _, p := range all {
		if p.Container != "" {
			tasks[p.Key()] = p
		} else {
			parts[p.Part] = p
		}
	}
	return tasks, parts
}

func (o *ordeal) processes() []torture.Process {
	o.t.Helper()
	all, err := o.host.Processes()
	if err != nil {
		o.t.Fatal(err)
	}
	return all
}

// strike carries out one blow. A victim that is not there at the moment was struck by an earlier one.
func (o *ordeal) strike(b torture.Blow) {
	o.note("%s (%s)", b.Victim, b)
	o.kills[string(b.Victim)]++
	switch b.Victim {
	case torture.Scheduler:
		o.load.Cut()
	case torture.Instance:
		o.askToLeave()
	case torture.Everything:
		o.strikeAll(func(p torture.Process) bool { return p.Container == "" })
	case torture.Supervisor:
		if b.Freeze == 0 {
			o.strikeAll(func(p torture.Process) bool { return p.Part == torture.Supervisor })
			return
		}
		fallthrough
	default:
		victims := o.find(b.Victim)
		if len(victims) == 0 {
			o.note("%s is not there", b.Victim)
		}
		for _, p := range victims {
			o.strikeOne(b, p)
		}
	}
}

func (o *ordeal) note(format string, args ...any) {
	o.done = append(o.done, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (o *ordeal) find(v torture.Victim) []torture.Process {
	return slices.DeleteFunc(o.processes(), func(p torture.Process) bool { return p.Part != v })
}

func (o *ordeal) strikeOne(b torture.Blow, p torture.Process) {
	if b.Freeze == 0 {
		o.kill(p)
		return
	}
	o.struck[p.Part] = true
	o.note("stopped %d: %v", p.PID, syscall.Kill(p.PID, syscall.SIGSTOP))
	o.thawing.Go(func() {
		time.Sleep(b.Freeze)
		if now, err := o.host.Process(p.PID); err == nil && now.Key() == p.Key() {
			_ = syscall.Kill(p.PID, syscall.SIGCONT) // fails only where it has just ended
		}
	})
}

// kill kills a process, and with it whatever belongs to it.
func (o *ordeal) kill(p torture.Process) {
	o.note("killed %s %d: %v", p.Part, p.PID, syscall.Kill(p.PID, syscall.SIGKILL))
	for _, v := range append(belongings[p.Part], p.Part) {
		o.struck[v], o.killed[v] = true, true
	}
	if p.Part == torture.Reaper {
		o.struck[torture.Keeper] = true // it becomes the next keeper's reaper
	}
}

// belongings end with whom they belong to.
var belongings = map[torture.Victim][]torture.Victim{
	torture.Supervisor: {torture.Master, torture.Agent, torture.Allocator, torture.Marathon, torture.Images},
	torture.Master:     {torture.Allocator, torture.Marathon},
	torture.Agent:      {torture.Images},
}

// askToLeave ends one instance of the demo as an impolite operator does: Marathon has to replace it.
func (o *ordeal) askToLeave() {
	instances, err := o.host.Instances()
	if err != nil || len(instances) == 0 {
		o.note("no instance is there: %v", err)
		return
	}
	victim := instances[o.round%len(instances)]
	o.probe.Excuse(victim)
	for key, p := range o.tasks {
		if p.Container == victim.Container {
			delete(o.tasks, key)
		}
	}
	o.note("asked %d to leave: %v", victim.PID, syscall.Kill(victim.PID, syscall.SIGTERM))
}

// strikeAll kills the supervisor and whatever else is among its victims, and starts the cluster anew.
func (o *ordeal) strikeAll(victim func(torture.Process) bool) {
	o.master.Store("") // the port may be another cluster's soon
	for _, p := range o.processes() {
		if victim(p) {
			o.kill(p)
		}
	}
	select {
	case <-o.c.ended:
	case <-time.After(endWithin):
		o.t.Fatal("the supervisor did not end after SIGKILL")
	}
	o.c = launch(o.t, o.host.WorkDir)
}

// settle waits until everything is as it should be when nobody does anything.
func (o *ordeal) settle() { o.await(o.unsettled) }

// await waits until nothing is in the way of a condition, and gives up where that can't be.
func (o *ordeal) await(inTheWay func() []string) {
	for deadline := time.Now().Add(settleWithin); ; time.Sleep(100 * time.Millisecond) {
		open := inTheWay()
		switch {
		case len(open) == 0:
			return
		case len(o.load.Troubles()) > 0:
			o.giveUp("there is no need to wait any longer", open)
		case time.Now().After(deadline):
			o.giveUp(fmt.Sprintf("this was in the way for %s", settleWithin), open)
		}
		select {
		case <-o.c.ended:
			o.giveUp(fmt.Sprintf("gantry up ended: %v", o.c.err), open)
		default:
		}
	}
}

func (o *ordeal) giveUp(why string, open []string) {
	o.t.Errorf("%s:\n  %s", why, strings.Join(open, "\n  "))
	o.checkHistories(func(h torture.History) bool { return !h.Ended && h.Job.Kind != torture.Stays })
	o.report()
	o.t.FailNow()
}

// unsettled says what is not as it should be yet.
func (o *ordeal) unsettled() []string {
	open := o.load.Open()
	if len(open) > 0 {
		return open
	}
	ctx, cancel := context.WithTimeout(o.t.Context(), 10*time.Second)
	defer cancel()
	api, err := o.client()
	if err != nil {
		return append(open, err.Error())
	}
	state, err := api.State(ctx)
	if err != nil {
		return append(open, fmt.Sprintf("the master: %v", err))
	}
	live, open := unaccounted(state)
	app, err := api.App(ctx, "hello-web")
	if err != nil || app.TasksRunning != webInstances || len(app.Tasks) != webInstances {
		open = append(open, fmt.Sprintf("the demo: %+v, %v", app, err))
	}
	plugins, err := api.Plugins(ctx)
	if err != nil {
		open = append(open, fmt.Sprintf("the plugins: %v", err))
	}
	for _, p := range plugins {
		if p.State != "running" {
			open = append(open, fmt.Sprintf("plugin %+v", p))
		}
	}
	remains, err := o.host.Remains(live)
	if err != nil {
		open = append(open, err.Error())
	}
	return append(append(open, remains...), o.strays(live)...)
}

// client is one for the cluster as it is now, as a master that starts again may give its plugins other ports. It is kept,
// for its connections would count as the master's growth.
func (o *ordeal) client() (*client.Client, error) {
	at, err := daemon.ReadCluster(o.host.WorkDir)
	if err == nil && (o.api == nil || at.Master != o.at.Master || at.Marathon != o.at.Marathon) {
		o.at, o.api = at, client.New(at.Master, at.Marathon)
	}
	return o.api, err
}

// unaccounted compares what the master accounts for with what should run, and returns the containers that live.
func unaccounted(state *masterpb.Response_GetState) (live map[string]bool, open []string) {
	live = map[string]bool{}
	used := map[string]float64{}
	tasks := state.GetGetTasks().GetTasks()
	for _, task := range tasks {
		if task.GetState() != mesos.TaskState_TASK_RUNNING {
			open = append(open, fmt.Sprintf("task %s is %s at the master", task.GetTaskId().GetValue(), task.GetState()))
		}
		for _, s := range task.GetStatuses() {
			live[s.GetContainerStatus().GetContainerId().GetValue()] = true
		}
		for _, r := range task.GetResources() {
			used[r.GetName()] += r.GetScalar().GetValue()
		}
	}
	if len(tasks) != staying+webInstances {
		open = append(open, fmt.Sprintf("the master has %d tasks, want %d", len(tasks), staying+webInstances))
	}
	if n := len(state.GetGetTasks().GetUnreachableTasks()); n > 0 {
		open = append(open, fmt.Sprintf("%d tasks are unreachable", n))
	}
	for _, agent := range state.GetGetAgents().GetAgents() {
		if !agent.GetActive() {
			open = append(open, "the agent is not active")
		}
		for _, r := range agent.GetAllocatedResources() {
			used[r.GetName()] -= r.GetScalar().GetValue()
		}
	}
	for _, name := range []string{"cpus", "mem", "disk"} {
		if math.Abs(used[name]) > 0.0005 {
			open = append(open, fmt.Sprintf("tasks use %g more %s than agents account for", used[name], name))
		}
	}
	return live, open
}

// strays returns processes that should not be there, and parts of which there is not exactly one.
func (o *ordeal) strays(live map[string]bool) []string {
	var open []string
	count := map[torture.Victim]int{}
	for _, p := range o.processes() {
		count[p.Part]++
		if p.Container == "" && p.Part == "" || p.Container != "" && !live[p.Container] {
			open = append(open, "a stray: "+p.String())
		}
	}
	for _, part := range []torture.Victim{torture.Supervisor, torture.Master, torture.Agent, torture.Keeper, torture.Reaper, torture.Allocator, torture.Marathon, torture.Images} {
		if count[part] != 1 {
			open = append(open, fmt.Sprintf("there are %d of %s", count[part], part))
		}
	}
	zombies, err := o.host.Zombies()
	if err != nil {
		open = append(open, err.Error())
	}
	for _, p := range zombies {
		open = append(open, "nobody waits for "+p.String())
	}
	return open
}

// checkSurvivors compares the processes with those at the beginning of the round.
func (o *ordeal) checkSurvivors() {
	tasks, parts := o.survivors()
	for key, p := range o.tasks {
		if _, lives := tasks[key]; !lives {
			o.t.Errorf("this process of a task did not live on: %s", p)
		}
	}
	for part, p := range o.parts {
		if now := parts[part]; !o.struck[part] && now.Key() != p.Key() {
			o.t.Errorf("the %s was not struck, and is another process: %s, was %s", part, now, p)
		}
	}
}

// checkHistories holds some of the tasks' histories against the rules.
func (o *ordeal) checkHistories(which func(torture.History) bool) {
	// Somebody sees every end, if there is anybody.
	unknown := o.killed[torture.Keeper] && o.killed[torture.Reaper] && o.killed[torture.Agent]
	for _, h := range o.load.Histories() {
		if !which(h) {
			continue
		}
		o.excused[h.Job.ID] = o.excused[h.Job.ID] || unknown
		o.judged[h.Job.ID] = h.Ended
		left, err := o.host.Sandbox(o.load.Framework(), h.Job.ID)
		if err != nil {
			o.t.Error(err)
		}
		if wrong := h.Wrong(left, o.excused[h.Job.ID]); len(wrong) > 0 {
			o.t.Errorf("task %s: %s; %+v\n%s", h.Job.ID, strings.Join(wrong, "; "), left, &h)
		} else if !h.Ended && h.Job.Kind != torture.Stays {
			o.t.Logf("task %s has not ended; %+v\n%s", h.Job.ID, left, &h)
		}
	}
	for _, trouble := range o.load.Troubles() {
		o.t.Error(trouble)
	}
}

func (o *ordeal) checkProbe() {
	_, failures := o.probe.Result()
	for _, failure := range failures[o.failures:] {
		o.t.Errorf("the probe: %s", failure)
	}
	o.failures = len(failures)
}

func (o *ordeal) logs() []string {
	var names []string
	for _, pattern := range []string{"logs/*", "agent*/keeper/*.log*"} {
		some, err := filepath.Glob(filepath.Join(o.host.WorkDir, pattern))
		if err != nil {
			o.t.Fatal(err)
		}
		names = append(names, some...)
	}
	return names
}

// checkLogs looks for what a program says that should not have ended.
func (o *ordeal) checkLogs() {
	for _, name := range o.logs() {
		text, err := os.ReadFile(name)
		if err != nil {
			o.t.Error(err)
		}
		lines := strings.Split(string(text), "\n")
		for i, line := range lines {
			for _, word := range []string{"panic", "fatal error", "invariant", "contradict"} {
				if strings.Contains(line, word) {
					o.t.Errorf("%s:%d\n%s", name, i+1, strings.Join(lines[i:min(len(lines), i+20)], "\n"))
					return
				}
			}
		}
	}
}

// checkGrowth compares what the processes use with the most of the first rounds.
func (o *ordeal) checkGrowth() {
	entries, err := o.host.Entries()
	if err != nil {
		o.t.Error(err)
	}
	if o.round < calibration {
		o.entries = max(o.entries, entries)
	} else if entries > o.entries+24 {
		o.t.Errorf("there are %d files in the work dir, were %d", entries, o.entries)
	}
	_, parts := o.survivors()
	for part, p := range parts {
		size, err := p.Size()
		if err != nil {
			o.t.Errorf("the size of the %s: %v", part, err)
			continue
		}
		usual := o.usual[part]
		if o.round < calibration {
			o.usual[part] = torture.Size{
				Files: max(size.Files, usual.Files), Threads: max(size.Threads, usual.Threads), RSSKiB: max(size.RSSKiB, usual.RSSKiB),
			}
		} else if size.Files > usual.Files+16 || size.Threads > usual.Threads+12 || size.RSSKiB > 2*usual.RSSKiB+32<<10 {
			o.t.Errorf("the %s has grown to %+v, was %+v", part, size, usual)
		}
	}
}

// report says how a failure came about, and keeps what the cluster has written.
func (o *ordeal) report() {
	kept, err := os.MkdirTemp("", fmt.Sprintf("gantry-torture-%d-%d-", o.seed, o.round))
	for _, name := range o.logs() {
		text, readErr := os.ReadFile(name)
		place := filepath.Join(kept, filepath.Base(filepath.Dir(filepath.Dir(name)))+"-"+filepath.Base(name))
		err = errors.Join(err, readErr, os.WriteFile(place, text, 0o600))
	}
	o.t.Logf("seed %d, round %d, begun at %s:\n  %s\nthe logs are in %s (%v); again: make torture SEED=%d ROUNDS=%d",
		o.seed, o.round, o.began.Format("15:04:05.000"), strings.Join(o.done, "\n  "), kept, err, o.seed, o.round+1)
}

// finish ends the cluster and sums up.
func (o *ordeal) finish() {
	if !o.t.Failed() {
		o.checkHistories(func(torture.History) bool { return true })
	}
	o.stop()
	o.watch.Wait()
	for _, p := range o.processes() {
		if p.Container != "" {
			o.probe.Excuse(p)
		}
	}
	o.c.end()
	o.c.checkNothingLeft()
	count := o.load.Count()
	requests, failures := o.probe.Result()
	o.t.Logf("%d rounds; killed or stopped: %v; tasks: %d launched, %d ended, of which %d never ran and %d ended unseen; %d statuses in %d sessions; %d requests, %d failed; lost: %d",
		o.round+1, o.kills, count.Launched, count.Ended, count.NeverRan, count.Unknown, count.Statuses, count.Sessions, requests, len(failures),
		count.Launched-staying-count.Ended)
}
