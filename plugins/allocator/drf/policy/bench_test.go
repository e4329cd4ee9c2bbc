package policy

import (
	"fmt"
	"testing"
	"time"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

const (
	manyAgents     = 10_000
	manyFrameworks = 1_000
)

// full is 10,000 agents and 1,000 frameworks in 10 roles.
func full() *allocatorpb.ToAllocator {
	s := &allocatorpb.Snapshot{}
	for i := range manyAgents {
		s.Agents = append(s.Agents, &allocatorpb.Agent{Id: fmt.Sprintf("s%05d", i), Total: scalars(16, 65536)})
	}
	for i := range manyFrameworks {
		s.Frameworks = append(s.Frameworks, &allocatorpb.Framework{
			Id: fmt.Sprintf("f%04d", i), Roles: []string{fmt.Sprintf("role-%d", i%10)}, Active: true,
		})
	}
	return &allocatorpb.ToAllocator{NowUnixNanos: 1, Body: &allocatorpb.ToAllocator_Snapshot{Snapshot: s}}
}

func BenchmarkFirstAllocation(b *testing.B) {
	m := full()
	for b.Loop() {
		c := newCluster(b, Config{})
		if n := len(c.policy.Apply(m)); n != manyAgents {
			b.Fatalf("%d grants", n)
		}
	}
}

// One agent of the full cluster comes free and is granted to the next in line.
func BenchmarkOneAgentComesFree(b *testing.B) {
	c := newCluster(b, Config{})
	grants := c.policy.Apply(full())
	g := grants[0]
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
	for b.Loop() {
		next := c.tell(decline(g, 0))
		if len(next) != 1 {
			b.Fatalf("%d grants", len(next))
		}
		g = next[0]
	}
}
