package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
)

const (
	// maxConns bounds connections, served or not yet greeted.
	maxConns = 16
	// helloTimeout is how long a new connection may take to say Hello.
	helloTimeout = 10 * time.Second
	// writeTimeout is how long an agent may take to read one frame.
	writeTimeout = 10 * time.Second
	// queued bounds the frames that wait for an agent to read; it is disconnected when
	// there are more, and finds everything in the next Welcome.
	queued = 4096
)

// agent is a connection that has said Hello.
type agent struct {
	conn net.Conn
	out  chan *keeperpb.FromKeeper
	// written is closed when no more will be written.
	written chan struct{}
}

func (s *server) accept(ctx context.Context, l *net.UnixListener) {
	slots := make(chan struct{}, maxConns)
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.Log.Error("accept connection", "err", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		select {
		case slots <- struct{}{}:
			go func() {
				s.serve(ctx, conn)
				<-slots
			}()
		default:
			s.Log.Warn("connection refused: there are too many")
			conn.Close()
		}
	}
}

// serve reads one connection's requests and hands them to the owner of the state.
func (s *server) serve(ctx context.Context, conn *net.UnixConn) {
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := checkPeer(conn); err != nil {
		s.Log.Warn("connection refused", "err", err)
		return
	}
	a := &agent{conn: conn, out: make(chan *keeperpb.FromKeeper, queued), written: make(chan struct{})}
	go a.write()
	err := s.converse(ctx, a)
	if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
		s.Log.Warn("connection ended", "err", err)
	}
	s.post(ctx, func(s *server) {
		if s.agent == a {
			s.agent = nil
		}
		close(a.out)
	})
}

// converse answers until the connection ends, and says why it did.
func (s *server) converse(ctx context.Context, a *agent) error {
	if err := a.conn.SetReadDeadline(time.Now().Add(helloTimeout)); err != nil {
		return err
	}
	hello, err := a.read()
	if err != nil {
		return err
	}
	if hello.GetHello() == nil {
		return errors.New("the first request was not Hello")
	}
	if v := hello.GetHello().GetVersion(); v != Version {
		return fmt.Errorf("agent speaks version %q of the protocol, this keeper %q", v, Version)
	}
	if err := a.conn.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	s.post(ctx, func(s *server) { s.greet(a, hello) })
	for {
		request, err := a.read()
		if err != nil {
			return err
		}
		s.post(ctx, func(s *server) { s.handle(ctx, a, request) })
	}
}

// greet makes a the agent that is served.
func (s *server) greet(a *agent, hello *keeperpb.ToKeeper) {
	if s.agent != nil && s.agent != a {
		s.agent.conn.Close()
	}
	s.agent = a
	a.send(&keeperpb.FromKeeper{Seq: hello.GetSeq(), Body: &keeperpb.FromKeeper_Welcome{Welcome: s.welcome()}})
}

// handle answers one request of the agent that is served; what an agent asked before it
// was replaced is not done.
func (s *server) handle(ctx context.Context, a *agent, request *keeperpb.ToKeeper) {
	if s.agent != a {
		return
	}
	switch body := request.GetBody().(type) {
	case *keeperpb.ToKeeper_Hello:
		s.greet(a, request)
	case *keeperpb.ToKeeper_Start:
		a.answer(request, s.start(ctx, body.Start.GetSpec()))
	case *keeperpb.ToKeeper_Signal:
		a.answer(request, s.signal(body.Signal.GetContainerId(), syscall.Signal(body.Signal.GetSignal())))
	case *keeperpb.ToKeeper_Forget:
		a.answer(request, s.forget(body.Forget.GetContainerId()))
	case *keeperpb.ToKeeper_Shutdown:
		s.shutdown(a, request)
	default:
		a.answer(request, errors.New("this keeper does not know the request"))
	}
}

func (a *agent) read() (*keeperpb.ToKeeper, error) {
	request := new(keeperpb.ToKeeper)
	if err := readFrame(a.conn, request, maxRequest); err != nil {
		return nil, err
	}
	return request, nil
}

func (a *agent) answer(request *keeperpb.ToKeeper, err error) {
	answer := &keeperpb.FromKeeper{Seq: request.GetSeq(), Body: &keeperpb.FromKeeper_Ok{Ok: &keeperpb.Ok{}}}
	if err != nil {
		answer.Body = &keeperpb.FromKeeper_Refused{Refused: &keeperpb.Refused{Message: err.Error()}}
	}
	a.send(answer)
}

// send queues m; it never blocks. Only the owner of the state calls it.
func (a *agent) send(m *keeperpb.FromKeeper) {
	select {
	case a.out <- m:
	default:
		a.conn.Close()
	}
}

// finish waits until everything that was sent is written, or cannot be.
func (a *agent) finish() {
	close(a.out)
	<-a.written
}

func (a *agent) write() {
	defer close(a.written)
	for m := range a.out {
		err := a.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
		if err == nil {
			err = writeFrame(a.conn, m, maxAnswer)
		}
		if err != nil {
			break
		}
	}
	// Whatever the reason, an agent that is not written to must not go on asking.
	a.conn.Close()
}
