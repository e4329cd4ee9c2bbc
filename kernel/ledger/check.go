package ledger

import (
	"fmt"
	"maps"
	"slices"

	"github.com/gantry-project/gantry/kernel/id"
)

// Check computes every account anew from its claims and uses and compares. An error
// means that the ledger itself is broken, never that somebody asked for too much.
func (l *Ledger) Check() error {
	claims, tasks := 0, 0
	for _, agent := range l.Agents() {
		if err := l.checkAccount(agent); err != nil {
			return fmt.Errorf("account of agent %s: %w", agent, err)
		}
		claims += len(l.agents[agent].claims)
		tasks += len(l.agents[agent].tasks)
	}
	if claims != len(l.claims) {
		return fmt.Errorf("%d claims stand in accounts, %d exist: %v", claims, len(l.claims), slices.Sorted(maps.Keys(l.claims)))
	}
	if tasks != len(l.uses) {
		return fmt.Errorf("%d tasks stand in accounts, %d exist", tasks, len(l.uses))
	}
	return nil
}

func (l *Ledger) checkAccount(agent id.Agent) error {
	a := l.agents[agent]
	if !slices.IsSorted(a.claims) || !slices.IsSorted(a.shared) || !slices.IsSortedFunc(a.tasks, compareTasks) {
		return fmt.Errorf("not in order: claims %v, shared %v, tasks %v", a.claims, a.shared, a.tasks)
	}
	if err := checkNormal(a.free); err != nil {
		return err
	}
	rest, shared := a.total, 0
	charge := func(what any, r Resources) error {
		var ok bool
		if rest, ok = rest.Minus(r); !ok {
			return fmt.Errorf("%v holds %s, which the total %s does not cover", what, r, a.total)
		}
		return nil
	}
	for _, offer := range a.claims {
		c, ok := l.claims[offer]
		switch {
		case !ok || c.Agent != agent || c.Offer != offer:
			return fmt.Errorf("offer %s stands here, its claim is %+v", offer, c)
		case c.Mode == Shared:
			if _, found := slices.BinarySearch(a.shared, offer); !found {
				return fmt.Errorf("shared offer %s is not listed as such", offer)
			}
			shared++
		default:
			if err := charge(offer, c.Resources); err != nil {
				return err
			}
		}
	}
	if shared != len(a.shared) {
		return fmt.Errorf("%d offers are shared, %d are listed", shared, len(a.shared))
	}
	for _, task := range a.tasks {
		u, ok := l.uses[task]
		if !ok || u.Agent != agent || u.Task != task {
			return fmt.Errorf("task %s stands here, its use is %+v", task, u)
		}
		if err := charge(task, u.Resources); err != nil {
			return err
		}
	}
	if !rest.Equal(a.free) {
		return fmt.Errorf("%s should be free, the account says %s", rest, a.free)
	}
	return nil
}

// checkNormal tells whether the list is what Of would make of it.
func checkNormal(r Resources) error {
	for _, have := range r.list {
		if err := have.check(); err != nil {
			return err
		}
	}
	if normal := Of(r.list...); !normal.Equal(r) {
		return fmt.Errorf("%s is not normal, it should be %s", r, normal)
	}
	return nil
}
