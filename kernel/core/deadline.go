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

// deadline names the thing to look at; the thing's own field says whether it still holds,
// so that nothing is ever taken out of the heap early.
type deadline struct {
	at   step.Time
	kind deadlineKind
	id   string
}

// deadlines is a heap ordered by time, then kind and id.
type deadlines struct{ heap deadlineHeap }

func (d *deadlines) add(at step.Time, kind deadlineKind, id string) {
	heap.Push(&d.heap, deadline{at, kind, id})
}

func (d *deadlines) next() (step.Time, bool) {
	if len(d.heap) == 0 {
		return 0, false
	}
	return d.heap[0].at, true
}

// pop takes the first one that is due.
func (d *deadlines) pop(now step.Time) (deadline, bool) {
	if len(d.heap) == 0 || d.heap[0].at > now {
		return deadline{}, false
	}
	return heap.Pop(&d.heap).(deadline), true
}

type deadlineHeap []deadline

func (h deadlineHeap) Len() int      { return len(h) }
func (h deadlineHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h deadlineHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.at != b.at {
		return a.at < b.at
	}
	if a.kind != b.kind {
		return a.kind < b.kind
	}
	return a.id < b.id
}
func (h *deadlineHeap) Push(x any) { *h = append(*h, x.(deadline)) }
func (h *deadlineHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
