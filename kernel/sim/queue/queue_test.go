package queue_test

import (
	"slices"
	"testing"

	"github.com/gantry-project/gantry/kernel/sim/queue"
	"github.com/gantry-project/gantry/kernel/step"
)

func TestOrder(t *testing.T) {
	var q queue.Queue
	var done []int
	for n, at := range []step.Time{30, 10, 20, 10} {
		q.Add(at, func() { done = append(done, n) })
	}
	last := step.Time(0)
	for at, some := q.Next(); some; at, some = q.Next() {
		if at < last {
			t.Errorf("%d comes after %d", at, last)
		}
		last = at
		q.Pop()()
	}
	if want := []int{1, 3, 2, 0}; !slices.Equal(done, want) {
		t.Errorf("done in the order %v, want %v", done, want)
	}
}
