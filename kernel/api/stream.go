package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gantry-project/gantry/sdk/recordio"
)

const (
	// batchBytes ends a batch of events, so that a heartbeat or the client's end is noticed
	// between two.
	batchBytes = 256 << 10
	// drainWithin is how long a client may take to make room for a batch before it is
	// dropped.
	drainWithin = 10 * time.Second
)

// Stream is one subscription to events E.
type Stream[E message] interface {
	// ID is the Mesos-Stream-Id: at most 128 bytes, never used before.
	ID() string
	// Events is closed when the subscription has ended. It must be bounded by whoever
	// sends: a client that reads too slowly for long is dropped, and Close called.
	Events() <-chan E
	// Close tells that nobody reads any more; it is called exactly once.
	Close()
}

// sender writes one subscription's events, framed, as they come.
type sender[E message] struct {
	codec     codec
	heartbeat E
	opens     func(E) bool     // whether an event is SUBSCRIBED, behind which heartbeats are due
	lastWords func(E, error) E // what is said instead of an event that can't be written; nil: nothing

	w          http.ResponseWriter
	rc         *http.ResponseController
	batch      []byte
	ends       []int // of the batch's records
	record     []byte
	subscribed bool
}

// serve sends the head of the answer, then events until the stream ends, the client is
// gone or it is too slow.
func (s *sender[E]) serve(w http.ResponseWriter, r *http.Request, events <-chan E, heartbeat time.Duration) {
	s.w, s.rc = w, http.NewResponseController(w)
	w.Header().Set("Content-Type", s.codec.mediaType())
	w.WriteHeader(200)
	if s.flush() == nil {
		s.run(r.Context(), events, heartbeat)
	}
}

func (s *sender[E]) run(ctx context.Context, events <-chan E, heartbeat time.Duration) {
	var beats <-chan time.Time
	for {
		open := true
		select {
		case <-ctx.Done():
			return
		case e, ok := <-events:
			open = ok && s.add(e) && s.addWaiting(events)
		case <-beats:
			s.add(s.heartbeat)
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
func (s *sender[E]) addWaiting(events <-chan E) bool {
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
// that can't be written ends the stream, with the last words that there are for it.
func (s *sender[E]) add(e E) bool {
	record, err := s.codec.encode(s.record[:0], e)
	if err != nil {
		if s.lastWords != nil {
			s.add(s.lastWords(e, err))
		}
		return false
	}
	s.record = record
	s.batch = recordio.Append(s.batch, record)
	s.ends = append(s.ends, len(s.batch))
	if !s.subscribed && s.opens(e) {
		s.subscribed = true
		return s.add(s.heartbeat)
	}
	return true
}

// flush sends the batch, and empties it. Each event leaves as an HTTP chunk of its own:
// there are clients that take a chunk for an event. It fails when the client is gone or
// takes none of it within drainWithin.
func (s *sender[E]) flush() error {
	_ = s.rc.SetWriteDeadline(time.Now().Add(drainWithin)) // fails where there is no connection
	begin := 0
	for _, end := range s.ends {
		if _, err := s.w.Write(s.batch[begin:end]); err != nil {
			return err
		}
		if err := s.rc.Flush(); err != nil {
			return err
		}
		begin = end
	}
	s.batch, s.ends = s.batch[:0], s.ends[:0]
	if cap(s.batch) > 2*batchBytes {
		s.batch, s.record = nil, nil // of one large event
	}
	return s.rc.Flush() // the head, where there was no event
}
