package run

import (
	"sync"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/id"
)

// maxUnread is how many bytes of events may wait for one subscriber; beyond it the
// subscriber is dropped. Events are counted by their size, not their number: one call of
// a large framework is rightly answered by thousands at once.
const maxUnread = 64 << 20

// subscription is a stream of events of a scheduler or a watcher: a queue between the
// master, which never waits, and a reader.
type subscription[E proto.Message] struct {
	id     id.Stream
	events chan E
	quit   chan struct{} // closed when the reader is gone
	gone   func()        // tells the master so

	mu      sync.Mutex
	waiting []E
	unread  int
	more    chan struct{} // holds one token while something waits or the end is near
	ended   bool
	once    sync.Once
}

func newSubscription[E proto.Message](stream id.Stream, gone func()) *subscription[E] {
	s := &subscription[E]{
		id:     stream,
		events: make(chan E),
		quit:   make(chan struct{}),
		gone:   gone,
		more:   make(chan struct{}, 1),
	}
	go s.pump()
	return s
}

// ID is the Mesos-Stream-Id.
func (s *subscription[E]) ID() string { return string(s.id) }

// Events is closed when the subscription has ended and all before its end is read.
func (s *subscription[E]) Events() <-chan E { return s.events }

// Close says that the reader is gone.
func (s *subscription[E]) Close() {
	s.once.Do(func() {
		close(s.quit)
		s.gone()
	})
}

// deliver queues an event; a reader that has fallen behind is dropped. A single event may
// be of any size: the state of a large cluster is.
func (s *subscription[E]) deliver(ev E) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting = append(s.waiting, ev)
	s.unread += proto.Size(ev)
	if s.unread > maxUnread && len(s.waiting) > 1 {
		go s.Close() // asks for the lock that the deliverer holds
	}
	s.wake()
}

// end closes the events behind what is queued.
func (s *subscription[E]) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.wake()
}

func (s *subscription[E]) wake() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// take returns what waits, and whether anything may still come.
func (s *subscription[E]) take() (waiting []E, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	waiting, s.waiting, s.unread = s.waiting, nil, 0
	return waiting, !s.ended
}

// pump hands the events to the reader until the end, or until the reader is gone.
func (s *subscription[E]) pump() {
	defer close(s.events)
	for open := true; open; {
		select {
		case <-s.more:
		case <-s.quit:
			return
		}
		var waiting []E
		waiting, open = s.take()
		for _, ev := range waiting {
			select {
			case s.events <- ev:
			case <-s.quit:
				return
			}
		}
	}
}
