package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gantry-project/gantry/kernel/rules"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
	"github.com/gantry-project/gantry/sdk/recordio"
)

const (
	streamHeader = "Mesos-Stream-Id"

	// batchBytes ends a batch of events; one write and one flush serve each batch.
	batchBytes = 256 << 10
	// drainWithin is how long a client may take to make room for a batch before it is
	// dropped.
	drainWithin = 10 * time.Second
)

// scheduler is POST /api/v1/scheduler. Up to here the order of the checks is that of
// receive; the rest of it is in Scheduler, which knows the frameworks.
func (m *master) scheduler(w http.ResponseWriter, r *http.Request) {
	call := &schedulerpb.Call{}
	if !m.receive(w, r, call) {
		return
	}
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
		m.subscribe(w, r, call, out)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callWithin)
	defer cancel()
	answer(w, m.Scheduler.Call(ctx, caller(r), call))
}

func (m *master) subscribe(w http.ResponseWriter, r *http.Request, call *schedulerpb.Call, out codec) {
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
	w.Header().Set("Content-Type", out.mediaType())
	w.Header().Set(streamHeader, stream.ID())
	w.WriteHeader(200)
	s := &sender{w: w, rc: http.NewResponseController(w), codec: out}
	if s.flush() != nil {
		return
	}
	s.run(r.Context(), stream.Events(), m.Heartbeat)
}

// sender writes one subscription's events, framed, as they come.
type sender struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	codec  codec
	batch  []byte
	record []byte

	subscribed bool // SUBSCRIBED has been sent, and so heartbeats are due
}

// run returns when the stream ends, the client is gone or it is too slow.
func (s *sender) run(ctx context.Context, events <-chan *schedulerpb.Event, heartbeat time.Duration) {
	var beats <-chan time.Time
	for {
		open := true
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			open = ok && s.add(e) && s.addWaiting(events)
		case <-beats:
			s.add(&schedulerpb.Event{Type: schedulerpb.Event_HEARTBEAT.Enum()})
		}
		if s.flush() != nil || !open {
			return
		}
		if s.subscribed && beats == nil {
			ticker := time.NewTicker(heartbeat)
			defer ticker.Stop() // once: beats is set from here on
			beats = ticker.C
		}
	}
}

// addWaiting adds what is there already, as far as it fits into the batch, and tells
// whether the stream goes on.
func (s *sender) addWaiting(events <-chan *schedulerpb.Event) bool {
	for len(s.batch) < batchBytes {
		select {
		case e, ok := <-events:
			if !ok || !s.add(e) {
				return false
			}
		default:
			return true
		}
	}
	return true
}

// add puts an event into the batch, and the first heartbeat behind SUBSCRIBED. An event
// that can't be written becomes an ERROR, and ends the stream.
func (s *sender) add(e *schedulerpb.Event) bool {
	record, err := s.codec.encode(s.record[:0], e)
	if err != nil {
		text := "The master made an event of type " + e.GetType().String() + " that can't be written: " + err.Error()
		s.add(&schedulerpb.Event{Type: schedulerpb.Event_ERROR.Enum(), Error: &schedulerpb.Event_Error{Message: &text}})
		return false
	}
	s.record = record
	s.batch = recordio.Append(s.batch, record)
	if e.GetType() == schedulerpb.Event_SUBSCRIBED && !s.subscribed {
		s.subscribed = true
		return s.add(&schedulerpb.Event{Type: schedulerpb.Event_HEARTBEAT.Enum()})
	}
	return true
}

// flush sends the batch, and empties it. It fails when the client is gone or takes none
// of it within drainWithin.
func (s *sender) flush() error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(drainWithin)) // fails where there is no connection
	if _, err := s.w.Write(s.batch); err != nil {
		return err
	}
	s.batch = s.batch[:0]
	if cap(s.batch) > 2*batchBytes {
		s.batch, s.record = nil, nil // of one large event
	}
	return s.rc.Flush()
}
