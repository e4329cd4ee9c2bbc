package link

import (
	"errors"
	"sync"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
)

const (
	// MaxMessage is the most bytes of one message, either way.
	MaxMessage = 16 << 20
	// queued messages wait for a slow reader; with one more it is disconnected.
	queued = 4096
)

var (
	// ErrClosed says that this end closed the stream, or that both ends are in memory and
	// the other did.
	ErrClosed = errors.New("the link is closed")
	// ErrSlow says that the other end did not read, and was disconnected for it.
	ErrSlow = errors.New("the other end of the link does not keep up")
)

// Stream is one end of a conversation. Its methods may be called by several goroutines.
type Stream[In, Out any] struct {
	in  <-chan In
	out chan<- Out
	end *ending
}

type (
	// Session is the master's end.
	Session = Stream[*linkpb.ToMaster, *linkpb.ToAgent]
	// Conn is the agent's end.
	Conn = Stream[*linkpb.ToAgent, *linkpb.ToMaster]
)

// Send queues a message, which must not be changed any more. It fails when the stream has
// ended, and ends it with ErrSlow when the queue is full.
func (s *Stream[In, Out]) Send(m Out) error {
	select {
	case <-s.end.done:
		return s.end.err
	default:
	}
	select {
	case s.out <- m:
		return nil
	default:
		s.end.with(ErrSlow)
		return ErrSlow
	}
}

// Recv waits for a message, or for the end of the stream and returns why it ended. What
// had come before the end is received first.
func (s *Stream[In, Out]) Recv() (In, error) {
	select {
	case m := <-s.in:
		return m, nil
	case <-s.end.done:
	}
	select {
	case m := <-s.in:
		return m, nil
	default:
		var none In
		return none, s.end.err
	}
}

// Close ends the stream after what is queued has been sent, so far as the other end
// reads it soon. Closing twice is fine.
func (s *Stream[In, Out]) Close() { s.end.with(ErrClosed) }

// ending is the one end of a stream, whoever causes it.
type ending struct {
	once sync.Once
	done chan struct{}
	err  error // set before done is closed
}

func newEnding() *ending { return &ending{done: make(chan struct{})} }

func (e *ending) with(err error) {
	e.once.Do(func() {
		e.err = err
		close(e.done)
	})
}

// Pair returns the two ends of a stream in memory. Closing one closes both; what was sent
// before can still be received.
func Pair() (*Session, *Conn) {
	toMaster, toAgent, end := make(chan *linkpb.ToMaster, queued), make(chan *linkpb.ToAgent, queued), newEnding()
	return &Session{in: toMaster, out: toAgent, end: end}, &Conn{in: toAgent, out: toMaster, end: end}
}

// wire is what a gRPC stream is, from either side.
type wire[In, Out any] interface {
	Send(Out) error
	Recv() (In, error)
}

// pump connects a stream to a wire. Read is closed when nothing more comes, written when
// nothing more goes.
func pump[In, Out any](w wire[In, Out]) (s *Stream[In, Out], read, written <-chan struct{}) {
	in, out, end := make(chan In), make(chan Out, queued), newEnding()
	readDone, writeDone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(readDone)
		for {
			m, err := w.Recv()
			if err != nil {
				end.with(err)
				return
			}
			select {
			case in <- m:
			case <-end.done:
			}
		}
	}()
	go func() {
		defer close(writeDone)
		for {
			select {
			case m := <-out:
				if err := w.Send(m); err != nil {
					end.with(err)
					return
				}
				continue
			case <-end.done:
			}
			select {
			case m := <-out:
				if err := w.Send(m); err != nil {
					return
				}
			default:
				return
			}
		}
	}()
	return &Stream[In, Out]{in: in, out: out, end: end}, readDone, writeDone
}
