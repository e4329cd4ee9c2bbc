package apps

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Keys of the records. Ids begin with a slash, so these are app/ID/VERSION and so on.
const (
	appPrefix        = "app"
	currentPrefix    = "current"
	failurePrefix    = "failure"
	taskPrefix       = "task/"
	deploymentPrefix = "deployment/"
	incarnationKey   = "incarnation"
)

// schema is the version of the records' form.
const schema = 1

// record is the common part of all values.
type record struct {
	Schema      int             `json:"schema"`
	Incarnation uint64          `json:"incarnation,omitempty"`
	Current     string          `json:"current,omitempty"`
	App         *definition.App `json:"app,omitempty"`
	Task        *life           `json:"task,omitempty"`
	Failure     *TaskFailure    `json:"failure,omitempty"`
	Deployment  *Deployment     `json:"deployment,omitempty"`
}

func encode(key string, r record) Write {
	r.Schema = schema
	value, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("apps: encode record %s: %v", key, err)) // plain data always encodes
	}
	return Write{Key: key, Value: value}
}

func encodeIncarnation(n uint64) Write {
	return encode(incarnationKey, record{Incarnation: n})
}

func (t turn) put(w Write)        { t.out.Persist = append(t.out.Persist, w) }
func (t turn) erase(key string)   { t.put(Write{Key: key}) }
func (t turn) save(i *instance)   { t.put(encode(taskPrefix+i.Task, record{Task: &i.life})) }
func (t turn) drop(i *instance)   { t.erase(taskPrefix + i.Task) }
func appKey(id, v string) string  { return appPrefix + id + "/" + v }
func currentKey(id string) string { return currentPrefix + id }
func failureKey(id string) string { return failurePrefix + id }

// New makes a machine of the records that earlier ones asked to persist, in any order. It
// is the next incarnation. A RecordError names the record that can't be understood.
func New(config Config, records []Write) (*Machine, error) {
	m := &Machine{
		config:  config,
		apps:    make(map[string]*app),
		tasks:   make(map[string]*instance),
		touched: make(map[string]bool),
	}
	l := loader{current: map[string]string{}}
	for _, w := range records {
		if err := l.read(w); err != nil {
			return nil, &RecordError{w.Key, err}
		}
	}
	m.incarnation = l.latest() + 1
	if err := m.loadApps(&l); err != nil {
		return nil, err
	}
	m.loadTasks(&l)
	m.loadDeployments(&l)
	return m, nil
}

// loader sorts records by kind.
type loader struct {
	incarnation uint64
	apps        []*definition.App
	current     map[string]string // version by id
	failures    []*TaskFailure
	tasks       []*life
	deployments []*Deployment
}

func (l *loader) read(w Write) error {
	var r record
	if err := json.Unmarshal(w.Value, &r); err != nil {
		return err
	}
	if r.Schema != schema {
		return fmt.Errorf("its schema is %d, this program knows %d", r.Schema, schema)
	}
	filed := w.Key
	switch {
	case r.App != nil:
		filed = appKey(r.App.ID, r.App.Version)
		l.apps = append(l.apps, r.App)
	case r.Current != "" && strings.HasPrefix(w.Key, currentPrefix):
		l.current[strings.TrimPrefix(w.Key, currentPrefix)] = r.Current
	case r.Task != nil:
		filed = taskPrefix + r.Task.Task
		l.tasks = append(l.tasks, r.Task)
	case r.Failure != nil:
		filed = failureKey(r.Failure.AppID)
		l.failures = append(l.failures, r.Failure)
	case r.Deployment != nil:
		filed = deploymentKey(r.Deployment.ID)
		l.deployments = append(l.deployments, r.Deployment)
	case w.Key == incarnationKey && r.Incarnation > 0:
		l.incarnation = r.Incarnation
	default:
		return errors.New("it is empty")
	}
	if filed != w.Key {
		return fmt.Errorf("it is that of %s", filed)
	}
	if r.Task != nil {
		return r.Task.check()
	}
	return nil
}

// latest is the last incarnation that there are traces of: its own record may be lost, and
// ids of tasks must not be given out again.
func (l *loader) latest() uint64 {
	n := l.incarnation
	for _, t := range l.tasks {
		made, _, _ := strings.Cut(t.Task[strings.LastIndexByte(t.Task, '.')+1:], "-")
		if i, err := strconv.ParseUint(made, 10, 64); err == nil { // ids of other forms collide with none
			n = max(n, i)
		}
	}
	return n
}

// check says what no instance can be.
func (l *life) check() error {
	if id := AppOfTask(l.Task); id != l.App {
		return fmt.Errorf("its app is %s, and its id names %s", l.App, id)
	}
	if _, known := mesos.TaskState_value[l.State]; !known {
		return fmt.Errorf("%q is no state of a task", l.State)
	}
	return nil
}

// loadApps keeps of each app what leads up to its current version. What does not was cut
// off by the end of a process in the middle of many writes, and was never answered for.
func (m *Machine) loadApps(l *loader) error {
	sort.Slice(l.apps, func(i, j int) bool { return l.apps[i].Version < l.apps[j].Version })
	for _, spec := range l.apps {
		at, err := time.Parse(definition.VersionLayout, spec.Version)
		if err != nil {
			return &RecordError{appKey(spec.ID, spec.Version), err}
		}
		if at.After(m.lastVersion) {
			m.lastVersion = at
		}
		if spec.Version > l.current[spec.ID] {
			m.leftovers = append(m.leftovers, appKey(spec.ID, spec.Version))
			continue
		}
		a := m.app(spec.ID)
		a.versions = append(a.versions, spec)
	}
	for _, id := range sortedKeys(l.current) {
		if a := m.apps[id]; a == nil || a.spec().Version != l.current[id] {
			return &RecordError{currentKey(id), fmt.Errorf("there is no record of version %s of the app", l.current[id])}
		}
	}
	for _, f := range l.failures {
		if a := m.apps[f.AppID]; a != nil {
			a.failure = f
		}
	}
	return nil
}

// app finds or makes the entry for id.
func (m *Machine) app(id string) *app {
	a := m.apps[id]
	if a == nil {
		a = &app{id: id}
		m.apps[id] = a
	}
	return a
}

// loadTasks files instances under their apps; one without a definition is a leftover of
// an app that was being removed.
func (m *Machine) loadTasks(l *loader) {
	sort.Slice(l.tasks, func(i, j int) bool {
		a, b := l.tasks[i], l.tasks[j]
		if !a.Staged.Equal(b.Staged) {
			return a.Staged.Before(b.Staged)
		}
		return a.Task < b.Task
	})
	for _, t := range l.tasks {
		a := m.app(t.App)
		a.removed = len(a.versions) == 0
		i := &instance{life: *t, spec: a.version(t.Version)}
		i.watch(i.Started)
		m.file(a, i)
	}
}

func (m *Machine) file(a *app, i *instance) {
	a.instances = append(a.instances, i)
	m.tasks[i.Task] = i
}

func (m *Machine) loadDeployments(l *loader) {
	sort.Slice(l.deployments, func(i, j int) bool {
		a, b := l.deployments[i], l.deployments[j]
		if a.Version != b.Version {
			return a.Version < b.Version
		}
		return a.ID < b.ID
	})
	for _, d := range l.deployments {
		for _, action := range d.Actions {
			a := m.app(action.App)
			a.removed = len(a.versions) == 0
		}
		m.deployments = append(m.deployments, &deployment{Deployment: *d})
	}
}
