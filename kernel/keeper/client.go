package keeper

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// events is how many events may wait for the agent: more than all the containers of a
// keeper can cause without being forgotten, so that reading never waits for the agent.
const events = 4 * MaxContainers

// Client is an agent's connection to its keeper. Its methods may be called by several
// goroutines; each request waits for the keeper's answer or the context's end, after
// which the request may have been carried out or not.
type Client struct {
	conn   net.Conn
	events chan *keeperpb.FromKeeper
	// closed is closed when no answer will come any more.
	closed chan struct{}
	// process is the keeper's, whatever has its number later.
	process *os.Process

	mu      sync.Mutex
	seq     uint64
	waiting map[uint64]chan *keeperpb.FromKeeper
}

// Dial connects to the keeper that serves dir, and becomes the one agent that it talks
// to. The Welcome is everything that the keeper holds at the moment that the first event
// follows. ErrNotRunning if there is no keeper.
func Dial(ctx context.Context, dir string) (*Client, *keeperpb.Welcome, error) {
	var conn net.Conn
	err := withSocket(dir, func(path string) (err error) {
		conn, err = new(net.Dialer).DialContext(ctx, "unix", path)
		return err
	})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil, fmt.Errorf("dial keeper in %s: %w", dir, ErrNotRunning)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("dial keeper in %s: %w", dir, err)
	}
	c := &Client{
		conn:    conn,
		events:  make(chan *keeperpb.FromKeeper, events),
		closed:  make(chan struct{}),
		waiting: make(map[uint64]chan *keeperpb.FromKeeper),
	}
	go c.read()
	welcome, err := c.hello(ctx)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("dial keeper in %s: %w", dir, err), c.Close())
	}
	c.process, err = os.FindProcess(int(welcome.GetPid()))
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("dial keeper in %s: %w", dir, err), c.Close())
	}
	return c, welcome, nil
}

func (c *Client) hello(ctx context.Context) (*keeperpb.Welcome, error) {
	answer, err := c.ask(ctx, &keeperpb.ToKeeper{Body: &keeperpb.ToKeeper_Hello{
		Hello: &keeperpb.Hello{Version: Version}}})
	if err != nil {
		return nil, err
	}
	welcome := answer.GetWelcome()
	if welcome.GetVersion() != Version {
		return nil, fmt.Errorf("the keeper speaks version %q of the protocol, this agent %q", welcome.GetVersion(), Version)
	}
	return welcome, nil
}

// Start asks for a container. Nil says that the keeper accepted: Started or StartFailed
// follows as an event.
func (c *Client) Start(ctx context.Context, spec *containerpb.Spec) error {
	err := c.request(ctx, &keeperpb.ToKeeper{Body: &keeperpb.ToKeeper_Start{
		Start: &keeperpb.Start{Spec: spec}}})
	return attempt(err, "start container %s", spec.GetId())
}

// Signal sends sig to all processes of a container; to one that is being started, once
// it runs.
func (c *Client) Signal(ctx context.Context, containerID string, sig int) error {
	err := c.request(ctx, &keeperpb.ToKeeper{Body: &keeperpb.ToKeeper_Signal{
		Signal: &keeperpb.Signal{ContainerId: containerID, Signal: int32(sig)}}})
	return attempt(err, "send signal %d to container %s", sig, containerID)
}

// Forget acknowledges the exit of a container, which the keeper then no longer holds.
func (c *Client) Forget(ctx context.Context, containerID string) error {
	err := c.request(ctx, &keeperpb.ToKeeper{Body: &keeperpb.ToKeeper_Forget{
		Forget: &keeperpb.Forget{ContainerId: containerID}}})
	return attempt(err, "forget container %s", containerID)
}

// Shutdown kills every container and ends the keeper. It returns when they are gone;
// their exit records stay in the directory.
func (c *Client) Shutdown(ctx context.Context) error {
	err := c.request(ctx, &keeperpb.ToKeeper{Body: &keeperpb.ToKeeper_Shutdown{
		Shutdown: &keeperpb.Shutdown{}}})
	if err != nil {
		return attempt(err, "shut down")
	}
	select {
	case <-c.closed:
		return nil
	case <-ctx.Done():
		return attempt(ctx.Err(), "shut down")
	}
}

// Wake has a keeper go on that somebody has stopped; others do not notice.
func (c *Client) Wake() error { return c.toProcess(syscall.SIGCONT) }

// Kill is for a keeper that does not answer. Its containers go on, and the next keeper adopts
// them.
func (c *Client) Kill() error { return c.toProcess(syscall.SIGKILL) }

func (c *Client) toProcess(sig syscall.Signal) error {
	err := c.process.Signal(sig)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return attempt(err, "send %s to it", sig)
}

// Events are Started, StartFailed and Exited, in order. The channel is closed when the
// connection ends, for whatever reason: dial again then.
func (c *Client) Events() <-chan *keeperpb.FromKeeper { return c.events }

// Close ends the connection. Keeper and containers go on.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.closed
	if c.process != nil {
		err = errors.Join(err, c.process.Release())
	}
	return err
}

func attempt(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("keeper: "+format+": %w", append(args, err)...)
}

// request asks for what is answered by Ok.
func (c *Client) request(ctx context.Context, m *keeperpb.ToKeeper) error {
	_, err := c.ask(ctx, m)
	return err
}

func (c *Client) ask(ctx context.Context, m *keeperpb.ToKeeper) (*keeperpb.FromKeeper, error) {
	answer := make(chan *keeperpb.FromKeeper, 1)
	if err := c.send(ctx, m, answer); err != nil {
		return nil, err
	}
	defer c.stopWaiting(m.Seq)
	select {
	case a := <-answer:
		return refusal(a)
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-c.closed:
	}
	// The answer may have been the last thing that came.
	select {
	case a := <-answer:
		return refusal(a)
	default:
		return nil, ErrClosed
	}
}

func refusal(answer *keeperpb.FromKeeper) (*keeperpb.FromKeeper, error) {
	if r := answer.GetRefused(); r != nil {
		return nil, fmt.Errorf("%w: %s", ErrRefused, r.GetMessage())
	}
	return answer, nil
}

// send numbers and writes m; requests leave in the order of their numbers.
func (c *Client) send(ctx context.Context, m *keeperpb.ToKeeper, answer chan *keeperpb.FromKeeper) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seq++
	m.Seq = c.seq
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	c.waiting[m.Seq] = answer
	err := writeFrame(c.conn, m, maxRequest)
	if err == nil {
		return nil
	}
	delete(c.waiting, m.Seq)
	var network net.Error
	if errors.As(err, &network) {
		// Part of the frame may be out, so that nothing can follow it.
		c.conn.Close()
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}

func (c *Client) stopWaiting(seq uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, seq)
}

// read is the one goroutine that reads, until the connection ends.
func (c *Client) read() {
	defer close(c.events)
	defer close(c.closed)
	defer c.conn.Close()
	for {
		m := new(keeperpb.FromKeeper)
		if err := readFrame(c.conn, m, maxAnswer); err != nil {
			return
		}
		if m.GetSeq() == 0 {
			select {
			case c.events <- m:
			default:
				// Nobody reads; who dials again is told everything.
				return
			}
			continue
		}
		c.mu.Lock()
		answer := c.waiting[m.GetSeq()]
		delete(c.waiting, m.GetSeq())
		c.mu.Unlock()
		if answer != nil {
			answer <- m
		}
	}
}
