package policy

import (
	"cmp"
	"math"
	"slices"
	"time"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

// rejectionPause is how long something that the kernel rejected is not proposed again:
// the message that explains the rejection is on its way. A snapshot is such a message, and
// ends the pause of an agent.
const rejectionPause = int64(time.Second)

// Policy is the allocator's whole state. Make one with New; it is for one goroutine.
type Policy struct {
	least    least
	picky    int // subscriptions with a least of their own
	excluded []string
	region   string // the cluster's own; "" if all are

	now    int64 // the kernel's clock, nanoseconds since 1970; never goes back
	agents map[string]*agent
	seq    uint64 // the last agent's
	visits uint64 // of all agents
	total  usage  // of all agents
	names  map[string]int

	frameworks    map[string]*framework
	subscriptions map[holder]*subscription
	root          *node
	roles         map[string]*node // by path
	sortAnew      int              // the constant, but for tests
	stale         bool             // shares and lines are out of date: the total or a weight changed

	dirty  []*agent
	idle   map[*agent]struct{}
	eager  []*subscription
	alarms alarms
	round  uint64 // counts allocations, to begin at another agent each time

	candidates []candidate // of the pick at hand

	moment  uint64           // counts grants, refusals and revivals: their order in time
	grants  uint64           // number of the last grant
	pending map[uint64]grant // not yet judged, charged
	orphans map[uint64]grant // not yet judged, made before the last snapshot: not charged
}

// grant is a proposal of ours.
type grant struct {
	holder
	agent     string
	visit     uint64 // of the agent, when it was made
	resources bag
}

// New makes a policy that knows of nothing yet.
func New(c Config) (*Policy, error) {
	l, err := c.check()
	if err != nil {
		return nil, err
	}
	return &Policy{
		least:         l,
		excluded:      c.Exclude,
		region:        c.Region,
		agents:        make(map[string]*agent),
		names:         make(map[string]int),
		frameworks:    make(map[string]*framework),
		subscriptions: make(map[holder]*subscription),
		root:          newNode("", nil),
		roles:         make(map[string]*node),
		sortAnew:      sortAnew,
		idle:          make(map[*agent]struct{}),
		pending:       make(map[uint64]grant),
		orphans:       make(map[uint64]grant),
	}, nil
}

// Apply takes m into account and returns what to grant now. Grants are charged at once;
// a verdict that rejects one gives it back.
func (p *Policy) Apply(m *allocatorpb.ToAllocator) []*allocatorpb.Grant {
	p.now = max(p.now, m.GetNowUnixNanos())
	if s := m.GetSnapshot(); s != nil {
		p.restore(s)
	}
	for _, d := range m.GetDeltas().GetDeltas() {
		p.learn(d)
	}
	p.ring()
	return p.allocate()
}

// learn takes one delta into account.
func (p *Policy) learn(d *allocatorpb.Delta) {
	switch b := d.GetBody().(type) {
	case *allocatorpb.Delta_Agent:
		p.putAgent(b.Agent)
	case *allocatorpb.Delta_AgentRemoved:
		p.dropAgent(b.AgentRemoved)
	case *allocatorpb.Delta_Framework:
		p.putFramework(b.Framework)
	case *allocatorpb.Delta_FrameworkRemoved:
		p.dropFramework(b.FrameworkRemoved)
	case *allocatorpb.Delta_Role:
		p.putRole(b.Role)
	case *allocatorpb.Delta_Charged:
		p.charged(b.Charged)
	case *allocatorpb.Delta_Recovered:
		p.recovered(b.Recovered)
	case *allocatorpb.Delta_Revived:
		p.revived(b.Revived)
	case *allocatorpb.Delta_Verdict:
		p.judged(b.Verdict)
	}
}

// mark has the agent looked at with everybody in line.
func (p *Policy) mark(a *agent) {
	if !a.dirty {
		a.dirty = true
		p.dirty = append(p.dirty, a)
	}
}

// ring marks the agents of which a refusal or a pause ended.
func (p *Policy) ring() {
	for len(p.alarms) > 0 && p.alarms[0].wake <= p.now {
		a := p.alarms[0]
		p.mark(a)
		p.alarms.set(a, a.nextEnd(p.now))
	}
}

// allocate grants what can be granted: dirty agents to anybody, idle ones to those who
// came into line.
func (p *Policy) allocate() []*allocatorpb.Grant {
	p.settle()
	p.round++
	dirty := inTurn(p.dirty, p.round)
	var idle []*agent
	if len(p.eager) > 0 {
		for a := range p.idle { // any order: inTurn sorts them
			if !a.dirty {
				idle = append(idle, a)
			}
		}
		idle = inTurn(idle, p.round)
	}
	var grants []*allocatorpb.Grant
	for _, a := range dirty {
		a.dirty = false
		if p.agents[a.id] == a {
			grants = p.offer(grants, a, everybody)
		}
	}
	for _, a := range idle {
		grants = p.offer(grants, a, eagerOnes)
	}
	p.dirty = p.dirty[:0]
	p.manyChange(len(p.eager))
	for _, s := range p.eager {
		p.change(s, func() { s.eager = false })
	}
	p.eager = p.eager[:0]
	return grants
}

// inTurn orders agents by arrival, beginning at another one each round.
func inTurn(agents []*agent, round uint64) []*agent {
	if len(agents) == 0 {
		return nil
	}
	slices.SortFunc(agents, func(a, b *agent) int { return cmp.Compare(a.seq, b.seq) })
	first := int(round % uint64(len(agents)))
	return slices.Concat(agents[first:], agents[:first])
}

// offer grants what is free of one agent to those who stand in queue k.
func (p *Policy) offer(grants []*allocatorpb.Grant, a *agent, k int) []*allocatorpb.Grant {
	delete(p.idle, a)
	if a.deactivated || a.paused > p.now {
		return grants
	}
	rest := a.free()
	for len(rest) > 0 && (p.picky > 0 || p.least.met(rest)) {
		picked := p.pick(a, rest, k)
		if picked.subscription == nil {
			p.idle[a] = struct{}{}
			break
		}
		grants = append(grants, p.grant(a, picked.subscription, picked.part))
		rest = rest.minus(picked.part)
	}
	return grants
}

// candidate is one who may have a part of what is free and has not refused it, or not
// lately.
type candidate struct {
	*subscription
	part bag
	mark uint64 // moment of its last refusal of the like; zero for none
}

// pick returns who is granted which part of rest, or nobody. It is the first in line; but
// one who refused the like before gives way to whoever it would be without it, if that
// one has had nothing since the refusal.
func (p *Policy) pick(a *agent, rest bag, k int) candidate {
	m := newMenu(rest, p.least)
	p.candidates = p.candidates[:0]
	p.root.each(k, func(s *subscription) bool {
		if !a.open(s.framework) {
			return true
		}
		part, worth := m.part(s)
		if !worth {
			return true
		}
		blocked, mark := a.standing(s, part, p.now)
		if !blocked {
			p.candidates = append(p.candidates, candidate{s, part, mark})
		}
		return blocked || mark > 0
	})
	var picked candidate
	for i, c := range slices.Backward(p.candidates) {
		if i == len(p.candidates)-1 || picked.turn >= c.mark {
			picked = c
		}
	}
	return picked
}

// grant charges part to s and writes the proposal.
func (p *Policy) grant(a *agent, s *subscription, part bag) *allocatorpb.Grant {
	p.grants++
	p.moment++
	p.change(s, func() {
		p.hold(a, s, part)
		s.turn = p.moment
		for n := s.leaf; n.parent != nil; n = n.parent {
			n.turn = p.moment
		}
	})
	p.pending[p.grants] = grant{s.holder, a.id, a.visit, part}
	return &allocatorpb.Grant{
		Id: p.grants, AgentId: a.id, FrameworkId: s.holder.framework, Role: s.role,
		Resources: part.write(), Mode: allocatorpb.ClaimMode_EXCLUSIVE,
	}
}

// refuse remembers that s does not want b of a until then.
func (p *Policy) refuse(a *agent, s *subscription, b bag, until int64) {
	p.moment++
	a.refuse(s, filter{b, until, p.moment})
	p.alarms.set(a, min(a.wake, until))
}

// judged hears what became of a grant.
func (p *Policy) judged(v *allocatorpb.Verdict) {
	id, applied := v.GetGrantId(), v.GetRejection() == allocatorpb.Rejection_NONE
	if g, ok := p.orphans[id]; ok && applied {
		if a := p.agents[g.agent]; a != nil {
			p.book(a, g.holder, g.resources)
		}
	}
	// Verdicts come in the order of grants: what is older went unanswered before the snapshot.
	for old := range p.orphans { // any order: each is dropped by itself
		if old <= id {
			delete(p.orphans, old)
		}
	}
	g, ok := p.pending[id]
	delete(p.pending, id)
	a := p.agents[g.agent]
	if !ok || a == nil {
		return
	}
	if g.visit != a.visit { // it is charged no more
		if applied {
			p.book(a, g.holder, g.resources)
		}
		return
	}
	if applied {
		return
	}
	s := p.subscription(g.holder)
	p.release(a, s, g.resources)
	until := p.now + rejectionPause
	switch v.GetRejection() {
	case allocatorpb.Rejection_UNAVAILABLE, allocatorpb.Rejection_UNKNOWN_AGENT, allocatorpb.Rejection_AGENT_NOT_OFFERABLE:
		a.paused = until
		p.alarms.set(a, min(a.wake, until))
	default:
		if s.framework != nil {
			p.refuse(a, s, g.resources, until)
		}
	}
	p.mark(a)
	p.prune(s)
}

// endOf is when a refusal of that long ends; it does not overflow.
func (p *Policy) endOf(nanos int64) int64 {
	if nanos > math.MaxInt64-p.now {
		return math.MaxInt64 - 1
	}
	return p.now + nanos
}
