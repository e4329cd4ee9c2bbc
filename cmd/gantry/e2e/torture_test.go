package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"net"
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
	tortureAgents = flag.Int("agents", 2, "how many agents its cluster has")
)

const (
	webInstances = 3
	staying      = 3
	running      = 16 // jobs at a time

	afterBlows   = 3                // launches on each agent, which need offers
	settleWithin = 90 * time.Second // on a loaded machine
	calibration  = 2                // rounds that say what processes use
	endsWithin   = 8 * time.Second  // one of the tasks that run, all of which are short
)

// Whatever is killed, at whatever moment, no task notices that is not meant, and nobody loses sight of any.
func TestTorture(t *testing.T) {
	o := newOrdeal(t, *tortureSeed)
	t.Logf("seed %d, %d rounds, %d agents", o.seed, *tortureRounds, o.host.Agents)
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
	t      *testing.T
	seed   uint64
	round  int
	c      *cluster
	host   torture.Host
	listen string // HOST:PORT of the master
	load   *torture.Load
	probe  *torture.Probe
	// master is HOST:PORT, or empty while nobody knows.
	master atomic.Value
	at     daemon.Cluster // as it was last
	api    *client.Client // of at
	stop   context.CancelFunc
	watch  sync.WaitGroup

	// Of this round.
	pulse   string // a job by the clock
	began   time.Time
	struck  map[torture.Role]bool // killed or stopped
	killed  map[torture.Role]bool
	tasks   map[string]torture.Process // that have to live on, by Key
	parts   map[torture.Role]torture.Process
	thawing sync.WaitGroup

	mu     sync.Mutex // while thawing goes on, for
	done   []string   // to whom, when, in this round
	missed []string   // jobs that ended while their agent was stopped

	judged   map[string]bool // histories by id of the job
	excused  map[string]bool // those whose end nobody may have seen
	usual    map[torture.Role]torture.Size
	entries  int
	kills    map[string]int
	failures int // of the probe, told already
}

func newOrdeal(t *testing.T, seed uint64) *ordeal {
	workDir := newWorkDir(t)
	o := &ordeal{
		t: t, seed: seed, host: torture.Host{WorkDir: workDir, Group: cgroup.Name(workDir), Agents: *tortureAgents},
		judged: map[string]bool{}, excused: map[string]bool{}, usual: map[torture.Role]torture.Size{}, kills: map[string]int{},
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
	o.prepare()
	o.start()
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

func (o *ordeal) start() {
	o.c = launch(o.t, o.host.WorkDir, "--agents", fmt.Sprint(o.host.Agents), "--listen", o.listen)
}

// prepare makes what a cluster needs in which executors outlive the supervisor: their agent has to come back where it was.
func (o *ordeal) prepare() {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		o.t.Fatal(err)
	}
	base := freePorts(o.t, o.host.Agents+4)
	o.listen = fmt.Sprint("127.0.0.1:", base+1)
	plugins := fmt.Sprintf(tortureManifest, base+o.host.Agents+2, base+o.host.Agents+3)
	err = errors.Join(
		os.MkdirAll(filepath.Dir(o.host.Executor()), 0o755),
		os.WriteFile(o.host.Executor(), self, 0o755),
		os.WriteFile(filepath.Join(o.host.WorkDir, "plugins.toml"), []byte(plugins), 0o644),
	)
	if err != nil {
		o.t.Fatal(err)
	}
}

// freePorts finds some that follow each other, below those that the system hands out.
func freePorts(t *testing.T, n int) (first int) {
	for first = 10_000 + os.Getpid()%900*10; first < 20_000; first += n {
		var taken []net.Listener
		for i := range n {
			if l, err := net.Listen("tcp", fmt.Sprint("127.0.0.1:", first+i)); err == nil {
				taken = append(taken, l)
			}
		}
		for _, l := range taken {
			l.Close() // nobody has connected
		}
		if len(taken) == n {
			return first
		}
	}
	t.Fatalf("there are no %d free ports", n)
	return 0
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
	o.began, o.done, o.struck, o.killed = time.Now(), nil, map[torture.Role]bool{}, map[torture.Role]bool{}
	o.tasks, o.parts = o.survivors()
	o.load.Pause(false)
	o.beginPulse()
	for _, blow := range torture.Plan(o.seed, o.round) {
		time.Sleep(time.Until(o.began.Add(blow.At)))
		o.strike(blow)
	}
	o.thawing.Wait()
	o.up()
	before := o.load.Spread()
	o.await(func() (open []string) {
		for agent, n := range o.load.Spread() {
			if n < before[agent]+afterBlows {
				open = append(open, fmt.Sprintf("offers of %s do not flow: %d launches since the last blow", o.host.Folder(agent), n-before[agent]))
			}
		}
		return open
	})
	o.load.Pause(true)
	o.settle()
	o.t.Logf("round %d: settled %.1f s after its beginning: %s", o.round, time.Since(o.began).Seconds(), strings.Join(o.done, "; "))
	o.checkSurvivors()
	o.checkHistories(func(h torture.History) bool { return !o.judged[h.Job.ID] })
	o.checkPulse()
	o.checkProbe()
	o.checkLogs()
	o.calibrate()
}

// survivors returns the processes that are to live on: those in containers, and the parts of kernel and plugins.
func (o *ordeal) survivors() (tasks map[string]torture.Process, parts map[torture.Role]torture.Process) {
	o.t.Helper()
	all := o.processes()
	tasks, parts = map[string]torture.Process{}, map[torture.Role]torture.Process{}
	for _, p := range all {
		if p.Container != "" {
			tasks[p.Key()] = p
		} else {
			parts[p.Role] = p
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
	case torture.Absent:
		for _, p := range o.find(torture.Agent, b.Nth) {
			o.absent(p)
		}
	case torture.Everything:
		o.strikeAll(func(p torture.Process) bool { return p.Container == "" })
	case torture.Supervisor:
		if b.Freeze == 0 {
			o.strikeAll(func(p torture.Process) bool { return p.Part == torture.Supervisor })
			return
		}
		fallthrough
	default:
		victims := o.find(b.Victim, b.Nth)
		if len(victims) == 0 {
			o.note("%s is not there", b.Victim)
		}
		for _, p := range victims {
			o.strikeOne(b, p)
		}
	}
}

func (o *ordeal) note(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done = append(o.done, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// find returns the processes of a victim: of the nth agent that has any, if agents have them.
func (o *ordeal) find(v torture.Victim, nth int) []torture.Process {
	found := map[string][]torture.Process{} // by agent
	for _, p := range o.processes() {
		if p.Part == v {
			found[p.Agent] = append(found[p.Agent], p)
		}
	}
	agents := slices.Sorted(maps.Keys(found))
	if len(agents) == 0 {
		return nil
	}
	return found[agents[nth%len(agents)]]
}

func (o *ordeal) strikeOne(b torture.Blow, p torture.Process) {
	if b.Freeze == 0 {
		o.kill(p)
		return
	}
	o.freeze(p)
	o.thawing.Go(func() {
		time.Sleep(b.Freeze)
		o.thaw(p)
	})
}

// freeze stops a process, until it is thawed.
func (o *ordeal) freeze(p torture.Process) {
	o.struck[p.Role] = true
	o.note("stopped %s %d: %v", p.Role, p.PID, syscall.Kill(p.PID, syscall.SIGSTOP))
}

func (o *ordeal) thaw(p torture.Process) {
	if now, err := o.host.Process(p.PID); err == nil && now.Key() == p.Key() {
		_ = syscall.Kill(p.PID, syscall.SIGCONT) // fails only where it has just ended
	}
}

// absent stops an agent until one of its tasks has ended by itself, which only the keeper can have seen then.
func (o *ordeal) absent(p torture.Process) {
	var left []string
	for deadline := time.Now().Add(endsWithin); len(left) == 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			o.t.Errorf("%s got no task to run for %s", p.Agent, endsWithin)
			return
		}
		if left = o.underWay(p.Agent); len(left) == 0 {
			continue
		}
		o.freeze(p)
		if left = o.underWay(p.Agent); len(left) == 0 { // they have ended before
			o.thaw(p)
		}
	}
	o.thawing.Go(func() {
		defer o.thaw(p)
		for deadline := time.Now().Add(endsWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			for _, id := range left {
				if box, err := o.host.Sandbox(o.load.Framework(), id); err != nil || box.Ended == 0 {
					continue
				}
				o.note("%s ended while %s was stopped", id, p.Role)
				o.mu.Lock()
				defer o.mu.Unlock()
				o.missed = append(o.missed, id)
				return
			}
		}
		o.note("none of %v ended while %s was stopped", left, p.Role)
	})
}

// underWay are the jobs of an agent that are about to end by themselves.
func (o *ordeal) underWay(agent string) (ids []string) {
	for _, h := range o.load.Histories() {
		if h.Job.Kind != torture.Runs || h.Ended || o.host.Folder(h.Agent) != agent {
			continue
		}
		if box, err := o.host.Sandbox(o.load.Framework(), h.Job.ID); err == nil && box.Began == 1 && box.Ended == 0 {
			ids = append(ids, h.Job.ID)
		}
	}
	return ids
}

// kill kills a process, and with it whatever belongs to it.
func (o *ordeal) kill(p torture.Process) {
	o.note("killed %s %d: %v", p.Role, p.PID, syscall.Kill(p.PID, syscall.SIGKILL))
	o.struck[p.Role], o.killed[p.Role] = true, true
	for _, role := range o.host.Roles() {
		if slices.Contains(belongings[p.Part], role.Part) && (p.Agent == "" || p.Agent == role.Agent) {
			o.struck[role], o.killed[role] = true, true
		}
	}
	if p.Part == torture.Reaper {
		o.struck[torture.Role{Part: torture.Keeper, Agent: p.Agent}] = true // it becomes the next keeper's reaper
	}
}

// belongings end with whom they belong to.
var belongings = map[torture.Victim][]torture.Victim{
	torture.Supervisor: slices.Concat(masterPlugins, agentPlugins, []torture.Victim{torture.Master, torture.Agent}),
	torture.Master:     masterPlugins,
	torture.Agent:      agentPlugins,
}

var (
	masterPlugins = slices.Collect(maps.Values(torture.MasterPlugins))
	agentPlugins  = slices.Collect(maps.Values(torture.AgentPlugins))
)

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
	o.start()
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
	live, open := o.unaccounted(state)
	open = append(open, o.executors(ctx, state, live)...)
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
	open = append(open, o.pulseOpen(ctx, api)...)
	remains, err := o.host.Remains(live)
	if err != nil {
		open = append(open, err.Error())
	}
	if open = append(append(open, remains...), o.strays(live)...); len(open) > 0 {
		return open
	}
	return o.grown()
}

// executors compares the load's executors at the agents with those at the master, and adds their containers to those that live.
func (o *ordeal) executors(ctx context.Context, state *masterpb.Response_GetState, live map[string]bool) (open []string) {
	held := 0
	for i, folder := range o.host.Folders() {
		containers, err := torture.Executors(ctx, o.at.Agents[i])
		if err != nil {
			open = append(open, fmt.Sprintf("%s: %v", folder, err))
		}
		for _, c := range containers {
			live[folder+"/"+c] = true
			held++
		}
	}
	if n := len(state.GetGetExecutors().GetExecutors()); n != held {
		open = append(open, fmt.Sprintf("the master has %d executors, the agents %d", n, held))
	}
	return open
}

// client is one for the cluster as it is now, as a master that starts again may give its plugins other ports. It is kept,
// for its connections would count as the master's growth.
func (o *ordeal) client() (*client.Client, error) {
	at, err := daemon.ReadCluster(o.host.WorkDir)
	if err != nil {
		return nil, err
	}
	if o.api == nil || at.Master != o.at.Master || at.Marathon != o.at.Marathon || at.Chronos != o.at.Chronos {
		o.api = client.New(at.Master, at.Marathon).WithChronos(at.Chronos)
	}
	o.at = at
	return o.api, nil
}

// unaccounted compares what the master accounts for with what should run, and returns the containers that live.
func (o *ordeal) unaccounted(state *masterpb.Response_GetState) (live map[string]bool, open []string) {
	live = map[string]bool{}
	used := map[string]float64{}
	tasks := state.GetGetTasks().GetTasks()
	for _, e := range state.GetGetExecutors().GetExecutors() {
		for _, r := range e.GetExecutorInfo().GetResources() {
			used[r.GetName()] += r.GetScalar().GetValue()
		}
	}
	for _, task := range tasks {
		if task.GetState() != mesos.TaskState_TASK_RUNNING {
			open = append(open, fmt.Sprintf("task %s is %s at the master", task.GetTaskId().GetValue(), task.GetState()))
		}
		for _, s := range task.GetStatuses() {
			live[o.host.Folder(task.GetAgentId().GetValue())+"/"+s.GetContainerStatus().GetContainerId().GetValue()] = true
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
	agents := state.GetGetAgents().GetAgents()
	if len(agents) != o.host.Agents {
		open = append(open, fmt.Sprintf("the master has %d agents, want %d", len(agents), o.host.Agents))
	}
	for _, agent := range agents {
		if !agent.GetActive() {
			open = append(open, fmt.Sprintf("agent %s is not active", agent.GetAgentInfo().GetId().GetValue()))
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
	count := map[torture.Role]int{}
	for _, p := range o.processes() {
		count[p.Role]++
		if p.Container == "" && p.Part == "" || p.Container != "" && !live[p.Container] {
			open = append(open, "a stray: "+p.String())
		}
	}
	for _, role := range o.host.Roles() {
		if count[role] != 1 {
			open = append(open, fmt.Sprintf("there are %d of %s", count[role], role))
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
	for role, p := range o.parts {
		if now := parts[role]; !o.struck[role] && now.Key() != p.Key() {
			o.t.Errorf("the %s was not struck, and is another process: %s, was %s", role, now, p)
		}
	}
}

// checkHistories holds some of the tasks' histories against the rules.
func (o *ordeal) checkHistories(which func(torture.History) bool) {
	for _, h := range o.load.Histories() {
		if !which(h) {
			continue
		}
		o.excused[h.Job.ID] = o.excused[h.Job.ID] || o.nobodyIsLeft(o.host.Folder(h.Agent))
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

// nobodyIsLeft says of an agent whether all were killed in this round who see an end; if there is anybody, somebody does.
func (o *ordeal) nobodyIsLeft(agent string) bool {
	for _, part := range []torture.Victim{torture.Keeper, torture.Reaper, torture.Agent} {
		if !o.killed[torture.Role{Part: part, Agent: agent}] {
			return false
		}
	}
	return true
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

// calibrate takes what is used at the end of the first rounds as usual.
func (o *ordeal) calibrate() {
	if o.round >= calibration {
		return
	}
	entries, sizes, err := o.sizes()
	if err != nil {
		o.t.Error(err)
	}
	o.entries = max(o.entries, entries)
	for role, size := range sizes {
		o.usual[role] = o.usual[role].Max(size)
	}
}

// sizes measures the work dir and the processes.
func (o *ordeal) sizes() (entries int, sizes map[torture.Role]torture.Size, err error) {
	if entries, err = o.host.Entries(); err != nil {
		return 0, nil, err
	}
	sizes = map[torture.Role]torture.Size{}
	_, parts := o.survivors()
	for role, p := range parts {
		size, err := p.Size()
		if err != nil {
			return 0, nil, fmt.Errorf("the size of the %s: %w", role, err)
		}
		if address := o.servesMetrics(role); address != "" {
			if size.Goroutines, err = torture.Goroutines(o.t.Context(), address); err != nil {
				return 0, nil, fmt.Errorf("the goroutines of the %s: %w", role, err)
			}
		}
		sizes[role] = size
	}
	return entries, sizes, nil
}

// servesMetrics is where a process tells what nobody can see from outside, or empty.
func (o *ordeal) servesMetrics(role torture.Role) string {
	switch role.Part {
	case torture.Master:
		return o.at.Master
	case torture.Agent:
		return o.at.Agents[slices.Index(o.host.Folders(), role.Agent)]
	}
	return ""
}

// grown says what uses more than was usual in the first rounds, however many there were since.
func (o *ordeal) grown() (open []string) {
	if o.round < calibration {
		return nil
	}
	entries, sizes, err := o.sizes()
	if err != nil {
		return []string{err.Error()}
	}
	if entries > o.entries+24 {
		open = append(open, fmt.Sprintf("there are %d files in the work dir, were %d", entries, o.entries))
	}
	for role, size := range sizes {
		if usual := o.usual[role]; size.Exceeds(usual) {
			open = append(open, fmt.Sprintf("the %s has grown to %+v, was %+v", role, size, usual))
		}
	}
	return open
}

// report says how a failure came about, and keeps what the cluster has written.
func (o *ordeal) report() {
	kept, err := os.MkdirTemp("", fmt.Sprintf("gantry-torture-%d-%d-", o.seed, o.round))
	for _, name := range o.logs() {
		text, readErr := os.ReadFile(name)
		place := filepath.Join(kept, filepath.Base(filepath.Dir(filepath.Dir(name)))+"-"+filepath.Base(name))
		err = errors.Join(err, readErr, os.WriteFile(place, text, 0o600))
	}
	o.t.Logf("seed %d, round %d, begun at %s:\n  %s\nthe logs are in %s (%v); again: make torture SEED=%d ROUNDS=%d AGENTS=%d",
		o.seed, o.round, o.began.Format("15:04:05.000"), strings.Join(o.done, "\n  "), kept, err, o.seed, o.round+1, o.host.Agents)
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
	if absent := o.kills[string(torture.Absent)]; len(o.missed) < absent/2 {
		o.t.Errorf("%d times was an agent stopped until a task had ended, and %d did: %v", absent, len(o.missed), o.missed)
	}
	o.t.Logf("%d rounds; killed or stopped: %v; tasks: %d launched, %d ended, of which %d never ran, %d ended unseen and %d while their agent was stopped; %d statuses in %d sessions; %d requests, %d failed; lost: %d",
		o.round+1, o.kills, count.Launched, count.Ended, count.NeverRan, count.Unknown, len(o.missed), count.Statuses, count.Sessions, requests, len(failures),
		count.Launched-staying-count.Ended)
}
