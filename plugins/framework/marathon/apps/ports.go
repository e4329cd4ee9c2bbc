package apps

import (
	"slices"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
)

// Service ports that are left to us come from this range.
const (
	firstServicePort = 10000
	lastServicePort  = 20000
)

// assignServicePorts gives ports that new definitions have as 0 a number of their own, the
// one they had if there was one. Where a definition requires ports on the host, 0 stays "any".
func (m *Machine) assignServicePorts(targets []target) {
	if !slices.ContainsFunc(targets, target.wantsPorts) {
		return
	}
	used := portUse{}
	for _, a := range m.apps { // any order: counts
		if !a.removed {
			used.add(a.spec(), 1)
		}
	}
	for _, g := range targets { // ports that a definition names come before those we choose
		if g.defined() {
			used.add(g.spec, 1)
		}
	}
	next := firstServicePort
	for _, g := range targets {
		if g.wantsPorts() {
			next = used.assign(g, next)
		}
	}
}

func (g target) defined() bool { return g.spec != nil && g.action == "" }

func (g target) wantsPorts() bool {
	return g.defined() && !g.spec.RequirePorts && slices.Contains(g.spec.ServicePorts(), 0)
}

// portUse counts the definitions that have a service port.
type portUse map[int]int

func (u portUse) add(spec *definition.App, n int) {
	for _, p := range spec.ServicePorts() {
		u[p] += n
	}
}

// assign fills in g's ports; none below next is free, nor below the port that it returns.
func (u portUse) assign(g target, next int) int {
	var before []definition.PortDefinition
	if g.app != nil {
		before = g.app.spec().PortDefinitions
		u.add(g.app.spec(), -1) // its own are free for it
	}
	ports := slices.Clone(g.spec.PortDefinitions)
	for i := range ports {
		if ports[i].Port != 0 {
			continue
		}
		if i < len(before) && before[i].Port != 0 && u[before[i].Port] == 0 {
			ports[i].Port = before[i].Port
			u[ports[i].Port]++
			continue
		}
		for next <= lastServicePort && u[next] > 0 {
			next++
		}
		if next > lastServicePort {
			break // none is left: 0 is still a working definition
		}
		ports[i].Port = next
		u[next]++
	}
	g.spec.PortDefinitions = ports
	return next
}
