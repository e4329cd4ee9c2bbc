// Package shell joins a scheduler's pure machine to the kernel: one goroutine owns the
// machine, one write to the store serves many events, and nothing leaves before what it
// depends on is durable.
//
//	owner, err := shell.Load(ctx, kernel, log, func(records []machine.Write) (*jobs.Machine, error) { ... })
//	go owner.Run(ctx, time.Now)
//	reply, err := owner.Do(ctx, jobs.Kill{Job: "nightly"})
package shell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
	"github.com/gantry-project/gantry/sdk/framework"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Kernel is the conversation that the owner holds; *framework.Kernel is one.
type Kernel interface {
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
	// maxSleep is when time is looked at again although nothing is due: the clock may have
	// been set.
	maxSleep = 10 * time.Second
)

// ErrEnded is what those who wait for an owner that has stopped are told.
var ErrEnded = errors.New("the scheduler has stopped; it is started again, try later")

// Owner is the one goroutine that touches the machine; everyone else sends it values.
type Owner[M machine.Machine] struct {
	kernel  Kernel
	machine M
	log     *slog.Logger
	inbox   chan input[M]
	ended   chan struct{} // closed when Run returns

	token   uint64
	waiting map[uint64]chan<- machine.Reply // each has room for its one reply
	// ends are the lengths of the effects' Persist after each step that is not durable yet.
	ends []int
}

// input is what others send: one of its fields is set.
type input[M machine.Machine] struct {
	event   machine.Event
	request *request
	read    func(M, time.Time)
	hungUp  bool
}

type request struct {
	op    any
	reply chan machine.Reply // room for one
}

// Load builds the machine from what is in the kernel's store.
func Load[M machine.Machine](ctx context.Context, k Kernel, log *slog.Logger, build func([]machine.Write) (M, error)) (*Owner[M], error) {
	records, err := load(ctx, k)
	if err != nil {
		return nil, err
	}
	m, err := build(records)
	if err != nil {
		return nil, err
	}
	return &Owner[M]{
		kernel:  k,
		machine: m,
		log:     log,
		inbox:   make(chan input[M], queueLength),
		ended:   make(chan struct{}),
		waiting: make(map[uint64]chan<- machine.Reply),
	}, nil
}

func load(ctx context.Context, k Kernel) ([]machine.Write, error) {
	var records []machine.Write
	after := ""
	for {
		entries, more, err := k.List(ctx, "", after, pageEntries)
		if err != nil {
			return nil, fmt.Errorf("load the scheduler's state: %w", err)
		}
		for _, e := range entries {
			records = append(records, machine.Write{Key: e.GetKey(), Value: e.GetValue()})
			after = e.GetKey()
		}
		if !more || len(entries) == 0 {
			return records, nil
		}
	}
}

// Run owns the machine until ctx ends or the kernel hangs up. Call it once.
func (o *Owner[M]) Run(ctx context.Context, clock func() time.Time) error {
	defer close(o.ended)
	go o.forward(ctx)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var out machine.Effects
	o.step(clock(), machine.Start{}, &out)
	for {
		if err := o.carryOut(ctx, clock, &out); err != nil {
			return err
		}
		o.arm(timer, clock)
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			o.step(clock(), machine.Tick{}, &out)
		case in := <-o.inbox:
			if open, err := o.batch(ctx, clock, in, &out); err != nil || !open {
				return err
			}
		}
	}
}

func (o *Owner[M]) step(now time.Time, ev machine.Event, out *machine.Effects) {
	o.machine.Step(now, ev, out)
	o.ends = append(o.ends, len(out.Persist))
}

// forward puts the kernel's events into the inbox, in their order.
func (o *Owner[M]) forward(ctx context.Context) {
	for e := range o.kernel.Events() {
		if !o.send(ctx, input[M]{event: machine.Scheduler{Event: e}}) {
			return
		}
	}
	o.send(ctx, input[M]{hungUp: true})
}

// send is false when nobody reads the inbox any more.
func (o *Owner[M]) send(ctx context.Context, in input[M]) bool {
	select {
	case o.inbox <- in:
		return true
	case <-o.ended:
	case <-ctx.Done():
	}
	return false
}

// arm sets the timer to the machine's next deadline.
func (o *Owner[M]) arm(timer *time.Timer, clock func() time.Time) {
	wait := maxSleep
	if at, ok := o.machine.NextDeadline(); ok {
		wait = min(wait, max(0, at.Sub(clock())))
	}
	timer.Reset(wait)
}

// batch steps through in and what has come behind it, so that one write to the store
// serves them all. It is false when the kernel has hung up.
func (o *Owner[M]) batch(ctx context.Context, clock func() time.Time, in input[M], out *machine.Effects) (bool, error) {
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
			o.step(clock(), machine.Request{Token: o.token, Op: in.request.op}, out)
		default:
			o.step(clock(), in.event, out)
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
func (o *Owner[M]) carryOut(ctx context.Context, clock func() time.Time, out *machine.Effects) error {
	for !out.Empty() {
		work, ends := *out, o.ends
		*out, o.ends = machine.Effects{}, nil
		if err := o.persist(ctx, work.Persist, ends); err != nil {
			return err
		}
		for _, c := range work.Calls {
			if err := o.call(ctx, clock, c, out); err != nil {
				return err
			}
		}
		for _, r := range work.Replies {
			o.waiting[r.Token] <- r
			delete(o.waiting, r.Token)
		}
		if work.Failed != "" {
			return fmt.Errorf("the master ended the session: %s", work.Failed)
		}
	}
	o.ends = o.ends[:0]
	return nil
}

// persist makes writes durable in their order, in as few transactions as hold them; what
// one step wrote is in one transaction, if any can hold it.
func (o *Owner[M]) persist(ctx context.Context, writes []machine.Write, ends []int) error {
	var pending draft
	start := 0
	for _, end := range ends {
		step := writes[start:end]
		start = end
		if !pending.room(step) {
			if err := o.commit(ctx, &pending); err != nil {
				return err
			}
		}
		for _, w := range step {
			if !pending.room([]machine.Write{w}) {
				if err := o.commit(ctx, &pending); err != nil {
					return err
				}
			}
			pending.add(w)
		}
	}
	return o.commit(ctx, &pending)
}

// draft is a transaction that is being filled: the last write of each key, in the order
// in which the keys came.
type draft struct {
	writes []machine.Write
	at     map[string]int // index of a key in writes
	bytes  int
}

func (d *draft) room(writes []machine.Write) bool {
	bytes := d.bytes
	for _, w := range writes {
		bytes += len(w.Key) + len(w.Value)
	}
	return len(d.writes)+len(writes) <= txnOps && bytes <= txnBytes
}

func (d *draft) add(w machine.Write) {
	if d.at == nil {
		d.at = map[string]int{}
	}
	d.bytes += len(w.Key) + len(w.Value)
	if i, ok := d.at[w.Key]; ok {
		d.writes[i] = w
		return
	}
	d.at[w.Key] = len(d.writes)
	d.writes = append(d.writes, w)
}

// commit writes what is in d, if anything, and empties it.
func (o *Owner[M]) commit(ctx context.Context, d *draft) error {
	t := &frameworkpb.Txn{}
	for _, w := range d.writes {
		if w.Value == nil {
			t.Deletes = append(t.Deletes, w.Key)
		} else {
			t.Puts = append(t.Puts, &frameworkpb.Put{Key: w.Key, Value: w.Value})
		}
	}
	*d = draft{}
	if len(t.Puts)+len(t.Deletes) == 0 {
		return nil
	}
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
func (o *Owner[M]) call(ctx context.Context, clock func() time.Time, c *schedulerpb.Call, out *machine.Effects) error {
	err := o.kernel.Call(ctx, c)
	var refusal *framework.CallError
	if errors.As(err, &refusal) {
		o.log.Warn("call refused", "call", c.GetType().String(), "status", refusal.Status, "reason", refusal.Message)
		o.step(clock(), machine.Refused{Call: c, Reason: refusal.Message}, out)
		return nil
	}
	return err
}

// Do hands a request to the machine and waits until its outcome is durable. The error is
// the reply's, or says that there was none.
func (o *Owner[M]) Do(ctx context.Context, op any) (any, error) {
	r := &request{op: op, reply: make(chan machine.Reply, 1)}
	if !o.send(ctx, input[M]{request: r}) {
		return nil, errors.Join(ErrEnded, ctx.Err())
	}
	select {
	case reply := <-r.reply:
		return reply.Value, reply.Err
	case <-o.ended:
	case <-ctx.Done():
	}
	return nil, errors.Join(ErrEnded, ctx.Err())
}

// View lets read look at the machine between two steps. Once handed over, read may run at
// any moment until View returns, so ctx counts only before that.
func (o *Owner[M]) View(ctx context.Context, read func(m M, now time.Time)) error {
	done := make(chan struct{})
	visit := func(m M, now time.Time) {
		defer close(done)
		read(m, now)
	}
	if !o.send(ctx, input[M]{read: visit}) {
		return errors.Join(ErrEnded, ctx.Err())
	}
	select {
	case <-done:
		return nil
	case <-o.ended:
		return ErrEnded
	}
}
