package sim

import (
	"time"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/sim/words"
)

// stream is one agent's conversation with one master: two lanes that live and die
// together, though the ends may notice at different times.
type stream struct {
	*world
	host       *host
	agentLife  int
	agentConn  uint64
	m          *master
	masterConn uint64 // zero until the Hello arrives
	up, down   lane
	welcomed   int // the master's life that welcomed it
	// named says that its Hello was of an agent with an id.
	severed, named bool
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
	s.note("%s/%d -> master %s", s.host.name, s.masterConn, words.Link(msg))
	switch {
	case s.masterConn == 0 && hello != nil:
		s.host.introduces(hello)
		s.m.nextConn++
		s.masterConn, s.named = s.m.nextConn, hello.Info.Id != nil
		s.m.conns[s.masterConn] = s
		s.m.step(core.AgentHello{Conn: s.masterConn, Principal: "agent", Hello: hello})
	case s.masterConn != 0 && s.m.conns[s.masterConn] == s:
		s.m.step(core.AgentMessage{Conn: s.masterConn, Message: msg})
	}
}

func (s *stream) toAgent(msg *linkpb.ToAgent) {
	if now := s.host.stream; msg.GetWelcome() != nil {
		if s.welcomed = s.m.life; s.named && now != nil && now.agentConn > s.agentConn && now.agentLife == s.agentLife && now.welcomed == s.m.life {
			fail("%s is welcome with a HELLO that was overtaken", s.host.name)
		}
	}
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
