package main

import (
	"fmt"
	"testing"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

// full is a cluster of so many agents, and a tenth of that many frameworks in 10 roles: at
// 10,000 the one that the benchmarks of allocator-drf have.
func full(agents int) *allocatorpb.ToAllocator {
	s := &allocatorpb.Snapshot{}
	for i := range agents {
		s.Agents = append(s.Agents, &allocatorpb.Agent{Id: fmt.Sprintf("s%05d", i), Total: scalars(16, 65536)})
	}
	for i := range max(agents/10, 1) {
		s.Frameworks = append(s.Frameworks, &allocatorpb.Framework{
			Id: fmt.Sprintf("f%04d", i), Roles: []string{fmt.Sprintf("role-%d", i%10)}, Active: true,
		})
	}
	return &allocatorpb.ToAllocator{NowUnixNanos: 1, Body: &allocatorpb.ToAllocator_Snapshot{Snapshot: s}}
}

func BenchmarkFirstAllocation(b *testing.B) {
	for _, agents := range []int{100, 10_000} {
		b.Run(fmt.Sprint(agents), func(b *testing.B) {
			m := firstfit(b)
			snapshot := full(agents)
			for b.Loop() {
				b.StopTimer()
				k := newKernel(b, m)
				b.StartTimer()
				if n := len(k.tell(snapshot)); n != agents {
					b.Fatalf("%d grants", n)
				}
				k.instance.close()
			}
		})
	}
}

// One agent of the full cluster comes free and is granted to the next in line.
func BenchmarkOneAgentComesFree(b *testing.B) {
	for _, agents := range []int{100, 10_000} {
		b.Run(fmt.Sprint(agents), func(b *testing.B) {
			k := newKernel(b, firstfit(b))
			g := k.tell(full(agents))[0]
			for b.Loop() {
				next := k.deltas(decline(g, 0))
				if len(next) != 1 {
					b.Fatalf("%d grants", len(next))
				}
				g = next[0]
			}
		})
	}
}
