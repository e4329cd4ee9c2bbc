package policy

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	resourcepb "github.com/gantry-project/gantry/sdk/proto/gantry/resource/v1"
)

// kernel is a plain model of the other side: it knows what is free and who refused
// what, and judges every grant.
type kernel struct {
	*cluster
	agents     map[string]*allocatorpb.Agent
	frameworks map[string]*allocatorpb.Framework
	held       map[string]map[holder]bag // by agent
	refused    map[string]map[holder][]filter
	open       []*allocatorpb.Grant // granted and not yet returned
	log        []*allocatorpb.ToAllocator
	granted    []string
}

func (k *kernel) free(agent string) bag {
	rest := read(k.agents[agent].Total)
	for _, b := range k.held[agent] {
		rest = rest.minus(b)
	}
	return rest
}

func (k *kernel) eligible(agent string, h holder, offer bag) bool {
	f := k.frameworks[h.framework]
	if f == nil || !f.Active || !slices.Contains(f.Roles, h.role) || slices.Contains(f.Suppressed, h.role) {
		return false
	}
	return !slices.ContainsFunc(k.refused[agent][h], func(r filter) bool {
		return r.until > k.now && offer.within(r.refused)
	})
}

// send tells the policy, and holds every grant against the model.
func (k *kernel) send(t *rapid.T, deltas ...*allocatorpb.Delta) {
	m := &allocatorpb.ToAllocator{
		NowUnixNanos: k.now,
		Body:         &allocatorpb.ToAllocator_Deltas{Deltas: &allocatorpb.Deltas{Deltas: deltas}},
	}
	k.post(t, m)
}

func (k *kernel) post(t *rapid.T, m *allocatorpb.ToAllocator) {
	k.log = append(k.log, proto.Clone(m).(*allocatorpb.ToAllocator))
	var verdicts []*allocatorpb.Delta
	for _, g := range k.policy.Apply(m) {
		k.granted = append(k.granted, g.String())
		h, part := holder{g.FrameworkId, g.Role}, read(g.Resources)
		switch {
		case k.agents[g.AgentId] == nil || k.agents[g.AgentId].Deactivated:
			t.Fatalf("granted an agent that is not to be offered: %v", g)
		case !part.within(k.free(g.AgentId)):
			t.Fatalf("granted %v of %v free", part, k.free(g.AgentId))
		case !k.eligible(g.AgentId, h, part):
			t.Fatalf("granted to one who wants no offer: %v", g)
		}
		if k.held[g.AgentId] == nil {
			k.held[g.AgentId] = map[holder]bag{}
		}
		k.held[g.AgentId][h] = k.held[g.AgentId][h].plus(part)
		k.open = append(k.open, g)
		verdicts = append(verdicts, verdict(g.Id, allocatorpb.Rejection_NONE))
	}
	if len(verdicts) > 0 {
		k.send(t, verdicts...)
	}
}

// check is work conservation: what is free and worth offering is wanted by nobody.
func (k *kernel) check(t *rapid.T) {
	for id, a := range k.agents {
		part := usable(k.free(id), false)
		if a.Deactivated || !k.policy.least.met(part) {
			continue
		}
		for _, f := range k.frameworks {
			for _, r := range f.Roles {
				if k.eligible(id, holder{f.Id, r}, part) {
					t.Fatalf("%v of %s is free, and %s in %s would have it", part, id, f.Id, r)
				}
			}
		}
	}
}

func drawResources(t *rapid.T) []*resourcepb.Resource {
	r := scalars(rapid.Int64Range(0, 8).Draw(t, "cpus"), rapid.Int64Range(0, 64).Draw(t, "mem"))
	if last := rapid.Uint64Range(0, 9).Draw(t, "ports"); last > 0 {
		r = append(r, &resourcepb.Resource{Name: "ports", Ranges: []*resourcepb.Range{{Begin: 1, End: last}}})
	}
	return r
}

// part draws some of g.
func drawPart(t *rapid.T, g *allocatorpb.Grant) []*resourcepb.Resource {
	list := read(g.Resources).write()
	for _, r := range list {
		if r.Milli > 0 {
			r.Milli = rapid.Int64Range(0, r.Milli/1000).Draw(t, "milli") * 1000
		}
	}
	return read(list).write()
}

func (k *kernel) putAgent(t *rapid.T) {
	a := &allocatorpb.Agent{
		Id:    fmt.Sprintf("s%d", rapid.IntRange(0, 5).Draw(t, "agent")),
		Total: drawResources(t), Deactivated: rapid.IntRange(0, 4).Draw(t, "off") == 0,
	}
	k.agents[a.Id] = a
	k.send(t, &allocatorpb.Delta{Body: &allocatorpb.Delta_Agent{Agent: proto.Clone(a).(*allocatorpb.Agent)}})
}

func (k *kernel) dropAgent(t *rapid.T) {
	if len(k.agents) == 0 {
		t.Skip("no agent")
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(k.agents))).Draw(t, "agent")
	delete(k.agents, id)
	delete(k.held, id)
	delete(k.refused, id)
	k.open = slices.DeleteFunc(k.open, func(g *allocatorpb.Grant) bool { return g.AgentId == id })
	k.send(t, &allocatorpb.Delta{Body: &allocatorpb.Delta_AgentRemoved{AgentRemoved: id}})
}

func (k *kernel) putFramework(t *rapid.T) {
	some := func(label string) []string {
		return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"*", "a", "b"}), 0, 3, rapid.ID[string]).Draw(t, label)
	}
	f := &allocatorpb.Framework{
		Id:    fmt.Sprintf("f%d", rapid.IntRange(0, 4).Draw(t, "framework")),
		Roles: some("roles"), Suppressed: some("suppressed"), Active: rapid.Bool().Draw(t, "active"),
	}
	old := k.frameworks[f.Id]
	k.frameworks[f.Id] = f
	for _, role := range []string{"*", "a", "b"} {
		stood := old != nil && old.Active && slices.Contains(old.Roles, role) && !slices.Contains(old.Suppressed, role)
		if !stood {
			k.forget(holder{f.Id, role})
		}
		if !slices.Contains(f.Roles, role) {
			k.forget(holder{f.Id, role})
		}
	}
	k.send(t, frameworkDelta(proto.Clone(f).(*allocatorpb.Framework)))
}

func (k *kernel) forget(h holder) {
	for _, byHolder := range k.refused {
		delete(byHolder, h)
	}
}

func (k *kernel) dropFramework(t *rapid.T) {
	id := fmt.Sprintf("f%d", rapid.IntRange(0, 4).Draw(t, "framework"))
	delete(k.frameworks, id)
	for _, role := range []string{"*", "a", "b"} {
		k.forget(holder{id, role})
	}
	k.send(t, &allocatorpb.Delta{Body: &allocatorpb.Delta_FrameworkRemoved{FrameworkRemoved: id}})
}

func (k *kernel) revive(t *rapid.T) {
	id := fmt.Sprintf("f%d", rapid.IntRange(0, 4).Draw(t, "framework"))
	role := rapid.SampledFrom([]string{"*", "a", "b"}).Draw(t, "role")
	k.forget(holder{id, role})
	k.send(t, revive(id, role))
}

// recover returns all or a part of a grant, with or without a refusal.
func (k *kernel) recover(t *rapid.T) {
	if len(k.open) == 0 {
		t.Skip("nothing is granted")
	}
	i := rapid.IntRange(0, len(k.open)-1).Draw(t, "grant")
	g := k.open[i]
	h := holder{g.FrameworkId, g.Role}
	resources := g.Resources
	if rapid.Bool().Draw(t, "part") {
		resources = drawPart(t, g)
	}
	refuse := time.Duration(rapid.IntRange(0, 3).Draw(t, "refuse")) * time.Second
	g.Resources = read(g.Resources).minus(read(resources)).write()
	if len(g.Resources) == 0 {
		k.open = slices.Delete(k.open, i, i+1)
	}
	k.held[g.AgentId][h] = k.held[g.AgentId][h].minus(read(resources))
	if f := k.frameworks[h.framework]; refuse > 0 && f != nil && slices.Contains(f.Roles, h.role) {
		if k.refused[g.AgentId] == nil {
			k.refused[g.AgentId] = map[holder][]filter{}
		}
		k.refused[g.AgentId][h] = append(k.refused[g.AgentId][h], filter{read(resources), k.now + int64(refuse)})
	}
	k.send(t, back(g, refuse, resources...))
}

func (k *kernel) charge(t *rapid.T) {
	if len(k.agents) == 0 {
		t.Skip("no agent")
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(k.agents))).Draw(t, "agent")
	h := holder{fmt.Sprintf("f%d", rapid.IntRange(0, 4).Draw(t, "framework")), "a"}
	free := k.free(id)
	if k.held[id] == nil {
		k.held[id] = map[holder]bag{}
	}
	k.held[id][h] = k.held[id][h].plus(free)
	g := &allocatorpb.Grant{AgentId: id, FrameworkId: h.framework, Role: h.role, Resources: free.write()}
	k.open = append(k.open, g)
	k.send(t, &allocatorpb.Delta{Body: &allocatorpb.Delta_Charged{Charged: &allocatorpb.Holding{
		AgentId: id, FrameworkId: h.framework, Role: h.role, Resources: free.write(),
	}}})
}

func (k *kernel) tick(t *rapid.T) {
	k.now += rapid.Int64Range(0, 4).Draw(t, "seconds") * second
	k.send(t)
}

func (k *kernel) snapshot(t *rapid.T) {
	s := &allocatorpb.Snapshot{}
	for _, id := range slices.Sorted(maps.Keys(k.agents)) {
		a := proto.Clone(k.agents[id]).(*allocatorpb.Agent)
		for h, b := range k.held[id] {
			a.Holdings = append(a.Holdings, &allocatorpb.Holding{
				AgentId: id, FrameworkId: h.framework, Role: h.role, Resources: b.write(),
			})
		}
		s.Agents = append(s.Agents, a)
	}
	for _, id := range slices.Sorted(maps.Keys(k.frameworks)) {
		s.Frameworks = append(s.Frameworks, proto.Clone(k.frameworks[id]).(*allocatorpb.Framework))
	}
	k.post(t, &allocatorpb.ToAllocator{NowUnixNanos: k.now, Body: &allocatorpb.ToAllocator_Snapshot{Snapshot: s}})
}

// Whatever happens: no grant beyond what is free, none to one who wants none, nothing
// left over that somebody would have; and the same messages give the same grants.
func TestGrantsAreSafeAndConserveWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		k := &kernel{
			cluster:    &cluster{policy: p, now: 1},
			agents:     map[string]*allocatorpb.Agent{},
			frameworks: map[string]*allocatorpb.Framework{},
			held:       map[string]map[holder]bag{},
			refused:    map[string]map[holder][]filter{},
		}
		t.Repeat(map[string]func(*rapid.T){
			"agent": k.putAgent, "agent removed": k.dropAgent,
			"framework": k.putFramework, "framework removed": k.dropFramework,
			"revived": k.revive, "recovered": k.recover, "charged": k.charge,
			"tick": k.tick, "snapshot": k.snapshot, "": k.check,
		})
		again, err := New(Config{})
		if err != nil {
			t.Fatal(err)
		}
		var granted []string
		for _, m := range k.log {
			for _, g := range again.Apply(m) {
				granted = append(granted, g.String())
			}
		}
		if !slices.Equal(granted, k.granted) {
			t.Fatal("the same messages gave other grants")
		}
	})
}
