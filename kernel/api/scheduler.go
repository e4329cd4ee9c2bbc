package api

import (
	"context"
	"net/http"

	"github.com/gantry-project/gantry/kernel/rules"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

const streamHeader = "Mesos-Stream-Id"

// scheduler is POST /api/v1/scheduler. Up to here the order of the checks is that of
// receive; the rest of it is in Scheduler, which knows the frameworks.
func (m *master) scheduler(w http.ResponseWriter, r *http.Request) {
	call := &schedulerpb.Call{}
	taken, ok := m.receive(w, r, call)
	if !ok {
		return
	}
	defer taken.release()
	if err := rules.Call(call); err != nil {
		answer(w, Reply{400, "Failed to validate scheduler::Call: " + err.Error()})
		return
	}
	subscribe := call.GetType() == schedulerpb.Call_SUBSCRIBE
	out, ok := acceptCodec(r)
	if !ok && (subscribe || call.GetType() == schedulerpb.Call_RECONCILE_OPERATIONS) {
		answer(w, notAcceptable()) // the other calls have answers without a body
		return
	}
	if subscribe {
		m.subscribe(w, r, call, out, taken)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callWithin)
	defer cancel()
	answer(w, m.Scheduler.Call(ctx, caller(r), call))
}

func (m *master) subscribe(w http.ResponseWriter, r *http.Request, call *schedulerpb.Call, out codec, taken *room) {
	if len(r.Header.Values(streamHeader)) > 0 {
		answer(w, Reply{400, "Subscribe calls should not include the 'Mesos-Stream-Id' header"})
		return
	}
	stream, reply := m.Scheduler.Subscribe(r.Context(), caller(r), call)
	if reply.Status != 200 {
		answer(w, reply)
		return
	}
	defer stream.Close()
	taken.release() // the stream may last for ever
	w.Header().Set(streamHeader, stream.ID())
	s := &sender[*schedulerpb.Event]{
		codec:     out,
		heartbeat: &schedulerpb.Event{Type: schedulerpb.Event_HEARTBEAT.Enum()},
		opens:     func(e *schedulerpb.Event) bool { return e.GetType() == schedulerpb.Event_SUBSCRIBED },
		lastWords: func(e *schedulerpb.Event, err error) *schedulerpb.Event {
			text := "The master made an event of type " + e.GetType().String() + " that can't be written: " + err.Error()
			return &schedulerpb.Event{Type: schedulerpb.Event_ERROR.Enum(), Error: &schedulerpb.Event_Error{Message: &text}}
		},
	}
	s.serve(w, r, stream.Events(), m.Heartbeat)
}
