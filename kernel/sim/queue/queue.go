// Package queue is what will happen in a simulation, in the order of time; of two things at
// the same time the one that was added first comes first:
//
//	q.Add(now.Add(time.Second), ring)
//	for at, some := q.Next(); some && at <= end; at, some = q.Next() {
//		q.Pop()()
//	}
package queue

import (
	"container/heap"

	"github.com/gantry-project/gantry/kernel/step"
)

// Queue is empty as its zero value.
type Queue struct {
	events eventHeap
	added  uint64
}

type event struct {
	at  step.Time
	seq uint64
	do  func()
}

// Add has do happen at a time.
func (q *Queue) Add(at step.Time, do func()) {
	q.added++
	heap.Push(&q.events, event{at: at, seq: q.added, do: do})
}

// Next is when the first of all happens, if there is one.
func (q *Queue) Next() (step.Time, bool) {
	if len(q.events) == 0 {
		return 0, false
	}
	return q.events[0].at, true
}

// Pop takes the first of all, which must be there, to be done.
func (q *Queue) Pop() func() { return heap.Pop(&q.events).(event).do }

type eventHeap []event

func (h eventHeap) Len() int      { return len(h) }
func (h eventHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h eventHeap) Less(i, j int) bool {
	if h[i].at != h[j].at {
		return h[i].at < h[j].at
	}
	return h[i].seq < h[j].seq
}
func (h *eventHeap) Push(x any) { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	last := (*h)[len(*h)-1]
	(*h)[len(*h)-1] = event{}
	*h = (*h)[:len(*h)-1]
	return last
}
