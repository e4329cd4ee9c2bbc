package run

import (
	"fmt"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/id"
)

// Bounds of what subscribers may leave unread, in bytes. Events are counted by their size,
// not their number: one call of a large framework is rightly answered by thousands at once.
const (
	maxUnread    = 16 << 20  // by one, behind the event that it is about to read
	maxAllUnread = 128 << 20 // by all of a listener together; beyond it the slowest is dropped
)

// subscription is a stream of events of a scheduler, a watcher or an executor: a queue
// between who sends, which never waits, and a reader.
type subscription[E proto.Message] struct {
	id     id.Stream
	events chan E
	quit   chan struct{} // closed when the reader is gone
	behind chan struct{} // closed when the reader is dropped
	all    *atomic.Int64 // what all subscribers of the listener have not read
	last   func(why string) E
	leave  func() // tells the sender that there is no reader any more; works once
	once   sync.Once

	mu      sync.Mutex
	waiting []*letter[E] // the oldest is being handed over
	unread  int
	more    chan struct{} // holds one token while something waits or the end is near
	ended   bool
}

// letter is an event on its way.
type letter[E proto.Message] struct {
	event E
	size  int
}

// newSubscription makes one whose reader is told nothing when it is dropped, with bounds of
// its own. gone is called once when the reader has closed it or is dropped.
func newSubscription[E proto.Message](stream id.Stream, gone func()) *subscription[E] {
	return newSubscriptionAmong[E](new(atomic.Int64), stream, gone, nil)
}

// newSubscriptionAmong makes one of several that share a bound. last makes the event that
// tells a reader why it is dropped; nil is none.
func newSubscriptionAmong[E proto.Message](all *atomic.Int64, stream id.Stream, gone func(), last func(why string) E) *subscription[E] {
	s := &subscription[E]{
		id: stream, all: all, last: last, leave: sync.OnceFunc(gone),
		events: make(chan E),
		quit:   make(chan struct{}),
		behind: make(chan struct{}),
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
		s.leave()
	})
}

// deliver queues an event; a reader that has fallen behind is dropped. A single event may
// be of any size: the state of a large cluster is.
func (s *subscription[E]) deliver(ev E) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return
	}
	s.push(ev)
	if s.unread-s.waiting[0].size > maxUnread {
		s.drop(fmt.Sprintf("more than %d bytes of events are unread", maxUnread))
	}
}

func (s *subscription[E]) push(ev E) {
	l := &letter[E]{ev, proto.Size(ev)}
	s.waiting = append(s.waiting, l)
	s.unread += l.size
	s.all.Add(int64(l.size))
	s.wake()
}

// fallBehind drops a reader for others' sake.
func (s *subscription[E]) fallBehind() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.ended {
		s.drop(fmt.Sprintf("%d bytes of events are unread, the most of all subscribers, and all together leave more than %d unread", s.unread, maxAllUnread))
	}
}

// drop forgets what waits, for a word on why it does, which a reader that is only slow still
// hears.
func (s *subscription[E]) drop(why string) {
	s.forget()
	if s.last != nil {
		s.push(s.last("Dropped for reading too slowly: " + why + "; subscribe again"))
	}
	s.ended = true
	close(s.behind)
	go s.leave() // asks for locks that the deliverer holds
}

func (s *subscription[E]) forget() {
	s.all.Add(-int64(s.unread))
	s.waiting, s.unread = nil, 0
}

// end closes the events behind what is queued.
func (s *subscription[E]) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.wake()
}

// bytes is how much is unread; none of a subscription that has ended.
func (s *subscription[E]) bytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return 0
	}
	return s.unread
}

func (s *subscription[E]) wake() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// first is the oldest of what waits, nil if there is none; open, whether more may come.
func (s *subscription[E]) first() (l *letter[E], open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) > 0 {
		return s.waiting[0], true
	}
	return nil, !s.ended
}

// read forgets the oldest, unless it was forgotten meanwhile.
func (s *subscription[E]) read(l *letter[E]) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 || s.waiting[0] != l {
		return
	}
	s.waiting[0], s.waiting = nil, s.waiting[1:]
	s.unread -= l.size
	s.all.Add(-int64(l.size))
}

// pump hands the events to the reader until the end, or until the reader is gone.
func (s *subscription[E]) pump() {
	defer close(s.events)
	behind := s.behind
	for {
		l, open := s.first()
		if !open {
			return
		}
		var to chan E // nothing is sent while nothing waits
		var event E
		if l != nil {
			to, event = s.events, l.event
		}
		select {
		case to <- event:
			s.read(l)
		case <-s.more:
		case <-behind:
			behind = nil // what was to be read is forgotten; the last word waits, if any
		case <-s.quit:
			s.mu.Lock()
			defer s.mu.Unlock()
			s.forget()
			s.ended = true
			return
		}
	}
}
