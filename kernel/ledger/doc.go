// Package ledger is the kernel's account of every resource: exact arithmetic on
// resources, and who holds what on which agent. An account is never negative and never
// over-committed; [Ledger.Check] proves it.
//
// Amounts are integers. A scalar is counted in thousandths, which is what the wire's
// three decimals mean, so that sums are exact and a thousand round trips lose nothing.
//
//	books := ledger.New()
//	total, err := ledger.Parse("cpus:4;mem:4096;ports:[31000-32000]")
//	err = books.Admit(agent, total)
//	err = books.Claim(ledger.Claim{Offer: offer, Agent: agent, Framework: fw, Role: "web", Resources: books.Free(agent)})
//	claim, _ := books.Release(offer)
//	err = books.Use(ledger.Use{Task: task, Agent: agent, Role: claim.Role, Resources: wanted})
//
// The package is pure: no clock, no lock, no goroutine, and nothing depends on the order
// of a map. A Ledger has one owner; Resources are immutable and may be shared freely.
package ledger
