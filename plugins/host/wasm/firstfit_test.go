package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	resourcepb "github.com/gantry-project/gantry/sdk/proto/gantry/resource/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// built is examples/wasm-allocator-c, compiled once, or why it could not be.
var built = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "gantry-wasm-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "firstfit.wasm")
	build := exec.Command("../../../examples/wasm-allocator-c/build.sh", out)
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(out)
})

// firstfitCode is the example's module; without a compiler for it the test is skipped.
func firstfitCode(t testing.TB) []byte {
	t.Helper()
	for _, tool := range []string{"clang", "wasm-ld"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip("the example is in C, and there is no compiler for it: ", err)
		}
	}
	code, err := built()
	if err != nil {
		t.Fatal("build the example: ", err)
	}
	return code
}

// unlimited are limits that a well-behaved module does not meet.
func unlimited(t testing.TB, log *bytes.Buffer) limits {
	return limits{memoryMB: 64, deadline: time.Minute, log: log, overrun: func(what string) { panic("the module did not " + what) }}
}

func loaded(t testing.TB, code []byte, l limits) *module {
	t.Helper()
	m, err := load(context.Background(), code, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.runtime.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

func firstfit(t testing.TB) *module {
	return loaded(t, firstfitCode(t), unlimited(t, &bytes.Buffer{}))
}

// kernel is the kernel's side of a conversation with a module.
type kernel struct {
	t        testing.TB
	instance *instance
	now      int64
}

func newKernel(t testing.TB, m *module) *kernel {
	t.Helper()
	i, err := m.instantiate(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return &kernel{t, i, 1}
}

func (k *kernel) tell(m *allocatorpb.ToAllocator) []*allocatorpb.Grant {
	k.t.Helper()
	grants, err := k.instance.apply(context.Background(), m)
	if err != nil {
		k.t.Fatal(err)
	}
	return grants
}

func (k *kernel) deltas(list ...*allocatorpb.Delta) []*allocatorpb.Grant {
	k.t.Helper()
	return k.tell(&allocatorpb.ToAllocator{
		NowUnixNanos: k.now,
		Body:         &allocatorpb.ToAllocator_Deltas{Deltas: &allocatorpb.Deltas{Deltas: list}},
	})
}

func scalars(cpus, mem int64) []*resourcepb.Resource {
	return slices.DeleteFunc([]*resourcepb.Resource{
		{Name: "cpus", Milli: cpus * 1000}, {Name: "mem", Milli: mem * 1000},
	}, func(r *resourcepb.Resource) bool { return r.Milli == 0 })
}

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

const second = int64(time.Second)

func agentIs(id string, total ...*resourcepb.Resource) *allocatorpb.Delta {
	return agentDelta(&allocatorpb.Agent{Id: id, Total: total})
}

func agentDelta(a *allocatorpb.Agent) *allocatorpb.Delta {
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Agent{Agent: a}}
}

func frameworkDelta(f *allocatorpb.Framework) *allocatorpb.Delta {
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Framework{Framework: f}}
}

func frameworkIs(id string, roles ...string) *allocatorpb.Delta {
	return frameworkDelta(&allocatorpb.Framework{Id: id, Roles: roles, Active: true})
}

func verdict(id uint64, r allocatorpb.Rejection) *allocatorpb.Delta {
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Verdict{Verdict: &allocatorpb.Verdict{GrantId: id, Rejection: r}}}
}

func tick() *allocatorpb.Delta {
	return &allocatorpb.Delta{Body: &allocatorpb.Delta_Tick{Tick: &allocatorpb.Tick{}}}
}

func (k *kernel) expect(grants []*allocatorpb.Grant, want string) []*allocatorpb.Grant {
	k.t.Helper()
	if got := shown(grants); got != want {
		k.t.Fatalf("granted %q, want %q", got, want)
	}
	return grants
}

func TestFrameworksTakeTurns(t *testing.T) {
	k := newKernel(t, firstfit(t))
	k.expect(k.deltas(agentIs("s", scalars(4, 64)...)), "")
	g := k.expect(k.deltas(frameworkIs("f", "a"), frameworkIs("g", "b")), "f@s")[0]
	if g.Id != 1 || g.Role != "a" || g.Mode != allocatorpb.ClaimMode_EXCLUSIVE || len(g.Resources) != 2 ||
		g.Resources[0].Name != "cpus" || g.Resources[0].Milli != 4000 || g.Resources[1].Milli != 64000 {
		t.Fatal(g)
	}
	k.expect(k.deltas(verdict(g.Id, allocatorpb.Rejection_NONE)), "")
	g = k.expect(k.deltas(decline(g, 10*time.Second)), "g@s")[0]
	g = k.expect(k.deltas(decline(g, 0)), "g@s")[0] // f still refuses
	k.now += 10 * second
	g = k.expect(k.deltas(decline(g, 0)), "f@s")[0] // and now g, who was served last, is behind
	g = k.expect(k.deltas(back(g, time.Hour, scalars(1, 0)...)), "g@s")[0]
	if len(g.Resources) != 1 || g.Resources[0].Milli != 1000 {
		t.Fatal("more was granted than came free: ", g)
	}
	k.expect(k.deltas(decline(g, time.Hour)), "")
	k.expect(k.deltas(&allocatorpb.Delta{Body: &allocatorpb.Delta_Revived{
		Revived: &allocatorpb.Revived{FrameworkId: "f", Roles: []string{"a"}}}}), "f@s")
}

func TestWhoIsOfferedWhat(t *testing.T) {
	k := newKernel(t, firstfit(t))
	k.deltas(frameworkDelta(&allocatorpb.Framework{Id: "gone", Roles: []string{"a"}}),
		frameworkDelta(&allocatorpb.Framework{Id: "quiet", Roles: []string{"a", "b"}, Suppressed: []string{"a"}, Active: true}))
	ports := &resourcepb.Resource{Name: "ports", Ranges: []*resourcepb.Range{{Begin: 31000, End: 32000}}}
	used := &resourcepb.Resource{Name: "ports", Ranges: []*resourcepb.Range{{Begin: 31500, End: 31500}}}
	g := k.expect(k.deltas(agentDelta(&allocatorpb.Agent{
		Id: "s", Total: []*resourcepb.Resource{
			{Name: "cpus", Milli: 2000}, {Name: "cpus", Reservation: "a", Milli: 1000},
			{Name: "disk", Milli: 1000, Shared: true}, {Name: "mem", Milli: 500, Revocable: true}, ports,
		},
		Holdings: []*allocatorpb.Holding{{FrameworkId: "x", Resources: []*resourcepb.Resource{used, {Name: "cpus", Milli: 500}}}},
	})), "quiet@s")[0]
	if len(g.Resources) != 2 || g.Role != "b" || g.Resources[0].Milli != 1500 ||
		len(g.Resources[1].Ranges) != 2 || g.Resources[1].Ranges[1].Begin != 31501 {
		t.Fatal(g)
	}
	k.expect(k.deltas(agentDelta(&allocatorpb.Agent{Id: "off", Total: scalars(1, 1), Deactivated: true})), "")
	k.expect(k.deltas(agentIs("off", scalars(1, 1)...)), "quiet@off")
	k.expect(k.deltas(agentIs("scrap", &resourcepb.Resource{Name: "cpus", Milli: 9}, &resourcepb.Resource{Name: "mem", Milli: 31_999})), "")
	k.expect(k.deltas(agentIs("gpu", append(scalars(1, 1), &resourcepb.Resource{Name: "gpus", Milli: 1000})...)), "")
	able := &allocatorpb.Framework{Id: "able", Roles: []string{"a"}, Active: true}
	able.Capabilities = []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_GPU_RESOURCES.Enum()}}
	k.expect(k.deltas(frameworkDelta(able)), "able@gpu")
}

func TestRejectedGrantIsGivenBack(t *testing.T) {
	k := newKernel(t, firstfit(t))
	g := k.expect(k.deltas(agentIs("s", scalars(4, 64)...), frameworkIs("f", "a")), "f@s")[0]
	k.expect(k.deltas(verdict(g.Id, allocatorpb.Rejection_UNAVAILABLE)), "")
	k.expect(k.deltas(frameworkIs("g", "a")), "") // the agent is left alone
	k.now += second
	g = k.expect(k.deltas(tick()), "f@s")[0] // who was there before g
	k.deltas(verdict(g.Id, allocatorpb.Rejection_NONE))
	k.now += 10 * second
	k.expect(k.deltas(tick()), "")
}

// A snapshot comes in the middle: what it does not say of grants on their way, verdicts do.
func TestSnapshotReplacesAllButRefusals(t *testing.T) {
	k := newKernel(t, firstfit(t))
	grants := k.deltas(agentIs("p", scalars(4, 64)...), agentIs("q", scalars(4, 64)...), agentIs("r", scalars(4, 64)...), frameworkIs("f", "a"))
	k.expect(k.deltas(decline(grants[0], time.Hour)), "")
	snapshot := &allocatorpb.Snapshot{Frameworks: []*allocatorpb.Framework{{Id: "f", Roles: []string{"a"}, Active: true}}}
	for _, id := range []string{"p", "q", "r"} {
		snapshot.Agents = append(snapshot.Agents, &allocatorpb.Agent{Id: id, Total: scalars(4, 64), Deactivated: true})
	}
	k.expect(k.tell(&allocatorpb.ToAllocator{NowUnixNanos: k.now, Body: &allocatorpb.ToAllocator_Snapshot{Snapshot: snapshot}}), "")
	k.expect(k.deltas(verdict(2, allocatorpb.Rejection_NONE)), "") // the second is held, the third went unanswered
	k.expect(k.deltas(verdict(3, allocatorpb.Rejection_UNAVAILABLE)), "")
	k.now += second
	again := []*allocatorpb.Delta{agentIs("p", scalars(4, 64)...), agentIs("q", scalars(4, 64)...), agentIs("r", scalars(4, 64)...)}
	g := k.expect(k.deltas(again...), "f@"+grants[2].AgentId)[0]
	if g.Id != 4 {
		t.Fatalf("grant %d has the number of another", g.Id)
	}
}

func TestFirstFitHasNoConfiguration(t *testing.T) {
	k := newKernel(t, firstfit(t))
	_, err := k.instance.apply(context.Background(), &allocatorpb.ToAllocator{
		Body: &allocatorpb.ToAllocator_Snapshot{Snapshot: &allocatorpb.Snapshot{ConfigJson: []byte(`{"a":1}`)}}})
	if err == nil || err.Error() != "the module says: firstfit has nothing to configure; remove its table config" {
		t.Fatal(err)
	}
}

// Memory is used again: the cluster comes and goes for long, in little of it.
func TestMemoryIsUsedAgain(t *testing.T) {
	l := unlimited(t, &bytes.Buffer{})
	l.memoryMB = 2
	k := newKernel(t, loaded(t, firstfitCode(t), l))
	for range 2000 {
		grants := k.deltas(agentIs("a", scalars(4, 64)...), agentIs("b", scalars(8, 64)...), frameworkIs("f", "x", "y"), frameworkIs("g", "x"))
		if len(grants) != 2 {
			t.Fatal(grants)
		}
		k.deltas(verdict(grants[0].Id, allocatorpb.Rejection_NONE), verdict(grants[1].Id, allocatorpb.Rejection_UNAVAILABLE), decline(grants[0], time.Hour))
		k.deltas(&allocatorpb.Delta{Body: &allocatorpb.Delta_AgentRemoved{AgentRemoved: "a"}},
			&allocatorpb.Delta{Body: &allocatorpb.Delta_AgentRemoved{AgentRemoved: "b"}},
			&allocatorpb.Delta{Body: &allocatorpb.Delta_FrameworkRemoved{FrameworkRemoved: "f"}},
			&allocatorpb.Delta{Body: &allocatorpb.Delta_FrameworkRemoved{FrameworkRemoved: "g"}})
	}
}
