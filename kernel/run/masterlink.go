package run

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
)

// AgentStream is an agent's stream as the link gives it: Recv blocks, Send queues and
// fails when the queue is full or the stream has ended, Close ends it.
type AgentStream interface {
	Recv() (*linkpb.ToMaster, error)
	Send(*linkpb.ToAgent) error
	Close()
}

// ServeAgent speaks with one agent until its stream or ctx ends.
func (m *Master) ServeAgent(ctx context.Context, s AgentStream) error {
	first, err := s.Recv()
	if err != nil {
		return fmt.Errorf("wait for the agent's hello: %w", err)
	}
	if first.GetHello() == nil {
		return errors.New("an agent's first message must be its hello")
	}
	conn := m.out.attach(s)
	defer m.out.detach(conn)
	if err := m.post(ctx, core.AgentHello{Conn: conn, Principal: "agent", Hello: first.GetHello()}); err != nil {
		return err
	}
	defer func() { _ = m.post(context.WithoutCancel(ctx), core.AgentGone{Conn: conn}) }() // fails only when the master has ended
	for {
		msg, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil // it said good-bye
		}
		if err != nil {
			return fmt.Errorf("hear the agent: %w", err)
		}
		if err := m.post(ctx, core.AgentMessage{Conn: conn, Message: msg}); err != nil {
			return err
		}
	}
}
