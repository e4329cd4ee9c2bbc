package run

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// views are the operator calls that look at the cluster. They run in the owner's goroutine
// and copy what they need; encoding is left to who asked.
func (m *Master) views(r *masterpb.Response) map[masterpb.Call_Type]func(*core.Machine) {
	return map[masterpb.Call_Type]func(*core.Machine){
		masterpb.Call_GET_STATE: func(c *core.Machine) {
			r.Type, r.GetState = masterpb.Response_GET_STATE.Enum(), c.State()
		},
		masterpb.Call_GET_AGENTS: func(c *core.Machine) {
			r.Type, r.GetAgents = masterpb.Response_GET_AGENTS.Enum(), c.Agents()
		},
		masterpb.Call_GET_FRAMEWORKS: func(c *core.Machine) {
			r.Type, r.GetFrameworks = masterpb.Response_GET_FRAMEWORKS.Enum(), c.Frameworks()
		},
		masterpb.Call_GET_EXECUTORS: func(c *core.Machine) {
			r.Type, r.GetExecutors = masterpb.Response_GET_EXECUTORS.Enum(), c.Executors()
		},
		masterpb.Call_GET_TASKS: func(c *core.Machine) {
			r.Type, r.GetTasks = masterpb.Response_GET_TASKS.Enum(), c.Tasks()
		},
		masterpb.Call_GET_ROLES: func(c *core.Machine) {
			r.Type, r.GetRoles = masterpb.Response_GET_ROLES.Enum(), c.Roles()
		},
		masterpb.Call_GET_WEIGHTS: func(c *core.Machine) {
			r.Type, r.GetWeights = masterpb.Response_GET_WEIGHTS.Enum(), c.Weights()
		},
		masterpb.Call_GET_METRICS: func(c *core.Machine) {
			r.Type, r.GetMetrics = masterpb.Response_GET_METRICS.Enum(), &masterpb.Response_GetMetrics{Metrics: metrics(c.Tally(), m.cfg.Now().Sub(m.started).Seconds())}
		},
		masterpb.Call_GET_MASTER: func(*core.Machine) {
			// One that is alone was elected when it started.
			at := float64(m.started.UnixNano()) / 1e9
			r.Type = masterpb.Response_GET_MASTER.Enum()
			r.GetMaster = &masterpb.Response_GetMaster{
				MasterInfo: m.cfg.Core.Info, StartTime: proto.Float64(at), ElectedTime: proto.Float64(at),
			}
		},
	}
}

// Query answers the operator calls that look at the cluster, several of them in one look.
func (m *Master) Query(ctx context.Context, _ api.Caller, c *masterpb.Call, also ...masterpb.Call_Type) (*masterpb.Response, api.Reply) {
	r := &masterpb.Response{}
	views := m.views(r)
	calls := append(also, c.GetType()) // the last says of what type the response is
	for _, call := range calls {
		if views[call] == nil {
			return nil, api.Reply{Status: 501, Message: call.String() + " is not supported yet"}
		}
	}
	look := func(core *core.Machine) {
		for _, call := range calls {
			views[call](core)
		}
	}
	if err := m.look(ctx, look); err != nil {
		return nil, stopped(err)
	}
	return r, api.Reply{Status: 200}
}

// Change carries out the operator calls that change the cluster; what it answers is
// durable.
func (m *Master) Change(ctx context.Context, from api.Caller, c *masterpb.Call) api.Reply {
	return m.request(ctx, func(request uint64) core.Event {
		if c.GetType() == masterpb.Call_TEARDOWN {
			return core.Teardown{Request: request, Principal: from.Principal, Framework: id.Framework(c.GetTeardown().GetFrameworkId().GetValue())}
		}
		return core.SetWeights{Request: request, Principal: from.Principal, Weights: c.GetUpdateWeights().GetWeightInfos()}
	})
}

// Watch opens a stream that follows the cluster.
func (m *Master) Watch(ctx context.Context, from api.Caller) (api.Stream[*masterpb.Event], api.Reply) {
	w := m.out.watch(id.Stream(uuid.NewString()), func(stream id.Stream) {
		_ = m.post(context.Background(), core.WatcherGone{Stream: stream}) // fails only when the master has ended
	})
	if err := m.post(ctx, core.Watch{Principal: from.Principal, Stream: w.id}); err != nil {
		w.Close()
		return nil, stopped(err)
	}
	return w, api.Reply{Status: 200}
}

// watcher is a subscription of who follows the cluster. It hears nothing before its own
// SUBSCRIBED, which has it all.
type watcher struct {
	*subscription[*masterpb.Event]
	subscribed bool // guarded by the outlets' lock
}

// watch makes a watcher; gone is called once when its reader closes it or falls behind.
func (o *outlets) watch(stream id.Stream, gone func(id.Stream)) *watcher {
	w := &watcher{subscription: newSubscriptionAmong[*masterpb.Event](&o.unread, stream, func() {
		o.mu.Lock()
		known := o.watchers[stream] != nil
		delete(o.watchers, stream)
		o.mu.Unlock()
		if known {
			gone(stream)
		}
	}, nil)} // their wire has no event to tell why
	o.mu.Lock()
	defer o.mu.Unlock()
	o.watchers[stream] = w
	return w
}

// spread hands news to the watcher that it is for, or to all that watch. The lock is held.
func (o *outlets) spread(n core.News) {
	if n.Stream == "" {
		for _, w := range o.watchers {
			if w.subscribed {
				w.deliver(n.Event)
			}
		}
		return
	}
	w := o.watchers[n.Stream]
	if w == nil {
		return
	}
	if n.Event != nil {
		w.subscribed = true
		w.deliver(n.Event)
	}
	if n.Close {
		delete(o.watchers, n.Stream)
		w.end()
	}
}
