package step

import "container/heap"

// Owner names the thing that a deadline is of.
type Owner struct {
	Kind uint8 // the machine's own
	ID   string
}

// Deadlines is when a machine has to look at what, ordered by time, then owner. What is due
// is known to the owner: a deadline that moved back or went away is found out when the
// older one comes up, so that an owner whose deadline keeps moving has one entry only. The
// zero value has none.
type Deadlines struct {
	heap   deadlineHeap
	queued map[Owner]Time
}

type deadline struct {
	at    Time
	owner Owner
}

// Add makes sure that the owner is looked at no later than at.
func (d *Deadlines) Add(at Time, o Owner) {
	if earlier, ok := d.queued[o]; ok && earlier <= at {
		return
	}
	if d.queued == nil {
		d.queued = map[Owner]Time{}
	}
	d.queued[o] = at
	heap.Push(&d.heap, deadline{at, o})
}

// Next is the earliest of all, if there is one.
func (d *Deadlines) Next() (Time, bool) {
	if len(d.heap) == 0 {
		return 0, false
	}
	return d.heap[0].at, true
}

// Pop takes the first owner to be looked at now.
func (d *Deadlines) Pop(now Time) (Owner, bool) {
	for len(d.heap) > 0 && d.heap[0].at <= now {
		first := heap.Pop(&d.heap).(deadline)
		if d.queued[first.owner] == first.at {
			delete(d.queued, first.owner)
			return first.owner, true
		}
	}
	return Owner{}, false
}

type deadlineHeap []deadline

func (h deadlineHeap) Len() int      { return len(h) }
func (h deadlineHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h deadlineHeap) Less(i, j int) bool {
	a, b := h[i], h[j]
	if a.at != b.at {
		return a.at < b.at
	}
	if a.owner.Kind != b.owner.Kind {
		return a.owner.Kind < b.owner.Kind
	}
	return a.owner.ID < b.owner.ID
}
func (h *deadlineHeap) Push(x any) { *h = append(*h, x.(deadline)) }
func (h *deadlineHeap) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
