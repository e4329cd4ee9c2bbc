package ledger

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// maxMilli bounds one scalar of one agent at 10^12 units: a double still holds such a
// number to the thousandth, and sums of it do not overflow.
const maxMilli = 1_000_000_000_000_000

// milliOf rounds a wire's scalar to thousandths, half away from zero.
func milliOf(value float64) (int64, error) {
	switch {
	case math.IsNaN(value) || math.IsInf(value, 0):
		return 0, errors.New("value is not a finite number")
	case value < 0:
		return 0, errors.New("value < 0")
	case value > maxMilli/1000:
		return 0, fmt.Errorf("value > %d", int64(maxMilli/1000))
	}
	return int64(math.Round(value * 1000)), nil
}

// check names what is wrong with a resource, order of ranges and items aside.
func (r Resource) check() error {
	set := 0
	for _, is := range []bool{r.Milli != 0, r.Ranges != nil, r.Items != nil} {
		if is {
			set++
		}
	}
	if set > 1 {
		return fmt.Errorf("resource %s has more than one kind of amount", r.Name)
	}
	if r.Milli < 0 {
		return fmt.Errorf("resource %s is negative: %d", r.Name, r.Milli)
	}
	for _, g := range r.Ranges {
		if g.Begin > g.End {
			return fmt.Errorf("resource %s has an inverted range %d-%d", r.Name, g.Begin, g.End)
		}
	}
	if err := checkReservation(r.Reservation); err != nil {
		return err
	}
	return checkDisk(r.Disk)
}

// normalRanges returns a sorted copy with overlapping and adjacent ranges joined.
func normalRanges(list []Range) []Range {
	if len(list) == 0 {
		return nil
	}
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Compare(a.Begin, b.Begin) })
	joined := sorted[:1]
	for _, g := range sorted[1:] {
		last := &joined[len(joined)-1]
		// End+1 would wrap around at the largest number.
		if g.Begin <= last.End || g.Begin-last.End == 1 {
			last.End = max(last.End, g.End)
			continue
		}
		joined = append(joined, g)
	}
	return joined
}

// overlapping tells whether a number is in two of the ranges.
func overlapping(list []Range) bool {
	sorted := slices.Clone(list)
	slices.SortFunc(sorted, func(a, b Range) int { return cmp.Compare(a.Begin, b.Begin) })
	for i := 1; i < len(sorted); i++ {
		if sorted[i].Begin <= sorted[i-1].End {
			return true
		}
	}
	return false
}

func unionRanges(a, b []Range) []Range {
	both := make([]Range, 0, len(a)+len(b))
	return normalRanges(append(append(both, a...), b...))
}

// containsRanges relies on both being normal: what a contains lies in one range of it.
func containsRanges(a, b []Range) bool {
	i := 0
	for _, want := range b {
		for i < len(a) && a[i].End < want.Begin {
			i++
		}
		if i == len(a) || want.Begin < a[i].Begin || want.End > a[i].End {
			return false
		}
	}
	return true
}

// subtractRanges takes b, which a contains, out of a.
func subtractRanges(a, b []Range) []Range {
	var rest []Range
	j := 0
	for _, have := range a {
		used := false // whether all of have, up to its end, is gone
		for ; j < len(b) && b[j].Begin <= have.End; j++ {
			if have.Begin < b[j].Begin {
				rest = append(rest, Range{have.Begin, b[j].Begin - 1})
			}
			if b[j].End == have.End {
				used = true
				continue
			}
			have.Begin = b[j].End + 1
		}
		if !used {
			rest = append(rest, have)
		}
	}
	return rest
}

// normalItems returns a sorted copy without duplicates.
func normalItems(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	sorted := slices.Clone(list)
	slices.Sort(sorted)
	return slices.Compact(sorted)
}

func unionItems(a, b []string) []string {
	both := make([]string, 0, len(a)+len(b))
	return normalItems(append(append(both, a...), b...))
}

func containsItems(a, b []string) bool {
	i := 0
	for _, want := range b {
		for i < len(a) && strings.Compare(a[i], want) < 0 {
			i++
		}
		if i == len(a) || a[i] != want {
			return false
		}
	}
	return true
}

// subtractItems takes b, which a contains, out of a.
func subtractItems(a, b []string) []string {
	var rest []string
	j := 0
	for _, have := range a {
		if j < len(b) && b[j] == have {
			j++
			continue
		}
		rest = append(rest, have)
	}
	return rest
}
