package core

import (
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/wire"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/kernel/step"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// proposal turns grants into offers, one event for each framework, and answers each grant.
func (m *Machine) proposal(p *allocatorpb.FromAllocator, out *Effects) {
	var order []id.Framework
	offers := map[id.Framework][]*mesos.Offer{}
	for _, g := range p.GetGrants() {
		o, rejection, err := m.grant(p.GetEpoch(), g)
		v := &allocatorpb.Verdict{GrantId: g.GetId(), Rejection: rejection}
		if err != nil {
			v.Message = err.Error()
		} else {
			fid := id.Framework(g.FrameworkId)
			if offers[fid] == nil {
				order = append(order, fid)
			}
			offers[fid] = append(offers[fid], o)
		}
		if p.GetEpoch() == m.allocator.epoch {
			m.ask(&allocatorpb.Delta{Body: &allocatorpb.Delta_Verdict{Verdict: v}}, out)
		}
	}
	for _, fid := range order {
		m.notify(m.frameworks[fid], &schedulerpb.Event{
			Type:   schedulerpb.Event_OFFERS.Enum(),
			Offers: &schedulerpb.Event_Offers{Offers: offers[fid]},
		}, out)
	}
}

// grant checks one grant and, if it can be, makes it an offer with a claim in the ledger.
func (m *Machine) grant(epoch uint64, g *allocatorpb.Grant) (*mesos.Offer, allocatorpb.Rejection, error) {
	if epoch != m.allocator.epoch || !m.allocator.up {
		return nil, allocatorpb.Rejection_STALE_EPOCH, fmt.Errorf("epoch %d is over; this is %d", epoch, m.allocator.epoch)
	}
	a, f := m.agents[id.Agent(g.GetAgentId())], m.frameworks[id.Framework(g.GetFrameworkId())]
	switch {
	case a == nil:
		return nil, allocatorpb.Rejection_UNKNOWN_AGENT, fmt.Errorf("agent %q is not known", g.GetAgentId())
	case a.conn == 0:
		return nil, allocatorpb.Rejection_AGENT_NOT_OFFERABLE, fmt.Errorf("agent %s is not connected", a.id)
	case f == nil || f.removed || f.stream == "":
		return nil, allocatorpb.Rejection_UNKNOWN_FRAMEWORK, fmt.Errorf("framework %q is not subscribed", g.GetFrameworkId())
	case !f.hears(g.GetRole()):
		return nil, allocatorpb.Rejection_NOT_SUBSCRIBED, fmt.Errorf("framework %s hears no offers for role %q", f.id, g.GetRole())
	}
	resources, err := ledger.FromContract(g.GetResources())
	switch {
	case err != nil:
		return nil, allocatorpb.Rejection_MALFORMED, err
	case resources.Empty():
		return nil, allocatorpb.Rejection_MALFORMED, errors.New("the grant has no resources")
	case !resources.OfferableTo(g.GetRole()):
		return nil, allocatorpb.Rejection_MALFORMED, fmt.Errorf("%s has reservations that are not for role %q", resources, g.GetRole())
	}
	if err := rules.Capable(f.info, resources, a.info.GetDomain(), m.cfg.Info.GetDomain()); err != nil {
		return nil, allocatorpb.Rejection_INCAPABLE, err
	}
	mode := ledger.Exclusive
	if g.GetMode() == allocatorpb.ClaimMode_SHARED {
		mode = ledger.Shared
	}
	o := &offer{id: id.Offer(fmt.Sprintf("%s-O%d", m.cfg.ID, m.nextOffer)), agent: a.id, framework: f.id, role: g.GetRole(), made: m.now}
	if err := m.ledger.Claim(ledger.Claim{
		Offer: o.id, Agent: a.id, Framework: f.id, Role: o.role, Resources: resources, Mode: mode,
	}); err != nil {
		return nil, allocatorpb.Rejection_UNAVAILABLE, err
	}
	m.nextOffer++
	m.offers[o.id], a.offers[o.id], f.offers[o.id] = o, o, o
	if m.cfg.OfferTimeout > 0 {
		o.deadline = m.now.Add(m.cfg.OfferTimeout)
		m.deadlines.Add(o.deadline, step.Owner{Kind: offerDeadline, ID: string(o.id)})
	}
	return m.wireOffer(o, a, f, resources), allocatorpb.Rejection_NONE, nil
}

// wireOffer is the offer as its framework sees it.
func (m *Machine) wireOffer(o *offer, a *agent, f *framework, resources ledger.Resources) *mesos.Offer {
	w := wire.Offer(f.info, a.info, o.role, resources)
	w.Id, w.ExecutorIds = &mesos.OfferID{Value: proto.String(string(o.id))}, a.executorIDs(f)
	return w
}

// takeBack ends an offer and its claim and gives back what it held.
func (m *Machine) takeBack(o *offer) ledger.Claim {
	delete(m.offers, o.id)
	delete(m.agents[o.agent].offers, o.id)
	delete(m.frameworks[o.framework].offers, o.id)
	c, ok := m.ledger.Release(o.id)
	if !ok {
		panic(fmt.Sprintf("core: offer %s has no claim", o.id))
	}
	return c
}

// recovered tells the allocator what a framework holds no longer.
func (m *Machine) recovered(h ledger.Holding, refuse time.Duration, out *Effects) {
	if !m.agents[h.Agent].announced || h.Resources.Empty() {
		return
	}
	m.ask(&allocatorpb.Delta{Body: &allocatorpb.Delta_Recovered{Recovered: &allocatorpb.Recovered{
		Holding:     h.Contract(),
		RefuseNanos: int64(refuse),
	}}}, out)
}

// withdraw ends an offer without a word to its framework.
func (m *Machine) withdraw(o *offer, refuse time.Duration, out *Effects) {
	c := m.takeBack(o)
	m.recovered(ledger.Holding{Agent: o.agent, Framework: o.framework, Role: o.role, Resources: c.Resources}, refuse, out)
}

// noFilter tells the allocator of a decline that asks for no filter: it is still a refusal,
// where zero would read as if something had come free.
const noFilter = time.Nanosecond

// rescind ends an offer and tells its framework.
func (m *Machine) rescind(o *offer, refuse time.Duration, out *Effects) {
	m.notify(m.frameworks[o.framework], &schedulerpb.Event{
		Type:    schedulerpb.Event_RESCIND.Enum(),
		Rescind: &schedulerpb.Event_Rescind{OfferId: &mesos.OfferID{Value: proto.String(string(o.id))}},
	}, out)
	m.withdraw(o, refuse, out)
}

func (m *Machine) withdrawOffers(f *framework, out *Effects) {
	for _, oid := range sorted(f.offers) {
		m.withdraw(f.offers[oid], 0, out)
	}
}

func (m *Machine) decline(f *framework, c *schedulerpb.Call_Decline, out *Effects) {
	refuse := unwanted(c.GetFilters())
	for _, oid := range c.GetOfferIds() {
		if o := f.offers[id.Offer(oid.GetValue())]; o != nil {
			m.withdraw(o, refuse, out)
		}
	}
}

// accept spends offers: tasks are launched in order while they fit, and what is left over
// counts as declined.
func (m *Machine) accept(f *framework, c *schedulerpb.Call_Accept, out *Effects) {
	offers, err := m.acceptable(f, c.GetOfferIds())
	if err != nil {
		for _, o := range offers {
			m.withdraw(o, 0, out)
		}
		m.dropLaunches(f, c, err, out)
		return
	}
	a, role := m.agents[offers[0].agent], offers[0].role
	var pool ledger.Resources
	var offered step.Time
	for _, o := range offers {
		pool = pool.Plus(m.takeBack(o).Resources)
		offered = max(offered, o.made)
	}
	for _, op := range c.GetOperations() {
		for _, info := range op.GetLaunch().GetTaskInfos() {
			pool = m.launch(launch{f, a, role, offered, info}, pool, out)
		}
	}
	for _, oid := range m.ledger.Overdrawn(a.id) {
		m.rescind(m.offers[oid], 0, out)
	}
	m.recovered(ledger.Holding{Agent: a.id, Framework: f.id, Role: role, Resources: pool}, unwanted(c.GetFilters()), out)
}

// unwanted is for how long what was declined is not wanted; never zero.
func unwanted(f *mesos.Filters) time.Duration { return max(rules.RefuseSeconds(f), noFilter) }

// acceptable finds the offers of an ACCEPT: all known, the framework's, each once, of one
// agent and one role. With an error come those that exist, to be given back.
func (m *Machine) acceptable(f *framework, ids []*mesos.OfferID) ([]*offer, error) {
	var offers []*offer
	var err error
	seen := map[id.Offer]bool{}
	for _, oid := range ids {
		o := f.offers[id.Offer(oid.GetValue())]
		switch {
		case o == nil:
			err = sentencef("Offer %s is no longer valid", oid.GetValue())
			continue
		case seen[o.id]:
			err = sentencef("Duplicate offer %s in offer list", o.id)
			continue
		case len(offers) > 0 && o.agent != offers[0].agent:
			err = sentencef("Aggregated offers must belong to one single agent. Offer %s uses agent %s and agent %s", o.id, o.agent, offers[0].agent)
		case len(offers) > 0 && o.role != offers[0].role:
			err = sentencef("Aggregated offers must be allocated to the same role. Offer %s uses role %s but another is using role %s", o.id, o.role, offers[0].role)
		}
		seen[o.id] = true
		offers = append(offers, o)
	}
	if len(ids) == 0 {
		err = sentence("No offers specified")
	}
	return offers, err
}

// dropLaunches answers the launches of an ACCEPT whose offers were not valid.
func (m *Machine) dropLaunches(f *framework, c *schedulerpb.Call_Accept, why error, out *Effects) {
	for _, op := range c.GetOperations() {
		for _, info := range op.GetLaunch().GetTaskInfos() {
			m.ended[mesos.TaskState_TASK_DROPPED]++
			m.notifyUpdate(f, m.status(f, info.GetTaskId(), info.GetAgentId(), verdict{
				state: mesos.TaskState_TASK_DROPPED, reason: mesos.TaskStatus_REASON_INVALID_OFFERS,
				message: "Task launched with invalid offers: " + why.Error(),
			}), out)
		}
	}
}
