package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	resourcepb "github.com/gantry-project/gantry/sdk/proto/gantry/resource/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func inRegion(name string) *mesos.DomainInfo {
	return &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
		Region: &mesos.DomainInfo_FaultDomain_RegionInfo{Name: proto.String(name)},
		Zone:   &mesos.DomainInfo_FaultDomain_ZoneInfo{Name: proto.String("z")},
	}}
}

// equalAgents are n agents of 4 CPUs and 64 MB.
func equalAgents(n int) []*allocatorpb.Delta {
	var deltas []*allocatorpb.Delta
	for i := range n {
		deltas = append(deltas, agentIs(fmt.Sprintf("s%03d", i), scalars(4, 64)...))
	}
	return deltas
}

// divisions are computed by hand: who gets how many of so many equal agents.
var divisions = []struct {
	name       string
	weights    map[string]int64
	frameworks map[string][]string
	agents     int
	want       string
}{
	{
		name:       "siblings divide what their parent is due",
		frameworks: map[string][]string{"F1": {"a/x"}, "F2": {"a/y"}, "F3": {"b"}},
		agents:     40, want: "F1:10 F2:10 F3:20",
	},
	{
		name:       "many children win their parent nothing",
		frameworks: map[string][]string{"F1": {"a/x"}, "F2": {"a/y"}, "F3": {"a/z"}, "F4": {"a/w"}, "F5": {"b/x"}},
		agents:     40, want: "F1:5 F2:5 F3:5 F4:5 F5:20",
	},
	{
		name:       "weights count between siblings, at each level",
		weights:    map[string]int64{"a": 3000, "a/x": 4000, "b": 1000},
		frameworks: map[string][]string{"F1": {"a/x"}, "F2": {"a/y"}, "F3": {"b"}},
		agents:     80, want: "F1:48 F2:12 F3:20",
	},
	{
		name:       "a fraction of a weight",
		weights:    map[string]int64{"a": 250},
		frameworks: map[string][]string{"F1": {"a/x"}, "F2": {"b"}},
		agents:     50, want: "F1:10 F2:40",
	},
	{
		name:       "a role's own frameworks together are one more child, of weight 1",
		weights:    map[string]int64{"a": 2000, "a/x": 2000},
		frameworks: map[string][]string{"F1": {"a"}, "F2": {"a"}, "F3": {"a/x"}, "F4": {"b"}},
		agents:     90, want: "F1:10 F2:10 F3:40 F4:30",
	},
	{
		name:       "what nobody stands in line for goes to the siblings",
		weights:    map[string]int64{"a/idle": 9000},
		frameworks: map[string][]string{"F1": {"a/x/y/z"}, "F2": {"b"}},
		agents:     20, want: "F1:10 F2:10",
	},
	{
		name:       "a framework of two roles has the share of both",
		frameworks: map[string][]string{"F1": {"a", "b/x"}, "F2": {"b/y"}},
		agents:     40, want: "F1:30 F2:10",
	},
	{
		name:       "the star is a role beside the others",
		weights:    map[string]int64{"*": 3000},
		frameworks: map[string][]string{"F1": {"*"}, "F2": {"b/y"}},
		agents:     40, want: "F1:30 F2:10",
	},
}

func TestHierarchicalShares(t *testing.T) {
	for _, test := range divisions {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, Config{})
			var deltas []*allocatorpb.Delta
			for role, w := range test.weights {
				deltas = append(deltas, weightIs(role, w))
			}
			for id, roles := range test.frameworks {
				deltas = append(deltas, frameworkIs(id, roles...))
			}
			count := map[string]int{}
			for _, g := range c.tell(append(deltas, equalAgents(test.agents)...)...) {
				count[g.FrameworkId]++
			}
			var got []string
			for i := range len(test.frameworks) {
				id := fmt.Sprintf("F%d", i+1)
				got = append(got, fmt.Sprintf("%s:%d", id, count[id]))
			}
			if s := strings.Join(got, " "); s != test.want {
				t.Fatalf("got %s, want %s", s, test.want)
			}
		})
	}
}

// What a role's descendants use counts for the role: the dominant resource of the whole
// subtree is compared, not the sum of dominant shares.
func TestUsageOfDescendants(t *testing.T) {
	c := newCluster(t, Config{})
	c.expect(c.tell(
		frameworkIs("A", "a/x"), frameworkIs("B", "a/y"), frameworkIs("C", "c"),
		holding("h1", "A", "a/x", 3, 100), holding("h2", "B", "a/y", 1, 500), holding("h3", "C", "c", 4, 450),
	), "")
	t.Log("of 8 CPUs and 1050 MB: a has 4/8 and 600/1050 = 0.571, c 4/8 and 450/1050: 0.5; so c is first")
	c.expect(c.tell(agentIs("s1", scalars(1, 100)...)), "C@s1")
	t.Log("of 9 and 1150: a 4/9 and 600/1150 = 0.522, c 5/9 = 0.556; in a, A has 3/9, B 500/1150 = 0.435")
	c.expect(c.tell(agentIs("s2", scalars(1, 100)...)), "A@s2")
}

// Roles come and go while others live; weights stay with their path.
func TestRolesComeAndGo(t *testing.T) {
	c := newCluster(t, Config{})
	removed := func(id string) *allocatorpb.Delta {
		return &allocatorpb.Delta{Body: &allocatorpb.Delta_FrameworkRemoved{FrameworkRemoved: id}}
	}
	c.tell(weightIs("a/b/c", 2000), frameworkIs("A", "a/b/c"), frameworkIs("B", "a/b"), frameworkIs("C", "a"))
	if n := len(c.policy.roles); n != 3 {
		t.Fatalf("%d roles, want 3", n)
	}
	c.tell(removed("A"), removed("B"), removed("C"))
	if n := len(c.policy.roles); n != 3 {
		t.Fatalf("%d roles while a/b/c has a weight, want 3", n)
	}
	c.tell(weightIs("a/b/c", 0))
	if n := len(c.policy.roles); n != 0 || c.policy.root.members != 0 {
		t.Fatalf("%d roles and %d at the root, want none", n, c.policy.root.members)
	}
}

// Reserved resources go to the role and those below it, together with what is free for
// all; what nobody in line may have stays.
func TestReservedResources(t *testing.T) {
	caps := func(types ...mesos.FrameworkInfo_Capability_Type) []*mesos.FrameworkInfo_Capability {
		var list []*mesos.FrameworkInfo_Capability
		for _, c := range types {
			list = append(list, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
		}
		return list
	}
	cpus := func(milli int64, reservation string) *resourcepb.Resource {
		return &resourcepb.Resource{Name: "cpus", Milli: milli, Reservation: reservation}
	}
	volume := &resourcepb.Resource{
		Name: "disk", Milli: 64000, Reservation: reservedToA, Disk: `{"persistence":{"id":"db"}}`,
	}
	sharedVolume := proto.CloneOf(volume)
	sharedVolume.Shared = true
	refined := mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT
	for _, test := range []struct {
		name  string
		total []*resourcepb.Resource
		roles []string
		caps  []*mesos.FrameworkInfo_Capability
		want  string
	}{
		{"to the role", []*resourcepb.Resource{cpus(1000, reservedToA)}, []string{"a"}, nil, "a:1000"},
		{"to a role below", []*resourcepb.Resource{cpus(1000, reservedToA)}, []string{"a/x/y"}, nil, "a/x/y:1000"},
		{"to a namesake", []*resourcepb.Resource{cpus(1000, reservedToA)}, []string{"ab", "*", "b"}, nil, ""},
		{"to the role above", []*resourcepb.Resource{cpus(1000, reservedToAB)}, []string{"a"}, caps(refined), ""},
		{"refined", []*resourcepb.Resource{cpus(1000, reservedToAB)}, []string{"a/b"}, caps(refined), "a/b:1000"},
		{"refined, to one who can't", []*resourcepb.Resource{cpus(1000, reservedToAB)}, []string{"a/b"}, nil, ""},
		{"with what is for all", []*resourcepb.Resource{cpus(1000, reservedToA), cpus(500, "")}, []string{"a"}, nil, "a:1000+500"},
		{"parted by role", []*resourcepb.Resource{cpus(1000, reservedToA), cpus(500, "")}, []string{"*", "a"}, nil, "*:500 a:1000"},
		{"a volume", []*resourcepb.Resource{cpus(1000, reservedToA), volume}, []string{"a"}, nil, "a:1000+64000"},
		{"a volume, to a stranger", []*resourcepb.Resource{cpus(1000, ""), volume}, []string{"b"}, nil, "b:1000"},
		{"a shared volume", []*resourcepb.Resource{cpus(1000, ""), sharedVolume}, []string{"a"},
			caps(mesos.FrameworkInfo_Capability_SHARED_RESOURCES), "a:1000+64000"},
		{"a shared volume, to one who can't", []*resourcepb.Resource{cpus(1000, ""), sharedVolume}, []string{"a"}, nil, "a:1000"},
		{"what is no reservation", []*resourcepb.Resource{cpus(1000, "a")}, []string{"a"}, nil, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCluster(t, Config{})
			f := frameworkDelta(&allocatorpb.Framework{Id: "F", Roles: test.roles, Active: true, Capabilities: test.caps})
			var got []string
			for _, g := range c.tell(agentIs("s", test.total...), f) {
				var amounts []string
				for _, r := range g.Resources {
					amounts = append(amounts, fmt.Sprint(r.Milli))
				}
				got = append(got, g.Role+":"+strings.Join(amounts, "+"))
			}
			if s := strings.Join(got, " "); s != test.want {
				t.Fatalf("granted %q, want %q", s, test.want)
			}
		})
	}
}

func TestRegions(t *testing.T) {
	c := newCluster(t, Config{Region: "home"})
	agents := func(region string) *allocatorpb.Delta {
		d := agentIs("in-"+region, scalars(4, 64)...)
		d.GetAgent().Domain = inRegion(region)
		return d
	}
	c.expect(sorted(c.tell(frameworkIs("F", "a"), agents("home"), agents("away"), agentIs("s", scalars(4, 64)...))), "F@in-home F@s")
	aware := &allocatorpb.Framework{Id: "F", Roles: []string{"a"}, Active: true, Capabilities: []*mesos.FrameworkInfo_Capability{
		{Type: mesos.FrameworkInfo_Capability_REGION_AWARE.Enum()},
	}}
	t.Log("an update that adds the capability is heard at once")
	c.expect(c.tell(frameworkDelta(aware)), "F@in-away")
}

// Refusals and suppression are of one role each.
func TestEachRoleByItself(t *testing.T) {
	c := newCluster(t, Config{})
	f := &allocatorpb.Framework{Id: "F", Roles: []string{"a", "b"}, Active: true}
	role := func(grants []*allocatorpb.Grant, want string) *allocatorpb.Grant {
		t.Helper()
		if len(grants) != 1 || grants[0].Role != want {
			t.Fatalf("granted %v, want one in role %s", grants, want)
		}
		return grants[0]
	}
	g := role(c.tell(agentIs("s", scalars(4, 64)...), frameworkDelta(f)), "a")
	t.Log("refused in a, the agent is offered in b")
	g = role(c.tell(decline(g, time.Hour)), "b")
	c.expect(c.tell(decline(g, time.Hour)), "")
	t.Log("a revival of b is none of a")
	g = role(c.tell(revive("F", "b")), "b")
	t.Log("suppressed in b, nothing comes though its refusals are void")
	suppressed := proto.CloneOf(f)
	suppressed.Suppressed = []string{"b"}
	c.expect(c.tell(frameworkDelta(suppressed), decline(g, 0)), "")
	c.expect(c.tell(revive("F", "b")), "")
	role(c.tell(frameworkDelta(f)), "b")
}
