package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
	"github.com/gantry-project/gantry/sdk/framework"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// kernel is the conversation that the owner holds; *framework.Kernel is one.
type kernel interface {
	Events() <-chan *schedulerpb.Event
	Call(ctx context.Context, c *schedulerpb.Call) error
	List(ctx context.Context, prefix, after string, limit int) ([]*frameworkpb.Entry, bool, error)
	Txn(ctx context.Context, t *frameworkpb.Txn) (applied bool, revision uint64, err error)
}

// Bounds of one turn of the owner: what is done with one write to the store, where a
// single step does not ask for more.
const (
	batchEvents = 256
	batchBytes  = 1 << 20
	// txnOps and txnBytes stay below what the store takes in one transaction.
	txnOps   = 4096
	txnBytes = 4 << 20
	// queueLength is how many inputs may wait.
	queueLength = 256
	pageEntries = 500
)

// errEnded is what waits for an owner that has stopped.
var errEnded = errors.New("the scheduler has stopped; it is started again, try later")

// owner is the one goroutine that touches the machine; everyone else sends it values.
type owner struct {
	kernel  kernel
	machine *apps.Machine
	log     *slog.Logger
	inbox   chan input
	prober  *prober
	ended   chan struct{} // closed when run returns

	token   uint64
	waiting map[uint64]chan<- apps.Reply // each has room for its one reply
}

// input is what others send: one of its fields is set.
type input struct {
	event   apps.Event
	request *request
	read    func(*apps.Machine, time.Time)
	hungUp  bool
}

type request struct {
	op    apps.Op
	reply chan apps.Reply // room for one
}

// newOwner loads the machine from the kernel's store.
func newOwner(ctx context.Context, k kernel, config apps.Config, log *slog.Logger) (*owner, error) {
	records, err := load(ctx, k)
	if err != nil {
		return nil, err
	}
	machine, err := apps.New(config, records)
	if err != nil {
		return nil, err
	}
	return &owner{
		kernel:  k,
		machine: machine,
		log:     log,
		inbox:   make(chan input, queueLength),
		prober:  newProber(),
		ended:   make(chan struct{}),
		waiting: make(map[uint64]chan<- apps.Reply),
	}, nil
}

func load(ctx context.Context, k kernel) ([]apps.Write, error) {
	var records []apps.Write
	after := ""
	for {
		entries, more, err := k.List(ctx, "", after, pageEntries)
		if err != nil {
			return nil, fmt.Errorf("load the apps: %w", err)
		}
		for _, e := range entries {
			records = append(records, apps.Write{Key: e.GetKey(), Value: e.GetValue()})
			after = e.GetKey()
		}
		if !more || len(entries) == 0 {
			return records, nil
		}
	}
}

// run owns the machine until ctx ends or the kernel hangs up.
func (o *owner) run(ctx context.Context, clock func() time.Time) error {
	defer close(o.ended)
	go o.forward(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var out apps.Effects
	o.machine.Step(clock(), apps.Start{}, &out)
	for {
		if err := o.carryOut(ctx, clock, &out); err != nil {
			return err
		}
		o.arm(timer, clock)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			o.machine.Step(clock(), apps.Tick{}, &out)
		case in := <-o.inbox:
			if open, err := o.batch(ctx, clock, in, &out); err != nil || !open {
				return err
			}
		}
	}
}

// forward puts the kernel's events into the inbox, in their order.
func (o *owner) forward(ctx context.Context) {
	for e := range o.kernel.Events() {
		if !o.send(ctx, input{event: apps.Scheduler{Event: e}}) {
			return
		}
	}
	o.send(ctx, input{hungUp: true})
}

// send is false when nobody reads the inbox any more.
func (o *owner) send(ctx context.Context, in input) bool {
	select {
	case o.inbox <- in:
		return true
	case <-o.ended:
	case <-ctx.Done():
	}
	return false
}

// arm sets the timer to the machine's next deadline.
func (o *owner) arm(timer *time.Timer, clock func() time.Time) {
	wait := time.Hour
	if at, ok := o.machine.NextDeadline(); ok {
		wait = max(0, at.Sub(clock()))
	}
	timer.Reset(wait)
}

// batch steps through in and what has come behind it, so that one write to the store
// serves them all. It is false when the kernel has hung up.
func (o *owner) batch(ctx context.Context, clock func() time.Time, in input, out *apps.Effects) (bool, error) {
	for n, bytes := 1, 0; ; n++ {
		before := len(out.Persist)
		switch {
		case in.hungUp:
			return false, nil
		case in.read != nil:
			// it must not show what is not durable yet
			if err := o.carryOut(ctx, clock, out); err != nil {
				return false, err
			}
			before = 0
			in.read(o.machine, clock())
		case in.request != nil:
			o.token++
			o.waiting[o.token] = in.request.reply
			o.machine.Step(clock(), apps.Request{Token: o.token, Op: in.request.op}, out)
		default:
			o.machine.Step(clock(), in.event, out)
		}
		for _, w := range out.Persist[before:] {
			bytes += len(w.Value)
		}
		if n == batchEvents || bytes > batchBytes {
			return true, nil
		}
		select {
		case in = <-o.inbox:
		default:
			return true, nil
		}
	}
}

// carryOut does what the steps asked for, in the order that Effects promises, and clears
// out. A refused call goes back to the machine, and so on until nothing is left.
func (o *owner) carryOut(ctx context.Context, clock func() time.Time, out *apps.Effects) error {
	for {
		work := *out
		*out = apps.Effects{}
		if err := o.persist(ctx, work.Persist); err != nil {
			return err
		}
		for _, c := range work.Calls {
			if err := o.call(ctx, clock, c, out); err != nil {
				return err
			}
		}
		for _, p := range work.Probes {
			go o.probe(ctx, p)
		}
		for _, r := range work.Replies {
			o.waiting[r.Token] <- r
			delete(o.waiting, r.Token)
		}
		if work.Failed != "" {
			return fmt.Errorf("the master ended the session: %s", work.Failed)
		}
		if len(out.Persist)+len(out.Calls)+len(out.Replies) == 0 && out.Failed == "" {
			return nil
		}
	}
}

// persist makes writes durable in their order, in as few transactions as hold them.
func (o *owner) persist(ctx context.Context, writes []apps.Write) error {
	last := make(map[string]int, len(writes)) // a key's last write is the one that counts
	for i, w := range writes {
		last[w.Key] = i
	}
	t, ops, bytes := &frameworkpb.Txn{}, 0, 0
	for i, w := range writes {
		if last[w.Key] != i {
			continue
		}
		if ops == txnOps || bytes+len(w.Value) > txnBytes {
			if err := o.commit(ctx, t); err != nil {
				return err
			}
			t, ops, bytes = &frameworkpb.Txn{}, 0, 0
		}
		if w.Value == nil {
			t.Deletes = append(t.Deletes, w.Key)
		} else {
			t.Puts = append(t.Puts, &frameworkpb.Put{Key: w.Key, Value: w.Value})
		}
		ops, bytes = ops+1, bytes+len(w.Key)+len(w.Value)
	}
	if ops == 0 {
		return nil
	}
	return o.commit(ctx, t)
}

func (o *owner) commit(ctx context.Context, t *frameworkpb.Txn) error {
	applied, _, err := o.kernel.Txn(ctx, t)
	if err != nil {
		return err
	}
	if !applied {
		return errors.New("write state: an unconditional transaction was not applied")
	}
	return nil
}

// call makes one call; a refusal is the machine's to deal with.
func (o *owner) call(ctx context.Context, clock func() time.Time, c *schedulerpb.Call, out *apps.Effects) error {
	err := o.kernel.Call(ctx, c)
	var refusal *framework.CallError
	if errors.As(err, &refusal) {
		o.log.Warn("call refused", "call", c.GetType().String(), "status", refusal.Status, "reason", refusal.Message)
		o.machine.Step(clock(), apps.Refused{Call: c, Reason: refusal.Message}, out)
		return nil
	}
	return err
}

// probe makes one health check; the machine bounds how many are under way.
func (o *owner) probe(ctx context.Context, p apps.Probe) {
	result := o.prober.probe(ctx, p)
	o.send(ctx, input{event: result})
}

// Do hands a request to the machine and waits until its outcome is durable.
func (o *owner) Do(ctx context.Context, op apps.Op) (apps.Reply, error) {
	r := &request{op: op, reply: make(chan apps.Reply, 1)}
	if !o.send(ctx, input{request: r}) {
		return apps.Reply{}, errors.Join(errEnded, ctx.Err())
	}
	select {
	case reply := <-r.reply:
		return reply, reply.Err
	case <-o.ended:
	case <-ctx.Done():
	}
	return apps.Reply{}, errors.Join(errEnded, ctx.Err())
}

// View lets read look at the machine between two steps. Once handed over, read may run at
// any moment until View returns, so ctx counts only before that.
func (o *owner) View(ctx context.Context, read func(m *apps.Machine, now time.Time)) error {
	done := make(chan struct{})
	visit := func(m *apps.Machine, now time.Time) {
		defer close(done)
		read(m, now)
	}
	if !o.send(ctx, input{read: visit}) {
		return errors.Join(errEnded, ctx.Err())
	}
	select {
	case <-done:
		return nil
	case <-o.ended:
		return errEnded
	}
}
