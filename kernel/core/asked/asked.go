// Package asked remembers the questions about tasks that can't be answered yet, since the
// agent that may have the task has not come back:
//
//	if !known {
//		questions.Add(agent, key)
//	}
//	for _, key := range questions.Take(agent) { // it is back, or was waited for long enough
//		...
//	}
package asked

import (
	"cmp"
	"slices"

	"github.com/gantry-project/gantry/kernel/id"
)

// Most is how many questions are remembered; whoever asks one more has to ask again.
const Most = 100_000

// Questions are tasks by the agent that was named with them; the agent is empty where none
// was. The zero value has none.
type Questions struct {
	of map[id.Agent]map[id.TaskKey]bool
	n  int
}

// Add remembers a question, once, and says whether there was room for it.
func (q *Questions) Add(agent id.Agent, key id.TaskKey) bool {
	if q.of[agent][key] {
		return true
	}
	if q.n == Most {
		return false
	}
	if q.of == nil {
		q.of = map[id.Agent]map[id.TaskKey]bool{}
	}
	if q.of[agent] == nil {
		q.of[agent] = map[id.TaskKey]bool{}
	}
	q.of[agent][key] = true
	q.n++
	return true
}

// Take forgets the questions of an agent and returns them, ordered by framework and task.
func (q *Questions) Take(agent id.Agent) []id.TaskKey {
	keys := make([]id.TaskKey, 0, len(q.of[agent]))
	for key := range q.of[agent] { // any order: sorted below
		keys = append(keys, key)
	}
	delete(q.of, agent)
	q.n -= len(keys)
	slices.SortFunc(keys, func(a, b id.TaskKey) int {
		return cmp.Or(cmp.Compare(a.Framework, b.Framework), cmp.Compare(a.Task, b.Task))
	})
	return keys
}
