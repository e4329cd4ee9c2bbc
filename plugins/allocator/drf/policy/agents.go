package policy

import (
	"cmp"
	"container/heap"
	"maps"
	"math"
	"slices"
)

// filtersEach bounds how many refusals of one subscription are remembered for an
// agent; the one that ends first makes room.
const filtersEach = 4

// agent is a machine whose resources are given out.
type agent struct {
	id          string
	seq         uint64 // order of arrival
	visit       uint64 // another whenever it comes, or all that is held is said anew: earlier charges are void then
	total       bag
	gpus        bool // for GPU-aware frameworks only
	remote      bool // in another region: for region-aware frameworks only
	deactivated bool
	held        map[*subscription]bag
	filters     map[*subscription][]filter

	dirty bool // something changed: to be tried with everybody

	paused  int64 // not offered to anybody before then: the kernel rejected a grant
	wake    int64 // when the pause or the next filter ends, or sooner; math.MaxInt64 for never
	heapPos int   // in the policy's alarms; -1 when not there
}

// filter is a refusal: the subscription does not want these resources, or fewer, of
// this agent until then. Past that time it does not block any more, but marks whom
// others come before.
type filter struct {
	refused bag
	until   int64
	moment  uint64 // of the refusal
}

// standing is what the refusals of s mean for an offer to it: whether one blocks it, and
// else the moment of the last that would have, zero for none.
func (a *agent) standing(s *subscription, offer bag, now int64) (blocked bool, mark uint64) {
	for _, f := range a.filters[s] {
		if !offer.within(f.refused) {
			continue
		}
		if f.until > now && f.moment > s.revived {
			return true, 0
		}
		mark = max(mark, f.moment)
	}
	return false, mark
}

// refuse remembers a refusal.
func (a *agent) refuse(s *subscription, f filter) {
	kept := slices.DeleteFunc(slices.Clone(a.filters[s]), func(old filter) bool {
		return (old.until <= f.until || old.moment <= s.revived) && old.refused.within(f.refused)
	})
	kept = append(kept, f)
	slices.SortFunc(kept, func(x, y filter) int { return cmp.Compare(x.until, y.until) })
	if len(kept) > filtersEach {
		kept = kept[1:]
	}
	a.filters[s] = kept
	s.refused = true
}

// forgetGone drops the refusals of subscriptions that nobody has any more.
func (a *agent) forgetGone() {
	maps.DeleteFunc(a.filters, func(s *subscription, _ []filter) bool { return s.framework == nil })
}

// nextEnd is when the pause or the first filter ends that has not yet.
func (a *agent) nextEnd(now int64) int64 {
	next := int64(math.MaxInt64)
	if a.paused > now {
		next = a.paused
	}
	for s, list := range a.filters { // any order: the soonest of all
		for _, f := range list {
			if f.until > now && f.moment > s.revived {
				next = min(next, f.until)
			}
		}
	}
	return next
}

// open says whether the agent may be offered to f at all.
func (a *agent) open(f *framework) bool {
	return (f.gpus || !a.gpus) && (f.regions || !a.remote)
}

// free is what nobody holds.
func (a *agent) free() bag {
	rest := a.total
	for _, held := range a.held { // any order: a sum
		rest = rest.minus(held)
	}
	return rest
}

// alarms is a heap of agents by the time of their next filter's end, each at most once.
type alarms []*agent

func (h alarms) Len() int { return len(h) }
func (h alarms) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].wake, h[j].wake), cmp.Compare(h[i].seq, h[j].seq)) < 0
}
func (h alarms) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapPos, h[j].heapPos = i, j
}

// Push is heap.Interface's.
func (h *alarms) Push(x any) {
	a := x.(*agent)
	a.heapPos = len(*h)
	*h = append(*h, a)
}

// Pop is heap.Interface's.
func (h *alarms) Pop() any {
	last := len(*h) - 1
	a := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	a.heapPos = -1
	return a
}

// set puts the agent's alarm at wake, or takes it away.
func (h *alarms) set(a *agent, wake int64) {
	a.wake = wake
	switch {
	case wake == math.MaxInt64 && a.heapPos >= 0:
		heap.Remove(h, a.heapPos)
	case wake == math.MaxInt64:
	case a.heapPos >= 0:
		heap.Fix(h, a.heapPos)
	default:
		heap.Push(h, a)
	}
}
