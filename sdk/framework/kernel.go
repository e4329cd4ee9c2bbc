package framework

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"github.com/gantry-project/gantry/sdk/plugin"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// eventQueue bounds the events that wait for the plugin: far more than any burst, since
// one call of a large framework is answered by thousands.
const eventQueue = 1 << 18

var (
	// ErrDisconnected is what calls return once the kernel has hung up.
	ErrDisconnected = errors.New("the kernel ended the conversation")
	// ErrSlow ends the conversation of a plugin that does not read its events: waiting
	// for it would hold up the answers to its own calls.
	ErrSlow = fmt.Errorf("the plugin left %d events unread", eventQueue)
)

// CallError is the kernel's refusal of a call.
type CallError struct {
	// Status is the HTTP status that the scheduler API answers in this case.
	Status int
	// Message says why.
	Message string
}

func (e *CallError) Error() string { return fmt.Sprintf("refused with %d: %s", e.Status, e.Message) }

// Kernel is the plugin's end of the conversation. Its methods may be called from any
// goroutine.
type Kernel struct {
	start  *frameworkpb.Start
	events chan *schedulerpb.Event

	sending sync.Mutex // one Send at a time, as gRPC asks
	send    func(*frameworkpb.FromFramework) error

	mu      sync.Mutex
	seq     uint64
	pending map[uint64]chan *frameworkpb.ToFramework // by seq; each has room for its one reply
	closed  bool                                     // no reply comes any more
}

func newKernel(start *frameworkpb.Start, send func(*frameworkpb.FromFramework) error) *Kernel {
	return &Kernel{
		start:   start,
		events:  make(chan *schedulerpb.Event, eventQueue),
		send:    send,
		pending: make(map[uint64]chan *frameworkpb.ToFramework),
	}
}

// Start says who the plugin is and where things are. Don't change it.
func (k *Kernel) Start() *frameworkpb.Start { return k.start }

// Events are the scheduler events in the kernel's order. The channel closes when the
// conversation ends. It is bounded: a plugin that leaves thousands unread is cut off
// and started again.
func (k *Kernel) Events() <-chan *schedulerpb.Event { return k.events }

// Call makes a scheduler call, SUBSCRIBE among them, and waits for the kernel's answer.
// A refusal is a *CallError; ErrDisconnected means that the answer is unknown.
func (k *Kernel) Call(ctx context.Context, c *schedulerpb.Call) error {
	reply, err := k.ask(ctx, func(seq uint64) *frameworkpb.FromFramework {
		return &frameworkpb.FromFramework{Body: &frameworkpb.FromFramework_Call{
			Call: &frameworkpb.Call{Seq: seq, Call: c},
		}}
	})
	if err != nil {
		return fmt.Errorf("call %s: %w", c.GetType(), err)
	}
	r := reply.GetCallReply()
	if r == nil {
		return fmt.Errorf("call %s: answered by something else", c.GetType())
	}
	if r.GetStatus() < 200 || r.GetStatus() > 299 {
		return &CallError{Status: int(r.GetStatus()), Message: r.GetMessage()}
	}
	return nil
}

// List reads up to limit (0: 1,000) entries of the plugin's state whose key has the
// prefix and is greater than after, in ascending order; more says that it was cut.
func (k *Kernel) List(ctx context.Context, prefix, after string, limit int) (entries []*frameworkpb.Entry, more bool, err error) {
	reply, err := k.state(ctx, func(seq uint64) *frameworkpb.StateRequest {
		return &frameworkpb.StateRequest{Seq: seq, Body: &frameworkpb.StateRequest_List{
			List: &frameworkpb.List{Prefix: prefix, After: after, Limit: uint32(max(limit, 0))},
		}}
	})
	if err != nil {
		return nil, false, fmt.Errorf("list state %q: %w", prefix, err)
	}
	return reply.GetEntries(), reply.GetMore(), nil
}

// Txn applies all of t or, when a condition fails (applied is false), nothing. It is
// durable when Txn returns; revision is the store's after it.
func (k *Kernel) Txn(ctx context.Context, t *frameworkpb.Txn) (applied bool, revision uint64, err error) {
	reply, err := k.state(ctx, func(seq uint64) *frameworkpb.StateRequest {
		return &frameworkpb.StateRequest{Seq: seq, Body: &frameworkpb.StateRequest_Txn{Txn: t}}
	})
	if err != nil {
		return false, 0, fmt.Errorf("write state: %w", err)
	}
	return reply.GetApplied(), reply.GetRevision(), nil
}

// Serve answers the plugin's HTTP listener with h until ctx ends. It tells the kernel
// that traffic may come; call it once, when h can answer.
func (k *Kernel) Serve(ctx context.Context, h http.Handler) error {
	socket := k.start.GetHttpSocket()
	if socket == "" {
		return fmt.Errorf("serve HTTP: plugin %s has no listener; write listen = \"127.0.0.1:PORT\" into its table of plugins.toml", k.start.GetName())
	}
	return plugin.ServeHTTP(ctx, socket, h, func() error {
		return k.transmit(&frameworkpb.FromFramework{Body: &frameworkpb.FromFramework_Ready{Ready: &frameworkpb.Ready{}}})
	})
}

func (k *Kernel) state(ctx context.Context, request func(seq uint64) *frameworkpb.StateRequest) (*frameworkpb.StateReply, error) {
	reply, err := k.ask(ctx, func(seq uint64) *frameworkpb.FromFramework {
		return &frameworkpb.FromFramework{Body: &frameworkpb.FromFramework_State{State: request(seq)}}
	})
	if err != nil {
		return nil, err
	}
	r := reply.GetStateReply()
	if r == nil {
		return nil, errors.New("answered by something else")
	}
	if r.GetError() != "" {
		return nil, errors.New(r.GetError())
	}
	return r, nil
}

// ask sends what build makes of a fresh seq and waits for the reply to it.
func (k *Kernel) ask(ctx context.Context, build func(seq uint64) *frameworkpb.FromFramework) (*frameworkpb.ToFramework, error) {
	reply := make(chan *frameworkpb.ToFramework, 1)
	k.mu.Lock()
	if k.closed {
		k.mu.Unlock()
		return nil, ErrDisconnected
	}
	k.seq++
	seq := k.seq
	k.pending[seq] = reply
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		delete(k.pending, seq)
		k.mu.Unlock()
	}()
	if err := k.transmit(build(seq)); err != nil {
		return nil, err
	}
	select {
	case m, ok := <-reply:
		if !ok {
			return nil, ErrDisconnected
		}
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (k *Kernel) transmit(m *frameworkpb.FromFramework) error {
	k.sending.Lock()
	defer k.sending.Unlock()
	if err := k.send(m); err != nil {
		return fmt.Errorf("%w: %w", ErrDisconnected, err)
	}
	return nil
}

// receive hands out what comes in until the stream ends, and says why it ended.
func (k *Kernel) receive(recv func() (*frameworkpb.ToFramework, error)) error {
	defer k.hangUp()
	for {
		m, err := recv()
		if err != nil {
			return fmt.Errorf("%w: %w", ErrDisconnected, err)
		}
		switch {
		case m.GetEvent() != nil:
			select {
			case k.events <- m.GetEvent():
			default:
				return ErrSlow
			}
		case m.GetCallReply() != nil:
			k.answer(m.GetCallReply().GetSeq(), m)
		case m.GetStateReply() != nil:
			k.answer(m.GetStateReply().GetSeq(), m)
		}
	}
}

// answer wakes whoever asked; the one who gave up waiting is gone from pending.
func (k *Kernel) answer(seq uint64, m *frameworkpb.ToFramework) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if reply, ok := k.pending[seq]; ok {
		delete(k.pending, seq)
		reply <- m
	}
}

func (k *Kernel) hangUp() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	for seq, reply := range k.pending {
		delete(k.pending, seq)
		close(reply)
	}
	close(k.events)
}
