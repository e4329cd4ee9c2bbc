package policy

import (
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

// usage is a vector of thousandths, by the policy's number of the scalar's name.
type usage []int64

// add counts sign times b, and grows as names do. What is shared is nobody's alone and
// does not count.
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

// account is what places somebody in line.
type account struct {
	used  usage
	share share  // the dominant one of used
	turn  uint64 // moment of the last grant; zero for never
}

func (a *account) add(b bag, sign int64, p *Policy) {
	a.used = a.used.add(b, p.number, sign)
	a.share = a.used.dominant(p.total)
}
