package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	resourcepb "github.com/gantry-project/gantry/sdk/proto/gantry/resource/v1"
)

// bag is resources as the tests count them: CPUs in thousandths and single ports.
type bag map[string]int64

const ports = 12

func port(n int) string { return fmt.Sprintf("port %02d", n) }

func (b bag) plus(c bag, sign int64) bag {
	sum := maps.Clone(b)
	for name, amount := range c {
		if sum[name] += sign * amount; sum[name] == 0 {
			delete(sum, name)
		}
	}
	return sum
}

func (b bag) write() []*resourcepb.Resource {
	var list []*resourcepb.Resource
	if b["cpus"] > 0 {
		list = append(list, &resourcepb.Resource{Name: "cpus", Milli: b["cpus"]})
	}
	open := &resourcepb.Resource{Name: "ports"}
	for n := range uint64(ports) {
		if b[port(int(n))] == 0 {
			continue
		}
		if last := len(open.Ranges) - 1; last >= 0 && open.Ranges[last].End+1 == n {
			open.Ranges[last].End = n
			continue
		}
		open.Ranges = append(open.Ranges, &resourcepb.Range{Begin: n, End: n})
	}
	if len(open.Ranges) > 0 {
		list = append(list, open)
	}
	return list
}

func count(list []*resourcepb.Resource) bag {
	b := bag{}
	for _, r := range list {
		if r.Milli > 0 {
			b[r.Name] += r.Milli
		}
		for _, span := range r.Ranges {
			for n := span.Begin; n <= span.End; n++ {
				b[port(int(n))]++
			}
		}
	}
	return b
}

// model is what the kernel's ledger would know, and the rules that the example promises.
type model struct {
	*kernel
	rand       *rand.Rand
	totals     map[string]bag
	held       map[string]map[string]bag // by agent and framework
	paused     map[string]int64
	refusals   map[string]int64 // of "framework@agent", until
	frameworks map[string]bool  // false: suppressed
	open       []*allocatorpb.Grant
	started    int
}

func (m *model) free(agent string) bag {
	rest := m.totals[agent]
	for _, held := range m.held[agent] { // any order: a sum
		rest = rest.plus(held, -1)
	}
	return rest
}

func (m *model) pick(names []string) (string, bool) {
	if len(names) == 0 {
		return "", false
	}
	slices.Sort(names)
	return names[m.rand.IntN(len(names))], true
}

// part is a random part of b.
func (m *model) part(b bag) bag {
	p := bag{}
	for _, name := range slices.Sorted(maps.Keys(b)) {
		if m.rand.IntN(2) == 0 {
			p[name] = b[name]
			if name == "cpus" {
				p[name] = 1 + m.rand.Int64N(b[name])
			}
		}
	}
	return p
}

// event is a random change of the cluster, and how the module hears of it; nil when there
// was nothing to change.
func (m *model) event() *allocatorpb.Delta {
	agent, hasAgent := m.pick(slices.Collect(maps.Keys(m.totals)))
	framework, hasFramework := m.pick(slices.Collect(maps.Keys(m.frameworks)))
	switch kind := m.rand.IntN(10); {
	case kind == 0 && len(m.totals) < 5:
		m.started++
		agent = fmt.Sprint("s", m.started)
		m.totals[agent], m.held[agent] = m.part(bag{"cpus": 64_000, port(2): 1, port(3): 1, port(4): 1, port(8): 1}), map[string]bag{}
		return agentIs(agent, m.totals[agent].write()...)
	case kind == 1 && len(m.frameworks) < 4:
		m.started++
		framework = fmt.Sprint("f", m.started)
		m.frameworks[framework] = true
		return frameworkIs(framework, "r")
	case kind == 2 && hasAgent && m.rand.IntN(4) == 0:
		delete(m.totals, agent)
		delete(m.held, agent)
		delete(m.paused, agent)
		maps.DeleteFunc(m.refusals, func(key string, _ int64) bool { return key[len(key)-len(agent)-1:] == "@"+agent })
		return &allocatorpb.Delta{Body: &allocatorpb.Delta_AgentRemoved{AgentRemoved: agent}}
	case kind == 3 && hasFramework:
		m.frameworks[framework] = !m.frameworks[framework]
		if m.frameworks[framework] {
			maps.DeleteFunc(m.refusals, func(key string, _ int64) bool { return key[:len(framework)+1] == framework+"@" })
		}
		f := &allocatorpb.Framework{Id: framework, Roles: []string{"r"}, Active: m.frameworks[framework]}
		return frameworkDelta(f)
	case kind == 4 && hasAgent && hasFramework:
		taken := m.part(m.free(agent))
		m.charge(agent, framework, taken)
		return &allocatorpb.Delta{Body: &allocatorpb.Delta_Charged{Charged: &allocatorpb.Holding{
			AgentId: agent, FrameworkId: framework, Role: "r", Resources: taken.write()}}}
	case kind == 5 && len(m.open) > 0:
		return m.judge()
	case kind > 5 && hasAgent:
		return m.giveBack(agent)
	}
	return nil
}

func (m *model) charge(agent, framework string, b bag) {
	if old := m.held[agent][framework]; old != nil {
		b = old.plus(b, +1)
	}
	m.held[agent][framework] = b
}

// judge answers the oldest grant.
func (m *model) judge() *allocatorpb.Delta {
	g := m.open[0]
	m.open = m.open[1:]
	if m.rand.IntN(4) > 0 {
		return verdict(g.Id, allocatorpb.Rejection_NONE)
	}
	if held := m.held[g.AgentId]; held != nil {
		m.paused[g.AgentId] = m.now + rejectionPause
		held[g.FrameworkId] = held[g.FrameworkId].plus(count(g.Resources), -1)
	}
	return verdict(g.Id, allocatorpb.Rejection_UNAVAILABLE)
}

// rejectionPause is the example's REJECTION_PAUSE.
const rejectionPause = second

// giveBack ends a part of what is held and no grant under way is about.
func (m *model) giveBack(agent string) *allocatorpb.Delta {
	framework, ok := m.pick(slices.Collect(maps.Keys(m.held[agent])))
	if !ok || slices.ContainsFunc(m.open, func(g *allocatorpb.Grant) bool { return g.AgentId == agent }) {
		return nil
	}
	returned := m.part(m.held[agent][framework])
	m.held[agent][framework] = m.held[agent][framework].plus(returned, -1)
	refuse := m.rand.Int64N(3) * m.rand.Int64N(5*second)
	if _, there := m.frameworks[framework]; refuse > 0 && there {
		key := framework + "@" + agent
		m.refusals[key] = max(m.refusals[key], m.now+refuse)
	}
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Recovered{Recovered: &allocatorpb.Recovered{
		RefuseNanos: refuse, Holding: &allocatorpb.Holding{
			AgentId: agent, FrameworkId: framework, Role: "r", Resources: returned.write()}}}}
}

// snapshot says all that the model knows; grants under way are not in it.
func (m *model) snapshot() *allocatorpb.ToAllocator {
	s := &allocatorpb.Snapshot{}
	for _, id := range slices.Sorted(maps.Keys(m.totals)) {
		a := &allocatorpb.Agent{Id: id, Total: m.totals[id].write()}
		for _, framework := range slices.Sorted(maps.Keys(m.held[id])) {
			a.Holdings = append(a.Holdings, &allocatorpb.Holding{AgentId: id, FrameworkId: framework, Role: "r", Resources: m.held[id][framework].write()})
		}
		s.Agents = append(s.Agents, a)
	}
	for _, id := range slices.Sorted(maps.Keys(m.frameworks)) {
		s.Frameworks = append(s.Frameworks, &allocatorpb.Framework{Id: id, Roles: []string{"r"}, Active: m.frameworks[id]})
	}
	return &allocatorpb.ToAllocator{NowUnixNanos: m.now, Body: &allocatorpb.ToAllocator_Snapshot{Snapshot: s}}
}

func (m *model) eligible(framework, agent string) bool {
	return m.frameworks[framework] && m.refusals[framework+"@"+agent] <= m.now && m.paused[agent] <= m.now
}

// check holds grants to the rules, charges them, and looks for what lies idle.
func (m *model) check(grants []*allocatorpb.Grant) {
	m.t.Helper()
	for _, g := range grants {
		free, granted := m.free(g.AgentId), count(g.Resources)
		if !slices.EqualFunc(g.Resources, free.write(), func(a, b *resourcepb.Resource) bool { return proto.Equal(a, b) }) {
			m.t.Fatalf("%v of %s were granted, and %v are free", g.Resources, g.AgentId, free)
		}
		if !m.eligible(g.FrameworkId, g.AgentId) {
			m.t.Fatalf("%s was granted to %s, which is not to be offered it", g.AgentId, g.FrameworkId)
		}
		m.charge(g.AgentId, g.FrameworkId, granted)
		m.open = append(m.open, g)
	}
	for agent := range m.totals { // any order: a complaint about any of them will do
		if m.free(agent)["cpus"] < 10 {
			continue
		}
		for framework := range m.frameworks {
			if m.eligible(framework, agent) {
				m.t.Fatalf("%v of %s lie idle, and %s was not offered them", m.free(agent), agent, framework)
			}
		}
	}
}

// Whatever happens, a grant is all that is free, goes to somebody who may have it, and
// nothing lies idle that somebody may have.
func TestFirstFitKeepsItsPromises(t *testing.T) {
	code := loaded(t, firstfitCode(t), unlimited(t, nil))
	for seed := range uint64(40) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			m := &model{
				kernel: newKernel(t, code), rand: rand.New(rand.NewPCG(seed, 0)), totals: map[string]bag{},
				held: map[string]map[string]bag{}, paused: map[string]int64{}, refusals: map[string]int64{}, frameworks: map[string]bool{},
			}
			m.check(m.tell(m.snapshot()))
			for range 600 {
				m.now += m.rand.Int64N(second / 2)
				if len(m.open) == 0 && m.rand.IntN(20) == 0 {
					m.check(m.tell(m.snapshot()))
					continue
				}
				deltas := []*allocatorpb.Delta{tick()}
				for range m.rand.IntN(3) {
					if d := m.event(); d != nil {
						deltas = append(deltas, d)
					}
				}
				m.check(m.deltas(deltas...))
			}
			if m.instance.code.Memory().Size() > 4<<20 {
				t.Errorf("a handful of agents takes %d bytes", m.instance.code.Memory().Size())
			}
		})
	}
}
