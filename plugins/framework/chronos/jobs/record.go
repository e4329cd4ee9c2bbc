package jobs

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
	"github.com/gantry-project/gantry/plugins/framework/chronos/schedule"
	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
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

// New makes a machine of the records that earlier ones asked to persist, in any order. An
// error names the record that can't be understood.
func New(config Config, records []machine.Write) (*Machine, error) {
	m := &Machine{
		config:   config,
		jobs:     make(map[string]*job),
		children: make(map[string][]string),
		tasks:    make(map[string]*Run),
		touched:  make(map[string]bool),
	}
	for _, w := range records {
		if err := m.load(w); err != nil {
			return nil, fmt.Errorf("read record %s: %w", w.Key, err)
		}
	}
	for _, name := range sortedKeys(m.jobs) {
		j := m.jobs[name]
		if j.Number == 0 && j.Left == 0 && j.spec == nil {
			return nil, fmt.Errorf("read job %s: there is nothing but its history", name)
		}
		sort.Slice(j.history, func(a, b int) bool { return j.history[a].Number < j.history[b].Number })
		for _, parent := range j.parents() {
			if p := m.jobs[parent]; p == nil || p.spec == nil {
				return nil, fmt.Errorf("read job %s: there is no record of its parent %s", name, parent)
			}
		}
		m.adopt(name, j.parents())
		for _, r := range j.Runs {
			if !r.waiting() {
				m.tasks[r.Task] = r
			}
		}
	}
	return m, nil
}

func (m *Machine) load(w machine.Write) error {
	var r record
	if err := json.Unmarshal(w.Value, &r); err != nil {
		return err
	}
	if r.Schema != schema {
		return fmt.Errorf("its schema is %d, this program knows %d", r.Schema, schema)
	}
	switch {
	case r.Job != nil:
		j := m.job(r.Job.Name)
		j.spec = r.Job
		if len(r.Job.Parents) > 0 {
			return nil
		}
		plan, err := schedule.Parse(r.Job.Schedule, r.Job.ScheduleTimeZone, time.Unix(0, 0))
		j.plan = &plan
		return err
	case r.State != nil:
		m.job(strings.TrimPrefix(w.Key, statePrefix)).state = *r.State
	case r.Run != nil:
		j := m.job(r.Run.Job)
		j.history = append(j.history, r.Run)
	default:
		return errors.New("it is empty")
	}
	return nil
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
