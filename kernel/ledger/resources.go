package ledger

import (
	"cmp"
	"iter"
	"math"
	"slices"
	"strings"
)

// Key is what makes two resources the same kind, so that their amounts may be added.
// Keys are ordered field by field.
type Key struct {
	Name        string // cpus, mem, disk, gpus, ports, or an operator's own
	Reservation string // canonical text of the reservations, outermost first; empty is unreserved
	Disk        string // canonical text of the volume or disk source; empty is plain disk
	Revocable   bool
	Shared      bool // carried, yet accounted as any other: lent to one holder at a time
}

// Compare orders keys by name, reservation, disk, revocable and shared.
func (k Key) Compare(o Key) int {
	return cmp.Or(
		strings.Compare(k.Name, o.Name),
		strings.Compare(k.Reservation, o.Reservation),
		strings.Compare(k.Disk, o.Disk),
		compareBool(k.Revocable, o.Revocable),
		compareBool(k.Shared, o.Shared),
	)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	default:
		return 1
	}
}

// Range holds every number from Begin to End, both included.
type Range struct{ Begin, End uint64 }

// Resource is an amount of one kind. Exactly one of the amounts is set; a Resource
// without any is nothing at all.
type Resource struct {
	Key
	Milli  int64    // thousandths, never negative
	Ranges []Range  // ascending, disjoint, not adjacent
	Items  []string // ascending, unique
}

// kind tells the three amounts apart. One name may be a scalar on one agent and a set
// on another; such amounts never add up.
type kind uint8

const (
	scalar kind = iota
	ranges
	items
)

func (r Resource) kind() kind {
	switch {
	case r.Ranges != nil:
		return ranges
	case r.Items != nil:
		return items
	default:
		return scalar
	}
}

func (r Resource) empty() bool {
	return r.Milli == 0 && len(r.Ranges) == 0 && len(r.Items) == 0
}

func compareIdentity(a, b Resource) int {
	if c := a.Key.Compare(b.Key); c != 0 {
		return c
	}
	return cmp.Compare(a.kind(), b.kind())
}

// plus adds an amount of the same identity.
func (r Resource) plus(o Resource) Resource {
	switch r.kind() {
	case ranges:
		r.Ranges = unionRanges(r.Ranges, o.Ranges)
	case items:
		r.Items = unionItems(r.Items, o.Items)
	default:
		r.Milli = addMilli(r.Milli, o.Milli)
	}
	return r
}

// minus takes away an amount of the same identity that r contains.
func (r Resource) minus(o Resource) Resource {
	switch r.kind() {
	case ranges:
		r.Ranges = subtractRanges(r.Ranges, o.Ranges)
	case items:
		r.Items = subtractItems(r.Items, o.Items)
	default:
		r.Milli -= o.Milli
	}
	return r
}

func (r Resource) contains(o Resource) bool {
	switch r.kind() {
	case ranges:
		return containsRanges(r.Ranges, o.Ranges)
	case items:
		return containsItems(r.Items, o.Items)
	default:
		if r.Disk != "" && indivisible(r.Disk) {
			return r.Milli == o.Milli
		}
		return r.Milli >= o.Milli
	}
}

func (r Resource) equal(o Resource) bool {
	return r.Key == o.Key && r.Milli == o.Milli &&
		slices.Equal(r.Ranges, o.Ranges) && slices.Equal(r.Items, o.Items)
}

// addMilli saturates: a sum over a whole cluster must not wrap around, however absurd
// the totals that its agents announce. On one agent maxMilli keeps it from happening.
func addMilli(a, b int64) int64 {
	if a > math.MaxInt64-b {
		return math.MaxInt64
	}
	return a + b
}

// Resources is a normalized, immutable list of resources: sorted, each kind at most
// once, none empty. The zero value holds nothing.
type Resources struct {
	list []Resource
}

// Of collects resources; equal kinds are added up, numbers and items given twice count
// once. Of panics on a negative scalar, an inverted range or two kinds of amount in one
// Resource: bytes from outside go through Parse, FromMesos or FromContract.
func Of(list ...Resource) Resources {
	for _, r := range list {
		if err := r.check(); err != nil {
			panic("ledger.Of: " + err.Error())
		}
	}
	return collect(list)
}

// collect is Of for resources that have been checked. All amounts of a kind are gathered
// before they are put in order, once.
func collect(list []Resource) Resources {
	sorted := slices.DeleteFunc(slices.Clone(list), Resource.empty)
	slices.SortStableFunc(sorted, compareIdentity)
	merged := sorted[:0]
	for rest := sorted; len(rest) > 0; {
		n := 1
		for n < len(rest) && compareIdentity(rest[0], rest[n]) == 0 {
			n++
		}
		merged, rest = append(merged, sum(rest[:n])), rest[n:]
	}
	if len(merged) == 0 {
		return Resources{}
	}
	return Resources{merged}
}

// sum adds up resources of one identity, at least one.
func sum(list []Resource) Resource {
	all := list[0]
	all.Ranges, all.Items = slices.Clone(all.Ranges), slices.Clone(all.Items)
	for _, r := range list[1:] {
		all.Milli = addMilli(all.Milli, r.Milli)
		all.Ranges = append(all.Ranges, r.Ranges...)
		all.Items = append(all.Items, r.Items...)
	}
	all.Ranges, all.Items = normalRanges(all.Ranges), normalItems(all.Items)
	return all
}

// Plus returns the sum. Numbers and items that both hold count once, so sum only what
// is disjoint if nothing may get lost.
func (r Resources) Plus(o Resources) Resources {
	if len(r.list) == 0 {
		return o
	}
	if len(o.list) == 0 {
		return r
	}
	sum := make([]Resource, 0, len(r.list)+len(o.list))
	i, j := 0, 0
	for i < len(r.list) && j < len(o.list) {
		switch c := compareIdentity(r.list[i], o.list[j]); {
		case c < 0:
			sum = append(sum, r.list[i])
			i++
		case c > 0:
			sum = append(sum, o.list[j])
			j++
		default:
			sum = append(sum, r.list[i].plus(o.list[j]))
			i, j = i+1, j+1
		}
	}
	sum = append(sum, r.list[i:]...)
	return Resources{append(sum, o.list[j:]...)}
}

// Minus returns what remains of r without o, and whether o was contained; if it was
// not, nothing is taken away.
func (r Resources) Minus(o Resources) (Resources, bool) {
	if !r.Contains(o) {
		return r, false
	}
	if len(o.list) == 0 {
		return r, true
	}
	rest := make([]Resource, 0, len(r.list))
	j := 0
	for _, have := range r.list {
		if j < len(o.list) && compareIdentity(have, o.list[j]) == 0 {
			have = have.minus(o.list[j])
			j++
			if have.empty() {
				continue
			}
		}
		rest = append(rest, have)
	}
	if len(rest) == 0 {
		return Resources{}, true
	}
	return Resources{rest}, true
}

// Contains tells whether r has at least what o has of every kind. A persistent volume
// and a whole disk are contained as a whole or not at all.
func (r Resources) Contains(o Resources) bool {
	i := 0
	for _, want := range o.list {
		for i < len(r.list) && compareIdentity(r.list[i], want) < 0 {
			i++
		}
		if i == len(r.list) || compareIdentity(r.list[i], want) != 0 || !r.list[i].contains(want) {
			return false
		}
	}
	return true
}

// Empty tells whether r holds nothing.
func (r Resources) Empty() bool { return len(r.list) == 0 }

// Equal tells whether both hold the same.
func (r Resources) Equal(o Resources) bool {
	return slices.EqualFunc(r.list, o.list, Resource.equal)
}

// Scalar returns the thousandths of every scalar of that name, reserved or not.
func (r Resources) Scalar(name string) int64 {
	var sum int64
	for _, have := range r.list {
		if have.Name == name {
			sum = addMilli(sum, have.Milli)
		}
	}
	return sum
}

// All yields every resource in canonical order. Its slices must not be changed.
func (r Resources) All() iter.Seq[Resource] { return slices.Values(r.list) }

// OfferableTo tells whether a framework may be offered r in this role: every
// reservation is to the role or to an ancestor of it.
func (r Resources) OfferableTo(role string) bool {
	for _, have := range r.list {
		if have.Reservation != "" && !reservedFor(have.Reservation, role) {
			return false
		}
	}
	return true
}
