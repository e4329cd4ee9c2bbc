package sim

import (
	"fmt"
	"time"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// stream is one agent's conversation with one master: two lanes that live and die
// together, though the ends may notice at different times.
type stream struct {
	*world
	host      *host
	agentLife int
	agentConn uint64
	m         *master
	// masterConn is zero until the Hello arrives.
	masterConn uint64
	up, down   lane
	severed    bool
}

func newStream(h *host, m *master) *stream {
	s := &stream{world: h.world, host: h, agentLife: h.life, agentConn: h.conns, m: m}
	s.up = lane{world: h.world, slowest: h.c.latency, cut: func() bool { return h.cutUp }, loose: true}
	if !h.calm && h.chance(6) {
		s.up.slowest = 20 * time.Second
	}
	s.down = lane{world: h.world, slowest: h.c.latency, cut: func() bool { return h.cutDown }, loose: true}
	return s
}

func (s *stream) toMaster(msg *linkpb.ToMaster) {
	if s.severed {
		return
	}
	life := s.m.life
	s.up.send(func() { s.m.accept(life, func() { s.masterHears(msg) }) })
}

func (s *stream) masterHears(msg *linkpb.ToMaster) {
	hello := msg.GetHello()
	s.note("%s/%d -> master %s", s.host.name, s.masterConn, describe(msg))
	switch {
	case s.masterConn == 0 && hello != nil:
		s.m.nextConn++
		s.masterConn = s.m.nextConn
		s.m.conns[s.masterConn] = s
		s.m.step(core.AgentHello{Conn: s.masterConn, Principal: "agent", Hello: hello})
	case s.masterConn != 0 && s.m.conns[s.masterConn] == s:
		s.m.step(core.AgentMessage{Conn: s.masterConn, Message: msg})
	}
}

func (s *stream) toAgent(msg *linkpb.ToAgent) {
	s.down.send(func() {
		s.host.accept(s.agentLife, func() {
			if s.host.stream == s {
				s.host.witness().toAgent(s.host, msg)
				defer s.host.witness().obeyed(s.host, s.agentLife, msg)
				s.host.step(node.FromMaster{Principal: "master", Conn: s.agentConn, Message: msg})
			}
		})
	})
}

// closeByMaster ends the stream behind what was sent.
func (s *stream) closeByMaster() {
	s.masterGone(0)
	s.down.send(func() {
		s.sever(0, 0)
	})
}

// sever ends the stream: each end learns of it after a while of its own. What is on its
// way is lost, or reaches the master before it learns.
func (s *stream) sever(agentLearns, masterLearns time.Duration) {
	if s.severed {
		return
	}
	s.severed, s.up.dead, s.down.dead = true, s.chance(2), true
	s.after(masterLearns, func() { s.up.dead = true })
	s.after(agentLearns, func() {
		s.host.accept(s.agentLife, func() { s.host.unlinked(s) })
	})
	s.masterGone(masterLearns)
}

func (s *stream) masterGone(after time.Duration) {
	life := s.m.life
	s.after(after, func() {
		s.m.accept(life, func() {
			if s.masterConn != 0 && s.m.conns[s.masterConn] == s {
				delete(s.m.conns, s.masterConn)
				s.m.step(core.AgentGone{Conn: s.masterConn})
			}
		})
	})
}

// describe words a message of the link.
func describe(msg any) string {
	switch msg := msg.(type) {
	case *linkpb.ToMaster:
		switch b := msg.Body.(type) {
		case *linkpb.ToMaster_Hello:
			h := b.Hello
			text := fmt.Sprintf("hello %s start %d.%d registered %d epoch %d", h.GetInfo().GetId().GetValue(), h.Incarnation, h.Stream, h.Registered, h.Epoch)
			for _, t := range h.Tasks {
				text += fmt.Sprintf(" %s=%s", t.GetInfo().GetTaskId().GetValue(), short(t.GetStatus().GetState()))
			}
			return text
		case *linkpb.ToMaster_Update:
			return fmt.Sprintf("update %s %s %x now %s", b.Update.Status.GetTaskId().GetValue(), short(b.Update.Status.GetState()),
				b.Update.Status.GetUuid(), short(mesos.TaskState(b.Update.Latest)))
		}
		return "pong"
	case *linkpb.ToAgent:
		switch b := msg.Body.(type) {
		case *linkpb.ToAgent_Welcome:
			return "welcome " + b.Welcome.GetAgentId().GetValue()
		case *linkpb.ToAgent_Refused:
			return "refused: " + b.Refused.Message
		case *linkpb.ToAgent_Run:
			return "run " + b.Run.GetTask().GetTaskId().GetValue()
		case *linkpb.ToAgent_Kill:
			return "kill " + b.Kill.GetTaskId().GetValue()
		case *linkpb.ToAgent_Acknowledge:
			return fmt.Sprintf("acknowledge %s %x", b.Acknowledge.GetTaskId().GetValue(), b.Acknowledge.Uuid)
		case *linkpb.ToAgent_EndFramework:
			return "end framework " + b.EndFramework.GetFrameworkId().GetValue()
		}
		return "ping"
	}
	return "?"
}

func short(s mesos.TaskState) string { return s.String()[len("TASK_"):] }
