package core

import (
	"github.com/gantry-project/gantry/kernel/ledger"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// States counts by state of tasks.
type States [mesos.TaskState_TASK_UNKNOWN + 1]uint64

// Tally is the cluster in numbers.
type Tally struct {
	// Agents that are connected, that are away, and that were given up.
	Connected, Disconnected, Unreachable int
	// Subscribed and Unsubscribed are frameworks.
	Subscribed, Unsubscribed, Offers int
	// Total of the agents that are not given up, and what tasks and executors use of it.
	Total, Used ledger.Scalars
	// Tasks as they are, and as they ended since the master's start.
	Tasks, Ended States
	// InvalidAcks are acknowledgements that named an agent which has not told the status.
	InvalidAcks uint64
}

// Tally counts the cluster; it costs a walk over agents and tasks.
func (m *Machine) Tally() Tally {
	t := Tally{
		Subscribed: len(m.streams), Unsubscribed: len(m.frameworks) - len(m.streams), Offers: len(m.offers),
		Ended: m.ended, InvalidAcks: m.invalidAcks,
	}
	for aid, a := range m.agents { // any order: sums
		switch {
		case a.unreachable:
			t.Unreachable++
		case a.conn != 0:
			t.Connected++
		case !a.recovered:
			t.Disconnected++
		}
		total, _ := m.ledger.Total(aid)
		t.Total.Add(total)
		for _, task := range a.tasks { // any order: sums
			t.Tasks[task.state]++
			if task.held {
				t.Used.Add(task.resources)
			}
		}
		for _, e := range sortedExecutors(a) {
			t.Used.Add(e.resources)
		}
	}
	return t
}
