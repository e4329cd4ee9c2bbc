package policy

import (
	"cmp"
	"slices"

	resourcepb "github.com/gantry-project/gantry/sdk/proto/gantry/resource/v1"
)

// kind is what makes two resources the same but for their amounts.
type kind struct {
	name        string
	reservation string
	disk        string
	revocable   bool
	shared      bool
}

// span is begin to end, both included.
type span struct{ begin, end uint64 }

// amount is how much there is of one kind. A kind has one of the three forms; the
// other two are empty.
type amount struct {
	kind
	to     string // role that it is reserved to, with all below; read from the reservation
	needs  class  // what a framework must be capable of to be offered it
	milli  int64
	spans  []span   // ascending, disjoint
	labels []string // ascending, unique
}

func (a amount) empty() bool { return a.milli <= 0 && len(a.spans) == 0 && len(a.labels) == 0 }

// bag has each kind at most once, in the order in which kinds came. It is a value:
// operations return new bags and share what did not change.
type bag []amount

// read turns the wire's list into a bag; what is no amount at all (negative, reversed)
// is left out: the kernel's ledger never sends it.
func read(list []*resourcepb.Resource) bag {
	b := make(bag, 0, len(list))
	for _, r := range list {
		a := amount{
			kind: kind{
				name: r.GetName(), reservation: r.GetReservation(), disk: r.GetDisk(),
				revocable: r.GetRevocable(), shared: r.GetShared(),
			},
			milli:  max(r.GetMilli(), 0),
			labels: r.GetItems(),
		}
		a.to, a.needs = a.takers()
		for _, s := range r.GetRanges() {
			if s.GetBegin() <= s.GetEnd() {
				a.spans = append(a.spans, span{s.GetBegin(), s.GetEnd()})
			}
		}
		if !a.empty() {
			b = append(b, a)
		}
	}
	return b
}

// write is the inverse of read.
func (b bag) write() []*resourcepb.Resource {
	list := make([]*resourcepb.Resource, 0, len(b))
	for _, a := range b {
		r := &resourcepb.Resource{
			Name: a.name, Reservation: a.reservation, Disk: a.disk,
			Revocable: a.revocable, Shared: a.shared, Milli: a.milli, Items: a.labels,
		}
		for _, s := range a.spans {
			r.Ranges = append(r.Ranges, &resourcepb.Range{Begin: s.begin, End: s.end})
		}
		list = append(list, r)
	}
	return list
}

func (b bag) find(k kind) int {
	return slices.IndexFunc(b, func(a amount) bool { return a.kind == k })
}

// plus returns b and c together.
func (b bag) plus(c bag) bag {
	sum := slices.Clone(b)
	for _, a := range c {
		i := sum.find(a.kind)
		if i < 0 {
			sum = append(sum, a)
			continue
		}
		sum[i].milli += a.milli
		sum[i].spans = unite(sum[i].spans, a.spans)
		sum[i].labels = slices.Compact(slices.Sorted(slices.Values(slices.Concat(sum[i].labels, a.labels))))
	}
	return sum
}

// minus returns what b has beyond c, never less than nothing.
func (b bag) minus(c bag) bag {
	rest := make(bag, 0, len(b))
	for _, a := range b {
		if i := c.find(a.kind); i >= 0 {
			a.milli = max(a.milli-c[i].milli, 0)
			a.spans = cut(a.spans, c[i].spans)
			a.labels = slices.DeleteFunc(slices.Clone(a.labels), func(l string) bool {
				return slices.Contains(c[i].labels, l)
			})
		}
		if !a.empty() {
			rest = append(rest, a)
		}
	}
	return rest
}

// within says that c has all that b has.
func (b bag) within(c bag) bool {
	for _, a := range b {
		i := c.find(a.kind)
		if i < 0 || a.milli > c[i].milli || len(cut(a.spans, c[i].spans)) > 0 {
			return false
		}
		for _, l := range a.labels {
			if !slices.Contains(c[i].labels, l) {
				return false
			}
		}
	}
	return true
}

// unite returns the numbers that are in either, with what touches joined.
func unite(x, y []span) []span {
	all := slices.Concat(x, y)
	slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.begin, b.begin) })
	var joined []span
	for _, s := range all {
		last := len(joined) - 1
		if last >= 0 && (s.begin <= joined[last].end || s.begin-joined[last].end == 1) {
			joined[last].end = max(joined[last].end, s.end)
			continue
		}
		joined = append(joined, s)
	}
	return joined
}

// cut returns the numbers of x that are not in y; both ascend.
func cut(x, y []span) []span {
	var rest []span
	for _, s := range x {
		used := false // nothing of s is left
		for _, c := range y {
			if c.end < s.begin || c.begin > s.end {
				continue
			}
			if c.begin > s.begin {
				rest = append(rest, span{s.begin, c.begin - 1})
			}
			if c.end >= s.end {
				used = true
				break
			}
			s.begin = c.end + 1
		}
		if !used {
			rest = append(rest, s)
		}
	}
	return rest
}
