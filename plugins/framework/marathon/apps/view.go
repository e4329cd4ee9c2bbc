package apps

import (
	"maps"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
)

// Task is an instance as clients see it.
type Task struct {
	ID           string
	App          string
	Version      string
	Agent        string
	Host         string
	Region       string
	Zone         string
	Role         string
	State        string
	Ports        []int
	ServicePorts []int
	Addresses    []string
	Staged       time.Time
	Started      time.Time // zero until it ran
	Health       []Health
}

// Health is the result of one check.
type Health struct {
	Alive        bool
	Failures     int
	FirstSuccess time.Time
	LastSuccess  time.Time
	LastFailure  time.Time
	Cause        string
}

// Info is an app with what runs of it.
type Info struct {
	definition.App
	Tasks                               []Task
	Staged, Running, Healthy, Unhealthy int
	Deployments                         []string
	LastFailure                         *TaskFailure
}

// Waiting is an app that needs instances it can't have yet.
type Waiting struct {
	App   definition.App
	Count int
	Role  string
	// Delay is what is left of the backoff.
	Delay     time.Duration
	Since     time.Time
	Processed int
	Unused    int
	// LastUnused and LastUsed are zero until there was one.
	LastUnused time.Time
	LastUsed   time.Time
	// Rejected counts refusals by reason since the wait began, RejectedLast in the last
	// round of ProcessedLast offers.
	Rejected      map[string]int
	RejectedLast  map[string]int
	ProcessedLast int
	// Why is a sentence for a person.
	Why string
}

// Status is what there is to say about the machine as a whole.
type Status struct {
	FrameworkID string
	Subscribed  bool
	Apps        int
	Deployments int
	Staged      int
	Running     int
	// Since the process began.
	Offers, Launched, Killed, Failed uint64
}

// Apps are all apps, by id.
func (m *Machine) Apps() []Info {
	list := make([]Info, 0, len(m.apps))
	for _, id := range sortedKeys(m.apps) {
		if info, ok := m.App(id); ok {
			list = append(list, info)
		}
	}
	return list
}

// App is one app; false when there is none.
func (m *Machine) App(id string) (Info, bool) {
	a := m.existing(id)
	if a == nil {
		return Info{}, false
	}
	info := Info{App: *a.spec(), Deployments: m.locks(id), LastFailure: a.failure, Tasks: make([]Task, 0, len(a.instances))}
	for _, i := range a.instances {
		task := m.task(a, i)
		info.Tasks = append(info.Tasks, task)
		switch {
		case i.running():
			info.Running++
		case i.staging():
			info.Staged++
		}
		if len(i.health) > 0 && i.running() {
			switch {
			case i.healthy():
				info.Healthy++
			case i.failing():
				info.Unhealthy++
			}
		}
	}
	return info, true
}

// Versions are the versions kept of an app, oldest first; false when there is none.
func (m *Machine) Versions(id string) ([]definition.App, bool) {
	a := m.existing(id)
	if a == nil {
		return nil, false
	}
	list := make([]definition.App, len(a.versions))
	for i, v := range a.versions {
		list[i] = *v
	}
	return list, true
}

// Deployments are those under way, oldest first.
func (m *Machine) Deployments() []Deployment {
	list := make([]Deployment, len(m.deployments))
	for i, d := range m.deployments {
		list[i] = d.Deployment
	}
	return list
}

// Queue is what waits to be launched.
func (m *Machine) Queue(now time.Time) []Waiting {
	list := []Waiting{}
	for _, id := range sortedKeys(m.apps) {
		a := m.apps[id]
		if a.need == 0 {
			continue
		}
		w := a.waiting
		entry := Waiting{
			App: *a.spec(), Count: a.need, Role: m.config.Role, Since: w.since,
			Processed: w.processed, Unused: w.unused, LastUnused: w.lastUnused, LastUsed: w.lastUsed,
			Rejected: copied(w.rejected), RejectedLast: copied(w.rejectedLast), ProcessedLast: w.processedLast,
		}
		switch {
		case a.backoff.delays(now):
			entry.Delay = a.backoff.until().Sub(now)
			entry.Why = "launches are delayed because tasks of this app ended"
			if a.failure != nil {
				entry.Why += ": " + a.failure.Message
			}
		case !m.subscribed:
			entry.Why = "the master has not answered yet"
		case w.rejectedLastText != "":
			entry.Why = w.rejectedLastText
		default:
			entry.Why = "no offer has come yet"
		}
		list = append(list, entry)
	}
	return list
}

// copied is never nil: a client that reads JSON finds an object.
func copied(m map[string]int) map[string]int {
	c := make(map[string]int, len(m))
	maps.Copy(c, m)
	return c
}

// Status sums up.
func (m *Machine) Status() Status {
	s := Status{
		FrameworkID: m.config.FrameworkID, Subscribed: m.subscribed, Deployments: len(m.deployments),
		Offers: m.counts.offers, Launched: m.counts.launched, Killed: m.counts.killed, Failed: m.counts.failed,
	}
	for _, a := range m.apps { // any order: counts
		if !a.removed {
			s.Apps++
		}
		for _, i := range a.instances {
			switch {
			case i.running():
				s.Running++
			case i.staging():
				s.Staged++
			}
		}
	}
	return s
}

// Role is the role that the framework runs with.
func (m *Machine) Role() string { return m.config.Role }

func (m *Machine) task(a *app, i *instance) Task {
	task := Task{
		ID: i.Task, App: i.App, Version: i.Version, Agent: i.Agent, Host: i.Host, Region: i.Region, Zone: i.Zone,
		Role: i.Role, State: i.State, Ports: i.Ports, Addresses: i.Addresses, Staged: i.Staged, Started: i.Started,
	}
	if !a.removed {
		task.ServicePorts = a.spec().ServicePorts()
	}
	for _, h := range i.health {
		if h.firstSuccess == never && h.failures == 0 {
			continue // no result yet
		}
		task.Health = append(task.Health, Health{
			Alive: h.alive(), Failures: h.failures, FirstSuccess: h.firstSuccess,
			LastSuccess: h.lastSuccess, LastFailure: h.lastFailure, Cause: h.cause,
		})
	}
	return task
}
