package run

import (
	"context"
	"strconv"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

// Doorkeeper tells where a call comes from.
type Doorkeeper interface {
	// Admit is nil if the caller is in the container, or proves to have come from it.
	Admit(container string, caller api.ExecutorCaller) error
}

// Resizer is what Containers may be beside: then a container of an executor has what its
// tasks of the moment have; without it, what its first task had.
type Resizer interface {
	Resize(container string, resources []*mesos.Resource) error
}

// executorCalls are the calls and event streams of the executors; they belong to the owner.
type executorCalls struct {
	last    uint64 // request or stream
	waiting map[uint64]chan<- api.Reply
	streams map[uint64]*subscription[*executorpb.Event]
}

func newExecutorCalls() executorCalls {
	return executorCalls{
		waiting: map[uint64]chan<- api.Reply{},
		streams: map[uint64]*subscription[*executorpb.Event]{},
	}
}

// CallExecutor carries out a call of an executor that is no SUBSCRIBE.
func (a *Agent) CallExecutor(ctx context.Context, caller api.ExecutorCaller, call *executorpb.Call) api.Reply {
	_, reply := a.executorCall(ctx, caller, call)
	return reply
}

// SubscribeExecutor opens an executor's event stream; the stream is nil unless the status
// is 200.
func (a *Agent) SubscribeExecutor(ctx context.Context, caller api.ExecutorCaller, call *executorpb.Call) (api.Stream[*executorpb.Event], api.Reply) {
	stream, reply := a.executorCall(ctx, caller, call)
	if stream == nil || reply.Status != 200 {
		return nil, reply
	}
	return stream, reply
}

func (a *Agent) executorCall(ctx context.Context, caller api.ExecutorCaller, call *executorpb.Call) (*subscription[*executorpb.Event], api.Reply) {
	container, err := a.executorContainer(ctx, call)
	if err != nil {
		return nil, api.Reply{Status: 503, Message: err.Error()}
	}
	if container != "" {
		if err := a.cfg.Doorkeeper.Admit(container, caller); err != nil {
			return nil, api.Reply{Status: 403, Message: err.Error()}
		}
	}
	answer := make(chan api.Reply, 1)
	var stream *subscription[*executorpb.Event]
	err = a.post(ctx, agentEvent{do: func(context.Context) node.Event {
		ev := node.ExecutorCall{Principal: container, Call: call}
		a.executors.last++
		ev.Request, ev.Stream = a.executors.last, a.executors.last
		if call.GetType() == executorpb.Call_SUBSCRIBE {
			stream = a.openStream(ev.Stream)
		}
		a.executors.waiting[ev.Request] = answer
		return ev
	}})
	if err != nil {
		return nil, api.Reply{Status: 503, Message: err.Error()}
	}
	select {
	case reply := <-answer:
		return stream, reply
	case <-a.done:
		return nil, api.Reply{Status: 503, Message: ErrAgentStopped.Error()}
	}
}

// executorContainer is the container that a call claims to come from, or empty if there
// is none.
func (a *Agent) executorContainer(ctx context.Context, call *executorpb.Call) (string, error) {
	found := make(chan string, 1)
	err := a.post(ctx, agentEvent{do: func(context.Context) node.Event {
		found <- a.node.ExecutorContainer(call.GetFrameworkId().GetValue(), call.GetExecutorId().GetValue())
		return nil
	}})
	if err != nil {
		return "", err
	}
	select {
	case container := <-found:
		return container, nil
	case <-a.done:
		return "", ErrAgentStopped
	}
}

// openStream makes a stream that tells the machine when its reader is gone.
func (a *Agent) openStream(n uint64) *subscription[*executorpb.Event] {
	s := newSubscription[*executorpb.Event](id.Stream(strconv.FormatUint(n, 10)), func() {
		_ = a.post(context.Background(), agentEvent{do: func(context.Context) node.Event { // fails only when the agent has ended
			delete(a.executors.streams, n)
			return node.ExecutorGone{Stream: n}
		}})
	})
	a.executors.streams[n] = s
	return s
}

// answerExecutors delivers what the machine has for executors; all that it rests on is
// durable.
func (a *Agent) answerExecutors(out *node.Effects) {
	for _, r := range out.Replies {
		a.executors.waiting[r.Request] <- api.Reply{Status: r.Status, Message: r.Message}
		delete(a.executors.waiting, r.Request)
		if s := a.executors.streams[r.Request]; s != nil && r.Status != 200 { // a stream has its request's number
			delete(a.executors.streams, r.Request)
			s.end()
		}
	}
	for _, t := range out.Tell {
		s := a.executors.streams[t.Stream]
		if s == nil {
			continue
		}
		if t.Event != nil {
			s.deliver(t.Event)
		}
		if t.Close {
			delete(a.executors.streams, t.Stream)
			s.end()
		}
	}
}

// resize sets a container's limits, in the order of the requests to its keeper.
func (a *Agent) resize(r node.Resize) {
	resizer, can := a.cfg.Containers.(Resizer)
	if !can {
		return
	}
	a.ask(func(context.Context, AgentKeeper) {
		if err := resizer.Resize(r.Container, r.Resources); err != nil {
			a.cfg.Log.Warn("an executor keeps the limits that it had", "container", r.Container, "error", err)
		}
	})
}
