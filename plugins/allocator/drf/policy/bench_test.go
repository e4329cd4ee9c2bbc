package policy

import (
	"fmt"
	"testing"
	"time"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	resourcepb "github.com/gantry-project/gantry/sdk/proto/gantry/resource/v1"
)

const (
	manyAgents     = 10_000
	manyFrameworks = 1_000
)

// full is 10,000 agents, some with resources reserved to a role, and 1,000 frameworks in
// 100 roles two levels below the root.
func full() *allocatorpb.ToAllocator {
	s := &allocatorpb.Snapshot{}
	for i := range manyAgents {
		a := &allocatorpb.Agent{Id: fmt.Sprintf("s%05d", i), Total: scalars(16, 65536)}
		if i%10 == 0 {
			a.Total = append(a.Total, &resourcepb.Resource{
				Name: "cpus", Milli: 1000, Reservation: fmt.Sprintf(`[{"type":"static","role":"org-%d"}]`, i/10%10),
			})
		}
		s.Agents = append(s.Agents, a)
	}
	for i := range manyFrameworks {
		s.Frameworks = append(s.Frameworks, &allocatorpb.Framework{
			Id: fmt.Sprintf("f%04d", i), Roles: []string{fmt.Sprintf("org-%d/team-%d", i%10, i/10%10)}, Active: true,
		})
	}
	return &allocatorpb.ToAllocator{NowUnixNanos: 1, Body: &allocatorpb.ToAllocator_Snapshot{Snapshot: s}}
}

func BenchmarkFirstAllocation(b *testing.B) {
	m := full()
	for b.Loop() {
		c := newCluster(b, Config{})
		if n := len(c.policy.Apply(m)); n < manyAgents {
			b.Fatalf("%d grants", n)
		}
	}
}

// One agent of the full cluster comes free and is granted to the next in line.
func BenchmarkOneAgentComesFree(b *testing.B) {
	c := newCluster(b, Config{})
	grants := c.policy.Apply(full())
	g := grants[0]
	b.ReportAllocs()
	for b.Loop() {
		next := c.tell(decline(g, 0))
		if len(next) != 1 {
			b.Fatalf("%d grants", len(next))
		}
		g = next[0]
	}
}

// One agent comes free and all but the last of 1,000 frameworks refuse it.
func BenchmarkOneAgentThatAllRefuse(b *testing.B) {
	c := newCluster(b, Config{})
	g := c.policy.Apply(full())[0]
	for range manyFrameworks - 1 {
		g = c.tell(decline(g, time.Hour))[0]
	}
	b.ReportAllocs()
	for b.Loop() {
		next := c.tell(decline(g, 0))
		if len(next) != 1 {
			b.Fatalf("%d grants", len(next))
		}
		g = next[0]
	}
}

// A framework that has refused everything revives, while nothing is free.
func BenchmarkRevive(b *testing.B) {
	c := newCluster(b, Config{})
	m := full()
	grants := c.policy.Apply(m)
	for range 5 {
		var deltas []*allocatorpb.Delta
		for _, g := range grants {
			deltas = append(deltas, decline(g, time.Hour))
		}
		grants = c.tell(deltas...)
	}
	f := m.GetSnapshot().Frameworks[0]
	b.ReportAllocs()
	for b.Loop() {
		if n := len(c.tell(revive(f.Id, f.Roles...))); n > 0 {
			b.Fatalf("%d grants", n)
		}
	}
}

// One agent joins the full cluster and leaves it again: everybody's share changes.
func BenchmarkOneAgentJoins(b *testing.B) {
	c := newCluster(b, Config{})
	c.policy.Apply(full())
	joins := agentIs("new", scalars(16, 65536)...)
	leaves := &allocatorpb.Delta{Body: &allocatorpb.Delta_AgentRemoved{AgentRemoved: "new"}}
	b.ReportAllocs()
	for b.Loop() {
		if n := len(c.tell(joins)); n != 1 {
			b.Fatalf("%d grants", n)
		}
		c.tell(leaves)
	}
}
