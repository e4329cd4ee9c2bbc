package core

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/corepb"
	"github.com/gantry-project/gantry/kernel/core/registry"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/rules"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// setWeights sets weights of roles, all of them or, if one is not acceptable, none. Where
// it matters to a framework, what is offered is offered anew.
func (m *Machine) setWeights(ev SetWeights, out *Effects) {
	changed, err := m.weights.Changed(ev.Weights)
	if err != nil {
		out.Replies = append(out.Replies, Reply{Request: ev.Request, Status: statusBadRequest, Message: err.Error()})
		return
	}
	out.Replies = append(out.Replies, Reply{Request: ev.Request, Status: statusOK})
	for _, role := range changed.Roles() {
		m.weights[role] = changed[role]
		out.Persist = append(out.Persist, registry.Weight(&corepb.WeightRecord{Role: role, WeightMilli: changed[role]}))
		m.ask(&allocatorpb.Delta{Body: &allocatorpb.Delta_Role{Role: m.weights.Contract(role)}}, out)
	}
	again := false
	for _, f := range m.streams { // any order: only whether there is one
		again = again || changed.Concern(f.roles)
	}
	if !again {
		return
	}
	for _, oid := range sorted(m.offers) {
		m.rescind(m.offers[oid], 0, out)
	}
}

// Weights answers GET_WEIGHTS: the roles whose weight somebody set.
func (m *Machine) Weights() *masterpb.Response_GetWeights { return m.weights.Wire() }

// Roles answers GET_ROLES: the roles with a weight, a framework, or something allocated.
func (m *Machine) Roles() *masterpb.Response_GetRoles {
	holds, members := map[string]ledger.Resources{}, map[string][]*mesos.FrameworkID{}
	for _, aid := range m.ledger.Agents() {
		for _, h := range m.ledger.Holdings(aid) {
			holds[h.Role] = holds[h.Role].Plus(h.Resources)
		}
	}
	for _, fid := range sorted(m.frameworks) {
		for _, role := range m.frameworks[fid].roles {
			members[role] = append(members[role], m.frameworks[fid].info.Id)
		}
	}
	known := slices.Concat(m.weights.Roles(), sorted(holds), sorted(members))
	slices.Sort(known)
	r := &masterpb.Response_GetRoles{}
	for _, role := range slices.Compact(known) {
		r.Roles = append(r.Roles, &mesos.Role{
			Name: proto.String(role), Weight: proto.Float64(m.weights.Of(role)),
			Frameworks: members[role], Resources: holds[role].Mesos(role),
		})
	}
	return r
}

// updateFramework changes what a subscribed framework says of itself, without a new
// subscription. Offers for roles that it leaves are rescinded.
func (m *Machine) updateFramework(f *framework, ev Call, out *Effects) {
	c := ev.Call.GetUpdateFramework()
	err := fits(c.GetFrameworkInfo()) // before anything walks over it
	if err == nil {
		err = rules.UpdateFramework(f.info, c, ev.Principal)
	}
	if err == nil {
		err = m.makeRoom(f, c.GetFrameworkInfo(), out)
	}
	if err != nil {
		m.reply(ev, statusBadRequest, "Not a valid update of the framework: "+err.Error(), out)
		return
	}
	m.reply(ev, statusOK, "", out)
	deaf := sorted(f.suppressed)
	f.setInfo(c.GetFrameworkInfo())
	f.suppress(c.GetSuppressedRoles())
	m.persistFramework(f, out)
	m.askFramework(f, out)
	m.askRevived(f, slices.DeleteFunc(deaf, func(role string) bool { return !f.hears(role) }), out)
	for _, oid := range sorted(f.offers) {
		if o := f.offers[oid]; !f.in(o.role) {
			m.rescind(o, 0, out)
		}
	}
	m.tellFrameworkUpdated(f, out)
}

// suppress makes these, of all the framework's roles, want no offers.
func (f *framework) suppress(roles []string) {
	clear(f.suppressed)
	for _, role := range roles {
		f.suppressed[role] = true
	}
}

// teardown ends a framework for an operator.
func (m *Machine) teardown(ev Teardown, out *Effects) {
	f := m.frameworks[ev.Framework]
	if f == nil || f.removed {
		out.Replies = append(out.Replies, Reply{Request: ev.Request, Status: statusBadRequest, Message: "No framework found with specified ID"})
		return
	}
	out.Replies = append(out.Replies, Reply{Request: ev.Request, Status: statusOK})
	m.removeFramework(f, out)
}
