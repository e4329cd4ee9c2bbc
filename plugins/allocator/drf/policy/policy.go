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
	excluded []string

	now    int64 // the kernel's clock, nanoseconds since 1970; never goes back
	agents map[string]*agent
	seq    uint64 // the last agent's
	total  usage  // of all agents
	names  map[string]int

	frameworks    map[string]*framework
	subscriptions map[holder]*subscription
	roles         map[string]*role
	line          line[*role] // roles in which anybody stands in line
	stale         bool        // lines and shares are out of date: total changed

	dirty  []*agent
	idle   map[*agent]struct{}
	eager  []*subscription
	alarms alarms
	round  uint64 // counts allocations, to begin at another agent each time

	grants  uint64           // number of the last grant
	pending map[uint64]grant // not yet judged, charged
	orphans map[uint64]grant // not yet judged, made before the last snapshot: not charged
}

// framework is what decides which offers a framework can use.
type framework struct {
	id        string
	roles     []string
	revocable bool
	gpus      bool
}

// grant is a proposal of ours.
type grant struct {
	holder
	agent     string
	resources bag
}

// New makes a policy that knows of nothing yet.
func New(c Config) (*Policy, error) {
	l, err := parseLeast(c.MinAllocatable)
	if err != nil {
		return nil, err
	}
	return &Policy{
		least:         l,
		excluded:      c.Exclude,
		agents:        make(map[string]*agent),
		names:         make(map[string]int),
		frameworks:    make(map[string]*framework),
		subscriptions: make(map[holder]*subscription),
		roles:         make(map[string]*role),
		line:          line[*role]{compare: compareRoles},
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

// settle brings shares and lines up to date after the total changed.
func (p *Policy) settle() {
	if !p.stale {
		return
	}
	p.stale = false
	p.line.items = p.line.items[:0]
	for _, r := range p.roles { // any order: each role by itself
		r.share = r.used.dominant(p.total)
		r.line.items = r.line.items[:0]
	}
	for _, s := range p.subscriptions { // any order: the lines are sorted below
		s.share = s.used.dominant(p.total)
		if s.inLine {
			s.role.line.items = append(s.role.line.items, s)
		}
	}
	for _, r := range p.roles { // any order: the line is sorted below
		if len(r.line.items) > 0 {
			slices.SortFunc(r.line.items, r.line.compare)
			p.line.items = append(p.line.items, r)
		}
	}
	slices.SortFunc(p.line.items, p.line.compare)
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
			grants = p.offer(grants, a, true)
		}
	}
	for _, a := range idle {
		grants = p.offer(grants, a, false)
	}
	p.dirty = p.dirty[:0]
	for _, s := range p.eager {
		s.eager = false
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

// offer grants what is free of one agent, to everybody in line or only to the eager.
func (p *Policy) offer(grants []*allocatorpb.Grant, a *agent, everybody bool) []*allocatorpb.Grant {
	delete(p.idle, a)
	if a.deactivated || a.paused > p.now {
		return grants
	}
	rest := a.free()
	for {
		s, part := p.pick(a, rest, everybody)
		if s == nil {
			break
		}
		grants = append(grants, p.grant(a, s, part))
		rest = rest.minus(part)
	}
	if p.least.met(usable(rest, true)) {
		p.idle[a] = struct{}{}
	}
	return grants
}

// pick returns the first in line that may have rest, or a part of it, and the part.
func (p *Policy) pick(a *agent, rest bag, everybody bool) (*subscription, bag) {
	parts := [2]bag{usable(rest, false), usable(rest, true)}
	worth := [2]bool{p.least.met(parts[0]), p.least.met(parts[1])}
	if !worth[0] && !worth[1] {
		return nil, nil
	}
	var second *subscription // the first of those whose refusal is over
	for _, r := range p.line.items {
		for _, s := range r.line.items {
			class := s.framework.class()
			if !worth[class] || !everybody && !s.eager || a.gpus && !s.framework.gpus {
				continue
			}
			switch a.standing(s, parts[class], p.now) {
			case unasked:
				return s, parts[class]
			case behind:
				if second == nil {
					second = s
				}
			}
		}
	}
	if second == nil {
		return nil, nil
	}
	a.forgive(p.now)
	return second, parts[second.framework.class()]
}

// class is the index of what the framework can use in pick's tables.
func (f *framework) class() int {
	if f.revocable {
		return 1
	}
	return 0
}

// usable leaves out what is offered to nobody yet (reserved, shared), and revocable
// resources unless the taker can lose them.
func usable(rest bag, revocable bool) bag {
	part := make(bag, 0, len(rest))
	for _, a := range rest {
		if a.reservation == "" && !a.shared && (!a.revocable || revocable) {
			part = append(part, a)
		}
	}
	return part
}

// grant charges part to s and writes the proposal.
func (p *Policy) grant(a *agent, s *subscription, part bag) *allocatorpb.Grant {
	p.grants++
	p.hold(a, s, part)
	p.change(s, func() { s.turn, s.role.turn = p.grants, p.grants })
	p.pending[p.grants] = grant{s.holder, a.id, part}
	return &allocatorpb.Grant{
		Id: p.grants, AgentId: a.id, FrameworkId: s.holder.framework, Role: s.holder.role,
		Resources: part.write(), Mode: allocatorpb.ClaimMode_EXCLUSIVE,
	}
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
	if !ok || applied || a == nil {
		return
	}
	s := p.subscription(g.holder)
	p.release(a, s, g.resources)
	until := p.now + rejectionPause
	switch v.GetRejection() {
	case allocatorpb.Rejection_UNAVAILABLE, allocatorpb.Rejection_UNKNOWN_AGENT, allocatorpb.Rejection_AGENT_NOT_OFFERABLE:
		a.paused = until
	default:
		if s.framework != nil {
			a.refuse(s, filter{g.resources, until})
		}
	}
	p.alarms.set(a, min(a.wake, until))
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
