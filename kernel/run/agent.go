package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/run/trace"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/kernel/store"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

const (
	agentEvents   = 4096             // waiting for the owner; beyond it senders wait
	agentBatch    = 256              // events stepped before one write
	agentRequests = 8192             // waiting for the keeper; beyond it it is dialled anew
	agentWorkers  = 4                // containers prepared or cleaned up at once
	agentPulls    = 16               // of images prepared at once, which may wait for minutes
	killTasksIn   = 10 * time.Second // after which a leaving agent ends what is left at once
	leaveWithin   = 40 * time.Second // after which it leaves with an error
)

var (
	// ErrAgentRefused says that a master refused the agent for good.
	ErrAgentRefused = errors.New("the agent was refused")
	// ErrAgentStopped is the answer to who asks an agent that has ended.
	ErrAgentStopped = errors.New("the agent is stopping")
)

// AgentConfig is what an agent needs of the world.
type AgentConfig struct {
	Node node.Config
	// Boot names the host's current boot.
	Boot string
	// Home says where the checkpoint belongs; one that was made elsewhere is refused. Empty
	// means that nobody looks.
	Home string
	// Store has the checkpoint; the caller closes it after Run.
	Store store.Store
	// Dial opens a stream to the leading master. It is called again whenever one ends.
	Dial func(context.Context) (AgentLink, error)
	// Keeper connects to the keeper, which it starts if there is none, until ctx ends.
	// It is called again whenever a connection ends.
	Keeper     func(ctx context.Context) (AgentKeeper, *keeperpb.Welcome, error)
	Containers Containers
	// Doorkeeper knows the executors that call.
	Doorkeeper Doorkeeper
	// Meter measures what Containers has made; nil measures nothing.
	Meter Meter
	// KeepTasks leaves the tasks running when the agent is stopped.
	KeepTasks bool
	// Now is the clock; nil means the machine's, without its steps.
	Now func() time.Time
	Log *slog.Logger
}

// AgentLink is a stream to a master: Send queues and fails when the queue is full or the
// stream has ended, Recv blocks, Close ends it.
type AgentLink interface {
	Send(*linkpb.ToMaster) error
	Recv() (*linkpb.ToAgent, error)
	Close()
}

// AgentKeeper is a connection to the process that parents the containers. An error that
// wraps keeper.ErrClosed says that the connection has ended; Events is closed then.
type AgentKeeper interface {
	// Start is nil if the keeper accepted: Started or StartFailed follows as an event.
	Start(ctx context.Context, spec *containerpb.Spec) error
	Signal(ctx context.Context, containerID string, sig int) error
	Forget(ctx context.Context, containerID string) error
	// Shutdown kills every container and ends the keeper.
	Shutdown(ctx context.Context) error
	Events() <-chan *keeperpb.FromKeeper
}

// ImageLabel is the label by which a container's Spec names the digest of its image.
const ImageLabel = "image_digest"

// Containers makes what a keeper can start, and cleans up after it.
type Containers interface {
	// Prepare's error is a sentence for the framework's user.
	Prepare(ctx context.Context, l node.Launch) (*containerpb.Spec, error)
	// Cleanup removes what Prepare made but for the sandbox. It may be called for what
	// was never prepared, or is cleaned up already.
	Cleanup(ctx context.Context, container string) error
	// Retain cleans up all containers but these.
	Retain(ctx context.Context, containers map[string]bool) error
}

// Agent runs a node.Machine: one goroutine owns it, makes its writes durable and does
// what it asks; all others send events.
type Agent struct {
	cfg     AgentConfig
	started time.Time
	node    *node.Machine
	events  chan agentEvent
	done    chan struct{} // closed when Run returns
	work    chan struct{} // a slot for each preparation or clean-up
	pulls   chan struct{} // a slot for each preparation of an image
	wait    sync.WaitGroup
	id      atomic.Value // the machine's AgentID, a string, for everybody
	trace   *trace.Log

	// What follows belongs to the owner.
	link      AgentLink // nil while there is none
	conn      uint64
	keeper    *agentKeeperConn // nil while there is none
	starting  map[string]*agentLaunch
	traced    map[string]id.TaskKey // by container, until it is to be forgotten
	retained  bool
	executors executorCalls
	looks     []chan<- struct{} // of who has looked at what may not be durable yet
	leaving   agentLeaving
	refused   error
}

// agentEvent is an event for the machine, or something that the owner does between two.
type agentEvent struct {
	event node.Event
	do    func(ctx context.Context) node.Event // may lead to an event
}

// agentLeaving is how far the agent is on its way out.
type agentLeaving struct {
	began bool
	// ended is closed when the keeper is told to shut down, so that none is dialled again.
	ended  chan struct{}
	told   bool
	hurry  <-chan time.Time
	giveUp <-chan time.Time
}

// NewAgent recovers the checkpoint. Run must follow.
func NewAgent(ctx context.Context, cfg AgentConfig) (*Agent, error) {
	if cfg.Now == nil {
		start := time.Now()
		cfg.Now = func() time.Time { return start.Add(time.Since(start)) }
	}
	records, err := loadAll(ctx, cfg.Store, "")
	if err != nil {
		return nil, fmt.Errorf("read the checkpoint: %w", err)
	}
	saved, err := node.Decode(records)
	if err == nil {
		err = saved.CheckHome(cfg.Home)
	}
	if err != nil {
		return nil, err
	}
	a := &Agent{
		cfg:       cfg,
		started:   cfg.Now(),
		node:      node.New(cfg.Node),
		events:    make(chan agentEvent, agentEvents),
		done:      make(chan struct{}),
		work:      make(chan struct{}, agentWorkers),
		pulls:     make(chan struct{}, agentPulls),
		trace:     trace.New(cfg.Now),
		starting:  map[string]*agentLaunch{},
		executors: newExecutorCalls(),
		traced:    map[string]id.TaskKey{},
		leaving:   agentLeaving{ended: make(chan struct{})},
	}
	var out node.Effects
	a.node.Step(step.At(cfg.Now()), node.Recovered{Checkpoint: saved, Boot: cfg.Boot, Home: cfg.Home}, &out)
	if err := a.node.Check(); err != nil {
		return nil, fmt.Errorf("the checkpoint contradicts itself: %w", err)
	}
	failpoint.Hit("agent.recovering")
	if err := applyWrites(ctx, cfg.Store, out.Persist); err != nil {
		return nil, fmt.Errorf("write the checkpoint: %w", err)
	}
	failpoint.Hit("agent.recovered")
	a.id.Store(string(a.node.AgentID()))
	return a, nil
}

// Run owns the machine until ctx ends and the agent has left as it was told to, or a write
// fails, or a master refuses the agent for good.
func (a *Agent) Run(ctx context.Context) error {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	a.wait.Go(func() { a.keep(life) })
	err := a.own(ctx, life)
	cancel()
	if a.link != nil {
		a.link.Close()
	}
	close(a.done)
	a.wait.Wait()
	return err
}

// own steps the machine: events in batches, ticks when the machine wants one. Life ends
// later than ctx, which only says that it is time to leave.
func (a *Agent) own(ctx, life context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	stop := ctx.Done()
	var out node.Effects
	for {
		if at, ok := a.node.NextDeadline(); ok {
			timer.Reset(max(0, at.Time().Sub(a.cfg.Now())))
		} else {
			timer.Reset(time.Hour)
		}
		out = node.Effects{}
		select {
		case ev := <-a.events:
			a.batch(life, ev, &out)
		case <-timer.C:
			a.step(node.Tick{}, &out)
		case <-stop:
			stop = nil
			a.leave(&out)
		case <-a.leaving.hurry:
			a.shutdownKeeper()
		case <-a.leaving.giveUp:
			return fmt.Errorf("the keeper did not end its %d containers within %s", a.node.Live(), leaveWithin)
		}
		if err := a.carryOut(life, &out); err != nil {
			return err
		}
		if a.refused != nil || a.left() {
			return a.refused
		}
	}
}

// batch steps one event and those that wait behind it.
func (a *Agent) batch(ctx context.Context, ev agentEvent, out *node.Effects) {
	for i := 1; ; i++ {
		if ev.do != nil {
			ev.event = ev.do(ctx)
		}
		if ev.event != nil {
			a.step(ev.event, out)
		}
		if i == agentBatch {
			return
		}
		select {
		case ev = <-a.events:
		default:
			return
		}
	}
}

func (a *Agent) step(ev node.Event, out *node.Effects) {
	a.traceEvent(ev)
	a.node.Step(step.At(a.cfg.Now()), ev, out)
}

// carryOut makes what the machine decided durable, and does it.
func (a *Agent) carryOut(ctx context.Context, out *node.Effects) error {
	if len(out.Persist) > 0 {
		failpoint.Hit("agent.persisting")
		if err := applyWrites(ctx, a.cfg.Store, out.Persist); err != nil {
			return fmt.Errorf("write the checkpoint: %w", err)
		}
		failpoint.Hit("agent.persisted")
		defer failpoint.Hit("agent.delivered")
	}
	a.id.Store(string(a.node.AgentID()))
	a.traceEffects(out)
	a.deliver(ctx, out)
	for _, seen := range a.looks {
		close(seen)
	}
	a.looks = nil
	return nil
}

// deliver does what the machine asked for; all that it rests on is durable.
func (a *Agent) deliver(ctx context.Context, out *node.Effects) {
	for _, s := range out.Send {
		if a.link == nil || s.Conn != a.conn {
			continue
		}
		if err := a.link.Send(s.Message); err != nil {
			a.link.Close() // its reader reports the end
		}
		failpoint.Hit("agent.sent")
	}
	for _, ask := range out.Ask {
		switch ask := ask.(type) {
		case node.Launch:
			a.launch(ctx, ask)
		case node.Signal:
			a.signal(ask)
		case node.Resize:
			a.resize(ask)
		case node.Forget:
			a.forget(ctx, ask.Container)
		}
	}
	a.answerExecutors(out)
	for _, d := range out.Drop {
		a.drop(d)
	}
}

// leave begins to leave: at once with KeepTasks, else when the tasks have been killed.
func (a *Agent) leave(out *node.Effects) {
	a.leaving.began = true
	a.step(node.Stop{KillTasks: !a.cfg.KeepTasks}, out)
	if !a.cfg.KeepTasks {
		a.leaving.hurry = time.After(killTasksIn)
		a.leaving.giveUp = time.After(leaveWithin)
	}
}

// left says whether the agent may go: with KeepTasks always, else when the keeper is gone.
func (a *Agent) left() bool {
	if !a.leaving.began || a.cfg.KeepTasks {
		return a.leaving.began
	}
	if !a.leaving.told && a.node.Live() == 0 {
		a.shutdownKeeper()
	}
	return a.leaving.told && a.keeper == nil
}

// AgentID is the id that a master gave, or empty before the first welcome.
func (a *Agent) AgentID() string { return a.id.Load().(string) }

// Recovered is always true: an agent that can't read its checkpoint is never made.
func (a *Agent) Recovered() bool { return true }

// post hands an event to the owner; it waits while the queue is full.
func (a *Agent) post(ctx context.Context, ev agentEvent) error {
	select {
	case a.events <- ev:
		return nil
	case <-a.done:
		return ErrAgentStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// AgentSnapshot is an agent at one moment.
type AgentSnapshot struct {
	// ID is empty before the first welcome of a master.
	ID        id.Agent
	Linked    bool
	Tasks     []node.Task
	Executors []node.Executor
	Stats     node.Stats
}

// Snapshot asks the owner for the state of the agent. It returns when that is durable: nobody
// hears of what the death of the agent would undo.
func (a *Agent) Snapshot(ctx context.Context) (AgentSnapshot, error) {
	var s AgentSnapshot // written before seen is closed
	seen := make(chan struct{})
	err := a.post(ctx, agentEvent{do: func(context.Context) node.Event {
		s = AgentSnapshot{
			ID: a.node.AgentID(), Linked: a.node.Linked(),
			Tasks: a.node.Tasks(), Executors: a.node.Executors(), Stats: a.node.Stats(),
		}
		a.looks = append(a.looks, seen)
		return nil
	}})
	if err != nil {
		return AgentSnapshot{}, err
	}
	select {
	case <-seen:
		return s, nil
	case <-a.done:
		return AgentSnapshot{}, ErrAgentStopped
	case <-ctx.Done():
		return AgentSnapshot{}, ctx.Err()
	}
}
