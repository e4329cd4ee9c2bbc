package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/core/corepb"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/sim/disk"
	"github.com/gantry-project/gantry/kernel/sim/words"
	"github.com/gantry-project/gantry/kernel/step"
	"google.golang.org/protobuf/proto"
)

// master is a core with its shell: effects wait for the writes of their step, and of all
// steps before.
type master struct {
	process
	c     *cluster
	m     *core.Machine
	store disk.Disk
	epoch uint64
	// skew is how far this life's clock is from the world's.
	skew time.Duration
	// since is when this life began.
	since step.Time
	// waiting effects are not durable yet; committing says that some are being written.
	waiting    []*core.Effects
	committing bool
	wake       step.Time
	trap       trap
	// conns are agents' streams by the master's name for them.
	conns    map[uint64]*stream
	nextConn uint64
	subs     map[id.Stream]*subscription
	replies  map[uint64]func(core.Reply)
	requests uint64

	allocator *allocator
}

func newMaster(c *cluster) *master {
	return &master{process: process{world: c.world, name: "master"}, c: c, store: disk.Disk{}}
}

func (m *master) start() {
	m.begin()
	m.epoch++ // durable before anything else
	m.skew, m.since = m.c.skew(), m.now
	cfg := core.Config{ID: fmt.Sprintf("M%d", m.epoch), Epoch: m.epoch, OfferTimeout: m.c.offerTimeout}
	m.m = core.New(cfg)
	m.waiting, m.committing, m.wake, m.trap = nil, false, 0, noTrap
	m.conns, m.subs = map[uint64]*stream{}, map[id.Stream]*subscription{}
	m.replies = map[uint64]func(core.Reply){}
	entries := m.store.Records()
	if err := core.CheckRegistry(entries); err != nil {
		fail("the master can't read its own registry: %v", err)
	}
	m.step(core.Recovered{Entries: entries})
	m.allocator = newAllocator(m)
	m.later(m.between(0, 2*time.Second), m.allocator.takeOffice)
}

// crash loses everything but the store. Whoever was connected learns of it later.
func (m *master) crash(why string) {
	if !m.up {
		return
	}
	m.die(why)
	for _, conn := range slices.Sorted(maps.Keys(m.conns)) {
		m.conns[conn].sever(m.between(0, 100*time.Millisecond), 0)
	}
	for _, sid := range sorted(m.subs) {
		m.subs[sid].sever()
	}
	m.after(m.between(100*time.Millisecond, m.c.outage), func() {
		if !m.up {
			m.start()
		}
	})
}

// step is one event, as the shell's owner does it.
func (m *master) step(ev core.Event) {
	out := &core.Effects{}
	m.m.Step(m.now.Add(m.skew), ev, out)
	if err := m.m.Check(); err != nil {
		fail("master, after %T: %v", ev, err)
	}
	m.c.witness.master(ev)
	if len(out.Persist)+len(out.Send)+len(out.Ask)+len(out.Notify)+len(out.Replies) > 0 {
		m.waiting = append(m.waiting, out)
		m.commit()
	}
	m.arm()
}

// arm has the machine stepped at its deadline.
func (m *master) arm() {
	at, some := m.m.NextDeadline()
	if !some || m.wake != 0 && m.wake <= at {
		return
	}
	m.wake = at
	m.later(at.Add(-m.skew).Sub(m.now), func() {
		if m.wake == at {
			m.wake = 0
			m.step(core.Tick{})
		}
	})
}

// commit writes what waits, and then does it.
func (m *master) commit() {
	if m.committing || len(m.waiting) == 0 {
		return
	}
	batch := m.waiting
	m.waiting = nil
	m.committing = true
	var writes []step.Write
	for _, out := range batch {
		writes = append(writes, out.Persist...)
	}
	takes := m.between(0, 100*time.Microsecond)
	if len(writes) > 0 {
		takes = m.between(0, m.c.fsync)
	}
	m.later(takes, func() {
		m.committing = false
		trap := m.trap
		if len(writes) > 0 {
			m.trap = noTrap
			if trap == beforeWrite {
				m.crash("before its write")
				return
			}
			m.store.Apply(writes)
			if trap == afterWrite {
				m.crash("after its write")
				return
			}
		}
		if trap == amidEffects && len(writes) > 0 {
			m.deliver(batch[0])
			m.crash("amid its effects")
			return
		}
		for _, out := range batch {
			m.deliver(out)
		}
		m.commit()
	})
}

func (m *master) deliver(out *core.Effects) {
	for _, s := range out.Send {
		if stream := m.conns[s.Conn]; stream != nil {
			m.note("master -> %s/%d %s", stream.host.name, s.Conn, words.Link(s.Message))
			stream.toAgent(s.Message)
			if s.Close {
				stream.closeByMaster()
			}
		}
	}
	for _, a := range out.Ask {
		m.allocator.hear(a)
	}
	for _, n := range out.Notify {
		if sub := m.subs[n.Stream]; sub != nil {
			sub.deliver(n)
		}
	}
	for _, r := range out.Replies {
		if answer := m.replies[r.Request]; answer != nil {
			delete(m.replies, r.Request)
			answer(r)
		}
	}
}

// confirmed is the start that the registry has of an agent.
func (m *master) confirmed(agent string) uint64 {
	var r corepb.AgentRecord
	if err := proto.Unmarshal(m.store["agent/"+agent], &r); err != nil {
		fail("record of agent %s: %v", agent, err)
	}
	return r.Registered
}
