package apps

import (
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// pool is what is left of an offer while tasks are cut from it. Scalars are counted in
// thousandths; what is reserved goes first.
type pool struct {
	scalars map[string][]scalarPiece
	ports   []portPiece
}

type scalarPiece struct {
	kind  *mesos.Resource // what a cut looks like but for its amount
	milli int64
}

type portPiece struct {
	kind   *mesos.Resource
	ranges []portRange
}

// portRange is inclusive.
type portRange struct{ first, last int }

// newPool takes the plain resources of an offer: nothing revocable, shared or on a
// special disk.
func newPool(resources []*mesos.Resource) *pool {
	p := &pool{scalars: map[string][]scalarPiece{}}
	for _, r := range resources {
		if r.GetRevocable() != nil || r.GetShared() != nil || r.GetDisk() != nil || r.GetProviderId() != nil {
			continue
		}
		switch {
		case r.GetType() == mesos.Value_SCALAR:
			piece := scalarPiece{kind: r, milli: milli(r.GetScalar().GetValue())}
			p.scalars[r.GetName()] = append(p.scalars[r.GetName()], piece)
		case r.GetType() == mesos.Value_RANGES && r.GetName() == "ports":
			piece := portPiece{kind: r}
			for _, span := range r.GetRanges().GetRange() {
				if span.GetBegin() <= span.GetEnd() && span.GetEnd() <= math.MaxUint16 {
					piece.ranges = append(piece.ranges, portRange{int(span.GetBegin()), int(span.GetEnd())})
				}
			}
			p.ports = append(p.ports, piece)
		}
	}
	for _, pieces := range p.scalars { // any order: each is sorted by itself
		slices.SortStableFunc(pieces, func(a, b scalarPiece) int { return reservedFirst(a.kind, b.kind) })
	}
	slices.SortStableFunc(p.ports, func(a, b portPiece) int { return reservedFirst(a.kind, b.kind) })
	return p
}

func reservedFirst(a, b *mesos.Resource) int {
	return min(1, len(b.GetReservations())) - min(1, len(a.GetReservations()))
}

func milli(value float64) int64 { return int64(math.Round(value * 1000)) }

func (p *pool) has(name string, amount int64) bool { return p.left(name) >= amount }

func (p *pool) left(name string) int64 {
	total := int64(0)
	for _, piece := range p.scalars[name] {
		total += piece.milli
	}
	return total
}

// take cuts amount, which must be there.
func (p *pool) take(name string, amount int64) []*mesos.Resource {
	var cuts []*mesos.Resource
	pieces := p.scalars[name]
	for i := range pieces {
		part := min(amount, pieces[i].milli)
		if part <= 0 {
			continue
		}
		cut := proto.CloneOf(pieces[i].kind)
		cut.Scalar = &mesos.Value_Scalar{Value: new(float64(part) / 1000)}
		cuts = append(cuts, cut)
		pieces[i].milli -= part
		amount -= part
	}
	if amount > 0 {
		panic("apps: cut more " + name + " than the offer holds")
	}
	return cuts
}

// choosePorts finds a host port for each definition: the defined one where it is
// required, otherwise any, beginning at a place that depends on seed so that a port that
// was just given back is not the next one given out. It takes nothing.
func (p *pool) choosePorts(spec *definition.App, seed uint64) ([]int, bool) {
	chosen := make([]int, 0, len(spec.PortDefinitions))
	total := 0
	for _, piece := range p.ports {
		for _, r := range piece.ranges {
			total += r.last - r.first + 1
		}
	}
	if spec.RequirePorts {
		for _, d := range spec.PortDefinitions {
			if d.Port != 0 && !p.hasPort(d.Port) {
				return nil, false
			}
		}
	}
	fixed := map[int]bool{}
	if spec.RequirePorts {
		for _, port := range spec.ServicePorts() {
			fixed[port] = true
		}
	}
	cursor, tried := 0, 0
	if total > 0 {
		cursor = int(seed * 7919 % uint64(total))
	}
	for _, d := range spec.PortDefinitions {
		if spec.RequirePorts && d.Port != 0 {
			chosen = append(chosen, d.Port)
			continue
		}
		for ; tried < total && fixed[p.portAt(cursor)]; tried++ {
			cursor = (cursor + 1) % total
		}
		if tried >= total {
			return nil, false
		}
		chosen = append(chosen, p.portAt(cursor))
		cursor, tried = (cursor+1)%total, tried+1
	}
	return chosen, true
}

func (p *pool) hasPort(port int) bool {
	for _, piece := range p.ports {
		for _, r := range piece.ranges {
			if r.first <= port && port <= r.last {
				return true
			}
		}
	}
	return false
}

// portAt counts through all ranges.
func (p *pool) portAt(index int) int {
	for _, piece := range p.ports {
		for _, r := range piece.ranges {
			if n := r.last - r.first + 1; index >= n {
				index -= n
				continue
			}
			return r.first + index
		}
	}
	panic("apps: port index beyond the offer")
}

// takePorts cuts the chosen ports.
func (p *pool) takePorts(ports []int) []*mesos.Resource {
	var cuts []*mesos.Resource
	for i := range p.ports {
		var taken []*mesos.Value_Range
		for _, port := range ports {
			if p.ports[i].remove(port) {
				taken = append(taken, &mesos.Value_Range{Begin: new(uint64(port)), End: new(uint64(port))})
			}
		}
		if len(taken) > 0 {
			cut := proto.CloneOf(p.ports[i].kind)
			cut.Ranges = &mesos.Value_Ranges{Range: taken}
			cuts = append(cuts, cut)
		}
	}
	return cuts
}

func (p *portPiece) remove(port int) bool {
	for i, r := range p.ranges {
		if port < r.first || port > r.last {
			continue
		}
		rest := []portRange{}
		if r.first < port {
			rest = append(rest, portRange{r.first, port - 1})
		}
		if port < r.last {
			rest = append(rest, portRange{port + 1, r.last})
		}
		p.ranges = slices.Replace(p.ranges, i, i+1, rest...)
		return true
	}
	return false
}
