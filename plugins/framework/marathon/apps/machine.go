package apps

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Config says who the framework is.
type Config struct {
	// FrameworkID is the one the kernel keeps; empty before the first subscription.
	FrameworkID string
	Role        string
	User        string
	Principal   string
	// Hostname and WebURL are shown to operators.
	Hostname string
	WebURL   string
}

// Times of the machine.
const (
	killRetry         = 10 * time.Second  // until a KILL is sent again
	stagedTimeout     = 300 * time.Second // from launch to TASK_RUNNING
	reconcileInterval = 600 * time.Second
	reviveInterval    = time.Second // between two REVIVEs
	refuseHungry      = 5 * time.Second
	refuseSated       = 120 * time.Second
	failoverTimeout   = 7 * 24 * time.Hour
	maxProbes         = 256 // health probes under way
	maxVersions       = 50  // kept of an app
	maxDeployments    = 100
	maxApps           = 10000
)

// Event is something that happened: one of the types below, plain data.
type Event interface{ event() }

// Start begins a session with the kernel.
type Start struct{}

// Scheduler is an event of the scheduler API.
type Scheduler struct{ Event *schedulerpb.Event }

// Refused says that the kernel answered a call of Effects with a refusal.
type Refused struct {
	Call   *schedulerpb.Call
	Reason string
}

// Request is what a client asks; its Reply carries the token.
type Request struct {
	Token uint64
	Op    Op
}

// Probed is the outcome of a Probe.
type Probed struct {
	Task  string
	Check int
	Alive bool
	Cause string // why it is not alive
}

// Tick says that the deadline of NextDeadline has passed.
type Tick struct{}

func (Start) event()     {}
func (Scheduler) event() {}
func (Refused) event()   {}
func (Request) event()   {}
func (Probed) event()    {}
func (Tick) event()      {}

// Effects is what a step asks for, in the order in which it must happen.
type Effects struct {
	// Persist is durable before anything below it happens. Writes may become durable one
	// after the other, but in this order.
	Persist []Write
	Calls   []*schedulerpb.Call
	Probes  []Probe
	Replies []Reply
	// Failed, when not empty, ends the session; the reason is the master's.
	Failed string
}

// Write puts Value at Key; a nil Value deletes it.
type Write struct {
	Key   string
	Value []byte
}

// Probe asks for one health check of one instance; its outcome is a Probed.
type Probe struct {
	Task    string
	Check   int
	HTTP    bool // otherwise TCP
	Host    string
	Port    int
	Path    string
	Timeout time.Duration
}

// Machine is the state of the framework. It has one owner; use New.
type Machine struct {
	config      Config
	incarnation uint64 // of this process; part of every id it makes
	counter     uint64 // ids made in this incarnation
	lastVersion time.Time
	apps        map[string]*app
	tasks       map[string]*instance
	deployments []*deployment   // oldest first
	leftovers   []string        // keys to erase at the start
	touched     map[string]bool // apps to settle at the end of the step
	probes      int             // under way
	now         time.Time       // of the last step
	subscribed  bool
	reconcileAt time.Time
	appetite    appetite
	counts      counts
}

// counts are what metrics show, since the process began.
type counts struct{ offers, launched, killed, failed uint64 }

// app is a definition with what runs of it.
type app struct {
	id string
	// versions are oldest first; the last one is wanted. A removed app keeps them until
	// its last instance is gone.
	versions  []*definition.App
	removed   bool
	instances []*instance // in the order of their launch
	backoff   backoff
	failure   *TaskFailure
	// need is how many instances the last settling asked to launch.
	need    int
	waiting waiting
}

func (a *app) spec() *definition.App { return a.versions[len(a.versions)-1] }

// version finds a definition that instances may still run; nil when it was trimmed.
func (a *app) version(version string) *definition.App {
	for _, v := range a.versions {
		if v.Version == version {
			return v
		}
	}
	return nil
}

// turn is one step: the time of it and where its effects go.
type turn struct {
	now time.Time
	out *Effects
}

func (t turn) call(c *schedulerpb.Call) { t.out.Calls = append(t.out.Calls, c) }

func (t turn) reply(r Reply) { t.out.Replies = append(t.out.Replies, r) }

// Step applies ev at now and appends what it asks for to out. Events must come in the
// order in which they happened; now never goes back.
func (m *Machine) Step(now time.Time, ev Event, out *Effects) {
	m.now = now.Round(0).UTC()
	t := turn{now: m.now, out: out}
	switch e := ev.(type) {
	case Start:
		m.start(t)
	case Scheduler:
		m.scheduler(t, e.Event)
	case Refused:
		m.refused(t, e)
	case Request:
		m.request(t, e)
	case Probed:
		m.probed(t, e)
	case Tick:
		m.tick(t)
	default:
		panic(fmt.Sprintf("apps: unknown event %T", ev))
	}
	m.settleTouched(t)
	m.feed(t)
}

// start names the incarnation durably, so that no id is made twice, and subscribes.
func (m *Machine) start(t turn) {
	t.put(encodeIncarnation(m.incarnation))
	for _, key := range m.leftovers {
		t.erase(key)
	}
	m.leftovers = nil
	t.call(m.subscribe())
	for id := range m.apps { // any order: a set of all
		m.touched[id] = true
	}
}

func (m *Machine) tick(t turn) {
	for _, id := range sortedKeys(m.apps) {
		a := m.apps[id]
		for _, i := range slices.Clone(a.instances) {
			m.expire(t, a, i)
		}
	}
	if m.subscribed && !t.now.Before(m.reconcileAt) {
		m.reconcile(t)
	}
	m.probe(t)
}

// expire does what is due about one instance.
func (m *Machine) expire(t turn, a *app, i *instance) {
	switch {
	case i.doomed() && m.subscribed && !t.now.Before(i.killAt):
		m.kill(t, i)
	case i.doomed():
	case i.lostAt(a) != never && !t.now.Before(i.lostAt(a)):
		m.forget(t, a, i)
	case i.staging() && !t.now.Before(i.Staged.Add(stagedTimeout)):
		m.doom(t, a, i)
	}
}

// never is no deadline.
var never = time.Time{}

// NextDeadline is when a Tick is due.
func (m *Machine) NextDeadline() (time.Time, bool) {
	next := never
	soonest := func(at time.Time) {
		if at != never && (next == never || at.Before(next)) {
			next = at
		}
	}
	for _, a := range m.apps { // any order: the soonest of all
		if a.need > 0 && a.backoff.until().After(m.now) {
			soonest(a.backoff.until())
		}
		for _, i := range a.instances {
			soonest(m.instanceDeadline(a, i))
		}
	}
	if m.subscribed {
		soonest(m.reconcileAt)
		soonest(m.appetite.deadline())
	}
	return next, next != never
}

func (m *Machine) instanceDeadline(a *app, i *instance) time.Time {
	switch {
	case i.doomed() && !m.subscribed:
		return never
	case i.doomed():
		return i.killAt
	case i.lostAt(a) != never:
		return i.lostAt(a)
	case i.staging():
		return i.Staged.Add(stagedTimeout)
	case m.probes < maxProbes:
		return i.nextProbe()
	}
	return never
}

// Check verifies what must always hold; it is for tests.
func (m *Machine) Check() error {
	seen := 0
	for id, a := range m.apps { // any order: any that is wrong will do
		if a.id != id || (len(a.versions) == 0 && !a.removed) {
			return fmt.Errorf("app %s: is filed as %s with %d versions", a.id, id, len(a.versions))
		}
		for _, i := range a.instances {
			if m.tasks[i.Task] != i || i.App != id {
				return fmt.Errorf("instance %s of app %s: is not the one filed by its task id", i.Task, id)
			}
			if AppOfTask(i.Task) != id {
				return fmt.Errorf("instance %s: its id does not name app %s", i.Task, id)
			}
			seen++
		}
	}
	if seen != len(m.tasks) {
		return fmt.Errorf("%d tasks are filed, %d belong to an app", len(m.tasks), seen)
	}
	for _, d := range m.deployments {
		for _, action := range d.Actions {
			if m.apps[action.App] == nil {
				return fmt.Errorf("deployment %s: app %s is gone", d.ID, action.App)
			}
		}
	}
	return nil
}

// taskID is unique over all incarnations, and the text before its last dot is the app's
// id with _ for /, as clients expect.
func (m *Machine) taskID(app string) string {
	m.counter++
	name := strings.ReplaceAll(strings.Trim(app, "/"), "/", "_")
	return name + "." + strconv.FormatUint(m.incarnation, 10) + "-" + strconv.FormatUint(m.counter, 10)
}

// AppOfTask is the id of the app that a task id names.
func AppOfTask(task string) string {
	name := task
	if dot := strings.LastIndexByte(task, '.'); dot >= 0 {
		name = task[:dot]
	}
	return "/" + strings.ReplaceAll(name, "_", "/")
}

// newVersion is the time of a change, in milliseconds and unlike any before it.
func (m *Machine) newVersion(now time.Time) string {
	v := now.Truncate(time.Millisecond)
	if !v.After(m.lastVersion) {
		v = m.lastVersion.Add(time.Millisecond)
	}
	m.lastVersion = v
	return v.Format(definition.VersionLayout)
}

// sortedKeys makes walking a map repeatable.
func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
