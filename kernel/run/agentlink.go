package run

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/gantry-project/gantry/kernel/node"
)

const (
	// The pause before a dial doubles with each that led nowhere, and is cut at random so
	// that a thousand agents don't come at once.
	dialPauseMin, dialPauseMax = 200 * time.Millisecond, 5 * time.Second
	// lasting is how long a connection holds for the pauses to begin anew.
	lasting = 10 * time.Second
)

// attach keeps a stream to a master open. It begins when the keeper is known, so that
// what the agent says of its tasks is true.
func (a *Agent) attach(ctx context.Context) {
	pause := dialPauseMin
	for {
		opened := time.Now()
		l, err := a.cfg.Dial(ctx)
		if err == nil {
			err = a.converse(ctx, l)
		}
		if ctx.Err() != nil {
			return
		}
		if time.Since(opened) > lasting {
			pause = dialPauseMin
		}
		a.cfg.Log.Warn("no master; trying again", "error", err, "within", pause)
		if !sleep(ctx, rand.N(pause)+dialPauseMin/2) {
			return
		}
		pause = min(2*pause, dialPauseMax)
	}
}

// converse reads a stream to its end.
func (a *Agent) converse(ctx context.Context, l AgentLink) error {
	defer l.Close()
	defer context.AfterFunc(ctx, l.Close)()
	var conn uint64
	linked := make(chan struct{})
	err := a.post(ctx, agentEvent{do: func(context.Context) node.Event {
		a.conn++
		a.link, conn = l, a.conn
		close(linked)
		return node.Linked{Conn: conn}
	}})
	if err != nil {
		return err
	}
	select {
	case <-linked:
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		msg, err := l.Recv()
		if err == nil {
			err = a.post(ctx, agentEvent{event: node.FromMaster{Principal: "master", Conn: conn, Message: msg}})
		}
		if err != nil {
			_ = a.post(ctx, agentEvent{do: func(context.Context) node.Event { // fails only when the agent has ended
				a.link = nil
				return node.Unlinked{Conn: conn}
			}})
			return err
		}
	}
}

// drop closes a stream that the machine has given up.
func (a *Agent) drop(d node.Drop) {
	a.cfg.Log.Warn("leaving the master", "reason", d.Reason)
	if d.Permanent {
		a.refused = fmt.Errorf("%w: %s", ErrAgentRefused, d.Reason)
	}
	if a.link != nil && d.Conn == a.conn {
		a.link.Close()
	}
}

// sleep waits, and says whether ctx is still good.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
