package core

import (
	"fmt"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Check verifies the invariants and names the first that is broken. It costs a walk over
// everything.
func (m *Machine) Check() error {
	if err := m.ledger.Check(); err != nil {
		return err
	}
	for _, check := range []func() error{m.checkOffers, m.checkTasks, m.checkExecutors, m.checkAgents, m.checkStreams} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

// checkOffers: every offer has its claim, and every claim its offer, with the same parties.
func (m *Machine) checkOffers() error {
	claims := 0
	for _, aid := range m.ledger.Agents() {
		claims += len(m.ledger.Claims(aid))
	}
	if claims != len(m.offers) {
		return fmt.Errorf("%d claims for %d offers", claims, len(m.offers))
	}
	for _, oid := range sorted(m.offers) {
		o := m.offers[oid]
		c, ok := m.ledger.ClaimOf(oid)
		a, f := m.agents[o.agent], m.frameworks[o.framework]
		switch {
		case !ok || c.Agent != o.agent || c.Framework != o.framework || c.Role != o.role:
			return fmt.Errorf("offer %s does not agree with its claim %+v", oid, c)
		case a == nil || a.conn == 0 || a.offers[oid] != o:
			return fmt.Errorf("offer %s is of agent %s, which does not have it", oid, o.agent)
		case f == nil || f.stream == "" || f.offers[oid] != o:
			return fmt.Errorf("offer %s is to framework %s, which does not have it", oid, o.framework)
		}
	}
	return nil
}

// checkTasks: every task is on one agent and of one framework, and holds resources exactly
// while it may run on an agent that is not given up.
func (m *Machine) checkTasks() error {
	count := 0
	for _, fid := range sorted(m.frameworks) {
		f := m.frameworks[fid]
		if f.removed && len(f.tasks) == 0 && f.executors == 0 {
			return fmt.Errorf("framework %s is removed and has no tasks or executors, but is still known", fid)
		}
		for _, tid := range sorted(f.tasks) {
			t := f.tasks[tid]
			count++
			a := m.agents[t.agent]
			if a == nil || a.tasks[t.key] != t {
				return fmt.Errorf("task %s is on agent %s, which does not have it", t.key, t.agent)
			}
			runs := !lifecycle.Terminal(t.state) && t.state != mesos.TaskState_TASK_UNREACHABLE
			if t.held != (runs && !a.unreachable) {
				return fmt.Errorf("task %s is %s on agent %s, and holds resources: %t", t.key, t.state, t.agent, t.held)
			}
		}
	}
	onAgents := 0
	for _, aid := range sorted(m.agents) {
		onAgents += len(m.agents[aid].tasks)
	}
	if count != onAgents {
		return fmt.Errorf("%d tasks of frameworks, %d on agents", count, onAgents)
	}
	return nil
}

// checkAgents: the ledger's holdings are those of the agents' tasks and offers.
func (m *Machine) checkAgents() error {
	for _, aid := range sorted(m.agents) {
		a := m.agents[aid]
		if a.conn != 0 && m.conns[a.conn] != a {
			return fmt.Errorf("agent %s has connection %d, which is not known", aid, a.conn)
		}
		used, offered := m.held(a)
		var sum ledger.Resources
		for _, h := range m.ledger.Holdings(aid) {
			sum = sum.Plus(h.Resources)
		}
		if want := used.Plus(offered); !sum.Equal(want) {
			return fmt.Errorf("agent %s: the ledger holds %s, tasks and offers %s", aid, sum, want)
		}
	}
	return nil
}

func (m *Machine) checkStreams() error {
	connected := 0
	for _, fid := range sorted(m.frameworks) {
		f := m.frameworks[fid]
		if f.stream == "" {
			continue
		}
		connected++
		if f.removed || f.deadline != 0 || m.streams[f.stream] != f {
			return fmt.Errorf("framework %s has stream %s, which is not its own", fid, f.stream)
		}
	}
	if connected != len(m.streams) {
		return fmt.Errorf("%d streams for %d connected frameworks", len(m.streams), connected)
	}
	return nil
}

// Holds says whether the ledger has a use for the task: for tests and simulations that
// account from outside.
func (m *Machine) Holds(key id.TaskKey) bool {
	f := m.frameworks[key.Framework]
	return f != nil && f.tasks[key.Task] != nil && f.tasks[key.Task].held
}
