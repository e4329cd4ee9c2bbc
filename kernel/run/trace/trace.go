// Package trace remembers the ways of tasks: what happened to each, and when.
//
//	log := trace.New(time.Now)
//	log.Begin(key, api.Mark{Step: "received", By: "agent", At: time.Now()})
//	log.Mark(key, api.Mark{Step: "checkpointed", By: "agent"})
//	log.Traces("", "task-1")
package trace

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// endedTraces is how many tasks are remembered that have ended, each with some twenty marks.
const endedTraces = 1000

// Log remembers what happened to tasks, and when. Of a task that it was not told to
// Begin with it keeps nothing. It may be used by several goroutines.
type Log struct {
	now func() time.Time

	mu sync.Mutex
	// ways has every way that can be asked for; ended are those of tasks that have ended,
	// oldest first.
	ways  map[id.TaskKey]*way
	ended []*way
}

// way is one task's.
type way struct {
	key   id.TaskKey
	marks []api.Mark
	// Told is the status that the framework heard last.
	told *mesos.TaskStatus
	// executor is the id of the one that the task brought with it, if it did.
	executor string
	over     bool
}

// New returns a Log whose marks have the time that now tells.
func New(now func() time.Time) *Log {
	return &Log{now: now, ways: map[id.TaskKey]*way{}}
}

// Begin remembers a task from now on, unless it does already: one of its id that has
// ended is forgotten.
func (t *Log) Begin(key id.TaskKey, marks ...api.Mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.ways[key]; w == nil || w.over {
		t.ways[key] = &way{key: key, marks: marks}
	}
}

// Bring says that a task brings its executor with it.
func (t *Log) Bring(key id.TaskKey, executor string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.ways[key]; w != nil {
		w.executor = executor
	}
}

// Brings says whether a task is known to have brought its executor.
func (t *Log) Brings(key id.TaskKey) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ways[key] != nil && t.ways[key].executor != ""
}

// Bringer is the task that brought an executor, the last if there were several of its id; the
// zero key if it is not remembered.
func (t *Log) Bringer(framework id.Framework, executor string) (last id.TaskKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var at time.Time
	for key, w := range t.ways { // any order: the last of all
		if key.Framework == framework && w.executor == executor && len(w.marks) > 0 && w.marks[0].At.After(at) {
			last, at = key, w.marks[0].At
		}
	}
	return last
}

// Mark notes a step of a task that was begun, if it is the first of its name and state.
func (t *Log) Mark(key id.TaskKey, m api.Mark) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.ways[key]; w != nil {
		t.add(w, m)
	}
}

func (t *Log) add(w *way, m api.Mark) {
	again := func(old api.Mark) bool { return old.Step == m.Step && old.State == m.State }
	if !slices.ContainsFunc(w.marks, again) {
		m.At = t.now()
		w.marks = append(w.marks, m)
	}
}

// Told notes that the framework hears a status, and remembers which.
func (t *Log) Told(framework id.Framework, s *mesos.TaskStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.ways[id.TaskKey{Framework: framework, Task: id.Task(s.GetTaskId().GetValue())}]; w != nil {
		w.told = s
		t.add(w, api.Mark{Step: "delivered", State: s.GetState().String(), By: "master"})
	}
}

// Acknowledged notes that the framework has acknowledged what it was told.
func (t *Log) Acknowledged(key id.TaskKey, uuid []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if w := t.ways[key]; w != nil && len(uuid) > 0 && bytes.Equal(w.told.GetUuid(), uuid) {
		t.add(w, api.Mark{Step: "acknowledged", State: w.told.GetState().String(), By: "framework"})
	}
}

// End says that a task is over: it is remembered until endedTraces others are, and what
// comes late is still noted.
func (t *Log) End(key id.TaskKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.ways[key]
	if w == nil || w.over {
		return
	}
	w.over = true
	t.ended = append(t.ended, w)
	if len(t.ended) <= endedTraces {
		return
	}
	if oldest := t.ended[0]; t.ways[oldest.key] == oldest {
		delete(t.ways, oldest.key)
	}
	t.ended = slices.Delete(t.ended, 0, 1)
}

// Traces returns what is remembered of tasks with this id, ordered by framework; an empty
// framework stands for all.
func (t *Log) Traces(framework, task string) []api.Trace {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found []api.Trace
	for key, w := range t.ways {
		if string(key.Task) == task && (framework == "" || string(key.Framework) == framework) {
			found = append(found, api.Trace{Framework: string(key.Framework), Task: task, Marks: slices.Clone(w.marks)})
		}
	}
	slices.SortFunc(found, func(a, b api.Trace) int { return cmp.Compare(a.Framework, b.Framework) })
	return found
}
