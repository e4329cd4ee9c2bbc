package core

import (
	"container/heap"

	"github.com/gantry-project/gantry/kernel/step"
)

type deadlineKind uint8

const (
	agentDeadline deadlineKind = iota
	frameworkDeadline
	offerDeadline
)

// owner is the thing that a deadline is of.
type owner struct {
	kind deadlineKind
	id   string
}

type deadline struct {
	at    step.Time
	owner owner
}

// deadlines is a heap of when to look at what, ordered by time, then owner. What is due
// is known to the owner: a deadline that moved back or went away is found out when the
// older one comes up, so that an owner whose deadline keeps moving has one entry only.
type deadlines struct {
	heap   deadlineHeap
	queued map[owner]step.Time
}

// add makes sure that the owner is looked at no later than at.
func (d *deadlines) add(at step.Time, kind deadlineKind, id string) {
	o := owner{kind, id}
	if earlier, ok := d.queued[o]; ok && earlier <= at {
		return
	}
	if d.queued == nil {
		d.queued = map[owner]step.Time{}
	}
	d.queued[o] = at
	heap.Push(&d.heap, deadline{at, o})
}

func (d *deadlines) next() (step.Time, bool) {
	if len(d.heap) == 0 {
		return 0, false
	}
	return d.heap[0].at, true
}

// pop takes the first owner to be looked at now.
func (d *deadlines) pop(now step.Time) (owner, bool) {
	for len(d.heap) > 0 && d.heap[0].at <= now {
		first := heap.Pop(&d.heap).(deadline)
		if d.queued[first.owner] == first.at {
			delete(d.queued, first.owner)
			return first.owner, true
		}
	}
	return owner{}, false
}

type deadlineHeap []deadline

func (h deadlineHeap) Len() int      { return len(h) }
func (h deadlineHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h deadlineHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.at != b.at {
		return a.at < b.at
	}
	if a.owner.kind != b.owner.kind {
		return a.owner.kind < b.owner.kind
	}
	return a.owner.id < b.owner.id
}
func (h *deadlineHeap) Push(x any) { *h = append(*h, x.(deadline)) }
func (h *deadlineHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
