package apps

import (
	"slices"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// eagerProbe is the longest time between two probes of an instance that has not been
// healthy yet, so that a rolling update need not wait for a long interval.
const eagerProbe = 2 * time.Second

// health is what one check found out about one instance. It is not recorded: a new
// process asks again.
type health struct {
	check        definition.HealthCheck
	next         time.Time // when it is due; never while it is under way
	pending      bool
	firstSuccess time.Time
	lastSuccess  time.Time
	lastFailure  time.Time
	cause        string
	failures     int // in a row
}

func (h *health) alive() bool { return h.firstSuccess != never && h.failures == 0 }

// watch starts the checks of an instance that runs since started.
func (i *instance) watch(started time.Time) {
	if started == never || i.spec == nil || i.health != nil {
		return
	}
	for _, c := range i.spec.HealthChecks {
		i.health = append(i.health, health{check: c, next: started})
	}
}

// healthy says that i runs and every check has found it alive.
func (i *instance) healthy() bool {
	for n := range i.health {
		if !i.health[n].alive() {
			return false
		}
	}
	return i.running()
}

// failing says that a check has found i dead.
func (i *instance) failing() bool {
	return slices.ContainsFunc(i.health, func(h health) bool { return h.failures > 0 })
}

func (i *instance) probing() int {
	n := 0
	for _, h := range i.health {
		if h.pending {
			n++
		}
	}
	return n
}

// nextProbe is when the first check of i is due.
func (i *instance) nextProbe() time.Time {
	first := never
	if !i.running() {
		return never
	}
	for _, h := range i.health {
		if h.next != never && (first == never || h.next.Before(first)) {
			first = h.next
		}
	}
	return first
}

// probe starts the checks that are due.
func (m *Machine) probe(t turn) {
	for _, id := range sortedKeys(m.apps) {
		for _, i := range m.apps[id].instances {
			if m.probes >= maxProbes {
				return
			}
			if at := i.nextProbe(); !i.Doomed && at != never && !t.now.Before(at) {
				m.probeInstance(t, i)
			}
		}
	}
}

func (m *Machine) probeInstance(t turn, i *instance) {
	for n := range i.health {
		h := &i.health[n]
		if h.next == never || t.now.Before(h.next) || m.probes >= maxProbes {
			continue
		}
		port, ok := h.check.PortOf(i.Ports)
		if !ok {
			h.next = never // validation saw to it; a record of another version may not have
			continue
		}
		h.next, h.pending = never, true
		m.probes++
		t.out.Probes = append(t.out.Probes, Probe{
			Task: i.Task, Check: n,
			HTTP: h.check.Protocol == "HTTP",
			Host: i.Host, Port: port, Path: h.check.Path,
			Timeout: max(time.Second, time.Duration(h.check.TimeoutSeconds)*time.Second),
		})
	}
}

// probed applies the outcome of one check.
func (m *Machine) probed(t turn, p Probed) {
	i := m.tasks[p.Task]
	if i == nil || p.Check >= len(i.health) || !i.health[p.Check].pending {
		return // the instance ended meanwhile
	}
	m.probes--
	a := m.apps[i.App]
	h := &i.health[p.Check]
	h.pending = false
	m.touched[a.id] = true
	if p.Alive {
		h.failures, h.cause, h.lastSuccess = 0, "", t.now
		if h.firstSuccess == never {
			h.firstSuccess = t.now
		}
	} else {
		h.failed(t.now, i.Started, p.Cause)
	}
	interval := max(time.Second, time.Duration(h.check.IntervalSeconds)*time.Second)
	if h.firstSuccess == never {
		interval = min(interval, eagerProbe)
	}
	h.next = t.now.Add(interval)
	if most := h.check.MaxConsecutiveFailures; most > 0 && h.failures >= most && !i.Doomed && !a.removed {
		m.fail(t, a, i, mesos.TaskState_TASK_KILLED, "Task was killed since health check failed. Reason: "+h.cause)
		m.doom(t, a, i)
	}
}

// failed counts a failure, unless the instance may still be starting.
func (h *health) failed(now, started time.Time, cause string) {
	grace := time.Duration(h.check.GracePeriodSeconds) * time.Second
	if h.firstSuccess == never && now.Before(started.Add(grace)) {
		return
	}
	h.failures++
	h.lastFailure, h.cause = now, cause
}
