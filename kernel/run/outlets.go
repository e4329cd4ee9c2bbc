package run

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// outlets are where the master's effects go: who is connected right now. Delivery never
// blocks: each outlet has a bounded queue, and who lets it run full is disconnected.
type outlets struct {
	allocator *allocatorOutlet

	mu       sync.Mutex
	leaving  bool
	agents   map[uint64]agentStream
	streams  map[id.Stream]*subscription[*schedulerpb.Event]
	watchers map[id.Stream]*watcher
	unread   atomic.Int64 // by all streams and watchers, in bytes
	requests map[uint64]chan core.Reply
	nextConn uint64
	nextReq  uint64
}

// agentStream is one agent's stream: Send queues and never blocks.
type agentStream interface {
	Send(*linkpb.ToAgent) error
	Close()
}

func newOutlets() *outlets {
	return &outlets{
		allocator: &allocatorOutlet{},
		agents:    map[uint64]agentStream{},
		streams:   map[id.Stream]*subscription[*schedulerpb.Event]{},
		watchers:  map[id.Stream]*watcher{},
		requests:  map[uint64]chan core.Reply{},
	}
}

// attach names an agent's stream.
func (o *outlets) attach(s agentStream) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nextConn++
	o.agents[o.nextConn] = s
	return o.nextConn
}

func (o *outlets) detach(conn uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.agents, conn)
}

// expect names a request whose Reply will come on the channel.
func (o *outlets) expect() (uint64, <-chan core.Reply) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nextReq++
	answer := make(chan core.Reply, 1)
	o.requests[o.nextReq] = answer
	return o.nextReq, answer
}

func (o *outlets) unexpect(request uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.requests, request)
}

// subscribe makes a subscription that gets the notices for its stream; gone is called
// once when its reader closes it or falls behind, unless the master is leaving.
func (o *outlets) subscribe(stream id.Stream, gone func(context.Context, id.Stream)) *subscription[*schedulerpb.Event] {
	s := newSubscriptionAmong(&o.unread, stream, func() { o.drop(stream, gone) }, func(why string) *schedulerpb.Event {
		return &schedulerpb.Event{Type: schedulerpb.Event_ERROR.Enum(), Error: &schedulerpb.Event_Error{Message: &why}}
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	o.streams[stream] = s
	return s
}

// drop forgets a stream whose reader is gone.
func (o *outlets) drop(stream id.Stream, gone func(context.Context, id.Stream)) {
	o.mu.Lock()
	known := o.streams[stream] != nil && !o.leaving
	delete(o.streams, stream)
	o.mu.Unlock()
	if known {
		gone(context.Background(), stream)
	}
}

// leave makes the streams that break from now on no news: their schedulers come back to
// the next master.
func (o *outlets) leave() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.leaving = true
}

// deliver hands out effects that are durable, in contract order.
func (o *outlets) deliver(out *core.Effects, post func(context.Context, core.Event) error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range out.Send {
		stream := o.agents[s.Conn]
		if stream == nil {
			continue
		}
		if err := stream.Send(s.Message); err != nil || s.Close {
			stream.Close()
		}
		failpoint.Hit("master.sent")
	}
	if len(out.Ask) > 0 && !o.allocator.deliver(out.Ask) {
		go func() { _ = post(context.Background(), core.AllocatorUp{Config: o.allocator.config()}) }() // fails only when the master has ended
	}
	for _, n := range out.Notify {
		if s := o.streams[n.Stream]; s != nil {
			if n.Event != nil {
				s.deliver(n.Event)
			}
			if n.Close {
				delete(o.streams, n.Stream)
				s.end()
			}
		}
	}
	for _, n := range out.News {
		o.spread(n)
	}
	for o.unread.Load() > maxAllUnread && o.dropSlowest() {
	}
	for _, r := range out.Replies {
		if answer := o.requests[r.Request]; answer != nil {
			answer <- r
			delete(o.requests, r.Request)
		}
	}
}

// reader is a subscription, whatever its events are.
type reader interface {
	bytes() int
	fallBehind()
}

// dropSlowest drops the reader that has most unread, unless it is the only one: then its own
// bound is enough. The lock is held.
func (o *outlets) dropSlowest() bool {
	var slowest reader
	most, several := 0, false
	look := func(r reader) {
		n := r.bytes()
		several = several || n > 0 && most > 0
		if n > most {
			slowest, most = r, n
		}
	}
	for _, s := range o.streams {
		look(s)
	}
	for _, w := range o.watchers {
		look(w)
	}
	if several {
		slowest.fallBehind()
	}
	return several
}

// closeAll ends every subscription and agent stream.
func (o *outlets) closeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.streams {
		s.end()
	}
	for _, w := range o.watchers {
		w.end()
	}
	for _, a := range o.agents {
		a.Close()
	}
}
