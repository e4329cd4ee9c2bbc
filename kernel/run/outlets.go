package run

import (
	"context"
	"sync"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// outlets are where the master's effects go: who is connected right now. Delivery never
// blocks: each outlet has a bounded queue, and who lets it run full is disconnected.
type outlets struct {
	allocator *allocatorOutlet

	mu       sync.Mutex
	agents   map[uint64]agentStream
	streams  map[id.Stream]*subscription
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
		allocator: newAllocatorOutlet(),
		agents:    map[uint64]agentStream{},
		streams:   map[id.Stream]*subscription{},
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
// once when its reader closes it or falls behind.
func (o *outlets) subscribe(stream id.Stream, gone func(context.Context, id.Stream)) *subscription {
	s := &subscription{id: stream, events: make(chan *schedulerpb.Event, streamEvents), outlets: o, gone: gone}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.streams[stream] = s
	return s
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
	}
	if len(out.Ask) > 0 && !o.allocator.deliver(out.Ask) {
		go func() { _ = post(context.Background(), core.AllocatorUp{Config: o.allocator.config()}) }()
	}
	for _, n := range out.Notify {
		if s := o.streams[n.Stream]; s != nil {
			s.deliver(n)
		}
	}
	for _, r := range out.Replies {
		if answer := o.requests[r.Request]; answer != nil {
			answer <- r
			delete(o.requests, r.Request)
		}
	}
}

// closeAll ends every subscription and agent stream.
func (o *outlets) closeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.streams {
		s.end()
	}
	for _, a := range o.agents {
		a.Close()
	}
}

// subscription is a scheduler's stream of events.
type subscription struct {
	id      id.Stream
	events  chan *schedulerpb.Event
	outlets *outlets
	gone    func(context.Context, id.Stream)
	ended   bool // by outlets.mu
}

// ID is the Mesos-Stream-Id.
func (s *subscription) ID() string { return string(s.id) }

// Events is closed when the subscription has ended.
func (s *subscription) Events() <-chan *schedulerpb.Event { return s.events }

// Close says that the reader is gone.
func (s *subscription) Close() {
	s.outlets.mu.Lock()
	open := !s.ended
	s.end()
	s.outlets.mu.Unlock()
	if open {
		s.gone(context.Background(), s.id)
	}
}

// deliver queues a notice; a reader that has let its queue run full is dropped.
func (s *subscription) deliver(n core.Notice) {
	if n.Event != nil {
		select {
		case s.events <- n.Event:
		default:
			s.end()
			go s.gone(context.Background(), s.id)
			return
		}
	}
	if n.Close {
		s.end()
	}
}

// end closes the events; the outlets' lock is held.
func (s *subscription) end() {
	if !s.ended {
		s.ended = true
		close(s.events)
		delete(s.outlets.streams, s.id)
	}
}
