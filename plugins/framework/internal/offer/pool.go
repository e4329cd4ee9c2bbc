package offer

import (
	"math"
	"slices"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Pool is what is left of an offer while tasks are cut from it. Scalars are counted in
// thousandths; what is reserved goes first.
type Pool struct {
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

// NewPool takes the plain resources of an offer: nothing revocable, shared or on a
// special disk.
func NewPool(resources []*mesos.Resource) *Pool {
	p := &Pool{scalars: map[string][]scalarPiece{}}
	for _, r := range resources {
		if r.GetRevocable() != nil || r.GetShared() != nil || r.GetDisk() != nil || r.GetProviderId() != nil {
			continue
		}
		switch {
		case r.GetType() == mesos.Value_SCALAR:
			piece := scalarPiece{kind: r, milli: Milli(r.GetScalar().GetValue())}
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

// Milli is a quantity in thousandths, as pools count.
func Milli(value float64) int64 { return int64(math.Round(value * 1000)) }

// Left is how much there is of a scalar, in thousandths.
func (p *Pool) Left(name string) int64 {
	total := int64(0)
	for _, piece := range p.scalars[name] {
		total += piece.milli
	}
	return total
}

// Take cuts amount thousandths of a scalar, which must be there.
func (p *Pool) Take(name string, amount int64) []*mesos.Resource {
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
		panic("offer: cut more " + name + " than the offer holds")
	}
	return cuts
}

// ChoosePorts finds a host port for each of the wanted ones: that one where fixed says so
// and it is not 0, otherwise any, beginning at a place that depends on seed so that a port
// that was just given back is not the next one given out. It takes nothing.
func (p *Pool) ChoosePorts(wanted []int, fixed bool, seed uint64) ([]int, bool) {
	chosen := make([]int, 0, len(wanted))
	total := 0
	for _, piece := range p.ports {
		for _, r := range piece.ranges {
			total += r.last - r.first + 1
		}
	}
	taken := map[int]bool{}
	for _, port := range wanted {
		if fixed && port != 0 && !p.hasPort(port) {
			return nil, false
		}
		taken[port] = fixed
	}
	cursor, tried := 0, 0
	if total > 0 {
		cursor = int(seed * 7919 % uint64(total))
	}
	for _, port := range wanted {
		if fixed && port != 0 {
			chosen = append(chosen, port)
			continue
		}
		for ; tried < total && taken[p.portAt(cursor)]; tried++ {
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

func (p *Pool) hasPort(port int) bool {
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
func (p *Pool) portAt(index int) int {
	for _, piece := range p.ports {
		for _, r := range piece.ranges {
			if n := r.last - r.first + 1; index >= n {
				index -= n
				continue
			}
			return r.first + index
		}
	}
	panic("offer: port index beyond the offer")
}

// TakePorts cuts the chosen ports.
func (p *Pool) TakePorts(ports []int) []*mesos.Resource {
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
