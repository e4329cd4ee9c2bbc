package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	resourcepb "github.com/gantry-project/gantry/sdk/proto/gantry/resource/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const second = int64(time.Second)

// cluster is the kernel's side of the conversation.
type cluster struct {
	t      testing.TB
	policy *Policy
	now    int64
}

func newCluster(t testing.TB, c Config) *cluster {
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, policy: p, now: 1}
}

func (c *cluster) tell(deltas ...*allocatorpb.Delta) []*allocatorpb.Grant {
	return c.policy.Apply(&allocatorpb.ToAllocator{
		NowUnixNanos: c.now,
		Body:         &allocatorpb.ToAllocator_Deltas{Deltas: &allocatorpb.Deltas{Deltas: deltas}},
	})
}

// after lets d pass and ticks.
func (c *cluster) after(d time.Duration) []*allocatorpb.Grant {
	c.now += int64(d)
	return c.tell(&allocatorpb.Delta{Body: &allocatorpb.Delta_Tick{Tick: &allocatorpb.Tick{}}})
}

func scalars(cpus, mem int64) []*resourcepb.Resource {
	return slices.DeleteFunc([]*resourcepb.Resource{
		{Name: "cpus", Milli: cpus * 1000}, {Name: "mem", Milli: mem * 1000},
	}, func(r *resourcepb.Resource) bool { return r.Milli == 0 })
}

func agentIs(id string, total ...*resourcepb.Resource) *allocatorpb.Delta {
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Agent{Agent: &allocatorpb.Agent{Id: id, Total: total}}}
}

func frameworkIs(id string, roles ...string) *allocatorpb.Delta {
	return frameworkDelta(&allocatorpb.Framework{Id: id, Roles: roles, Active: true})
}

func frameworkDelta(f *allocatorpb.Framework) *allocatorpb.Delta {
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Framework{Framework: f}}
}

func weightIs(role string, milli int64) *allocatorpb.Delta {
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Role{Role: &allocatorpb.Role{Name: role, WeightMilli: milli}}}
}

func revive(framework string, roles ...string) *allocatorpb.Delta {
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Revived{Revived: &allocatorpb.Revived{FrameworkId: framework, Roles: roles}}}
}

func verdict(id uint64, r allocatorpb.Rejection) *allocatorpb.Delta {
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Verdict{Verdict: &allocatorpb.Verdict{GrantId: id, Rejection: r}}}
}

// back returns resources of a grant, refused for that long.
func back(g *allocatorpb.Grant, refuse time.Duration, resources ...*resourcepb.Resource) *allocatorpb.Delta {
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Recovered{Recovered: &allocatorpb.Recovered{
		Holding: &allocatorpb.Holding{
			AgentId: g.AgentId, FrameworkId: g.FrameworkId, Role: g.Role, Resources: resources,
		},
		RefuseNanos: int64(refuse),
	}}}
}

func decline(g *allocatorpb.Grant, refuse time.Duration) *allocatorpb.Delta {
	return back(g, refuse, g.Resources...)
}

// shown is grants as "framework@agent", in order.
func shown(grants []*allocatorpb.Grant) string {
	var list []string
	for _, g := range grants {
		list = append(list, g.FrameworkId+"@"+g.AgentId)
	}
	return strings.Join(list, " ")
}

func (c *cluster) expect(grants []*allocatorpb.Grant, want string) []*allocatorpb.Grant {
	c.t.Helper()
	if got := shown(grants); got != want {
		c.t.Fatalf("granted %q, want %q", got, want)
	}
	return grants
}

// The example of the paper on dominant resource fairness: 9 CPUs and 18 GB; A's tasks
// take 1 CPU and 4 GB, B's 3 CPUs and 1 GB. A gets three tasks and B two.
func TestClassicExample(t *testing.T) {
	c := newCluster(t, Config{MinAllocatable: "any"})
	need := map[string][]*resourcepb.Resource{"A": scalars(1, 4), "B": scalars(3, 1)}
	grants := c.tell(agentIs("s", scalars(9, 18)...), frameworkIs("A", "a"), frameworkIs("B", "b"))
	var order []string
	for range 20 { // ten are enough
		if len(grants) != 1 {
			break
		}
		g := grants[0]
		rest := read(g.Resources).minus(read(need[g.FrameworkId]))
		if !read(need[g.FrameworkId]).within(read(g.Resources)) {
			grants = c.tell(decline(g, time.Hour))
			continue
		}
		order = append(order, g.FrameworkId)
		grants = c.tell(back(g, 0, rest.write()...))
	}
	if got := strings.Join(order, " "); got != "A B A B A" {
		t.Fatalf("tasks in the order %s, want A B A B A", got)
	}
}

func TestWeights(t *testing.T) {
	c := newCluster(t, Config{})
	count := map[string]int{}
	deltas := []*allocatorpb.Delta{weightIs("gold", 3000), frameworkIs("g", "gold"), frameworkIs("l", "lead")}
	for i := range 40 {
		deltas = append(deltas, agentIs(fmt.Sprintf("s%02d", i), scalars(4, 64)...))
	}
	for _, g := range c.tell(deltas...) {
		count[g.FrameworkId]++
	}
	if count["g"] != 30 || count["l"] != 10 {
		t.Fatalf("weights 3 and 1 over 40 equal agents gave %v, want g:30 l:10", count)
	}
}

// holding says that a framework uses all of an agent.
func holding(agent, framework, role string, cpus, mem int64) *allocatorpb.Delta {
	d := agentIs(agent, scalars(cpus, mem)...)
	d.GetAgent().Holdings = []*allocatorpb.Holding{{
		AgentId: agent, FrameworkId: framework, Role: role, Resources: scalars(cpus, mem),
	}}
	return d
}

// Within a role the framework with the smallest share comes first, though others have
// waited longer for a turn.
func TestFrameworksOfARoleByTheirShare(t *testing.T) {
	c := newCluster(t, Config{})
	c.expect(c.tell(
		frameworkIs("A", "*"), frameworkIs("B", "*"), frameworkIs("C", "*"),
		holding("a", "A", "*", 8, 64), holding("b", "B", "*", 2, 256), holding("c", "C", "*", 3, 64),
	), "")
	t.Log("dominant shares: A 8/13 of the CPUs, B 256/384 of the memory, C 3/13 of the CPUs")
	c.expect(c.tell(agentIs("s1", scalars(1, 64)...)), "C@s1")
	t.Log("C has 4/14 now and is still the least, though the others never had a turn")
	c.expect(c.tell(agentIs("s2", scalars(1, 64)...)), "C@s2")
}

// What was held on an agent that is gone does not count any more.
func TestRemovedAgentIsNoShare(t *testing.T) {
	c := newCluster(t, Config{})
	c.expect(c.tell(
		frameworkIs("A", "*"), frameworkIs("B", "*"),
		holding("a", "A", "*", 8, 64), holding("b", "B", "*", 2, 64),
	), "")
	c.expect(c.tell(&allocatorpb.Delta{Body: &allocatorpb.Delta_AgentRemoved{AgentRemoved: "a"}}), "")
	c.expect(c.tell(agentIs("s", scalars(2, 64)...)), "A@s")
}

func TestRefusals(t *testing.T) {
	c := newCluster(t, Config{})
	g := c.expect(c.tell(agentIs("s", scalars(4, 64)...), frameworkIs("A", "*")), "A@s")
	c.expect(c.tell(decline(g[0], 5*time.Second)), "")
	c.expect(c.after(4*time.Second), "")
	g = c.expect(c.after(time.Second), "A@s")

	t.Log("a part of what was refused stays refused; more is offered")
	c.expect(c.tell(decline(g[0], time.Hour)), "")
	c.expect(c.tell(agentIs("s", scalars(2, 64)...)), "")
	g = c.expect(c.tell(agentIs("s", scalars(8, 64)...)), "A@s")

	t.Log("revive voids refusals")
	c.expect(c.tell(decline(g[0], time.Hour)), "")
	g = c.expect(c.tell(revive("A", "*")), "A@s")

	t.Log("a refusal of nothing refuses nothing")
	c.expect(c.tell(decline(g[0], 0)), "A@s")
}

func TestWhoIsInLine(t *testing.T) {
	c := newCluster(t, Config{})
	suppressed := &allocatorpb.Framework{Id: "A", Roles: []string{"*"}, Suppressed: []string{"*"}, Active: true}
	inactive := &allocatorpb.Framework{Id: "A", Roles: []string{"*"}}
	c.expect(c.tell(agentIs("s", scalars(4, 64)...), frameworkDelta(suppressed)), "")
	g := c.expect(c.tell(frameworkIs("A", "*")), "A@s")
	c.expect(c.tell(frameworkDelta(inactive), decline(g[0], 0)), "")
	g = c.expect(c.tell(frameworkIs("A", "*", "other")), "A@s")
	c.expect(c.tell(&allocatorpb.Delta{Body: &allocatorpb.Delta_FrameworkRemoved{FrameworkRemoved: "A"}}), "")
	t.Log("what a removed framework holds is held until the kernel says otherwise")
	c.expect(c.tell(frameworkIs("B", "*")), "")
	c.expect(c.tell(decline(g[0], 0)), "B@s")
}

func TestDeactivatedAgent(t *testing.T) {
	c := newCluster(t, Config{})
	off := &allocatorpb.Agent{Id: "s", Total: scalars(4, 64), Deactivated: true}
	delta := &allocatorpb.Delta{Body: &allocatorpb.Delta_Agent{Agent: off}}
	c.expect(c.tell(frameworkIs("A", "*"), delta), "")
	c.expect(c.tell(frameworkIs("B", "*")), "")
	c.expect(c.tell(agentIs("s", scalars(4, 64)...)), "A@s")
}

func TestWhatIsNotOffered(t *testing.T) {
	for _, test := range []struct {
		name  string
		total []*resourcepb.Resource
		caps  []mesos.FrameworkInfo_Capability_Type
		want  string
	}{
		{"scrap", []*resourcepb.Resource{{Name: "cpus", Milli: 9}, {Name: "mem", Milli: 31000}}, nil, ""},
		{"enough memory", []*resourcepb.Resource{{Name: "mem", Milli: 32000}}, nil, "mem"},
		{"reserved", []*resourcepb.Resource{{Name: "cpus", Milli: 4000, Reservation: "r"}, {Name: "mem", Milli: 64000}}, nil, "mem"},
		{"revocable", []*resourcepb.Resource{{Name: "cpus", Milli: 4000, Revocable: true}}, nil, ""},
		{"revocable, to one who can", []*resourcepb.Resource{{Name: "cpus", Milli: 4000, Revocable: true}},
			[]mesos.FrameworkInfo_Capability_Type{mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES}, "cpus"},
		{"gpus", []*resourcepb.Resource{{Name: "cpus", Milli: 4000}, {Name: "gpus", Milli: 1000}}, nil, ""},
		{"gpus, to one who can", []*resourcepb.Resource{{Name: "cpus", Milli: 4000}, {Name: "gpus", Milli: 1000}},
			[]mesos.FrameworkInfo_Capability_Type{mesos.FrameworkInfo_Capability_GPU_RESOURCES}, "cpus gpus"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, Config{})
			f := &allocatorpb.Framework{Id: "A", Roles: []string{"*"}, Active: true}
			for _, capability := range test.caps {
				f.Capabilities = append(f.Capabilities, &mesos.FrameworkInfo_Capability{Type: capability.Enum()})
			}
			var names []string
			for _, g := range c.tell(agentIs("s", test.total...), frameworkDelta(f)) {
				for _, r := range g.Resources {
					names = append(names, r.Name)
				}
			}
			if got := strings.Join(names, " "); got != test.want {
				t.Fatalf("offered %q, want %q", got, test.want)
			}
		})
	}
}

// TestWhatIsWorthAnOffer: a framework may say for a role what it wants at least, more or less
// than the configuration does; in its other roles, and for others, nothing changes.
func TestWhatIsWorthAnOffer(t *testing.T) {
	of := func(name string, value float64) *mesos.OfferFilters_ResourceQuantities {
		return &mesos.OfferFilters_ResourceQuantities{Quantities: map[string]*mesos.Value_Scalar{name: {Value: &value}}}
	}
	wants := func(quantities ...*mesos.OfferFilters_ResourceQuantities) *allocatorpb.Delta {
		return frameworkDelta(&allocatorpb.Framework{
			Id: "A", Roles: []string{"r"}, Active: true,
			OfferFilters: map[string]*mesos.OfferFilters{"r": {MinAllocatableResources: &mesos.OfferFilters_MinAllocatableResources{Quantities: quantities}}},
		})
	}
	c := newCluster(t, Config{})
	c.expect(c.tell(agentIs("small", scalars(2, 64)...), agentIs("scrap", &resourcepb.Resource{Name: "disk", Milli: 1000}), wants(of("cpus", 4))), "")
	t.Log("either of two will do")
	g := c.expect(c.tell(wants(of("cpus", 4), of("mem", 64))), "A@small")
	c.expect(c.tell(decline(g[0], 0), wants(of("cpus", 4))), "")
	t.Log("what one does not want is another's, and each may know better than the configuration")
	g = c.expect(c.tell(frameworkIs("B", "r")), "B@small")
	g = append(g, c.expect(c.tell(wants()), "A@scrap")...)
	c.expect(c.tell(decline(g[1], 0), frameworkIs("A", "r")), "")
	t.Log("it is of the role that it names")
	other := &allocatorpb.Framework{Id: "C", Roles: []string{"r"}, Active: true, OfferFilters: map[string]*mesos.OfferFilters{
		"s": {MinAllocatableResources: &mesos.OfferFilters_MinAllocatableResources{Quantities: []*mesos.OfferFilters_ResourceQuantities{of("cpus", 100)}}},
	}}
	c.expect(c.tell(frameworkDelta(other), agentIs("more", scalars(2, 64)...)), "C@more")
}

func TestRejectedGrantComesBackAfterAPause(t *testing.T) {
	c := newCluster(t, Config{})
	g := c.expect(c.tell(agentIs("s", scalars(4, 64)...), frameworkIs("A", "*"), frameworkIs("B", "*")), "A@s")
	c.expect(c.tell(verdict(g[0].Id, allocatorpb.Rejection_UNAVAILABLE)), "")
	g = c.expect(c.after(time.Second), "B@s")
	t.Log("what the kernel holds against a framework does not keep others waiting")
	g = c.expect(c.tell(verdict(g[0].Id, allocatorpb.Rejection_NOT_SUBSCRIBED)), "A@s")
	c.expect(c.tell(verdict(g[0].Id, allocatorpb.Rejection_NONE)), "")
	c.expect(c.after(time.Minute), "")
}

func TestSnapshotReplacesAllButRefusals(t *testing.T) {
	c := newCluster(t, Config{})
	g := c.expect(sorted(c.tell(agentIs("s", scalars(4, 64)...), agentIs("gone", scalars(4, 64)...), frameworkIs("A", "*"))), "A@gone A@s")
	c.expect(c.tell(decline(g[1], time.Hour)), "")
	snapshot := func() []*allocatorpb.Grant {
		return c.policy.Apply(&allocatorpb.ToAllocator{NowUnixNanos: c.now, Body: &allocatorpb.ToAllocator_Snapshot{
			Snapshot: &allocatorpb.Snapshot{
				Agents: []*allocatorpb.Agent{{Id: "s", Total: scalars(4, 64)}, {Id: "new", Total: scalars(4, 64)}},
				Frameworks: []*allocatorpb.Framework{
					{Id: "A", Roles: []string{"*"}, Active: true}, {Id: "B", Roles: []string{"*"}, Active: true},
				},
			},
		}})
	}
	first := c.expect(sorted(snapshot()), "B@new B@s")
	t.Log("a grant judged after a snapshot that did not have it counts")
	second := c.expect(sorted(snapshot()), "A@new B@s")
	if second[0].Id <= first[1].Id {
		t.Fatalf("grant number %d again after %d", second[0].Id, first[1].Id)
	}
	c.expect(c.tell(verdict(first[0].Id, allocatorpb.Rejection_NONE), verdict(second[0].Id, allocatorpb.Rejection_UNAVAILABLE)), "")
	c.expect(c.after(time.Second), "")
}

func sorted(grants []*allocatorpb.Grant) []*allocatorpb.Grant {
	slices.SortFunc(grants, func(a, b *allocatorpb.Grant) int {
		return cmp.Or(cmp.Compare(a.FrameworkId, b.FrameworkId), cmp.Compare(a.AgentId, b.AgentId))
	})
	return grants
}

// Of 200 frameworks 199 refuse everything, for so short that their refusals are over
// before all have been asked. The one that wants resources, and already has the most,
// still gets its turn within one round.
func TestNobodyStarves(t *testing.T) {
	const frameworks = 200
	c := newCluster(t, Config{})
	busy := agentIs("busy", scalars(8, 64)...)
	busy.GetAgent().Holdings = []*allocatorpb.Holding{{AgentId: "busy", FrameworkId: "wants", Role: "*", Resources: scalars(8, 64)}}
	deltas := []*allocatorpb.Delta{busy, agentIs("s", scalars(1, 64)...), frameworkIs("wants", "*")}
	for i := range frameworks - 1 {
		deltas = append(deltas, frameworkIs(fmt.Sprintf("f%03d", i), "*"))
	}
	grants := c.tell(deltas...)
	for asked := 1; asked <= frameworks; asked++ {
		if len(grants) != 1 {
			t.Fatalf("after %d refusals: granted %q", asked-1, shown(grants))
		}
		if grants[0].FrameworkId == "wants" {
			return
		}
		c.now += second
		grants = c.tell(decline(grants[0], 2*time.Second))
	}
	t.Fatalf("the one that wants the agent was not asked in %d turns", frameworks)
}

func TestEqualFrameworksShareEqually(t *testing.T) {
	const frameworks, each = 200, 5
	c := newCluster(t, Config{})
	var deltas []*allocatorpb.Delta
	for i := range frameworks {
		deltas = append(deltas, frameworkIs(fmt.Sprintf("f%03d", i), fmt.Sprintf("role-%d", i%4)))
	}
	for i := range frameworks * each {
		deltas = append(deltas, agentIs(fmt.Sprintf("s%04d", i), scalars(4, 64)...))
	}
	count := map[string]int{}
	for _, g := range c.tell(deltas...) {
		count[g.FrameworkId]++
	}
	for i := range frameworks {
		if f := fmt.Sprintf("f%03d", i); count[f] != each {
			t.Errorf("%s got %d agents, want %d", f, count[f], each)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, test := range []struct{ text, wrong string }{
		{``, ""},
		{`{}`, ""},
		{`{"min_allocatable": "cpus:1;mem:64|disk:5", "exclude": ["gpus"]}`, ""},
		{`{"min_allocatable": "any"}`, ""},
		{`{"region": "eu-1"}`, ""},
		{`{"region": " eu-1"}`, "without spaces"},
		{`{"exclude": [""]}`, "write names of resources"},
		{`{"exclude": ["gpus", "disk", "gpus"]}`, `has "gpus" twice`},
		{`{"exclude": "gpus"}`, "exclude"},
		{`{"min_allocatable": "cpus:-1"}`, `"cpus:-1" is not name:amount`},
		{`{"min_allocatable": "cpus:1|"}`, `"" is not name:amount`},
		{`{"min_allocatable": "cpus"}`, `"cpus" is not name:amount`},
		{`{"min_allocatable": "cpus:NaN"}`, `"cpus:NaN" is not name:amount`},
		{`{"minimum": "cpus:1"}`, `unknown field "minimum"`},
		{`{} {}`, "something follows"},
	} {
		_, err := ParseConfig([]byte(test.text))
		if test.wrong == "" && err != nil || test.wrong != "" && (err == nil || !strings.Contains(err.Error(), test.wrong)) {
			t.Errorf("ParseConfig(%s) = %v, want %q", test.text, err, test.wrong)
		}
	}
}

func TestCompareIsExact(t *testing.T) {
	const huge = 1 << 62
	for _, test := range []struct {
		a    share
		wa   uint64
		b    share
		wb   uint64
		want int
	}{
		{share{1, 3}, 1, share{2, 6}, 1, 0},
		{share{huge - 1, huge}, 1, share{huge, huge + 1}, 1, -1},
		{share{huge, huge + 1}, huge, share{huge - 1, huge}, huge, 1},
		{share{1, 2}, 2000, share{1, 4}, 1000, 0},
		{share{0, 1}, 1, share{1, huge}, huge, -1},
	} {
		if got := compare(test.a, test.wa, test.b, test.wb); got != test.want {
			t.Errorf("compare(%v/%d, %v/%d) = %d, want %d", test.a, test.wa, test.b, test.wb, got, test.want)
		}
	}
}

func TestSpans(t *testing.T) {
	for _, test := range []struct{ x, y, united, rest []span }{
		{[]span{{1, 5}}, []span{{6, 9}}, []span{{1, 9}}, []span{{1, 5}}},
		{[]span{{1, 9}}, []span{{3, 4}, {7, 7}}, []span{{1, 9}}, []span{{1, 2}, {5, 6}, {8, 9}}},
		{[]span{{0, ^uint64(0)}}, []span{{0, 0}, {^uint64(0), ^uint64(0)}}, []span{{0, ^uint64(0)}}, []span{{1, ^uint64(0) - 1}}},
		{[]span{{1, 2}, {4, 5}}, []span{{0, 9}}, []span{{0, 9}}, nil},
		{nil, []span{{1, 1}}, []span{{1, 1}}, nil},
	} {
		if got := unite(test.x, test.y); !slices.Equal(got, test.united) {
			t.Errorf("unite(%v, %v) = %v, want %v", test.x, test.y, got, test.united)
		}
		if got := cut(test.x, test.y); !slices.Equal(got, test.rest) {
			t.Errorf("cut(%v, %v) = %v, want %v", test.x, test.y, got, test.rest)
		}
	}
}

// A grant that is judged when its agent has gone and come back meanwhile is held if it was
// applied, and gives nothing back that it does not have.
func TestAgentComesBackDuringAGrant(t *testing.T) {
	back := func() *allocatorpb.Delta { // with what a task has
		d := agentIs("s", scalars(4, 64)...)
		d.GetAgent().Holdings = []*allocatorpb.Holding{{AgentId: "s", FrameworkId: "F", Role: "a", Resources: scalars(1, 16)}}
		return d
	}
	gone := &allocatorpb.Delta{Body: &allocatorpb.Delta_AgentRemoved{AgentRemoved: "s"}}
	rest := func(t *testing.T, grants []*allocatorpb.Grant) *allocatorpb.Grant {
		t.Helper()
		if len(grants) != 1 || !read(grants[0].Resources).within(read(scalars(3, 48))) {
			t.Fatalf("granted %v, want one of all that the task does not have", grants)
		}
		return grants[0]
	}
	for _, first := range []allocatorpb.Rejection{allocatorpb.Rejection_NONE, allocatorpb.Rejection_AGENT_NOT_OFFERABLE} {
		t.Run(first.String(), func(t *testing.T) {
			c := newCluster(t, Config{})
			old := rest(t, c.tell(frameworkIs("F", "a"), back()))
			now := rest(t, c.tell(gone, back()))
			t.Log("the kernel gets to the old grant only now, and to the new one after it")
			if first == allocatorpb.Rejection_NONE {
				c.expect(c.tell(verdict(old.Id, first), verdict(now.Id, allocatorpb.Rejection_UNAVAILABLE)), "")
				now = old
			} else {
				c.expect(c.tell(verdict(old.Id, first), verdict(now.Id, allocatorpb.Rejection_NONE)), "")
			}
			c.expect(c.after(time.Hour), "")
			rest(t, c.tell(decline(now, 0)))
		})
	}
}

// A framework in very many roles delays nobody: what it says costs as much as it says, not
// roles times roles nor roles times agents. The products would be 10^10 and 10^8 here, many
// times over, and take minutes.
func TestManyRolesOfOneFramework(t *testing.T) {
	const roles, agents = 100_000, 1_000
	big := &allocatorpb.Framework{Id: "big", Active: true}
	for i := range roles {
		big.Roles = append(big.Roles, fmt.Sprintf("r%06d", i))
	}
	suppressed := proto.CloneOf(big)
	suppressed.Suppressed = slices.Clone(big.Roles)
	slices.Reverse(suppressed.Suppressed)
	picky := proto.CloneOf(suppressed)
	picky.OfferFilters = map[string]*mesos.OfferFilters{}
	for _, role := range big.Roles {
		picky.OfferFilters[role] = &mesos.OfferFilters{MinAllocatableResources: &mesos.OfferFilters_MinAllocatableResources{}}
	}
	others := proto.CloneOf(suppressed)
	others.Active = false
	for i, role := range others.Roles {
		others.Roles[i] = "other-" + role
	}

	c := newCluster(t, Config{})
	c.tell(equalAgents(agents)...)
	granted := c.tell(frameworkDelta(big))
	if len(granted) != agents {
		t.Fatalf("%d grants of %d agents", len(granted), agents)
	}
	for range 5 {
		c.tell(frameworkDelta(suppressed))
	}
	for _, g := range granted {
		c.expect(c.tell(decline(g, time.Hour)), "")
	}
	c.expect(c.tell(frameworkDelta(picky), revive("big", big.Roles...)), "")
	c.expect(c.tell(frameworkDelta(others)), "")
	c.tell(&allocatorpb.Delta{Body: &allocatorpb.Delta_FrameworkRemoved{FrameworkRemoved: "big"}})
	if n := len(c.policy.subscriptions); n != 0 {
		t.Fatalf("%d subscriptions stay", n)
	}
	if n := len(c.tell(frameworkIs("next", "a"))); n != agents {
		t.Fatalf("%d grants to the next framework", n)
	}
}
