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
	if len(m.dirtyTasks)+len(m.dirtyFrameworks) > 0 || m.dirtyAgent {
		return fmt.Errorf("a change was not persisted: %v %v %v", m.dirtyTasks, m.dirtyFrameworks, m.dirtyAgent)
	}
	if len(m.owners) != len(m.tasks) {
		return fmt.Errorf("%d tasks own %d containers", len(m.tasks), len(m.owners))
	}
	held := map[id.Framework]int{}
	for _, t := range m.ordered() {
		held[t.key.Framework]++
		if m.tasks[t.key] != t || m.owners[t.container] != t {
			return fmt.Errorf("task %s is not found by its key and its container %s", t.key, t.container)
		}
		if err := t.check(); err != nil {
			return fmt.Errorf("task %s: %w", t.key, err)
		}
	}
	for fid, f := range m.frameworks { // any order: any that is wrong will do
		if f.tasks != held[fid] || f.tasks == 0 {
			return fmt.Errorf("framework %s counts %d tasks and has %d", fid, f.tasks, held[fid])
		}
		delete(held, fid)
	}
	if len(held) > 0 {
		return fmt.Errorf("tasks of frameworks that have no record: %v", held)
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
		if _, verdict := lifecycle.NextTask(from, to); verdict != lifecycle.Advanced {
			return fmt.Errorf("it went from %s to %s", from, to)
		}
	}
	return nil
}
