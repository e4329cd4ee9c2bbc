package policy

import (
	"cmp"
	"math/bits"
	"slices"
)

// share is the fraction used/total of the cluster's dominant resource; 0/1 for nothing.
type share struct{ used, total uint64 }

// compare orders a/weightA against b/weightB exactly: both sides of the cross product
// have up to 192 bits.
func compare(a share, weightA uint64, b share, weightB uint64) int {
	left := product(a.used, b.total, weightB)
	right := product(b.used, a.total, weightA)
	return slices.Compare(left[:], right[:])
}

// product multiplies three numbers; the most significant word comes first.
func product(x, y, z uint64) [3]uint64 {
	hi, lo := bits.Mul64(x, y)
	hiCarry, hiLow := bits.Mul64(hi, z)
	loCarry, low := bits.Mul64(lo, z)
	middle, carry := bits.Add64(hiLow, loCarry, 0)
	return [3]uint64{hiCarry + carry, middle, low}
}

// holder is who resources are counted for.
type holder struct{ framework, role string }

// usage is a vector of thousandths, by the policy's number of the scalar's name.
type usage []int64

// add counts delta times b, and grows as names do.
func (u usage) add(b bag, number func(string) int, sign int64) usage {
	for _, a := range b {
		if a.milli == 0 || a.shared {
			continue
		}
		n := number(a.name)
		if n < 0 {
			continue
		}
		for len(u) <= n {
			u = append(u, 0)
		}
		u[n] += sign * a.milli
	}
	return u
}

// dominant is the largest fraction of total that u is.
func (u usage) dominant(total usage) share {
	largest := share{0, 1}
	for n, used := range u {
		if used <= 0 || n >= len(total) || total[n] <= 0 {
			continue
		}
		if s := (share{uint64(used), uint64(total[n])}); compare(s, 1, largest, 1) > 0 {
			largest = s
		}
	}
	return largest
}

// role is a line of frameworks that share what the role is due.
type role struct {
	name   string
	weight uint64 // thousandths, positive
	used   usage
	share  share
	turn   uint64 // number of the last grant in this role
	line   line[*subscription]

	members int  // subscriptions, in line or not
	named   bool // an operator gave it a weight
}

func compareRoles(a, b *role) int {
	return cmp.Or(
		compare(a.share, a.weight, b.share, b.weight),
		cmp.Compare(a.turn, b.turn),
		cmp.Compare(a.name, b.name),
	)
}

// subscription is one framework in one role. It exists as long as the framework is
// subscribed or holds anything in the role.
type subscription struct {
	holder
	role      *role
	framework *framework // nil when the framework is gone and only its holdings stay
	used      usage
	holdings  int // agents on which it holds something
	share     share
	turn      uint64 // number of its last grant
	inLine    bool   // active and not suppressed
	eager     bool   // has not yet been tried on the idle agents
}

func compareSubscriptions(a, b *subscription) int {
	return cmp.Or(
		compare(a.share, 1, b.share, 1),
		cmp.Compare(a.turn, b.turn),
		cmp.Compare(a.holder.framework, b.holder.framework),
	)
}

// line keeps items in a strict order. Take an item out before its key changes, and put
// it back afterwards.
type line[T comparable] struct {
	items   []T
	compare func(a, b T) int
}

func (l *line[T]) put(item T) {
	i, _ := slices.BinarySearchFunc(l.items, item, l.compare)
	l.items = slices.Insert(l.items, i, item)
}

func (l *line[T]) take(item T) {
	i, found := slices.BinarySearchFunc(l.items, item, l.compare)
	if !found || l.items[i] != item {
		panic("policy: an item's key changed while it stood in line")
	}
	l.items = slices.Delete(l.items, i, i+1)
}
