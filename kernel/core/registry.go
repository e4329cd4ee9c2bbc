package core

import (
	"time"

	"github.com/gantry-project/gantry/kernel/core/corepb"
	"github.com/gantry-project/gantry/kernel/core/hello"
	"github.com/gantry-project/gantry/kernel/core/registry"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/step"
)

// CheckRegistry says whether Recovered can take these entries: the shell asks before it
// starts, since a machine has no way to refuse its own memory.
func CheckRegistry(entries []step.Write) error {
	_, err := registry.Read(entries)
	return err
}

func (m *Machine) recover(ev Recovered, out *Effects) {
	records, err := registry.Read(ev.Entries)
	if err != nil {
		panic("core: the registry was not checked: " + err.Error())
	}
	m.start = m.now
	for _, r := range records.Agents {
		m.recoverAgent(r)
	}
	for _, r := range records.Frameworks {
		m.recoverFramework(r, out)
	}
	for _, r := range records.Weights {
		m.weights[r.Role] = r.WeightMilli
	}
}

func (m *Machine) recoverAgent(r *corepb.AgentRecord) {
	a := newAgent(id.Agent(r.Info.GetId().GetValue()))
	a.info, a.since = r.Info, m.now
	a.Known = hello.Known{Confirmed: r.Registered, Home: r.Home, Boot: r.BootId}
	a.unreachable, a.recovered = r.UnreachableNanos != 0, true
	m.agents[a.id] = a
	if a.unreachable {
		since := min(step.Time(r.UnreachableNanos), m.now) // a clock that was set back must not prolong it
		m.agentDeadline(a, since.Add(forgetAfter).Sub(m.now))
	} else {
		m.agentDeadline(a, m.cfg.ReregisterTimeout)
	}
}

// recoverFramework gives a framework what is left of its failover timeout, and all of it
// if it was connected when the last master died. A clock that was set back must not
// prolong it, nor may another restart: what is given is put on record.
func (m *Machine) recoverFramework(r *corepb.FrameworkRecord, out *Effects) {
	f := newFramework(id.Framework(r.Info.GetId().GetValue()), r.Plugin)
	f.setInfo(r.Info)
	f.recovered = true
	f.principal = r.Info.GetPrincipal()
	f.registered = step.Time(r.RegisteredNanos)
	m.frameworks[f.id] = f
	if f.plugin != "" {
		m.plugins[f.plugin] = f.id
	}
	left := max(failoverTimeout(f.info), m.cfg.ReconnectGrace)
	if r.DeadlineNanos != 0 {
		grace := m.cfg.ReconnectGrace
		if asked := failoverTimeout(f.info); asked > 0 {
			grace = min(grace, asked) // it wants no more
		}
		left = min(left, max(step.Time(r.DeadlineNanos).Sub(m.now), grace))
	}
	m.frameworkDeadline(f, left)
	if int64(f.deadline) != r.DeadlineNanos {
		m.persistFramework(f, out)
	}
}

func (m *Machine) persistAgent(a *agent, out *Effects) {
	r := &corepb.AgentRecord{Info: a.info, Registered: a.Confirmed, Home: a.Home, BootId: a.Boot}
	if a.unreachable {
		r.UnreachableNanos = int64(a.since)
	}
	out.Persist = append(out.Persist, registry.Agent(r))
}

func (m *Machine) persistFramework(f *framework, out *Effects) {
	out.Persist = append(out.Persist, registry.Framework(&corepb.FrameworkRecord{
		Info: f.info, Plugin: f.plugin, DeadlineNanos: int64(f.deadline), RegisteredNanos: int64(f.registered),
	}))
}

func (m *Machine) forgetFramework(f *framework, out *Effects) {
	out.Persist = append(out.Persist, registry.WithoutFramework(f.id))
}

func (m *Machine) agentDeadline(a *agent, after time.Duration) {
	a.deadline = m.now.Add(after)
	m.deadlines.Add(a.deadline, step.Owner{Kind: agentDeadline, ID: string(a.id)})
}

func (m *Machine) frameworkDeadline(f *framework, after time.Duration) {
	f.deadline = m.now.Add(after)
	m.deadlines.Add(f.deadline, step.Owner{Kind: frameworkDeadline, ID: string(f.id)})
}

// patience is how long an agent may be silent.
func (m *Machine) patience() time.Duration {
	return m.cfg.PingInterval * time.Duration(m.cfg.PingMisses)
}
