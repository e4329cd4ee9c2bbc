package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

const (
	lookEvery       = 100 * time.Millisecond
	readyTimeout    = time.Minute // for a daemon to publish its addresses
	marathonTimeout = 15 * time.Second
	cleanTimeout    = 40 * time.Second
)

// cluster is a running supervisor. One goroutine owns it; each daemon has another.
type cluster struct {
	Config
	parts       Parts
	out, errOut io.Writer
	force       context.Context // its end kills what has not ended

	cgroup  string // the parent of everything of this cluster
	ports   portRange
	listens listeners
	peers   []string // where several masters hear each other
	masters []*child
	agents  []*child
	known   daemon.Cluster // as addresses.json has it
	failed  chan error     // from daemons that can't be started; one each at most

	saying sync.Mutex
}

// say tells the person something that is no result.
func (u *cluster) say(format string, args ...any) {
	u.saying.Lock()
	defer u.saying.Unlock()
	fmt.Fprintf(u.errOut, "gantry: "+format+"\n", args...)
}

// run does everything between the lock and its release.
func (u *cluster) run(ctx context.Context) error {
	if err := u.Validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(u.path("artifacts"), 0o755); err != nil {
		return err
	}
	lock, err := lockDir(u.path("lock"))
	if err != nil {
		return err
	}
	defer lock.Close()
	ports, claim, err := claimPorts(u.WorkDir, u.ephemeral())
	if err != nil {
		return err
	}
	defer claim.Close()
	if u.listens, err = u.listeners(); err != nil {
		return err
	}
	u.listens = u.recall(u.listens)
	u.ports, u.cgroup = ports, u.parts.CgroupName(u.WorkDir)
	if err := u.checkOthers(); err != nil {
		return err
	}
	if err := u.findPeers(); err != nil {
		return err
	}
	if err := u.removeRuntimeFiles(); err != nil { // of a supervisor that was killed
		return err
	}
	u.failed = make(chan error, u.Masters+u.Agents)
	return u.serve(ctx)
}

// serve brings the cluster up, keeps it until ctx ends or a daemon can't be started, and takes it down.
func (u *cluster) serve(ctx context.Context) error {
	daemons := context.WithoutCancel(ctx) // they end in order, not all with ctx
	masters, agents := newGroup(daemons, u), newGroup(daemons, u)
	err := u.bringUp(ctx, masters, agents)
	if err == nil {
		err = u.wait(ctx, func() bool { return false })
	}
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		err = nil // it is what the person asked for
		u.say("ending; another signal does so at once")
	}
	if errors.Is(err, errRefused) {
		// What an earlier start has left running is not for one to end that did not come so far.
		u.KeepTasks = true
		agents.kill()
	}
	agents.stop()
	masters.stop() // after the agents, to hear how their tasks ended
	u.look()
	return errors.Join(err, u.clean(daemons))
}

// group is the daemons that are ended together.
type group struct {
	u       *cluster
	ctx     context.Context
	cancel  context.CancelFunc
	force   context.Context
	kill    context.CancelFunc // without asking; stop must follow
	running sync.WaitGroup
}

func newGroup(ctx context.Context, u *cluster) *group {
	g := &group{u: u}
	g.ctx, g.cancel = context.WithCancel(ctx)
	g.force, g.kill = context.WithCancel(u.force)
	return g
}

func (g *group) start(c *child) {
	g.running.Go(func() {
		if err := c.supervise(g.ctx, g.force); err != nil {
			g.u.failed <- err
		}
	})
}

// stop asks every daemon of the group to end and waits until they have.
func (g *group) stop() {
	g.cancel()
	g.running.Wait()
	g.kill() // nobody is left
}

// bringUp returns when the cluster is ready and the person has been told.
func (u *cluster) bringUp(ctx context.Context, masters, agents *group) error {
	if err := u.startMasters(masters); err != nil {
		return err
	}
	var bound bound
	for i, m := range u.masters {
		at, err := u.awaitReady(ctx, m)
		if err != nil {
			return err
		}
		m.setArgs(u.masterArgs(i, at.Listen, at.Link)) // another start must be found where this one was
		bound.Masters = append(bound.Masters, boundMaster{at.Listen, at.Link})
	}
	for i := range u.Agents {
		if err := u.startAgent(i, agents); err != nil {
			return err
		}
	}
	for i, a := range u.agents {
		published, err := u.awaitReady(ctx, a)
		if err != nil {
			return err
		}
		args, err := u.agentArgs(i, published.Listen)
		if err != nil {
			return err
		}
		a.setArgs(args)
		bound.Agents = append(bound.Agents, published.Listen)
	}
	if err := u.remember(bound); err != nil {
		return fmt.Errorf("remember where agents listen: %w", err)
	}
	// Whose reader is told of the demo may read addresses.json from now on.
	late, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	if err := u.wait(late, func() bool { return u.known.Master != "" }); err != nil {
		return fmt.Errorf("no master leads: %w: see %s", err, u.path("logs"))
	}
	return u.welcome(ctx)
}

func (u *cluster) startAgent(i int, agents *group) error {
	c, err := u.newChild(u.agentName(i), u.say)
	if err != nil {
		return err
	}
	args, err := u.agentArgs(i, u.listens.agents[i])
	if err != nil {
		return err
	}
	c.setArgs(args)
	u.agents = append(u.agents, c)
	agents.start(c)
	return nil
}

// awaitReady waits until a daemon has published its addresses.
func (u *cluster) awaitReady(ctx context.Context, c *child) (daemon.Addresses, error) {
	var at daemon.Addresses
	late, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := u.wait(late, func() bool {
		published, ready := c.published()
		at = published
		return ready
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%s was not ready within %s: see %s", c.name, readyTimeout, c.log.path)
	}
	return at, err
}

// wait looks after the cluster until a condition holds, ctx ends, or a daemon can't be started.
func (u *cluster) wait(ctx context.Context, until func() bool) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		u.look()
		if until() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-u.failed:
			return err
		case <-tick.C:
		}
	}
}

// look shows what the daemons complain about, and brings addresses.json up to date.
func (u *cluster) look() {
	for _, c := range slices.Concat(u.masters, u.agents) {
		lines, err := c.log.problems(time.Now())
		for _, line := range lines {
			u.say("%s: %s", c.name, strings.TrimPrefix(strings.TrimPrefix(line, "gantry: "), c.name+": "))
		}
		if err != nil {
			u.say("%v", err)
		}
	}
	if now, complete := u.addresses(); complete && !reflect.DeepEqual(now, u.known) {
		if err := daemon.WriteCluster(u.WorkDir, now); err != nil {
			u.say("%v", err)
		}
		u.known = now
	}
}

// addresses gathers what the daemons have published, and whether all of them have.
func (u *cluster) addresses() (daemon.Cluster, bool) {
	at, masters, complete := u.leader()
	if !complete || len(u.agents) != u.Agents {
		return daemon.Cluster{}, false
	}
	now := daemon.Cluster{
		Master: masters[0], Masters: masters, Link: at.Link,
		Marathon: at.Plugins["marathon"], Chronos: at.Plugins["chronos"], Page: at.Plugins["webui"],
	}
	for _, a := range u.agents {
		at, ready := a.published()
		now.Agents = append(now.Agents, at.Listen)
		complete = complete && ready
	}
	return now, complete
}

// agentName also names the agent's folder and its log.
func (u *cluster) agentName(i int) string {
	if u.Agents == 1 {
		return "agent"
	}
	return fmt.Sprintf("agent-%d", i+1)
}

func (u *cluster) agentArgs(i int, listen string) ([]string, error) {
	name, cgroup := u.agentName(i), u.cgroup
	if u.Agents > 1 {
		cgroup += "/" + name // container ids are unique for one agent only
	}
	args := []string{
		"agent",
		"--master", u.masterURLs(),
		"--work-dir", u.path(name),
		"--listen", listen,
		"--token-file", u.path("agent.token"),
		"--fetch-root", u.path("artifacts"),
		"--keeper", u.keeper(),
		"--plugins", u.Plugins,
		"--bin-dir", u.binDir(),
		"--cgroup", cgroup,
		"--publish", u.path("run", name+".json"),
	}
	resources, err := agentResources(i, u.Agents, u.ports)
	if resources != "" {
		args = append(args, "--resources", resources)
	}
	if u.KeepTasks {
		args = append(args, "--keep-tasks")
	}
	return args, err
}
