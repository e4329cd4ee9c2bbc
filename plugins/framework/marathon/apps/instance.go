package apps

import (
	"cmp"
	"slices"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// life is what is recorded of an instance.
type life struct {
	Task string `json:"id"`
	App  string `json:"app"`
	// Version of the definition that it was launched from, and the version that last
	// changed more than the scale.
	Version string `json:"version"`
	Config  string `json:"config"`
	Agent   string `json:"agent"`
	Host    string `json:"host"`
	Region  string `json:"region,omitempty"`
	Zone    string `json:"zone,omitempty"`
	// Attributes of the agent, as constraints see them.
	Attributes map[string]string `json:"attributes,omitempty"`
	Ports      []int             `json:"ports,omitempty"`
	Role       string            `json:"role"`
	// State is TASK_STAGING until an update says something else.
	State     string    `json:"state"`
	Staged    time.Time `json:"staged"`
	Started   time.Time `json:"started,omitzero"`
	Addresses []string  `json:"addresses,omitempty"`
	// Unreachable is when its agent was lost; zero while it is not.
	Unreachable time.Time `json:"unreachable,omitzero"`
	// Doomed says that it was decided to kill it.
	Doomed bool `json:"doomed,omitempty"`
}

// instance is one task.
type instance struct {
	life
	spec   *definition.App // it was launched from; nil when that version was trimmed
	health []health
	killAt time.Time // a doomed one is told again
}

func (i *instance) doomed() bool { return i.Doomed }

func (i *instance) running() bool { return i.State == mesos.TaskState_TASK_RUNNING.String() }

func (i *instance) staging() bool {
	return i.State == mesos.TaskState_TASK_STAGING.String() || i.State == mesos.TaskState_TASK_STARTING.String()
}

// lostAt is when an unreachable instance is given up.
func (i *instance) lostAt(a *app) time.Time {
	if i.Unreachable == never {
		return never
	}
	if a.removed {
		return i.Unreachable
	}
	u := a.spec().Unreachable
	if u.Disabled {
		return never
	}
	return i.Unreachable.Add(time.Duration(u.InactiveAfterSeconds) * time.Second)
}

// doom decides that i ends, durably, and tells its agent.
func (m *Machine) doom(t turn, a *app, i *instance) {
	if i.Doomed {
		return
	}
	if i.Unreachable != never {
		m.forget(t, a, i) // its agent can't be told; should it come back, it is unknown and killed
		return
	}
	i.Doomed = true
	m.counts.killed++
	t.save(i)
	m.touched[a.id] = true
	if m.subscribed {
		m.kill(t, i)
	} else {
		i.killAt = t.now
	}
}

func (m *Machine) kill(t turn, i *instance) {
	i.killAt = t.now.Add(killRetry)
	t.call(m.killCall(i.Task, i.Agent))
}

// forget drops an instance that is over or given up.
func (m *Machine) forget(t turn, a *app, i *instance) {
	t.drop(i)
	m.probes -= i.probing()
	delete(m.tasks, i.Task)
	a.instances = slices.DeleteFunc(a.instances, func(other *instance) bool { return other == i })
	m.touched[a.id] = true
}

// byKillOrder sorts the first to kill first: what does not run yet, then by age.
func byKillOrder(instances []*instance, selection string) {
	weight := func(i *instance) int {
		switch {
		case i.Unreachable != never:
			return 1
		case i.State == mesos.TaskState_TASK_STAGING.String():
			return 2
		case i.State == mesos.TaskState_TASK_STARTING.String():
			return 3
		}
		return 4
	}
	slices.SortStableFunc(instances, func(a, b *instance) int {
		if c := cmp.Compare(weight(a), weight(b)); c != 0 {
			return c
		}
		age := cmp.Or(a.Staged.Compare(b.Staged), compareTaskIDs(a.Task, b.Task))
		if selection == definition.OldestFirst {
			return age
		}
		return -age
	})
}

// compareTaskIDs puts web.1-9 before web.1-10.
func compareTaskIDs(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), cmp.Compare(a, b))
}

func (m *Machine) killCall(task, agent string) *schedulerpb.Call {
	kill := &schedulerpb.Call_Kill{TaskId: &mesos.TaskID{Value: &task}}
	if agent != "" {
		kill.AgentId = &mesos.AgentID{Value: &agent}
	}
	c := m.newCall(schedulerpb.Call_KILL)
	c.Kill = kill
	return c
}

func (m *Machine) newCall(kind schedulerpb.Call_Type) *schedulerpb.Call {
	c := &schedulerpb.Call{Type: kind.Enum()}
	if m.config.FrameworkID != "" {
		id := m.config.FrameworkID
		c.FrameworkId = &mesos.FrameworkID{Value: &id}
	}
	return c
}
