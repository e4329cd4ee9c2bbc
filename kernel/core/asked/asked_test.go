package asked_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/gantry-project/gantry/kernel/core/asked"
	"github.com/gantry-project/gantry/kernel/id"
)

func TestQuestions(t *testing.T) {
	var q asked.Questions
	if got := q.Take("a"); len(got) != 0 {
		t.Errorf("nobody asked, and %v was asked", got)
	}
	for _, task := range []id.Task{"t2", "t1", "t2"} {
		q.Add("a", id.TaskKey{Framework: "f", Task: task})
	}
	q.Add("b", id.TaskKey{Framework: "f", Task: "t3"})
	want := []id.TaskKey{{Framework: "f", Task: "t1"}, {Framework: "f", Task: "t2"}}
	if got := q.Take("a"); !slices.Equal(got, want) {
		t.Errorf("%v was asked, and %v is remembered", want, got)
	}
	if got := q.Take("a"); len(got) != 0 {
		t.Errorf("%v was taken twice", got)
	}
}

// However many agents somebody names.
func TestQuestionsAreBounded(t *testing.T) {
	var q asked.Questions
	for i := range asked.Most {
		if !q.Add(id.Agent(fmt.Sprint(i)), id.TaskKey{Task: "t"}) {
			t.Fatalf("no room for question %d", i)
		}
	}
	if q.Add("another", id.TaskKey{Task: "t"}) {
		t.Error("room for more than there is")
	}
	if !q.Add("7", id.TaskKey{Task: "t"}) {
		t.Error("a question that is remembered needs no room")
	}
	q.Take("7")
	if !q.Add("another", id.TaskKey{Task: "t"}) {
		t.Error("no room where a question was taken")
	}
}
