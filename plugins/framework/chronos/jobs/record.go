package jobs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
	"github.com/gantry-project/gantry/plugins/framework/chronos/schedule"
	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Keys of the records; names hold no slash.
const (
	jobPrefix     = "job/"
	statePrefix   = "state/"
	historyPrefix = "history/"
)

// schema is the version of the records' form.
const schema = 1

// record is the common part of all values.
type record struct {
	Schema int             `json:"schema"`
	Job    *definition.Job `json:"job,omitempty"`
	State  *state          `json:"state,omitempty"`
	Run    *Run            `json:"run,omitempty"`
}

func encode(key string, r record) machine.Write {
	r.Schema = schema
	value, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("jobs: encode record %s: %v", key, err)) // plain data always encodes
	}
	return machine.Write{Key: key, Value: value}
}

func historyKey(r *Run) string { return fmt.Sprintf("%s%s/%016d", historyPrefix, r.Job, r.Number) }

func (t turn) erase(key string) { t.put(machine.Write{Key: key}) }

func (t turn) define(j *job) { t.put(encode(jobPrefix+j.name, record{Job: j.spec})) }

// saveTouched writes the state of the jobs that the step changed, and forgets those that
// were removed and have ended.
func (m *Machine) saveTouched(t turn) {
	for _, name := range sortedKeys(m.touched) {
		j := m.jobs[name]
		if j.spec == nil && len(j.Runs) == 0 {
			t.erase(statePrefix + name)
			delete(m.jobs, name)
			continue
		}
		t.put(encode(statePrefix+name, record{State: &j.state}))
	}
	clear(m.touched)
}

// New makes a machine of the records that earlier ones asked to persist, in any order. A
// RecordError names the record that can't be understood.
func New(config Config, records []machine.Write) (*Machine, error) {
	m := &Machine{
		config:   config,
		jobs:     make(map[string]*job),
		children: make(map[string][]string),
		tasks:    make(map[string]*Run),
		touched:  make(map[string]bool),
	}
	known := map[string]bool{}
	for _, w := range records {
		if err := m.load(w); err != nil {
			return nil, &RecordError{w.Key, err}
		}
		known[w.Key] = true
	}
	for _, name := range sortedKeys(m.jobs) {
		j := m.jobs[name]
		if j.spec != nil && !known[statePrefix+name] {
			return nil, &RecordError{jobPrefix + name, errors.New("there is no record of the job's state, which says what has run")}
		}
		if err := m.join(j); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// join connects what was loaded of a job with the rest.
func (m *Machine) join(j *job) error {
	for _, parent := range j.parents() {
		if m.existing(parent) == nil {
			return &RecordError{jobPrefix + j.name, fmt.Errorf("there is no record of its parent %q", parent)}
		}
	}
	m.adopt(j.name, j.parents())
	slices.SortFunc(j.history, func(a, b *Run) int { return cmp.Compare(a.Number, b.Number) })
	for _, r := range j.Runs {
		if err := r.check(j); err != nil {
			return &RecordError{statePrefix + j.name, err}
		}
		if !r.waiting() {
			m.tasks[r.Task] = r
		}
	}
	if j.spec == nil { // removed, or its definition is lost: nothing of it goes on
		m.orphans = append(m.orphans, j.name)
	}
	return nil
}

// check says what no living run of j can be.
func (r *Run) check(j *job) error {
	_, known := mesos.TaskState_value[r.State]
	named := *r
	named.name()
	switch {
	case r.Job != j.name || r.Task != named.Task:
		return fmt.Errorf("its run %q is not of this job", r.Task)
	case !known && !r.waiting():
		return fmt.Errorf("%q is no state of a run", r.State)
	case r.over() || r.Number > j.Number:
		return fmt.Errorf("its run %d has ended, or is beyond the last", r.Number)
	}
	return nil
}

func (m *Machine) load(w machine.Write) error {
	var r record
	if err := json.Unmarshal(w.Value, &r); err != nil {
		return err
	}
	if r.Schema != schema {
		return fmt.Errorf("its schema is %d, this program knows %d", r.Schema, schema)
	}
	filed := w.Key
	switch {
	case r.Job != nil:
		filed = jobPrefix + r.Job.Name
		j := m.job(r.Job.Name)
		j.spec = r.Job
		if len(r.Job.Parents) > 0 {
			break
		}
		plan, err := schedule.Parse(r.Job.Schedule, r.Job.ScheduleTimeZone, time.Unix(0, 0))
		if err != nil {
			return err
		}
		j.plan = &plan
	case r.State != nil && strings.HasPrefix(w.Key, statePrefix):
		m.job(strings.TrimPrefix(w.Key, statePrefix)).state = *r.State
	case r.Run != nil:
		filed = historyKey(r.Run)
		j := m.job(r.Run.Job)
		j.history = append(j.history, r.Run)
	default:
		return errors.New("it is empty")
	}
	if filed != w.Key {
		return fmt.Errorf("it is that of %s", filed)
	}
	return nil
}

// sweep ends what is left of jobs without a definition.
func (m *Machine) sweep(t turn) {
	for _, name := range m.orphans {
		j := m.jobs[name]
		for _, r := range j.history {
			t.erase(historyKey(r))
		}
		j.history = nil
		m.cancelAll(t, j, byRemoval, true)
		m.touch(j)
	}
	m.orphans = nil
}

// job finds or makes the entry for a name.
func (m *Machine) job(name string) *job {
	j := m.jobs[name]
	if j == nil {
		j = &job{name: name}
		m.jobs[name] = j
	}
	return j
}
