package jobs

import (
	"slices"
	"strings"
)

// parents are the names of the jobs after which j runs.
func (j *job) parents() []string {
	if j.spec == nil {
		return nil
	}
	return j.spec.Parents
}

// adopt makes parents know name as their child.
func (m *Machine) adopt(name string, parents []string) {
	for _, parent := range parents {
		if at, found := slices.BinarySearch(m.children[parent], name); !found {
			m.children[parent] = slices.Insert(m.children[parent], at, name)
		}
	}
}

// disown undoes adopt.
func (m *Machine) disown(name string, parents []string) {
	for _, parent := range parents {
		rest := slices.DeleteFunc(m.children[parent], func(child string) bool { return child == name })
		if len(rest) == 0 {
			delete(m.children, parent)
			continue
		}
		m.children[parent] = rest
	}
}

// checkParents says why name can't run after parents.
func (m *Machine) checkParents(name string, parents []string) error {
	for _, parent := range parents {
		if m.existing(parent) == nil {
			return refusef("job %s names the parent %q, which does not exist; create it first", name, parent)
		}
		if list := m.children[parent]; len(list) >= maxChildren && !slices.Contains(list, name) {
			return refusef("job %s has %d children already, which is the most", parent, maxChildren)
		}
		if path := m.pathUp(parent, name, map[string]bool{}); path != nil {
			return refusef("job %s can't run after %s, because %s: that would go round for ever", name, parent, strings.Join(path, " runs after "))
		}
	}
	return nil
}

// pathUp leads from a job to one of its ancestors; nil when that is none.
func (m *Machine) pathUp(from, to string, seen map[string]bool) []string {
	if from == to {
		return []string{to}
	}
	if seen[from] {
		return nil
	}
	seen[from] = true
	for _, parent := range m.jobs[from].parents() {
		if path := m.pathUp(parent, to, seen); path != nil {
			return append([]string{from}, path...)
		}
	}
	return nil
}

// tellChildren says how a run of j ended; repair says that it was started by hand.
func (m *Machine) tellChildren(t turn, j *job, ok, repair bool) {
	for _, name := range slices.Clone(m.children[j.name]) {
		m.hear(t, m.jobs[name], j.name, ok, repair)
	}
}

// hear notes how a parent of j ended, and starts j when all of them have ended well since
// it was last started. When all have ended and one failed, the round is lost: what its
// parents do next belongs to a new one, unless a person repaired it.
func (m *Machine) hear(t turn, j *job, parent string, ok, repair bool) {
	m.touch(j)
	if len(j.Heard) == len(j.spec.Parents) && !repair {
		j.Heard = nil
	}
	if j.Heard == nil {
		j.Heard = map[string]bool{}
	}
	j.Heard[parent] = ok
	for _, name := range j.spec.Parents {
		if !j.Heard[name] {
			return
		}
	}
	j.Heard = nil
	switch {
	case j.spec.Disabled:
	case !j.open():
		j.Skipped, j.LastSkipped = j.Skipped+1, t.now
	default:
		m.enqueue(t, j, Run{Due: t.now, Cause: ByParents})
	}
}
