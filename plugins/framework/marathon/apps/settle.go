package apps

import (
	"slices"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
)

// settleTouched brings the apps that this step touched closer to what they should be.
func (m *Machine) settleTouched(t turn) {
	for _, id := range sortedKeys(m.touched) {
		if a := m.apps[id]; a != nil {
			m.settle(t, a)
		}
	}
	if len(m.touched) > 0 {
		m.finishDeployments(t)
	}
	for id := range m.touched { // any order: each is dropped by itself
		if a := m.apps[id]; a != nil && a.removed && len(a.instances) == 0 && len(m.locks(id)) == 0 {
			delete(m.apps, id)
		}
	}
	clear(m.touched)
}

func (m *Machine) settle(t turn, a *app) {
	if a.removed {
		for _, i := range slices.Clone(a.instances) {
			m.doom(t, a, i)
		}
		return
	}
	start, kill := a.plan()
	for _, i := range kill {
		m.doom(t, a, i)
	}
	if start > 0 && a.need == 0 {
		a.waiting = waiting{since: t.now}
	}
	a.need = start
}

// plan is how many instances to start now and which to kill.
func (a *app) plan() (start int, kill []*instance) {
	spec := a.spec()
	var fresh, old []*instance
	for _, i := range a.instances {
		switch {
		case i.Doomed:
		case i.Config == spec.VersionInfo.LastConfigChangeAt:
			fresh = append(fresh, i)
		default:
			old = append(old, i)
		}
	}
	if surplus := len(fresh) - spec.Instances; surplus > 0 {
		byKillOrder(fresh, spec.KillSelection)
		kill, fresh = fresh[:surplus], fresh[surplus:]
	}
	missing := spec.Instances - len(fresh)
	if spec.SingleInstance() && len(a.instances) > 0 {
		missing = 0 // not before the one there is has ended
	}
	if len(old) == 0 {
		return missing, kill
	}
	minHealthy, capacity := spec.UpgradeStrategy.Bounds(spec.Instances)
	kill = append(kill, retire(spec, old, fresh, minHealthy)...)
	// what was told to end still holds its place until it has ended
	return max(0, min(missing, capacity-len(a.instances))), kill
}

// retire is which old instances can end now: those beyond the wanted number, then as many
// as leave minHealthy healthy ones, the unhealthy first.
func retire(spec *definition.App, old, fresh []*instance, minHealthy int) []*instance {
	healthy := 0
	for _, i := range fresh {
		if i.healthy() {
			healthy++
		}
	}
	byKillOrder(old, spec.KillSelection)
	slices.SortStableFunc(old, func(x, y *instance) int { return x.weight() - y.weight() })
	for _, i := range old {
		healthy += i.weight()
	}
	for n, i := range old {
		if len(old)-n <= spec.Instances && healthy-i.weight() < minHealthy {
			return old[:n]
		}
		healthy -= i.weight()
	}
	return old
}

// weight is 1 for an old instance that may well be serving.
func (i *instance) weight() int {
	if i.running() && !i.failing() {
		return 1
	}
	return 0
}
