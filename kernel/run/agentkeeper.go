package run

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/keeper"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/rules"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

const (
	requestWithin = 30 * time.Second // for a keeper to answer
	// A keeper that answers nothing for so long, while the agent leaves, is woken, and then
	// killed for the next one to do what was asked. One that shuts down has more to do before
	// it answers.
	wakeAfter, killAfter, killClosingAfter = 2 * time.Second, 5 * time.Second, 15 * time.Second
	cleanupAttempts                        = 5 // with longer and longer pauses; then the next start does it
)

// agentLaunch is a container from the machine's Launch to its start or failure.
type agentLaunch struct {
	cancel context.CancelFunc
	// spec is nil while the container is being prepared.
	spec *containerpb.Spec
}

// agentKeeperConn is a connection to a keeper; its requests are done one after the other.
type agentKeeperConn struct {
	requests chan func(context.Context, AgentKeeper)
	hangUp   context.CancelFunc
	keeper   AgentKeeper
	ended    <-chan struct{}
	asked    atomic.Int64 // requests so far
	answered atomic.Int64 // those that are done with
	closing  atomic.Bool  // the keeper was told to shut down
	watched  bool         // owner's: rouse looks after it
}

// keeperProcess is what a keeper may be that runs by itself.
type keeperProcess interface {
	// Wake has it go on if it was stopped.
	Wake() error
	// Kill ends it, whatever it does; its containers stay.
	Kill() error
}

// keep holds a connection to a keeper for as long as the agent wants one. One that held for a
// while is replaced at once, others after longer and longer pauses.
func (a *Agent) keep(ctx context.Context) {
	pause := dialPauseMin
	for {
		opened := time.Now()
		err := a.connectKeeper(ctx)
		select {
		case <-a.leaving.ended:
			return
		default:
		}
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil:
			a.cfg.Log.Warn("no keeper; trying again", "error", err, "in", pause)
		case time.Since(opened) > lasting:
			pause = dialPauseMin
			a.cfg.Log.Warn("the connection to the keeper ended; dialling again")
			continue
		default:
			a.cfg.Log.Warn("the connection to the keeper ended soon after it was made; dialling again", "after", time.Since(opened), "in", pause)
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, dialPauseMax)
	}
}

// connectKeeper connects and stays until the connection ends, which is no error.
func (a *Agent) connectKeeper(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k, welcome, err := a.cfg.Keeper(ctx)
	if err != nil {
		return err
	}
	c := &agentKeeperConn{
		requests: make(chan func(context.Context, AgentKeeper), agentRequests),
		hangUp:   cancel, keeper: k, ended: ctx.Done(),
	}
	a.wait.Go(func() {
		for {
			select {
			case request := <-c.requests:
				within, done := context.WithTimeout(ctx, requestWithin)
				request(within, k)
				done()
				c.answered.Add(1)
			case <-ctx.Done():
				return
			}
		}
	})
	if err := a.post(ctx, agentEvent{do: func(life context.Context) node.Event { return a.keeperUp(life, c, welcome) }}); err != nil {
		return nil
	}
	for event := range k.Events() {
		if err := a.post(ctx, agentEvent{do: func(context.Context) node.Event { return a.keeperEvent(event) }}); err != nil {
			break
		}
	}
	// With the agent's own context: this must be told although the connection has ended.
	_ = a.post(context.WithoutCancel(ctx), agentEvent{do: func(context.Context) node.Event { // fails only when the agent has ended
		a.keeper = nil
		return node.KeeperDown{}
	}})
	return nil
}

// keeperUp takes a new connection. What was to be started and is not with the keeper was
// never started, and is asked for again.
func (a *Agent) keeperUp(life context.Context, c *agentKeeperConn, w *keeperpb.Welcome) node.Event {
	a.keeper = c
	ev := node.KeeperUp{Starting: w.GetStarting(), Exits: w.GetExits()}
	held := map[string]bool{}
	for _, running := range w.GetRunning() {
		held[running.GetContainerId()] = true
		delete(a.starting, running.GetContainerId())
		a.traceKeeper(running.GetContainerId(), "started")
		ev.Running = append(ev.Running, node.ContainerStarted{Container: running.GetContainerId(), Pid: running.GetPid()})
	}
	for _, exit := range w.GetExits() {
		held[exit.GetContainerId()] = true
		delete(a.starting, exit.GetContainerId())
		a.traceKeeper(exit.GetContainerId(), "ended")
	}
	for _, container := range w.GetStarting() {
		held[container] = true
	}
	for container, launch := range a.starting {
		if held[container] {
			continue
		}
		ev.Starting = append(ev.Starting, container)
		if launch.spec != nil {
			a.start(launch.spec)
		}
	}
	if !a.retained {
		a.retained = true
		for container := range a.starting {
			held[container] = true
		}
		a.wait.Go(func() {
			if err := a.cfg.Containers.Retain(life, held); err != nil {
				a.cfg.Log.Warn("what earlier containers left can't be removed", "error", err)
			}
		})
		a.wait.Go(func() { a.attach(life) })
	}
	return ev
}

// keeperEvent translates what the keeper says unasked.
func (a *Agent) keeperEvent(m *keeperpb.FromKeeper) node.Event {
	switch body := m.GetBody().(type) {
	case *keeperpb.FromKeeper_Started:
		delete(a.starting, body.Started.GetContainerId())
		a.traceKeeper(body.Started.GetContainerId(), "started")
		return node.ContainerStarted{Container: body.Started.GetContainerId(), Pid: body.Started.GetPid()}
	case *keeperpb.FromKeeper_StartFailed:
		delete(a.starting, body.StartFailed.GetContainerId())
		return node.ContainerFailed{Container: body.StartFailed.GetContainerId(), Message: body.StartFailed.GetMessage()}
	case *keeperpb.FromKeeper_Exited:
		delete(a.starting, body.Exited.GetContainerId())
		a.traceKeeper(body.Exited.GetContainerId(), "ended")
		return node.ContainerExited{Exit: body.Exited}
	}
	return nil
}

// ask queues a request; a keeper that does not answer for so long is dialled anew, and
// what was asked is asked again then.
func (a *Agent) ask(request func(context.Context, AgentKeeper)) {
	if a.keeper == nil {
		return
	}
	a.keeper.asked.Add(1)
	select {
	case a.keeper.requests <- request:
	default:
		a.keeper.hangUp()
	}
	if process, ok := a.keeper.keeper.(keeperProcess); ok && a.leaving.began && !a.keeper.watched {
		a.keeper.watched = true
		c := a.keeper
		a.wait.Go(func() { a.rouse(c, process) })
	}
}

// rouse sees to it that a keeper does not keep the agent from leaving.
func (a *Agent) rouse(c *agentKeeperConn, process keeperProcess) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	since, answered := time.Now(), c.answered.Load()
	for woken := false; ; {
		select {
		case <-c.ended:
			return
		case <-tick.C:
		}
		if n := c.answered.Load(); n != answered || n == c.asked.Load() {
			since, answered, woken = time.Now(), n, false
		}
		silent, patience := time.Since(since), killAfter
		if c.closing.Load() {
			patience = killClosingAfter
		}
		switch {
		case silent >= patience:
			a.cfg.Log.Warn("the keeper does not answer and is killed, for the next one to be asked", "for", silent)
			if err := process.Kill(); err != nil {
				a.cfg.Log.Error("the keeper stays as it is", "error", err)
			}
			return
		case silent >= wakeAfter && !woken:
			woken = true
			a.cfg.Log.Warn("the keeper does not answer and is woken, in case it was stopped", "for", silent)
			if err := process.Wake(); err != nil {
				a.cfg.Log.Error("the keeper stays as it is", "error", err)
			}
		}
	}
}

// launch prepares a container, and starts it when it is.
func (a *Agent) launch(life context.Context, l node.Launch) {
	ctx, cancel := context.WithCancel(life)
	launch := &agentLaunch{cancel: cancel}
	a.starting[l.Container] = launch
	a.wait.Go(func() {
		defer cancel()
		failpoint.Hit("agent.preparing")
		spec, err := a.prepare(ctx, l)
		failpoint.Hit("agent.prepared")
		_ = a.post(life, agentEvent{do: func(context.Context) node.Event { // fails only when the agent has ended
			switch {
			case a.starting[l.Container] != launch:
				return nil
			case err != nil:
				delete(a.starting, l.Container)
				return node.ContainerFailed{Container: l.Container, Message: err.Error()}
			}
			launch.spec = spec
			a.trace.Mark(a.traced[l.Container], preparedMark(spec))
			a.start(spec)
			return nil
		}})
	})
}

// prepare waits for its turn. Who waits for an image must not hold up others.
func (a *Agent) prepare(ctx context.Context, l node.Launch) (*containerpb.Spec, error) {
	slots := a.work
	if _, image := rules.ImageOf(l.ContainerInfo()); image {
		slots = a.pulls
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-slots }()
	return a.cfg.Containers.Prepare(ctx, l)
}

// start has the keeper start a container. If the connection ends meanwhile, keeperUp finds
// out what became of it.
func (a *Agent) start(spec *containerpb.Spec) {
	a.ask(func(ctx context.Context, k AgentKeeper) {
		err := k.Start(ctx, spec)
		failpoint.Hit("agent.start.answered")
		if err == nil || errors.Is(err, keeper.ErrClosed) || ctx.Err() != nil {
			return
		}
		_ = a.post(context.WithoutCancel(ctx), agentEvent{do: func(context.Context) node.Event { // fails only when the agent has ended
			delete(a.starting, spec.GetId())
			return node.ContainerFailed{Container: spec.GetId(), Message: err.Error()}
		}})
	})
}

// signal gives up a preparation, or has the keeper signal the container.
func (a *Agent) signal(s node.Signal) {
	if launch := a.starting[s.Container]; launch != nil && launch.spec == nil {
		launch.cancel()
		return
	}
	a.ask(func(ctx context.Context, k AgentKeeper) {
		if err := k.Signal(ctx, s.Container, int(s.Number)); err != nil {
			a.cfg.Log.Debug("signal not sent", "container", s.Container, "error", err)
		}
	})
}

// forget removes what is left of a container, and last the keeper's record of its end.
func (a *Agent) forget(life context.Context, container string) {
	delete(a.starting, container)
	a.wait.Go(func() {
		if err := a.cleanup(life, container); err != nil {
			a.cfg.Log.Warn("what a container left can't be removed", "container", container, "error", err)
		}
		failpoint.Hit("agent.cleaned")
		_ = a.post(life, agentEvent{do: func(context.Context) node.Event { // fails only when the agent has ended
			a.ask(func(ctx context.Context, k AgentKeeper) {
				if err := k.Forget(ctx, container); err != nil {
					a.cfg.Log.Debug("exit record not forgotten", "container", container, "error", err)
				}
				failpoint.Hit("agent.forgotten")
			})
			return nil
		}})
	})
}

func (a *Agent) cleanup(ctx context.Context, container string) error {
	select {
	case a.work <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-a.work }()
	for attempt := 1; ; attempt++ {
		err := a.cfg.Containers.Cleanup(ctx, container)
		if err == nil || attempt == cleanupAttempts || !sleep(ctx, time.Duration(attempt)*dialPauseMin) {
			return err
		}
	}
}

// shutdownKeeper ends the keeper and whatever still runs.
func (a *Agent) shutdownKeeper() {
	if a.leaving.told {
		return
	}
	a.leaving.told = true
	close(a.leaving.ended)
	if a.keeper == nil {
		return
	}
	a.keeper.closing.Store(true)
	a.ask(func(ctx context.Context, k AgentKeeper) {
		// Its end is also the connection's, which may be noticed first.
		if err := k.Shutdown(ctx); err != nil && !errors.Is(err, context.Canceled) {
			a.cfg.Log.Warn("the keeper did not shut down", "error", err)
		}
	})
}
