package ledger

import (
	"errors"
	"fmt"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	resourcepb "github.com/gantry-project/gantry/sdk/proto/gantry/resource/v1"
)

// FromContract reads the resources of a plugin's message. Their amounts may come in any
// order; reservation and disk must be the ledger's own text.
func FromContract(list []*resourcepb.Resource) (Resources, error) {
	read := make([]Resource, 0, len(list))
	for _, p := range list {
		r := Resource{
			Key: Key{
				Name:        p.GetName(),
				Reservation: p.GetReservation(),
				Disk:        p.GetDisk(),
				Revocable:   p.GetRevocable(),
				Shared:      p.GetShared(),
			},
			Milli: p.GetMilli(),
			Items: p.GetItems(),
		}
		for _, g := range p.GetRanges() {
			r.Ranges = append(r.Ranges, Range{g.GetBegin(), g.GetEnd()})
		}
		if err := checkContract(r); err != nil {
			return Resources{}, fmt.Errorf("resource %q: %w", p.GetName(), err)
		}
		read = append(read, r)
	}
	return bounded(read)
}

func checkContract(r Resource) error {
	switch {
	case r.Name == "":
		return errors.New("it has no name")
	case r.Disk != "" && r.Name != "disk":
		return errors.New("it is no disk but has a volume")
	case r.Milli > maxMilli:
		return fmt.Errorf("%d thousandths are more than %d", r.Milli, int64(maxMilli))
	case overlapping(r.Ranges):
		return errors.New("ranges overlap")
	case len(normalItems(r.Items)) != len(r.Items):
		return errors.New("items are given twice")
	}
	return r.check()
}

// Contract returns the resources as plugins see them.
func (r Resources) Contract() []*resourcepb.Resource {
	out := make([]*resourcepb.Resource, len(r.list))
	for i, have := range r.list {
		p := &resourcepb.Resource{
			Name:        have.Name,
			Reservation: have.Reservation,
			Disk:        have.Disk,
			Revocable:   have.Revocable,
			Shared:      have.Shared,
			Milli:       have.Milli,
			Items:       append([]string(nil), have.Items...),
		}
		for _, g := range have.Ranges {
			p.Ranges = append(p.Ranges, &resourcepb.Range{Begin: g.Begin, End: g.End})
		}
		out[i] = p
	}
	return out
}

// Contract is the holding as allocators know it.
func (h Holding) Contract() *allocatorpb.Holding {
	return &allocatorpb.Holding{
		AgentId: string(h.Agent), FrameworkId: string(h.Framework), Role: h.Role, Resources: h.Resources.Contract(),
	}
}

// ContractHoldings is Contract of each.
func ContractHoldings(all []Holding) []*allocatorpb.Holding {
	list := make([]*allocatorpb.Holding, 0, len(all))
	for _, h := range all {
		list = append(list, h.Contract())
	}
	return list
}
