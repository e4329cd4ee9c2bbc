package sim

import (
	"slices"
	"time"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/step"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	resourcepb "github.com/gantry-project/gantry/sdk/proto/gantry/resource/v1"
)

// manner is how an allocator behaves.
type manner int

const (
	honest  manner = iota // offers what is free, as it was told, to anyone who is active
	greedy                // offers everything to everybody, shared
	lying                 // offers what nobody has to whom nobody knows, in any epoch
	silent                // offers nothing
	manners               // how many there are
)

// allocator is a policy of the simulation's own, as fair as dice are.
type allocator struct {
	*world
	m      *master
	manner manner
	to     lane
	back   lane
	epoch  uint64
	agents map[string]*allocAgent
	hears  map[string]*allocatorpb.Framework
	// refused says until when a framework does not want an agent.
	refused map[string]step.Time
	granted map[uint64]*allocatorpb.Grant
	grants  uint64
	offers  bool
}

// allocAgent is an agent as the allocator was told of it. What is held may be more than
// there is: claims that are shared overlap.
type allocAgent struct{ total, held ledger.Resources }

func (a *allocAgent) free() ledger.Resources {
	if free, fits := a.total.Minus(a.held); fits {
		return free
	}
	return ledger.Resources{}
}

func (a *allocAgent) recover(r ledger.Resources) {
	if rest, fits := a.held.Minus(r); fits {
		a.held = rest
	}
}

func newAllocator(m *master) *allocator {
	return &allocator{
		world: m.world, m: m,
		to:   lane{world: m.world, slowest: 20 * time.Millisecond},
		back: lane{world: m.world, slowest: 20 * time.Millisecond},
	}
}

// takeOffice replaces the allocator by a new one.
func (a *allocator) takeOffice() {
	n := newAllocator(a.m)
	if !a.calm {
		n.manner = []manner{honest, honest, honest, honest, manner(a.IntN(int(manners)))}[a.IntN(5)]
	}
	a.to.dead, a.back.dead = true, true
	a.m.allocator = n
	a.note("allocator of manner %d", n.manner)
	if a.chance(2) {
		a.m.step(core.AllocatorDown{})
	}
	a.m.step(core.AllocatorUp{})
}

// hear takes what the master asks; work follows.
func (a *allocator) hear(ask core.AllocatorAsk) {
	life := a.m.life
	a.to.send(func() {
		if a.m.life != life || !a.m.up {
			return
		}
		if a.epoch == 0 && ask.Snapshot == nil {
			return // of the one before
		}
		a.epoch = ask.Epoch
		if ask.Snapshot != nil {
			a.snapshot(ask.Snapshot)
		} else {
			a.delta(ask.Delta)
		}
	})
}

func (a *allocator) snapshot(s *allocatorpb.Snapshot) {
	a.agents, a.hears = map[string]*allocAgent{}, map[string]*allocatorpb.Framework{}
	a.refused, a.granted = map[string]step.Time{}, map[uint64]*allocatorpb.Grant{}
	for _, agent := range s.Agents {
		a.agent(agent)
	}
	for _, f := range s.Frameworks {
		a.hears[f.Id] = f
	}
	if !a.offers {
		a.offers = true
		a.rounds()
	}
}

func (a *allocator) agent(agent *allocatorpb.Agent) {
	told := &allocAgent{total: resources(agent.Total)}
	for _, h := range agent.Holdings {
		told.held = told.held.Plus(resources(h.Resources))
	}
	a.agents[agent.Id] = told
}

func (a *allocator) delta(d *allocatorpb.Delta) {
	switch b := d.Body.(type) {
	case *allocatorpb.Delta_Agent:
		a.agent(b.Agent)
	case *allocatorpb.Delta_AgentRemoved:
		delete(a.agents, b.AgentRemoved)
	case *allocatorpb.Delta_Framework:
		a.hears[b.Framework.Id] = b.Framework
	case *allocatorpb.Delta_FrameworkRemoved:
		delete(a.hears, b.FrameworkRemoved)
	case *allocatorpb.Delta_Recovered:
		h := b.Recovered.Holding
		if agent := a.agents[h.AgentId]; agent != nil {
			agent.recover(resources(h.Resources))
		}
		if refuse := b.Recovered.RefuseNanos; refuse > 0 {
			a.refused[h.FrameworkId+h.AgentId] = a.now.Add(time.Duration(refuse))
		}
	case *allocatorpb.Delta_Revived:
		clear(a.refused)
	case *allocatorpb.Delta_Verdict:
		g := a.granted[b.Verdict.GrantId]
		if g == nil {
			return
		}
		delete(a.granted, b.Verdict.GrantId)
		if agent := a.agents[g.AgentId]; b.Verdict.Rejection != allocatorpb.Rejection_NONE && agent != nil {
			agent.recover(resources(g.Resources))
		}
	}
}

func resources(list []*resourcepb.Resource) ledger.Resources {
	r, err := ledger.FromContract(list)
	if err != nil {
		fail("the master tells the allocator %v: %v", list, err)
	}
	return r
}

// rounds proposes now and then, for as long as the allocator is in office.
func (a *allocator) rounds() {
	a.m.later(a.between(200*time.Millisecond, 4*time.Second), func() {
		if a.m.allocator != a {
			return
		}
		p := &allocatorpb.FromAllocator{Epoch: a.epoch}
		for _, agent := range sorted(a.agents) {
			if g := a.propose(agent); g != nil {
				a.grants++
				g.Id = a.grants
				p.Grants = append(p.Grants, g)
			}
		}
		if a.manner == lying && a.epoch > 0 && a.chance(3) {
			p.Epoch -= uint64(a.IntN(2))
		}
		if len(p.Grants) > 0 {
			life := a.m.life
			a.back.send(func() { a.m.accept(life, func() { a.m.step(core.Proposal{Proposal: p}) }) })
		}
		a.rounds()
	})
}

// propose is a grant of something of an agent, or nothing.
func (a *allocator) propose(agent string) *allocatorpb.Grant {
	var active []string
	for _, fid := range sorted(a.hears) {
		f := a.hears[fid]
		if f.Active && len(f.Roles) > len(f.Suppressed) {
			active = append(active, fid)
		}
	}
	if len(active) == 0 {
		return nil
	}
	f := a.hears[active[a.IntN(len(active))]]
	role := f.Roles[a.IntN(len(f.Roles))]
	g := &allocatorpb.Grant{AgentId: agent, FrameworkId: f.Id, Role: role}
	free := a.agents[agent].free()
	switch a.manner {
	case honest:
		if free.Scalar("cpus") < 100 || slices.Contains(f.Suppressed, role) || a.refused[f.Id+agent] > a.now {
			return nil
		}
		a.agents[agent].held = a.agents[agent].held.Plus(free)
		g.Resources = free.Contract()
		a.granted[a.grants+1] = g
	case greedy:
		g.Mode = allocatorpb.ClaimMode_SHARED
		g.Resources = a.some().Contract()
	case lying:
		a.lie(g)
	case silent:
		return nil
	}
	return g
}

// some is an amount that an agent might have.
func (a *allocator) some() ledger.Resources {
	return ledger.Of(
		ledger.Resource{Key: ledger.Key{Name: "cpus"}, Milli: 1 + a.Int64N(4000)},
		ledger.Resource{Key: ledger.Key{Name: "mem"}, Milli: 1 + a.Int64N(2048_000)},
	)
}

func (a *allocator) lie(g *allocatorpb.Grant) {
	g.Resources = a.some().Contract()
	switch a.IntN(6) {
	case 0:
		g.AgentId = "nobody"
	case 1:
		g.FrameworkId = "nobody"
	case 2:
		g.Role = "nobody's"
	case 3:
		g.Resources[0].Milli = -g.Resources[0].Milli
	case 4:
		g.Resources[0].Milli *= 1 << 40
	case 5:
		g.Resources = append(g.Resources, g.Resources...)
	}
}
