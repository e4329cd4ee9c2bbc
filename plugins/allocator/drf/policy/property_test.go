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
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// kernel is a plain model of the other side: it knows what is free and who refused
// what, and judges every grant.
type kernel struct {
	*cluster
	agents     map[string]*allocatorpb.Agent
	frameworks map[string]*allocatorpb.Framework
	held       map[string]map[holder]bag // by agent
	refused    map[string]map[holder][]filter
	paused     map[string]int64     // by agent: when it may be granted again after a rejection
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

func can(f *allocatorpb.Framework, want mesos.FrameworkInfo_Capability_Type) bool {
	return slices.ContainsFunc(f.Capabilities, func(c *mesos.FrameworkInfo_Capability) bool { return c.GetType() == want })
}

func (k *kernel) eligible(agent string, h holder, offer bag) bool {
	f := k.frameworks[h.framework]
	if f == nil || !f.Active || !slices.Contains(f.Roles, h.role) || slices.Contains(f.Suppressed, h.role) {
		return false
	}
	if read(k.agents[agent].Total).scalar("gpus") > 0 && !can(f, mesos.FrameworkInfo_Capability_GPU_RESOURCES) {
		return false
	}
	if !can(f, mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES) && slices.ContainsFunc(offer, func(a amount) bool { return a.revocable }) {
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
	judged := map[string]int64{} // agents rejected only now: the policy does not know yet
	for _, g := range k.policy.Apply(m) {
		k.granted = append(k.granted, g.String())
		h, part := holder{g.FrameworkId, g.Role}, read(g.Resources)
		granted++
		switch {
		case k.paused[g.AgentId] > k.now && judged[g.AgentId] == 0:
			t.Fatalf("granted again within the pause after a rejection: %v", g)
		case slices.ContainsFunc(part, func(a amount) bool { return a.reservation != "" || a.shared }):
			t.Fatalf("granted what is offered to nobody: %v", g)
		case k.agents[g.AgentId] == nil || k.agents[g.AgentId].Deactivated:
			t.Fatalf("granted an agent that is not to be offered: %v", g)
		case !part.within(k.free(g.AgentId)):
			t.Fatalf("granted %v of %v free", part, k.free(g.AgentId))
		case !k.eligible(g.AgentId, h, part):
			t.Fatalf("granted to one who wants no offer: %v", g)
		}
		rejection := rapid.SampledFrom(judgements).Draw(t, "judgement")
		verdicts = append(verdicts, verdict(g.Id, rejection))
		switch rejection {
		case allocatorpb.Rejection_NONE:
			if k.held[g.AgentId] == nil {
				k.held[g.AgentId] = map[holder]bag{}
			}
			k.held[g.AgentId][h] = k.held[g.AgentId][h].plus(part)
			k.open = append(k.open, g)
		case allocatorpb.Rejection_UNAVAILABLE:
			k.paused[g.AgentId] = k.now + rejectionPause
		default:
			k.refuse(g.AgentId, h, filter{part, k.now + rejectionPause})
		}
		judged[g.AgentId] = k.paused[g.AgentId]
	}
	if len(verdicts) > 0 {
		k.send(t, verdicts...)
	}
}

// accounts holds the policy's books against the model: who uses what, in which order
// they stand, and that nothing is kept about those who are gone.
func (k *kernel) accounts(t *rapid.T) {
	p := k.policy
	used, roleUsed := map[holder]usage{}, map[string]usage{}
	for _, byHolder := range k.held {
		for h, b := range byHolder {
			used[h] = used[h].add(b, p.number, +1)
			roleUsed[h.role] = roleUsed[h.role].add(b, p.number, +1)
		}
	}
	for h, s := range p.subscriptions {
		if !sameUsage(s.used, used[h]) {
			t.Fatalf("%v uses %v, and is charged %v", h, used[h], s.used)
		}
		if s.framework == nil && sameUsage(s.used, nil) && s.holdings == 0 {
			t.Fatalf("%v is gone, and still known", h)
		}
	}
	for name, r := range p.roles {
		if !sameUsage(r.used, roleUsed[name]) {
			t.Fatalf("role %s uses %v, and is charged %v", name, roleUsed[name], r.used)
		}
		if !slices.IsSortedFunc(r.line.items, compareSubscriptions) {
			t.Fatalf("the line of role %s is out of order", name)
		}
	}
	if !slices.IsSortedFunc(p.line.items, compareRoles) {
		t.Fatal("the line of roles is out of order")
	}
}

// sameUsage compares without regard to names that only one of the two has met.
func sameUsage(a, b usage) bool {
	for n := range max(len(a), len(b)) {
		var x, y int64
		if n < len(a) {
			x = a[n]
		}
		if n < len(b) {
			y = b[n]
		}
		if x != y {
			return false
		}
	}
	return true
}

// judgements weighs how the kernel answers grants.
var judgements = []allocatorpb.Rejection{
	allocatorpb.Rejection_NONE, allocatorpb.Rejection_NONE, allocatorpb.Rejection_NONE, allocatorpb.Rejection_NONE,
	allocatorpb.Rejection_NONE, allocatorpb.Rejection_NONE, allocatorpb.Rejection_UNAVAILABLE, allocatorpb.Rejection_MALFORMED,
}

// granted counts grants over all runs, so that a test of nothing is noticed.
var granted int

func (k *kernel) refuse(agent string, h holder, f filter) {
	if k.refused[agent] == nil {
		k.refused[agent] = map[holder][]filter{}
	}
	k.refused[agent][h] = append(k.refused[agent][h], f)
}

// check is work conservation: what is free and worth offering is wanted by nobody.
func (k *kernel) check(t *rapid.T) {
	k.accounts(t)
	for id, a := range k.agents {
		if a.Deactivated || k.paused[id] > k.now {
			continue
		}
		for _, f := range k.frameworks {
			part := usable(k.free(id), can(f, mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES))
			if !k.policy.least.met(part) {
				continue
			}
			for _, r := range f.Roles {
				if k.eligible(id, holder{f.Id, r}, part) {
					t.Fatalf("%v of %s is free, and %s in %s would have it", part, id, f.Id, r)
				}
			}
		}
	}
}

func drawResources(t *rapid.T) []*resourcepb.Resource {
	r := scalars(rapid.Int64Range(0, 8).Draw(t, "cpus"), rapid.Int64Range(0, 128).Draw(t, "mem"))
	extra := func(label string, e *resourcepb.Resource) {
		if rapid.IntRange(0, 4).Draw(t, label) == 0 {
			r = append(r, e)
		}
	}
	extra("revocable", &resourcepb.Resource{Name: "cpus", Milli: 2000, Revocable: true})
	extra("reserved", &resourcepb.Resource{Name: "cpus", Milli: 2000, Reservation: "a"})
	extra("gpu", &resourcepb.Resource{Name: "gpus", Milli: 1000})
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
		Total: drawResources(t), Deactivated: rapid.IntRange(0, 9).Draw(t, "off") == 0,
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
	delete(k.paused, id)
	k.open = slices.DeleteFunc(k.open, func(g *allocatorpb.Grant) bool { return g.AgentId == id })
	k.send(t, &allocatorpb.Delta{Body: &allocatorpb.Delta_AgentRemoved{AgentRemoved: id}})
}

func (k *kernel) putFramework(t *rapid.T) {
	some := func(label string, oneIn int) []string {
		var roles []string
		for _, r := range []string{"*", "a", "b"} {
			if rapid.IntRange(1, oneIn).Draw(t, label) == 1 {
				roles = append(roles, r)
			}
		}
		return roles
	}
	f := &allocatorpb.Framework{
		Id:    fmt.Sprintf("f%d", rapid.IntRange(0, 4).Draw(t, "framework")),
		Roles: some("roles", 2), Suppressed: some("suppressed", 6), Active: rapid.IntRange(0, 5).Draw(t, "inactive") > 0,
	}
	for _, c := range []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES, mesos.FrameworkInfo_Capability_GPU_RESOURCES,
	} {
		if rapid.Bool().Draw(t, c.String()) {
			f.Capabilities = append(f.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
		}
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
		k.refuse(g.AgentId, h, filter{read(resources), k.now + int64(refuse)})
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

func (k *kernel) weigh(t *rapid.T) {
	k.send(t, weightIs(rapid.SampledFrom([]string{"*", "a"}).Draw(t, "role"), rapid.Int64Range(0, 3000).Draw(t, "weight")))
}

func (k *kernel) tick(t *rapid.T) {
	k.now += rapid.Int64Range(0, 4).Draw(t, "seconds") * second
	k.send(t)
}

func (k *kernel) snapshot(t *rapid.T) {
	clear(k.paused) // it explains what was rejected
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
	granted = 0
	runs := 0
	defer func() {
		if !t.Failed() && granted < 5*runs {
			t.Errorf("%d grants in %d runs: the test shows little", granted, runs)
		}
	}()
	rapid.Check(t, func(t *rapid.T) {
		runs++
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
			paused:     map[string]int64{},
		}
		for range 3 {
			k.putAgent(t)
			k.putFramework(t)
		}
		t.Repeat(map[string]func(*rapid.T){
			"agent": k.putAgent, "agent removed": k.dropAgent,
			"framework": k.putFramework, "framework removed": k.dropFramework,
			"revived": k.revive, "recovered": k.recover, "recovered again": k.recover, "charged": k.charge, "weight": k.weigh,
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
