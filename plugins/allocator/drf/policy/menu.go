package policy

import (
	"encoding/json"
	"slices"
	"strings"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// framework is what decides which offers a framework can use.
type framework struct {
	id      string
	roles   []string
	class   class
	gpus    bool
	regions bool
}

// class is what resources a framework can make use of beside plain ones, a bit for each.
type class uint8

const (
	revocable class = 1 << iota
	shared
	refined // reserved more than once, to ever deeper roles
	classes
)

// capable takes over a capability that matters here.
func (f *framework) capable(c mesos.FrameworkInfo_Capability_Type) {
	switch c {
	case mesos.FrameworkInfo_Capability_REVOCABLE_RESOURCES:
		f.class |= revocable
	case mesos.FrameworkInfo_Capability_SHARED_RESOURCES:
		f.class |= shared
	case mesos.FrameworkInfo_Capability_RESERVATION_REFINEMENT:
		f.class |= refined
	case mesos.FrameworkInfo_Capability_GPU_RESOURCES:
		f.gpus = true
	case mesos.FrameworkInfo_Capability_REGION_AWARE:
		f.regions = true
	}
}

// gained says whether f can use what old could not.
func (f *framework) gained(old *framework) bool {
	return f.class&^old.class != 0 || f.gpus && !old.gpus || f.regions && !old.regions
}

// takers reads from k who may be offered it: those of class needs in the role to, or
// below it; any role if k is not reserved. A reservation that can't be read is to nobody.
func (k kind) takers() (to string, needs class) {
	if k.revocable {
		needs |= revocable
	}
	if k.shared {
		needs |= shared
	}
	if k.reservation == "" {
		return "", needs
	}
	var path []struct {
		Role string `json:"role"`
	}
	if err := json.Unmarshal([]byte(k.reservation), &path); err != nil || len(path) == 0 {
		return "", needs
	}
	if len(path) > 1 {
		needs |= refined
	}
	return path[len(path)-1].Role, needs
}

// menu is what is free of an agent, and which part of it each taker could be offered.
type menu struct {
	rest  bag
	least least
	needs class    // of anything in rest: capabilities beyond it make no difference
	to    []string // roles that something is reserved to

	common table // for roles that nothing is reserved to
	own    table // for the role of leaf
	leaf   *node
}

// table is indexed by what both the taker is capable of and the rest needs.
type table [classes]dish

type dish struct {
	known bool // the rest is filled in
	worth bool // part is worth an offer to who has no least of its own
	part  bag
}

func newMenu(rest bag, l least) *menu {
	m := &menu{rest: rest, least: l}
	for _, a := range rest {
		m.needs |= a.needs
		if a.reservation != "" && !slices.Contains(m.to, a.to) {
			m.to = append(m.to, a.to)
		}
	}
	return m
}

// part is what s could be offered, and whether that is worth an offer.
func (m *menu) part(s *subscription) (bag, bool) {
	t := &m.common
	if slices.ContainsFunc(m.to, func(to string) bool { return below(s.role, to) }) {
		if m.leaf != s.leaf {
			m.own, m.leaf = table{}, s.leaf
		}
		t = &m.own
	}
	able := s.framework.class & m.needs
	d := &t[able]
	if !d.known {
		d.part = m.rest.offerable(s.role, able)
		d.known, d.worth = true, m.least.met(d.part)
	}
	if s.least != nil {
		return d.part, s.least.met(d.part)
	}
	return d.part, d.worth
}

// offerable is the part of b that may be offered in role to whoever is capable of c.
func (b bag) offerable(role string, c class) bag {
	mayNot := func(a amount) bool {
		return a.needs&^c != 0 || a.reservation != "" && !below(role, a.to)
	}
	if !slices.ContainsFunc(b, mayNot) {
		return b
	}
	return slices.DeleteFunc(slices.Clone(b), mayNot)
}

// below says whether role is to or one below it.
func below(role, to string) bool {
	rest, ok := strings.CutPrefix(role, to)
	return ok && to != "" && (rest == "" || rest[0] == '/')
}
