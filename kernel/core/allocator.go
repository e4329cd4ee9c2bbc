package core

import (
	"github.com/gantry-project/gantry/kernel/ledger"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

// allocatorUp begins a new epoch with a snapshot of everything.
func (m *Machine) allocatorUp(ev AllocatorUp, out *Effects) {
	m.allocator = allocator{epoch: m.allocator.epoch + 1, up: true}
	s := &allocatorpb.Snapshot{ConfigJson: ev.Config, Roles: m.weights.Contracts(), Domain: m.cfg.Info.GetDomain()}
	for _, aid := range sorted(m.agents) {
		if a := m.agents[aid]; a.conn != 0 {
			s.Agents = append(s.Agents, m.allocatorAgent(a))
		}
	}
	for _, fid := range sorted(m.frameworks) {
		s.Frameworks = append(s.Frameworks, m.frameworks[fid].contract())
	}
	out.Ask = append(out.Ask, AllocatorAsk{Epoch: m.allocator.epoch, Snapshot: s})
}

// allocatorAgent is an agent with its holdings as allocators know it.
func (m *Machine) allocatorAgent(a *agent) *allocatorpb.Agent {
	total, _ := m.ledger.Total(a.id)
	return &allocatorpb.Agent{
		Id: string(a.id), Hostname: a.info.GetHostname(), Total: total.Contract(),
		Holdings: ledger.ContractHoldings(m.ledger.Holdings(a.id)), Attributes: a.info.Attributes, Domain: a.info.Domain,
	}
}
