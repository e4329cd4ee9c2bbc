// Package policy is dominant resource fairness as a pure machine: the kernel's messages
// in, grants out. It has no clock, randomness or goroutine, and no result depends on the
// order of a map, so the same messages always give the same grants.
//
//	p, err := policy.New(policy.Config{})
//	grants := p.Apply(message)
//
// Roles compete by their dominant share divided by their weight, the frameworks of a
// role by their own. A share is compared as an exact fraction. An agent's whole rest
// goes to the first in line that may have it and has not refused it.
//
// Work follows change: an agent is looked at when something of it came free, when a
// refusal of it ended, or, if it stands idle, when a framework comes into line that has
// not seen it. Nothing walks the whole cluster for one message.
//
// Nobody starves: a refusal that is over does not make its framework first again at
// once; whoever has not refused these resources is asked before.
package policy
