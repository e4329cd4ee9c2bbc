package policy

import (
	"maps"
	"math"
	"slices"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

// restore replaces all that is known, but refusals and the numbering of grants, by s.
func (p *Policy) restore(s *allocatorpb.Snapshot) {
	maps.Copy(p.orphans, p.pending)
	for _, r := range p.roles { // any order: each role by itself
		r.weight, r.named, r.used, r.leaf.used = defaultWeight, false, nil, nil
	}
	for _, sub := range p.subscriptions { // any order: each by itself
		sub.used, sub.holdings = nil, 0
	}
	before := p.agents
	p.pending = make(map[uint64]grant)
	p.agents = make(map[string]*agent, len(s.GetAgents()))
	p.idle = make(map[*agent]struct{})
	p.dirty, p.alarms, p.total, p.stale = nil, nil, nil, true

	for _, r := range s.GetRoles() {
		p.putRole(r)
	}
	present := make(map[string]bool, len(s.GetFrameworks()))
	for _, f := range s.GetFrameworks() {
		present[f.GetId()] = true
		p.putFramework(f)
	}
	for id := range p.frameworks { // any order: each is dropped by itself
		if !present[id] {
			p.dropFramework(id)
		}
	}
	for _, m := range s.GetAgents() {
		a := p.putAgent(m)
		if old := before[a.id]; old != nil {
			a.seq, a.filters = old.seq, old.filters
			a.forgetGone()
			p.alarms.set(a, a.nextEnd(p.now))
		}
	}
	for _, sub := range p.subscriptions { // any order: each by itself
		p.prune(sub)
	}
	for _, r := range p.roles { // any order: each by itself
		p.pruneRole(r)
	}
}

// putAgent adds or changes an agent. Holdings in m replace what is known; none leave it.
func (p *Policy) putAgent(m *allocatorpb.Agent) *agent {
	a := p.agents[m.GetId()]
	if a == nil {
		p.seq++
		p.visits++
		a = &agent{
			id: m.GetId(), seq: p.seq, visit: p.visits, wake: math.MaxInt64, heapPos: -1,
			held:    make(map[*subscription]bag),
			filters: make(map[*subscription][]filter),
		}
		p.agents[a.id] = a
	}
	if total := read(m.GetTotal()); !total.within(a.total) || !a.total.within(total) {
		p.stale = true
		p.total = p.total.add(a.total, p.number, -1).add(total, p.number, +1)
		a.total = total
	}
	a.gpus = a.total.scalar("gpus") > 0
	region := m.GetDomain().GetFaultDomain().GetRegion().GetName()
	a.remote = p.region != "" && region != "" && region != p.region
	a.deactivated = m.GetDeactivated()
	if len(m.GetHoldings()) > 0 {
		p.visits++
		a.visit = p.visits
		p.empty(a)
		for _, h := range m.GetHoldings() {
			p.book(a, holder{h.GetFrameworkId(), h.GetRole()}, read(h.GetResources()))
		}
	}
	p.mark(a)
	return a
}

func (p *Policy) dropAgent(id string) {
	a := p.agents[id]
	if a == nil {
		return
	}
	p.stale = true
	p.empty(a)
	p.total = p.total.add(a.total, p.number, -1)
	p.alarms.set(a, math.MaxInt64)
	delete(p.idle, a)
	delete(p.agents, id)
}

// empty releases everything that is held on a.
func (p *Policy) empty(a *agent) {
	for s, held := range a.held { // any order: each is released by itself
		p.release(a, s, held)
		p.prune(s)
	}
}

func (p *Policy) putFramework(m *allocatorpb.Framework) {
	f := &framework{id: m.GetId(), roles: slices.Clone(m.GetRoles())}
	for _, c := range m.GetCapabilities() {
		f.capable(c.GetType())
	}
	old := p.frameworks[f.id]
	p.frameworks[f.id] = f
	p.manyChange(len(f.roles))
	able := old != nil && f.gained(old)
	suppressed, again := setOf(m.GetSuppressed()), false
	for _, name := range f.roles {
		s := p.subscription(holder{f.id, name})
		stood := s.inLine
		_, silent := suppressed[name]
		p.enroll(s, f, m.GetActive() && !silent)
		again = p.setLeast(s, leastOf(m.GetOfferFilters()[name])) || again
		if s.inLine && !stood {
			p.revive(s)
		}
		if s.inLine && able {
			p.hurry(s)
		}
	}
	if again {
		p.lookAgain()
	}
	if old != nil { // after the new ones: a role that stays needed stays
		kept := setOf(f.roles)
		p.unsubscribe(f.id, slices.DeleteFunc(old.roles, func(name string) bool { _, ok := kept[name]; return ok }))
	}
}

// enroll makes s one of f's.
func (p *Policy) enroll(s *subscription, f *framework, inLine bool) {
	if s.inLine == inLine {
		s.framework = f // which does not place it
		return
	}
	p.change(s, func() { s.framework, s.inLine = f, inLine })
}

func setOf(names []string) map[string]struct{} {
	set := make(map[string]struct{}, len(names))
	for _, name := range names {
		set[name] = struct{}{}
	}
	return set
}

// dropFramework takes the framework out of line; what it holds stays held until the
// kernel says that it came free.
func (p *Policy) dropFramework(id string) {
	f := p.frameworks[id]
	if f == nil {
		return
	}
	delete(p.frameworks, id)
	p.unsubscribe(id, f.roles)
}

// unsubscribe takes the framework's subscriptions in these roles out of line.
func (p *Policy) unsubscribe(id string, roles []string) {
	p.manyChange(len(roles))
	refused := false
	for _, name := range roles {
		s := p.subscriptions[holder{id, name}]
		if s == nil {
			continue
		}
		refused = refused || s.refused
		p.change(s, func() { s.inLine, s.framework, s.refused = false, nil, false })
		p.setLeast(s, nil)
		p.prune(s)
	}
	if !refused {
		return
	}
	for _, a := range p.agents { // any order: each agent by itself
		a.forgetGone()
	}
}

// setLeast has s want that much of an offer, and says whether that calls for lookAgain.
func (p *Policy) setLeast(s *subscription, l *least) bool {
	if s.least.equal(l) {
		return false
	}
	if s.least != nil {
		p.picky--
	}
	if l != nil {
		p.picky++
	}
	s.least = l
	if s.inLine {
		p.hurry(s)
	}
	return s.inLine
}

// lookAgain marks agents that may have what was worth no offer.
func (p *Policy) lookAgain() {
	for _, a := range p.agents { // any order: allocate sorts them
		if _, idle := p.idle[a]; !idle {
			p.mark(a)
		}
	}
}

func (p *Policy) putRole(m *allocatorpb.Role) {
	r := p.role(m.GetName())
	p.stale = true
	r.named = m.GetWeightMilli() > 0
	r.weight = defaultWeight
	if r.named {
		r.weight = uint64(m.GetWeightMilli())
	}
	p.pruneRole(r)
}

func (p *Policy) charged(m *allocatorpb.Holding) {
	if a := p.agents[m.GetAgentId()]; a != nil {
		p.book(a, holder{m.GetFrameworkId(), m.GetRole()}, read(m.GetResources()))
	}
}

func (p *Policy) recovered(m *allocatorpb.Recovered) {
	h := m.GetHolding()
	a := p.agents[h.GetAgentId()]
	s := p.subscriptions[holder{h.GetFrameworkId(), h.GetRole()}]
	if a == nil || s == nil {
		return
	}
	resources := read(h.GetResources())
	p.release(a, s, resources)
	if m.GetRefuseNanos() > 0 && s.framework != nil {
		p.refuse(a, s, resources, p.endOf(m.GetRefuseNanos()))
	}
	p.mark(a)
	p.prune(s)
}

func (p *Policy) revived(m *allocatorpb.Revived) {
	p.manyChange(len(m.GetRoles()))
	for _, name := range m.GetRoles() {
		if s := p.subscriptions[holder{m.GetFrameworkId(), name}]; s != nil {
			p.revive(s)
		}
	}
}

// revive voids all refusals of s so far and has the idle agents tried with it.
func (p *Policy) revive(s *subscription) {
	p.moment++
	s.revived = p.moment
	if s.inLine {
		p.hurry(s)
	}
}

// hurry has the idle agents tried with s.
func (p *Policy) hurry(s *subscription) {
	if !s.eager {
		p.change(s, func() { s.eager = true })
		p.eager = append(p.eager, s)
	}
}

// book charges b on a to h, of whom nothing may be known yet, nor after if b is empty.
func (p *Policy) book(a *agent, h holder, b bag) {
	s := p.subscription(h)
	p.change(s, func() { p.hold(a, s, b) })
	p.prune(s)
}

// hold charges b on a to s, within a change.
func (p *Policy) hold(a *agent, s *subscription, b bag) {
	if len(b) == 0 {
		return
	}
	if _, ok := a.held[s]; !ok {
		s.holdings++
	}
	a.held[s] = a.held[s].plus(b)
	p.count(s, b, +1)
}

// release gives back of b what s does hold on a.
func (p *Policy) release(a *agent, s *subscription, b bag) {
	held, ok := a.held[s]
	if !ok {
		return
	}
	rest := held.minus(b)
	p.change(s, func() { p.count(s, held.minus(rest), -1) })
	if len(rest) > 0 {
		a.held[s] = rest
		return
	}
	delete(a.held, s)
	s.holdings--
}

// number numbers the scalars that count for fairness; -1 for those that don't.
func (p *Policy) number(name string) int {
	n, ok := p.names[name]
	if !ok {
		n = len(p.names)
		if slices.Contains(p.excluded, name) {
			n = -1
		}
		p.names[name] = n
	}
	return n
}
