// Package policy is dominant resource fairness as a pure machine: the kernel's messages
// in, grants out. It has no clock, randomness or goroutine, and no result depends on the
// order of a map, so the same messages always give the same grants.
//
//	p, err := policy.New(policy.Config{})
//	grants := p.Apply(message)
//
// Roles are a tree: a/b and a/c compete with each other for what a is due, and a with
// its siblings for what the cluster has. The one with the smallest dominant share, of it
// and all below it, divided by its weight, comes first. The frameworks of a role that has
// roles below it compete with those as if they were one more of them, of weight 1.
// Within a role the framework with the smallest share comes first. A share is compared
// as an exact fraction. An agent's whole rest goes to the first in line that may have it
// and has not refused it.
//
// Work follows change: an agent is looked at when something of it came free, when a
// refusal of it ended, or, if it stands idle, when a framework comes into line that has
// not seen it. Nothing walks the whole cluster for one message.
//
// Nobody starves: whoever refused resources, however short, comes after everybody who
// may have them and has had nothing at all since that refusal.
package policy
