package node

import (
	"fmt"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/lifecycle"
)

// Check verifies the machine's invariants; an error names the first that is broken.
func (m *Machine) Check() error {
	if m.link.welcome && (m.link.conn == 0 || m.agentID == "" || m.link.dropped) {
		return fmt.Errorf("a welcome without a link or an id: %+v, id %q", m.link, m.agentID)
	}
	if len(m.dirtyTasks)+len(m.dirtyExecutors)+len(m.dirtyFrameworks) > 0 || m.dirtyAgent {
		return fmt.Errorf("a change was not persisted: %v %v %v", m.dirtyTasks, m.dirtyFrameworks, m.dirtyAgent)
	}
	held := map[id.Framework]int{}
	owning := 0
	for _, t := range m.ordered() {
		held[t.key.Framework]++
		if !t.custom() {
			owning++
		}
		if m.tasks[t.key] != t || (m.owners[t.container] == t) == t.custom() {
			return fmt.Errorf("task %s is not found by its key and its container %s", t.key, t.container)
		}
		if err := t.check(); err != nil {
			return fmt.Errorf("task %s: %w", t.key, err)
		}
	}
	if len(m.owners) != owning {
		return fmt.Errorf("%d tasks own %d containers", owning, len(m.owners))
	}
	if err := m.checkExecutors(held); err != nil {
		return err
	}
	for fid, f := range m.frameworks { // any order: any that is wrong will do
		if f.members != held[fid] || f.members == 0 {
			return fmt.Errorf("framework %s counts %d tasks and executors and has %d", fid, f.members, held[fid])
		}
		delete(held, fid)
	}
	if len(held) > 0 {
		return fmt.Errorf("tasks of frameworks that have no record: %v", held)
	}
	return nil
}

// checkExecutors: executors have the tasks that have them, and none that has ended. It
// counts them into held.
func (m *Machine) checkExecutors(held map[id.Framework]int) error {
	if len(m.hosts) != len(m.executors) {
		return fmt.Errorf("%d executors have %d containers", len(m.executors), len(m.hosts))
	}
	live := 0
	for _, e := range m.orderedExecutors() {
		held[e.key.Framework]++
		live += len(e.tasks)
		if m.executors[e.key] != e || m.hosts[e.container] != e {
			return fmt.Errorf("executor %s is not found by its key and its container %s", e.key, e.container)
		}
		for _, t := range e.ordered() {
			if t.executor != e || t.ended() || m.tasks[t.key] != t {
				return fmt.Errorf("executor %s has task %s, which is not its own", e.key, t.key)
			}
		}
	}
	for _, t := range m.ordered() {
		if t.executor != nil {
			live--
		}
		if t.custom() && (t.executor == nil) != t.ended() {
			return fmt.Errorf("task %s is %s, and has an executor: %t", t.key, t.latest.GetState(), t.executor != nil)
		}
	}
	if live != 0 {
		return fmt.Errorf("executors have %d more tasks than have an executor", live)
	}
	return nil
}

func (t *task) check() error {
	n := len(t.pending)
	switch {
	case n > 0 && t.discard:
		return fmt.Errorf("%d statuses wait for a framework that has gone", n)
	case n > 0 && string(t.pending[n-1].GetUuid()) != string(t.latest.GetUuid()):
		return fmt.Errorf("its latest status %s is not the last of the pending", t.latest.GetState())
	case n == 0 && t.ended():
		return fmt.Errorf("it ended as %s and nobody waits for it", t.latest.GetState())
	case t.discard && t.kill == nil:
		return fmt.Errorf("its framework has gone and it is not being killed")
	}
	for i := 1; i < n; i++ {
		from, to := t.pending[i-1].GetState(), t.pending[i].GetState()
		if _, verdict := lifecycle.NextTask(from, to); verdict == lifecycle.Stale || verdict == lifecycle.Repeated && !t.custom() {
			return fmt.Errorf("it went from %s to %s", from, to)
		}
	}
	return nil
}
