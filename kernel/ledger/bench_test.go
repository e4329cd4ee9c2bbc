package ledger

import (
	"fmt"
	"testing"

	"github.com/gantry-project/gantry/kernel/id"
)

// fleet is a ledger of 10,000 agents with ten tasks each.
func fleet(b *testing.B) (*Ledger, []id.Agent) {
	b.Helper()
	l := New()
	total, need := parsed(b, "cpus:32;mem:131072;disk:500000;ports:[31000-32000]"), parsed(b, "cpus:0.5;mem:256")
	agents := make([]id.Agent, 10_000)
	for i := range agents {
		agents[i] = id.Agent(fmt.Sprintf("M-S%d", i))
		if err := l.Admit(agents[i], total); err != nil {
			b.Fatal(err)
		}
		for task := range 10 {
			err := l.Use(Use{Task: key(fmt.Sprintf("%d.%d", i, task)), Agent: agents[i], Role: "web", Resources: need})
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	return l, agents
}

// BenchmarkOfferToTask is the life of an offer that becomes a task, which then ends.
func BenchmarkOfferToTask(b *testing.B) {
	l, agents := fleet(b)
	need := parsed(b, "cpus:0.5;mem:256;ports:[31005-31006]")
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		agent := agents[i%len(agents)]
		if err := l.Claim(Claim{Offer: "O", Agent: agent, Framework: "F", Role: "web", Resources: l.Free(agent)}); err != nil {
			b.Fatal(err)
		}
		l.Release("O")
		if err := l.Use(Use{Task: key("new"), Agent: agent, Role: "web", Resources: need}); err != nil {
			b.Fatal(err)
		}
		l.Unuse(key("new"))
	}
}

func BenchmarkClaimRelease(b *testing.B) {
	l, agents := fleet(b)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		agent := agents[i%len(agents)]
		if err := l.Claim(Claim{Offer: "O", Agent: agent, Framework: "F", Role: "web", Resources: l.Free(agent)}); err != nil {
			b.Fatal(err)
		}
		l.Release("O")
	}
}

func BenchmarkUseUnuse(b *testing.B) {
	l, agents := fleet(b)
	need := parsed(b, "cpus:0.5;mem:256;ports:[31005-31006]")
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		if err := l.Use(Use{Task: key("new"), Agent: agents[i%len(agents)], Role: "web", Resources: need}); err != nil {
			b.Fatal(err)
		}
		l.Unuse(key("new"))
	}
}

func BenchmarkCheck(b *testing.B) {
	l, _ := fleet(b)
	b.ResetTimer()
	for range b.N {
		if err := l.Check(); err != nil {
			b.Fatal(err)
		}
	}
}
