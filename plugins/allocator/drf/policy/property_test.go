package policy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	weights    map[string]int64
	held       map[string]map[holder]bag // by agent
	refused    map[string]map[holder][]filter
	revived    map[holder]uint64    // moments
	turns      map[string]uint64    // moments of the last grant, by the names that order gives
	paused     map[string]int64     // by agent: when it may be granted again after a rejection
	open       []*allocatorpb.Grant // granted and not yet returned
	moment     uint64
	log        []*allocatorpb.ToAllocator
	granted    []string
}

var testRoles = []string{"*", "a", "a/b", "a/b/c", "a/d", "b"}

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

// part is what of rest a framework may have in a role.
func part(rest bag, f *allocatorpb.Framework, role string) bag {
	return slices.DeleteFunc(slices.Clone(rest), func(a amount) bool {
		to, refined := "", false
		switch a.reservation {
		case "":
			to = role
		case reservedToA:
			to = "a"
		case reservedToAB:
			to, refined = "a/b", true
		default:
			panic(a.reservation)
		}
		return role != to && !strings.HasPrefix(role, to+"/") ||
			refined && !can(f, mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT) ||
			a.revocable && !can(f, mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES) ||
			a.shared && !can(f, mesos.FrameworkInfo_Capability_SHARED_RESOURCES)
	})
}

func (k *kernel) inLine(h holder) bool {
	f := k.frameworks[h.framework]
	return f != nil && f.Active && slices.Contains(f.Roles, h.role) && !slices.Contains(f.Suppressed, h.role)
}

// eligible says whether offer, of an agent, may go to h who stands in line.
func (k *kernel) eligible(agent string, h holder, offer bag) bool {
	f, a := k.frameworks[h.framework], k.agents[agent]
	region := a.GetDomain().GetFaultDomain().GetRegion().GetName()
	switch {
	case a.Deactivated || k.paused[agent] > k.now:
		return false
	case read(a.Total).scalar("gpus") > 0 && !can(f, mesos.FrameworkInfo_Capability_GPU_RESOURCES):
		return false
	case region == "away" && !can(f, mesos.FrameworkInfo_Capability_REGION_AWARE):
		return false
	}
	return k.worth(f, h.role, offer) && !slices.ContainsFunc(k.refused[agent][h], func(r filter) bool {
		return r.until > k.now && r.moment > k.revived[h] && offer.within(r.refused)
	})
}

// worth says whether the framework, or else the configuration, wants so little.
func (k *kernel) worth(f *allocatorpb.Framework, role string, offer bag) bool {
	own := f.OfferFilters[role].GetMinAllocatableResources()
	if own == nil {
		return k.policy.least.met(offer)
	}
	enough := len(own.Quantities) == 0
	for _, q := range own.Quantities {
		all := true
		for name, least := range q.Quantities {
			all = all && float64(offer.scalar(name)) >= 1000*least.GetValue()
		}
		enough = enough || all
	}
	return enough && len(offer) > 0
}

// drawFilters are offer filters of some roles.
func drawFilters(t *rapid.T) map[string]*mesos.OfferFilters {
	filters := map[string]*mesos.OfferFilters{}
	for _, role := range testRoles {
		if rapid.IntRange(0, 5).Draw(t, "picky") > 0 {
			continue
		}
		least := &mesos.OfferFilters_MinAllocatableResources{}
		for range rapid.IntRange(0, 2).Draw(t, "alternatives") {
			q := map[string]*mesos.Value_Scalar{}
			for _, name := range rapid.SampledFrom([][]string{{"cpus"}, {"mem"}, {"cpus", "mem"}}).Draw(t, "names") {
				q[name] = &mesos.Value_Scalar{Value: proto.Float64(rapid.SampledFrom([]float64{0, 0.001, 1, 2, 40, 1e9}).Draw(t, "least"))}
			}
			least.Quantities = append(least.Quantities, &mesos.OfferFilters_ResourceQuantities{Quantities: q})
		}
		filters[role] = &mesos.OfferFilters{MinAllocatableResources: least}
	}
	return filters
}

// next is who is to be granted what of an agent, the slow and plain way.
func (k *kernel) next(agent string) (holder, bag) {
	return k.firstOf(k.order(), agent, k.free(agent))
}

func (k *kernel) firstOf(line []holder, agent string, rest bag) (holder, bag) {
	if len(line) == 0 {
		return holder{}, nil
	}
	h := line[0]
	b := part(rest, k.frameworks[h.framework], h.role)
	if !k.eligible(agent, h, b) {
		return k.firstOf(line[1:], agent, rest)
	}
	other, otherPart := k.firstOf(line[1:], agent, rest)
	for _, r := range k.refused[agent][h] {
		if b.within(r.refused) && other.framework != "" && k.turns[other.framework+"@"+other.role] < r.moment {
			return other, otherPart
		}
	}
	return h, b
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
	k.forgetGone()
	grants := k.policy.Apply(m)
	for _, g := range grants {
		k.granted = append(k.granted, g.String())
		granted++
		h, b := holder{g.FrameworkId, g.Role}, read(g.Resources)
		switch want, offer := k.next(g.AgentId); {
		case k.agents[g.AgentId] == nil:
			t.Fatalf("granted an agent that is not there: %v", g)
		case h != want:
			t.Fatalf("granted %v of %s to %v before %v; the line is %v", b, g.AgentId, h, want, k.order())
		case !b.within(offer) || !offer.within(b):
			t.Fatalf("granted %v of %s to %v, who may have %v", b, g.AgentId, h, offer)
		}
		k.hold(g.AgentId, h, b)
		k.moment++
		for _, name := range places(h) {
			k.turns[name] = k.moment
		}
	}
	if len(grants) == 0 {
		return
	}
	var verdicts []*allocatorpb.Delta
	for _, g := range grants {
		h := holder{g.FrameworkId, g.Role}
		rejection := rapid.SampledFrom(judgements).Draw(t, "judgement")
		verdicts = append(verdicts, verdict(g.Id, rejection))
		if rejection == allocatorpb.Rejection_NONE {
			k.open = append(k.open, g)
			continue
		}
		k.held[g.AgentId][h] = k.held[g.AgentId][h].minus(read(g.Resources))
		if rejection == allocatorpb.Rejection_UNAVAILABLE {
			k.paused[g.AgentId] = k.now + rejectionPause
		} else {
			k.refuse(g.AgentId, h, read(g.Resources), k.now+rejectionPause)
		}
	}
	k.send(t, verdicts...)
}

func (k *kernel) hold(agent string, h holder, b bag) {
	if k.held[agent] == nil {
		k.held[agent] = map[holder]bag{}
	}
	k.held[agent][h] = k.held[agent][h].plus(b)
}

// accounts holds the policy's books against the model: who uses what, in which order
// they stand, and that nothing is kept about those who are gone.
func (k *kernel) accounts(t *rapid.T) {
	p := k.policy
	used, below := map[holder]usage{}, map[string]usage{}
	for _, byHolder := range k.held {
		for h, b := range byHolder {
			used[h] = used[h].add(b, p.number, +1)
			for _, name := range places(h)[1:] {
				below[name] = below[name].add(b, p.number, +1)
			}
		}
	}
	for h, s := range p.subscriptions {
		if !sameUsage(s.used, used[h]) {
			t.Fatalf("%v uses %v, and is charged %v", h, used[h], s.used)
		}
	}
	for path, r := range p.roles {
		if !sameUsage(r.used, below[path]) || !sameUsage(r.leaf.used, below[path+"/."]) {
			t.Fatalf("role %s uses %v, and is charged %v", path, below[path], r.used)
		}
		if r.members == 0 && k.weights[path] == 0 {
			t.Fatalf("role %s is empty, and still known", path)
		}
	}
	for h := range p.subscriptions {
		if !k.exists(h) {
			t.Fatalf("%v is gone, and still known", h)
		}
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

// refuse remembers no more refusals than a policy promises to.
func (k *kernel) refuse(agent string, h holder, b bag, until int64) {
	if k.refused[agent] == nil {
		k.refused[agent] = map[holder][]filter{}
	}
	k.moment++
	list := slices.DeleteFunc(k.refused[agent][h], func(old filter) bool {
		return old.refused.within(b) && (old.until <= until || old.moment <= k.revived[h])
	})
	list = append(list, filter{b, until, k.moment})
	slices.SortStableFunc(list, func(x, y filter) int { return cmp.Compare(x.until, y.until) })
	k.refused[agent][h] = list[max(0, len(list)-filtersEach):]
}

// check is work conservation: what is free and worth offering is wanted by nobody.
func (k *kernel) check(t *rapid.T) {
	k.accounts(t)
	for id := range k.agents {
		if h, b := k.next(id); h.framework != "" {
			t.Fatalf("%v of %s is free, and %v would have it", b, id, h)
		}
	}
}

const (
	reservedToA  = `[{"type":"static","role":"a"}]`
	reservedToAB = `[{"type":"static","role":"a"},{"type":"dynamic","role":"a/b","principal":"ops"}]`
)

func drawResources(t *rapid.T) []*resourcepb.Resource {
	r := scalars(rapid.Int64Range(0, 8).Draw(t, "cpus"), rapid.Int64Range(0, 128).Draw(t, "mem"))
	extra := func(label string, e *resourcepb.Resource) {
		if rapid.IntRange(0, 4).Draw(t, label) == 0 {
			r = append(r, e)
		}
	}
	extra("revocable", &resourcepb.Resource{Name: "cpus", Milli: 2000, Revocable: true})
	extra("reserved", &resourcepb.Resource{Name: "cpus", Milli: 2000, Reservation: reservedToA})
	extra("refined", &resourcepb.Resource{Name: "mem", Milli: 64000, Reservation: reservedToAB})
	extra("volume", &resourcepb.Resource{
		Name: "disk", Milli: 64000, Reservation: reservedToA, Shared: true, Disk: `{"persistence":{"id":"db"}}`,
	})
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
	if region := rapid.SampledFrom([]string{"", "home", "away"}).Draw(t, "region"); region != "" {
		a.Domain = inRegion(region)
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
		for _, r := range testRoles {
			if rapid.IntRange(1, oneIn).Draw(t, label) == 1 {
				roles = append(roles, r)
			}
		}
		return roles
	}
	f := &allocatorpb.Framework{
		Id:    fmt.Sprintf("f%d", rapid.IntRange(0, 4).Draw(t, "framework")),
		Roles: some("roles", 3), Suppressed: some("suppressed", 6), Active: rapid.IntRange(0, 5).Draw(t, "inactive") > 0,
		OfferFilters: drawFilters(t),
	}
	for _, c := range []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES, mesos.FrameworkInfo_Capability_GPU_RESOURCES,
		mesos.FrameworkInfo_Capability_SHARED_RESOURCES, mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT,
		mesos.FrameworkInfo_Capability_REGION_AWARE,
	} {
		if rapid.Bool().Draw(t, c.String()) {
			f.Capabilities = append(f.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
		}
	}
	var stood []string
	for _, role := range testRoles {
		if k.inLine(holder{f.Id, role}) {
			stood = append(stood, role)
		}
	}
	k.frameworks[f.Id] = f
	for _, role := range testRoles {
		if h := (holder{f.Id, role}); !slices.Contains(f.Roles, role) {
			k.forget(h)
		} else if k.inLine(h) && !slices.Contains(stood, role) {
			k.moment++
			k.revived[h] = k.moment
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
	for _, role := range testRoles {
		k.forget(holder{id, role})
	}
	k.send(t, &allocatorpb.Delta{Body: &allocatorpb.Delta_FrameworkRemoved{FrameworkRemoved: id}})
}

func (k *kernel) revive(t *rapid.T) {
	id := fmt.Sprintf("f%d", rapid.IntRange(0, 4).Draw(t, "framework"))
	role := rapid.SampledFrom(testRoles).Draw(t, "role")
	k.moment++
	k.revived[holder{id, role}] = k.moment
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
	refuse := rapid.SampledFrom([]time.Duration{0, 1, time.Second, 3 * time.Second}).Draw(t, "refuse")
	g.Resources = read(g.Resources).minus(read(resources)).write()
	if len(g.Resources) == 0 {
		k.open = slices.Delete(k.open, i, i+1)
	}
	k.held[g.AgentId][h] = k.held[g.AgentId][h].minus(read(resources))
	if f := k.frameworks[h.framework]; refuse > 0 && f != nil && slices.Contains(f.Roles, h.role) {
		k.refuse(g.AgentId, h, read(resources), k.now+int64(refuse))
	}
	k.send(t, back(g, refuse, resources...))
}

func (k *kernel) charge(t *rapid.T) {
	if len(k.agents) == 0 {
		t.Skip("no agent")
	}
	id := rapid.SampledFrom(slices.Sorted(maps.Keys(k.agents))).Draw(t, "agent")
	h := holder{fmt.Sprintf("f%d", rapid.IntRange(0, 4).Draw(t, "framework")), "a/b"}
	free := k.free(id)
	k.hold(id, h, free)
	g := &allocatorpb.Grant{AgentId: id, FrameworkId: h.framework, Role: h.role, Resources: free.write()}
	k.open = append(k.open, g)
	k.send(t, &allocatorpb.Delta{Body: &allocatorpb.Delta_Charged{Charged: &allocatorpb.Holding{
		AgentId: id, FrameworkId: h.framework, Role: h.role, Resources: free.write(),
	}}})
}

func (k *kernel) weigh(t *rapid.T) {
	role, weight := rapid.SampledFrom(testRoles).Draw(t, "role"), rapid.Int64Range(0, 3000).Draw(t, "weight")
	k.weights[role] = weight
	k.send(t, weightIs(role, weight))
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
	for _, role := range slices.Sorted(maps.Keys(k.weights)) {
		s.Roles = append(s.Roles, &allocatorpb.Role{Name: role, WeightMilli: k.weights[role]})
	}
	k.post(t, &allocatorpb.ToAllocator{NowUnixNanos: k.now, Body: &allocatorpb.ToAllocator_Snapshot{Snapshot: s}})
}

// Whatever happens: every grant is the one that a slow and plain policy would make too,
// nothing is left over that somebody would have, and the same messages give the same
// grants.
func TestGrantsAreThoseOfThePlainModel(t *testing.T) {
	granted = 0
	runs := 0
	defer func() {
		if !t.Failed() && granted < 5*runs {
			t.Errorf("%d grants in %d runs: the test shows little", granted, runs)
		}
	}()
	config := Config{Region: "home"}
	rapid.Check(t, func(t *rapid.T) {
		runs++
		p, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		p.sortAnew = rapid.SampledFrom([]int{0, 1, sortAnew}).Draw(t, "changes at once in sorted lines")
		k := &kernel{
			cluster:    &cluster{policy: p, now: 1},
			agents:     map[string]*allocatorpb.Agent{},
			frameworks: map[string]*allocatorpb.Framework{},
			weights:    map[string]int64{},
			held:       map[string]map[holder]bag{},
			refused:    map[string]map[holder][]filter{},
			revived:    map[holder]uint64{},
			turns:      map[string]uint64{},
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
		again, err := New(config)
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
