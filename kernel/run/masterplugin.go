package run

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/host"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/kernel/store"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

const (
	maxDeltas     = 1 << 17 // waiting for the allocator; beyond it it gets a snapshot instead
	maxStateCalls = 16      // of one plugin at the store at once
)

// ServeAllocator puts an allocator into office until its stream or ctx ends.
func (m *Master) ServeAllocator(ctx context.Context, name string, config []byte, s host.AllocatorStream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	session, ok := m.out.allocator.open(config)
	if !ok {
		return fmt.Errorf("allocator %s: another one is in office", name)
	}
	defer func() {
		m.out.allocator.close()
		_ = m.post(context.WithoutCancel(ctx), core.AllocatorDown{}) // fails only when the master has ended
	}()
	if err := m.post(ctx, core.AllocatorUp{Config: config}); err != nil {
		return err
	}
	failed := make(chan error, 2)
	go func() { failed <- m.out.allocator.pump(ctx, session, s, m.cfg.Now) }()
	go func() {
		for {
			p, err := s.Recv()
			if err == nil {
				err = m.post(ctx, core.Proposal{Proposal: p})
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-m.done:
		return ErrStopped
	}
}

// allocatorOutlet collects what the allocator in office is to be told; each message to it
// carries all that has come together since the one before.
type allocatorOutlet struct {
	mu       sync.Mutex
	opened   bool
	conf     []byte
	epoch    uint64
	snapshot *allocatorpb.Snapshot
	deltas   []*allocatorpb.Delta
	revision uint64
	// more is the session of the allocator in office: it holds one token while there is
	// something to send. One of an earlier session finds nothing.
	more chan struct{}
}

// open begins a session, unless there is one.
func (o *allocatorOutlet) open(config []byte) (session chan struct{}, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.opened {
		return nil, false
	}
	o.opened, o.conf, o.epoch, o.more = true, config, 0, make(chan struct{}, 1)
	return o.more, true
}

func (o *allocatorOutlet) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.opened, o.snapshot, o.deltas = false, nil, nil
}

func (o *allocatorOutlet) config() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.conf
}

// deliver queues asks; false says that the queue ran full and was dropped, so that a
// snapshot must follow.
func (o *allocatorOutlet) deliver(asks []core.AllocatorAsk) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.opened {
		return true
	}
	for _, a := range asks {
		switch {
		case a.Snapshot != nil:
			o.epoch, o.snapshot, o.deltas = a.Epoch, a.Snapshot, nil
		case a.Epoch == o.epoch:
			o.deltas = append(o.deltas, a.Delta)
		}
	}
	full := len(o.deltas) > maxDeltas
	if full {
		o.snapshot, o.deltas, o.epoch = nil, nil, 0
	}
	o.wake()
	return !full
}

// tick tells the allocator that time goes by.
func (o *allocatorOutlet) tick() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.opened && o.epoch != 0 && len(o.deltas) < maxDeltas {
		o.deltas = append(o.deltas, &allocatorpb.Delta{Body: &allocatorpb.Delta_Tick{Tick: &allocatorpb.Tick{}}})
		o.wake()
	}
}

func (o *allocatorOutlet) wake() {
	select {
	case o.more <- struct{}{}:
	default:
	}
}

// take returns the next message: the snapshot first, then the deltas behind it.
func (o *allocatorOutlet) take(session chan struct{}) *allocatorpb.ToAllocator {
	o.mu.Lock()
	defer o.mu.Unlock()
	if session != o.more {
		return nil
	}
	msg := &allocatorpb.ToAllocator{Epoch: o.epoch}
	switch {
	case o.snapshot != nil:
		msg.Body = &allocatorpb.ToAllocator_Snapshot{Snapshot: o.snapshot}
		o.snapshot = nil
	case len(o.deltas) > 0:
		msg.Body = &allocatorpb.ToAllocator_Deltas{Deltas: &allocatorpb.Deltas{Deltas: o.deltas}}
		o.deltas = nil
	default:
		return nil
	}
	o.revision++
	msg.Revision = o.revision
	return msg
}

func (o *allocatorOutlet) pump(ctx context.Context, session chan struct{}, s host.AllocatorStream, now func() time.Time) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-session:
		}
		for msg := o.take(session); msg != nil; msg = o.take(session) {
			msg.NowUnixNanos = now().UnixNano()
			if err := s.Send(msg); err != nil {
				return fmt.Errorf("tell the allocator: %w", err)
			}
		}
	}
}

// ServeFramework speaks with a framework plugin until its stream or ctx ends.
func (m *Master) ServeFramework(ctx context.Context, start *frameworkpb.Start, s host.FrameworkStream) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := m.look(ctx, func(c *core.Machine) { start.FrameworkId = string(c.PluginFramework(start.Name)) }); err != nil {
		return err
	}
	p := &frameworkSession{
		master: m, name: start.Name, stream: s,
		states: make(chan struct{}, maxStateCalls), lost: make(chan struct{}, 1),
	}
	defer p.close()
	if err := p.send(&frameworkpb.ToFramework{Body: &frameworkpb.ToFramework_Start{Start: start}}); err != nil {
		return err
	}
	heard := make(chan error, 1)
	go func() { heard <- p.hear(ctx) }()
	select {
	case err := <-heard:
		return err
	case <-p.lost:
		return fmt.Errorf("framework %s: its subscription has ended", start.Name)
	case <-ctx.Done():
		return ctx.Err()
	case <-m.done:
		return ErrStopped
	}
}

// hear carries out what the plugin asks for until its stream ends.
func (p *frameworkSession) hear(ctx context.Context) error {
	for {
		msg, err := p.stream.Recv()
		if err != nil {
			return fmt.Errorf("hear the framework %s: %w", p.name, err)
		}
		switch body := msg.GetBody().(type) {
		case *frameworkpb.FromFramework_Call:
			err = p.call(ctx, body.Call)
		case *frameworkpb.FromFramework_State:
			err = p.state(ctx, body.State)
		}
		if err != nil {
			return err
		}
	}
}

// frameworkSession is one framework plugin's conversation.
type frameworkSession struct {
	master *Master
	name   string
	states chan struct{} // one token a state request at work
	lost   chan struct{} // holds a token when the current subscription has ended

	sending      sync.Mutex // orders sends
	mu           sync.Mutex // guards subscription
	stream       host.FrameworkStream
	subscription *subscription[*schedulerpb.Event]
}

func (p *frameworkSession) send(msg *frameworkpb.ToFramework) error {
	p.sending.Lock()
	defer p.sending.Unlock()
	return p.stream.Send(msg)
}

func (p *frameworkSession) current() *subscription[*schedulerpb.Event] {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.subscription
}

func (p *frameworkSession) close() {
	if s := p.current(); s != nil {
		s.Close()
	}
}

// call carries out one scheduler call and answers it.
func (p *frameworkSession) call(ctx context.Context, c *frameworkpb.Call) error {
	reply := p.carryOut(ctx, c.GetCall())
	return p.send(&frameworkpb.ToFramework{Body: &frameworkpb.ToFramework_CallReply{CallReply: &frameworkpb.CallReply{
		Seq: c.GetSeq(), Status: int32(reply.Status), Message: reply.Message,
	}}})
}

func (p *frameworkSession) carryOut(ctx context.Context, c *schedulerpb.Call) api.Reply {
	if c == nil {
		return api.Reply{Status: 400, Message: "the call is missing"}
	}
	if err := rules.Call(c); err != nil {
		return api.Reply{Status: 400, Message: "Failed to validate scheduler::Call: " + err.Error()}
	}
	if c.GetType() == schedulerpb.Call_SUBSCRIBE {
		return p.subscribe(ctx, c)
	}
	var stream id.Stream
	if s := p.current(); s != nil {
		stream = s.id
	}
	return p.master.request(ctx, func(request uint64) core.Event {
		return core.Call{Request: request, Stream: stream, Plugin: p.name, Call: c}
	})
}

func (p *frameworkSession) subscribe(ctx context.Context, c *schedulerpb.Call) api.Reply {
	s, reply := p.master.subscribe(ctx, "", p.name, c)
	if s == nil {
		return reply
	}
	p.mu.Lock()
	p.subscription = s // the one before, if any, the core has ended
	p.mu.Unlock()
	go p.forward(s)
	return reply
}

// forward tells the plugin its events. When its current subscription ends, for whatever
// reason, the session does too, and the host starts the plugin again.
func (p *frameworkSession) forward(s *subscription[*schedulerpb.Event]) {
	defer s.Close()
	for ev := range s.events {
		if err := p.send(&frameworkpb.ToFramework{Body: &frameworkpb.ToFramework_Event{Event: ev}}); err != nil {
			return // Recv says the same
		}
	}
	if p.current() == s {
		select {
		case p.lost <- struct{}{}:
		default:
		}
	}
}

// state answers a state request, a few at a time beside the calls.
func (p *frameworkSession) state(ctx context.Context, req *frameworkpb.StateRequest) error {
	select {
	case p.states <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	go func() {
		defer func() { <-p.states }()
		reply, err := p.access(ctx, req)
		if err != nil {
			reply = &frameworkpb.StateReply{Error: err.Error()}
		}
		reply.Seq = req.GetSeq()
		_ = p.send(&frameworkpb.ToFramework{Body: &frameworkpb.ToFramework_StateReply{StateReply: reply}}) // a broken stream ends the session in Recv
	}()
	return nil
}

// access reads or writes the plugin's own keys, which all lie below its prefix.
func (p *frameworkSession) access(ctx context.Context, req *frameworkpb.StateRequest) (*frameworkpb.StateReply, error) {
	prefix := "plugin/" + p.name + "/"
	if l := req.GetList(); l != nil {
		after := ""
		if l.GetAfter() != "" {
			after = prefix + l.GetAfter()
		}
		entries, more, err := p.master.cfg.Store.List(ctx, prefix+l.GetPrefix(), after, int(l.GetLimit()))
		if err != nil {
			return nil, err
		}
		reply := &frameworkpb.StateReply{More: more}
		for _, e := range entries {
			reply.Entries = append(reply.Entries, &frameworkpb.Entry{
				Key: strings.TrimPrefix(e.Key, prefix), Value: e.Value, Revision: e.Revision,
			})
		}
		return reply, nil
	}
	if req.GetTxn() == nil {
		return nil, errors.New("a state request is a list or a transaction")
	}
	txn, err := stateTxn(prefix, req.GetTxn())
	if err != nil {
		return nil, err
	}
	failpoint.Hit("master.state.writing")
	result, err := p.master.cfg.Store.Apply(ctx, txn)
	failpoint.Hit("master.state.written")
	return &frameworkpb.StateReply{Applied: result.Applied, Revision: result.Revision}, err
}

const (
	maxStateKey   = 400     // with room for the prefix below the store's own bound
	maxStateValue = 1 << 20 // as the contract says
)

func stateTxn(prefix string, t *frameworkpb.Txn) (store.Txn, error) {
	var txn store.Txn
	for _, c := range t.GetConditions() {
		txn.Conditions = append(txn.Conditions, store.Condition{Key: prefix + c.GetKey(), Revision: c.GetRevision()})
	}
	for _, put := range t.GetPuts() {
		if err := checkStateKey(put.GetKey()); err != nil {
			return txn, err
		}
		if len(put.GetValue()) > maxStateValue {
			return txn, fmt.Errorf("the value of %q has %d bytes; at most %d fit", put.GetKey(), len(put.GetValue()), maxStateValue)
		}
		txn.Puts = append(txn.Puts, store.Entry{Key: prefix + put.GetKey(), Value: put.GetValue()})
	}
	for _, key := range t.GetDeletes() {
		txn.Deletes = append(txn.Deletes, prefix+key)
	}
	return txn, nil
}

func checkStateKey(key string) error {
	bad := func(r rune) bool { return r <= ' ' || r > '~' }
	if key == "" || len(key) > maxStateKey || strings.ContainsFunc(key, bad) {
		return fmt.Errorf("state key %.40q: keys are 1 to %d printable ASCII characters", key, maxStateKey)
	}
	return nil
}
