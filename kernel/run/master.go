package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/kernel/run/trace"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/kernel/store"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

const (
	masterEvents  = 4096 // waiting for the owner; beyond it senders wait
	masterBatch   = 512  // events stepped before their effects go on
	masterCommits = 64   // batches waiting for the disk; beyond it the owner waits
	epochKey      = "master/epoch"
)

// ErrStopped is the answer to who asks a master that has ended.
var ErrStopped = errors.New("the master is stopping")

// MasterConfig is what a master needs of the world.
type MasterConfig struct {
	// Core is completed by NewMaster: its ID and Epoch come from here, and what the master
	// says of its capabilities.
	Core core.Config
	// Store has the registry and the plugins' state; the caller closes it after Run.
	Store store.Store
	// Now is the clock; nil means the machine's, without its steps.
	Now func() time.Time
	Log *slog.Logger
	// Check verifies the core's invariants after every batch, and stops the master when
	// one is broken.
	Check bool
}

// Master runs a core.Machine: one goroutine owns it, one makes its writes durable and
// delivers its effects, and everything else sends events. It is what the HTTP API, the
// link and the plugin host talk to.
type Master struct {
	cfg     MasterConfig
	started time.Time
	core    *core.Machine
	events  chan masterEvent
	commits chan stepped
	spare   chan *core.Effects
	out     *outlets
	trace   *trace.Log
	done    chan struct{} // closed when Run returns
	ready   chan struct{} // closed when the registry has been recovered
}

// masterEvent is an event for the machine, or a look at it.
type masterEvent struct {
	event core.Event
	view  func(*core.Machine)
	seen  chan struct{} // is closed when what the view saw is durable
}

// stepped is what some events led to, and who has looked at the machine meanwhile.
type stepped struct {
	out  *core.Effects
	seen []chan struct{}
}

// NewMaster recovers the registry and begins a new epoch. Run must follow.
func NewMaster(ctx context.Context, cfg MasterConfig) (*Master, error) {
	if cfg.Now == nil {
		start := time.Now()
		cfg.Now = func() time.Time { return start.Add(time.Since(start)) } // a step of the wall clock ends nothing
	}
	entries, err := loadAll(ctx, cfg.Store, "agent/", "framework/", "weight/")
	if err != nil {
		return nil, fmt.Errorf("read the registry: %w", err)
	}
	if err := core.CheckRegistry(entries); err != nil {
		return nil, err
	}
	if cfg.Core.Epoch, err = nextEpoch(ctx, cfg.Store, cfg.Now()); err != nil {
		return nil, fmt.Errorf("begin a new epoch: %w", err)
	}
	if cfg.Core.ID == "" {
		cfg.Core.ID = uuid.NewString()
	}
	if cfg.Core.Info != nil {
		cfg.Core.Info = proto.CloneOf(cfg.Core.Info)
		cfg.Core.Info.Capabilities = rules.MasterCapabilities()
	}
	m := &Master{
		cfg:     cfg,
		started: cfg.Now(),
		core:    core.New(cfg.Core),
		events:  make(chan masterEvent, masterEvents),
		commits: make(chan stepped, masterCommits),
		spare:   make(chan *core.Effects, masterCommits),
		out:     newOutlets(),
		trace:   trace.New(cfg.Now),
		done:    make(chan struct{}),
		ready:   make(chan struct{}),
	}
	var out core.Effects
	m.core.Step(step.At(cfg.Now()), core.Recovered{Entries: entries}, &out)
	if err := m.persist(ctx, out.Persist); err != nil {
		return nil, fmt.Errorf("write the registry: %w", err)
	}
	close(m.ready)
	return m, nil
}

// nextEpoch counts the masters that have run on this store, from the time on: one that is
// an older copy, or was mended, or made anew, must not be behind what agents have heard.
func nextEpoch(ctx context.Context, s store.Store, now time.Time) (uint64, error) {
	entries, _, err := s.List(ctx, epochKey, "", 1)
	if err != nil {
		return 0, err
	}
	var epoch, revision uint64
	if len(entries) > 0 && entries[0].Key == epochKey {
		revision = entries[0].Revision
		if _, err := fmt.Sscanf(string(entries[0].Value), "%d", &epoch); err != nil {
			return 0, fmt.Errorf("%s is %q, not a number", epochKey, entries[0].Value)
		}
	}
	epoch = max(epoch+1, uint64(max(0, now.Unix())))
	failpoint.Hit("master.epoch.writing")
	result, err := s.Apply(ctx, store.Txn{
		Conditions: []store.Condition{{Key: epochKey, Revision: revision}},
		Puts:       []store.Entry{{Key: epochKey, Value: fmt.Append(nil, epoch)}},
	})
	if err == nil && !result.Applied {
		err = errors.New("another master has begun one at the same time")
	}
	failpoint.Hit("master.epoch.written")
	return epoch, err
}

// Epoch is this master's time in office.
func (m *Master) Epoch() uint64 { return m.cfg.Core.Epoch }

// Leave says that the master is about to end: connections that break from now on are no
// news of their frameworks, which have time to come back to the next master.
func (m *Master) Leave() { m.out.leave() }

// Run owns the machine until ctx ends or a write fails; then nothing more is delivered.
func (m *Master) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	committed := make(chan error, 1)
	go func() {
		defer cancel() // without durable writes there is nothing left to do
		committed <- m.commit(ctx)
	}()
	err := m.own(ctx)
	cancel()
	err = errors.Join(err, <-committed)
	close(m.done)
	m.out.closeAll()
	return err
}

// own steps the machine: events in batches, ticks when the machine wants one.
func (m *Master) own(ctx context.Context) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if at, ok := m.core.NextDeadline(); ok {
			timer.Reset(max(0, at.Time().Sub(m.cfg.Now())))
		} else {
			timer.Reset(time.Hour)
		}
		next := stepped{out: m.effects()}
		select {
		case <-ctx.Done():
			return nil
		case ev := <-m.events:
			m.batch(ev, &next)
		case <-timer.C:
			m.core.Step(step.At(m.cfg.Now()), core.Tick{}, next.out)
		case <-tick.C:
			m.out.allocator.tick()
		}
		if m.cfg.Check {
			if err := m.core.Check(); err != nil {
				return fmt.Errorf("the master's accounts are broken: %w", err)
			}
		}
		select {
		case m.commits <- next:
		case <-ctx.Done():
			return nil
		}
	}
}

// batch steps one event and those that wait behind it.
func (m *Master) batch(ev masterEvent, to *stepped) {
	now := step.At(m.cfg.Now())
	for i := 1; ; i++ {
		if ev.view != nil {
			ev.view(m.core)
			to.seen = append(to.seen, ev.seen)
		} else {
			m.core.Step(now, ev.event, to.out)
		}
		if i == masterBatch {
			return
		}
		select {
		case ev = <-m.events:
		default:
			return
		}
	}
}

// effects finds empty effects, used before if possible.
func (m *Master) effects() *core.Effects {
	select {
	case out := <-m.spare:
		out.Reset()
		return out
	default:
		return &core.Effects{}
	}
}

// commit makes writes durable, as many batches at once as wait, and delivers the effects
// behind them in order.
func (m *Master) commit(ctx context.Context) error {
	var waiting []stepped
	for {
		waiting = waiting[:0]
		select {
		case next := <-m.commits:
			waiting = append(waiting, next)
		case <-ctx.Done():
			return nil
		}
		for len(waiting) < masterCommits && len(m.commits) > 0 {
			waiting = append(waiting, <-m.commits)
		}
		var writes []step.Write
		for _, next := range waiting {
			writes = append(writes, next.out.Persist...)
		}
		if err := m.persist(ctx, writes); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			// Nothing that depends on the write has left, and nothing more may.
			m.cfg.Log.Error("the registry can't be written; stopping", "error", err)
			return fmt.Errorf("write the registry: %w", err)
		}
		for _, next := range waiting {
			m.deliver(next)
		}
		if len(writes) > 0 {
			failpoint.Hit("master.delivered")
		}
	}
}

// deliver hands out what is durable.
func (m *Master) deliver(next stepped) {
	m.traceEffects(next.out)
	m.out.deliver(next.out, m.post)
	for _, seen := range next.seen {
		close(seen)
	}
	select {
	case m.spare <- next.out:
	default:
	}
}

func (m *Master) persist(ctx context.Context, writes []step.Write) error {
	if len(writes) == 0 {
		return nil
	}
	failpoint.Hit("master.persisting")
	err := applyWrites(ctx, m.cfg.Store, writes)
	failpoint.Hit("master.persisted")
	return err
}

// post hands an event to the owner; it waits while the queue is full.
func (m *Master) post(ctx context.Context, ev core.Event) error {
	m.traceEvent(ev)
	return m.enqueue(ctx, masterEvent{event: ev})
}

func (m *Master) enqueue(ctx context.Context, ev masterEvent) error {
	select {
	case m.events <- ev:
		return nil
	case <-m.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look runs f on the machine in its owner's goroutine, and returns when what f saw is
// durable: nobody hears of what the death of the master would undo.
func (m *Master) look(ctx context.Context, f func(*core.Machine)) error {
	seen := make(chan struct{})
	if err := m.enqueue(ctx, masterEvent{view: f, seen: seen}); err != nil {
		return err
	}
	select {
	case <-seen:
		return nil
	case <-m.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// request posts an event that is answered by a Reply.
func (m *Master) request(ctx context.Context, event func(request uint64) core.Event) api.Reply {
	request, answer := m.out.expect()
	defer m.out.unexpect(request)
	if err := m.post(ctx, event(request)); err != nil {
		return stopped(err)
	}
	select {
	case r := <-answer:
		return api.Reply{Status: r.Status, Message: r.Message}
	case <-m.done:
		return stopped(ErrStopped)
	case <-ctx.Done():
		return stopped(ctx.Err())
	}
}

func stopped(err error) api.Reply { return api.Reply{Status: 503, Message: err.Error()} }

// Call carries out a scheduler call other than SUBSCRIBE.
func (m *Master) Call(ctx context.Context, from api.Caller, c *schedulerpb.Call) api.Reply {
	return m.request(ctx, func(request uint64) core.Event {
		return core.Call{Request: request, Principal: from.Principal, Stream: id.Stream(from.Stream), Call: c}
	})
}

// Subscribe opens a subscription of an HTTP scheduler.
func (m *Master) Subscribe(ctx context.Context, from api.Caller, c *schedulerpb.Call) (api.Stream[*schedulerpb.Event], api.Reply) {
	s, r := m.subscribe(ctx, from.Principal, "", c)
	if s == nil {
		return nil, r
	}
	return s, r
}

func (m *Master) subscribe(ctx context.Context, principal, plugin string, c *schedulerpb.Call) (*subscription[*schedulerpb.Event], api.Reply) {
	s := m.out.subscribe(id.Stream(uuid.NewString()), func(ctx context.Context, stream id.Stream) {
		_ = m.post(ctx, core.StreamGone{Stream: stream}) // fails only when the master has ended
	})
	r := m.request(ctx, func(request uint64) core.Event {
		return core.Call{Request: request, Principal: principal, Stream: s.id, Plugin: plugin, Call: c}
	})
	if r.Status != 200 {
		s.Close()
		return nil, r
	}
	return s, r
}

// KillTask ends a task for an operator.
func (m *Master) KillTask(ctx context.Context, from api.Caller, framework, task string) api.Reply {
	return m.request(ctx, func(request uint64) core.Event {
		return core.KillTask{Request: request, Principal: from.Principal, Task: id.TaskKey{
			Framework: id.Framework(framework), Task: id.Task(task),
		}}
	})
}
