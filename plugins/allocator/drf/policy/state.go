package policy

import (
	"maps"
	"math"
	"slices"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const defaultWeight = 1000

// restore replaces all that is known, but refusals and the numbering of grants, by s.
func (p *Policy) restore(s *allocatorpb.Snapshot) {
	maps.Copy(p.orphans, p.pending)
	for _, r := range p.roles { // any order: each role by itself
		r.weight, r.named, r.used = defaultWeight, false, nil
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
			maps.DeleteFunc(a.filters, func(s *subscription, _ []filter) bool { return s.framework == nil })
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
		a = &agent{
			id: m.GetId(), seq: p.seq, wake: math.MaxInt64, heapPos: -1,
			held:    make(map[*subscription]bag),
			filters: make(map[*subscription][]filter),
		}
		p.agents[a.id] = a
	}
	p.stale = true
	p.total = p.total.add(a.total, p.number, -1)
	a.total = read(m.GetTotal())
	p.total = p.total.add(a.total, p.number, +1)
	a.gpus = a.total.scalar("gpus") > 0
	a.deactivated = m.GetDeactivated()
	if len(m.GetHoldings()) > 0 {
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
		switch c.GetType() {
		case mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES:
			f.revocable = true
		case mesos.FrameworkInfo_Capability_GPU_RESOURCES:
			f.gpus = true
		}
	}
	old := p.frameworks[f.id]
	p.frameworks[f.id] = f
	able := old != nil && (f.revocable && !old.revocable || f.gpus && !old.gpus)
	if old != nil {
		for _, name := range old.roles {
			if !slices.Contains(f.roles, name) {
				p.unsubscribe(holder{f.id, name})
			}
		}
	}
	for _, name := range f.roles {
		known := p.subscriptions[holder{f.id, name}] != nil
		s := p.subscription(holder{f.id, name})
		stood := s.inLine
		p.change(s, func() {
			s.framework = f
			s.inLine = m.GetActive() && !slices.Contains(m.GetSuppressed(), name)
		})
		if s.inLine && !stood && known {
			p.forget(s)
		}
		if s.inLine && (!stood || able) {
			p.hurry(s)
		}
	}
}

// dropFramework takes the framework out of line; what it holds stays held until the
// kernel says that it came free.
func (p *Policy) dropFramework(id string) {
	f := p.frameworks[id]
	if f == nil {
		return
	}
	delete(p.frameworks, id)
	for _, name := range f.roles {
		p.unsubscribe(holder{id, name})
	}
}

func (p *Policy) unsubscribe(h holder) {
	s := p.subscriptions[h]
	if s == nil {
		return
	}
	p.change(s, func() { s.inLine, s.framework = false, nil })
	p.forget(s)
	p.prune(s)
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
		until := p.endOf(m.GetRefuseNanos())
		a.refuse(s, filter{resources, until})
		p.alarms.set(a, min(a.wake, until))
	}
	p.mark(a)
	p.prune(s)
}

func (p *Policy) revived(m *allocatorpb.Revived) {
	for _, name := range m.GetRoles() {
		if s := p.subscriptions[holder{m.GetFrameworkId(), name}]; s != nil {
			p.forget(s)
			if s.inLine {
				p.hurry(s)
			}
		}
	}
}

// forget voids all refusals of s.
func (p *Policy) forget(s *subscription) {
	for _, a := range p.agents { // any order: each agent by itself
		delete(a.filters, s)
	}
}

// hurry has the idle agents tried with s.
func (p *Policy) hurry(s *subscription) {
	if !s.eager {
		s.eager = true
		p.eager = append(p.eager, s)
	}
}

// book charges b on a to h, of whom nothing may be known yet, nor after if b is empty.
func (p *Policy) book(a *agent, h holder, b bag) {
	s := p.subscription(h)
	p.hold(a, s, b)
	p.prune(s)
}

// hold charges b on a to s.
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
	p.count(s, held.minus(rest), -1)
	if len(rest) > 0 {
		a.held[s] = rest
		return
	}
	delete(a.held, s)
	s.holdings--
}

func (p *Policy) count(s *subscription, b bag, sign int64) {
	p.change(s, func() {
		s.used = s.used.add(b, p.number, sign)
		s.role.used = s.role.used.add(b, p.number, sign)
		s.share = s.used.dominant(p.total)
		s.role.share = s.role.used.dominant(p.total)
	})
}

// change is the only way to change what places s or its role in line.
func (p *Policy) change(s *subscription, f func()) {
	if p.stale { // settle sorts everything anew
		f()
		return
	}
	r := s.role
	if len(r.line.items) > 0 {
		p.line.take(r)
	}
	if s.inLine {
		r.line.take(s)
	}
	f()
	if s.inLine {
		r.line.put(s)
	}
	if len(r.line.items) > 0 {
		p.line.put(r)
	}
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

// subscription returns h's, a new one if need be.
func (p *Policy) subscription(h holder) *subscription {
	s := p.subscriptions[h]
	if s == nil {
		s = &subscription{holder: h, role: p.role(h.role), share: share{0, 1}}
		s.role.members++
		p.subscriptions[h] = s
	}
	return s
}

// prune drops s when nobody is subscribed and nothing is held.
func (p *Policy) prune(s *subscription) {
	if s.framework == nil && s.holdings == 0 && p.subscriptions[s.holder] == s {
		delete(p.subscriptions, s.holder)
		s.role.members--
		p.pruneRole(s.role)
	}
}

func (p *Policy) role(name string) *role {
	r := p.roles[name]
	if r == nil {
		r = &role{name: name, weight: defaultWeight, share: share{0, 1}}
		r.line.compare = compareSubscriptions
		p.roles[name] = r
	}
	return r
}

func (p *Policy) pruneRole(r *role) {
	if r.members == 0 && !r.named {
		delete(p.roles, r.name)
	}
}
