package core

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/corepb"
	"github.com/gantry-project/gantry/kernel/core/registry"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/rules"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

const (
	maxWeights  = 10_000 // roles with a weight of their own
	usualWeight = 1000   // thousandths
)

// setWeights sets weights of roles, all of them or, if one is not acceptable, none. Where
// it matters to a framework, what is offered is offered anew.
func (m *Machine) setWeights(ev SetWeights, out *Effects) {
	weights, err := m.readWeights(ev.Weights)
	if err != nil {
		out.Replies = append(out.Replies, Reply{Request: ev.Request, Status: statusBadRequest, Message: err.Error()})
		return
	}
	out.Replies = append(out.Replies, Reply{Request: ev.Request, Status: statusOK})
	again := false
	for _, role := range sorted(weights) {
		if m.weights[role] == weights[role] {
			continue
		}
		m.weights[role] = weights[role]
		out.Persist = append(out.Persist, registry.Weight(&corepb.WeightRecord{Role: role, WeightMilli: weights[role]}))
		m.ask(&allocatorpb.Delta{Body: &allocatorpb.Delta_Role{Role: m.contractRole(role)}}, out)
		again = again || m.subscribedBelow(role)
	}
	if !again {
		return
	}
	for _, oid := range sorted(m.offers) {
		m.rescind(m.offers[oid], 0, out)
	}
}

// readWeights checks weights and converts them to thousandths; of several for a role the
// last one counts.
func (m *Machine) readWeights(list []*mesos.WeightInfo) (map[string]int64, error) {
	weights := map[string]int64{}
	for _, w := range list {
		role, milli, err := rules.Weight(w)
		if err != nil {
			return nil, sentence("Failed to validate update weights request: " + err.Error())
		}
		weights[role] = milli
	}
	all := maps.Clone(m.weights)
	maps.Copy(all, weights)
	if len(all) > maxWeights {
		return nil, sentencef("%d roles would have a weight; at most %d may", len(all), maxWeights)
	}
	return weights, nil
}

// subscribedBelow tells whether a connected framework is in the role or in one below it.
func (m *Machine) subscribedBelow(role string) bool {
	for _, f := range m.streams { // any order: only whether there is one
		if slices.ContainsFunc(f.roles, func(have string) bool { return have == role || strings.HasPrefix(have, role+"/") }) {
			return true
		}
	}
	return false
}

func (m *Machine) contractRole(role string) *allocatorpb.Role {
	return &allocatorpb.Role{Name: role, WeightMilli: m.weights[role]}
}

// Weights answers GET_WEIGHTS: the roles whose weight somebody set.
func (m *Machine) Weights() *masterpb.Response_GetWeights {
	r := &masterpb.Response_GetWeights{}
	for _, role := range sorted(m.weights) {
		r.WeightInfos = append(r.WeightInfos, &mesos.WeightInfo{Role: proto.String(role), Weight: proto.Float64(float64(m.weights[role]) / 1000)})
	}
	return r
}

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
	known := slices.Concat(sorted(m.weights), sorted(holds), sorted(members))
	slices.Sort(known)
	r := &masterpb.Response_GetRoles{}
	for _, role := range slices.Compact(known) {
		weight := cmp.Or(m.weights[role], usualWeight)
		r.Roles = append(r.Roles, &mesos.Role{
			Name: proto.String(role), Weight: proto.Float64(float64(weight) / 1000),
			Frameworks: members[role], Resources: holds[role].Mesos(role),
		})
	}
	return r
}

// updateFramework changes what a subscribed framework says of itself, without a new
// subscription. Offers for roles that it leaves are rescinded.
func (m *Machine) updateFramework(f *framework, ev Call, out *Effects) {
	c := ev.Call.GetUpdateFramework()
	err := rules.UpdateFramework(f.info, c, ev.Principal)
	if n := proto.Size(c.GetFrameworkInfo()); err == nil && n > maxInfo {
		err = sentencef("FrameworkInfo has %d bytes; at most %d are taken", n, maxInfo)
	}
	if err != nil {
		m.reply(ev, statusBadRequest, "Not a valid update of the framework: "+err.Error(), out)
		return
	}
	m.reply(ev, statusOK, "", out)
	var taken []string
	for _, role := range f.roles {
		if f.suppressed[role] && !slices.Contains(c.GetSuppressedRoles(), role) {
			taken = append(taken, role)
		}
	}
	f.setInfo(c.GetFrameworkInfo())
	f.suppress(c.GetSuppressedRoles())
	m.persistFramework(f, out)
	m.askFramework(f, out)
	m.askRevived(f, slices.DeleteFunc(taken, func(role string) bool { return !f.hears(role) }), out)
	for _, oid := range sorted(f.offers) {
		if o := f.offers[oid]; !slices.Contains(f.roles, o.role) {
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

// sortedRoles is every role with a weight, as allocators know it.
func (m *Machine) sortedRoles() []*allocatorpb.Role {
	var list []*allocatorpb.Role
	for _, role := range sorted(m.weights) {
		list = append(list, m.contractRole(role))
	}
	return list
}
