package run

import (
	"cmp"
	"context"
	"runtime"
	"slices"

	"github.com/gantry-project/gantry/kernel/core"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// stateMetrics are the names of how many tasks are in a state, or ended in it.
var stateMetrics = []struct {
	name  string
	state mesos.TaskState
	ended bool
}{
	{"staging", mesos.TaskState_TASK_STAGING, false}, {"starting", mesos.TaskState_TASK_STARTING, false},
	{"running", mesos.TaskState_TASK_RUNNING, false}, {"killing", mesos.TaskState_TASK_KILLING, false},
	{"unreachable", mesos.TaskState_TASK_UNREACHABLE, false},
	{"finished", mesos.TaskState_TASK_FINISHED, true}, {"failed", mesos.TaskState_TASK_FAILED, true},
	{"killed", mesos.TaskState_TASK_KILLED, true}, {"lost", mesos.TaskState_TASK_LOST, true},
	{"error", mesos.TaskState_TASK_ERROR, true}, {"dropped", mesos.TaskState_TASK_DROPPED, true},
	{"gone", mesos.TaskState_TASK_GONE, true}, {"gone_by_operator", mesos.TaskState_TASK_GONE_BY_OPERATOR, true},
}

// metrics names a master's numbers as monitoring of such masters knows them, in order.
func metrics(t core.Tally, uptimeSeconds float64) []*mesos.Metric {
	var all gauges
	add := func(name string, value float64) { all.add("master/"+name, value) }
	add("elected", 1)
	add("uptime_secs", uptimeSeconds)
	add("slaves_connected", float64(t.Connected))
	add("slaves_active", float64(t.Connected))
	add("slaves_disconnected", float64(t.Disconnected))
	add("slaves_inactive", float64(t.Disconnected))
	add("slaves_unreachable", float64(t.Unreachable))
	add("frameworks_connected", float64(t.Subscribed))
	add("frameworks_active", float64(t.Subscribed))
	add("frameworks_disconnected", float64(t.Unsubscribed))
	add("frameworks_inactive", float64(t.Unsubscribed))
	add("outstanding_offers", float64(t.Offers))
	add("invalid_status_update_acknowledgements", float64(t.InvalidAcks))
	for _, name := range []string{"cpus", "gpus", "mem", "disk"} {
		addUsage(add, name, t.Total.Firm[name], t.Used.Firm[name])
		addUsage(add, name+"_revocable", t.Total.Revocable[name], t.Used.Revocable[name])
	}
	for _, s := range stateMetrics {
		from := t.Tasks
		if s.ended {
			from = t.Ended
		}
		add("tasks_"+s.name, float64(from[s.state]))
	}
	return all.finish()
}

// Metrics names the agent's numbers as monitoring of such agents knows them, in order. What
// ended is not among them: the master counts it.
func (a *Agent) Metrics(ctx context.Context) ([]*mesos.Metric, error) {
	s, err := a.Snapshot(ctx)
	if err != nil {
		return nil, err
	}
	tasks := map[mesos.TaskState]int{}
	for _, t := range s.Tasks {
		tasks[t.Latest.GetState()]++
	}
	registered := 0.0
	if s.Linked {
		registered = 1
	}
	var all gauges
	all.add("slave/registered", registered)
	all.add("slave/uptime_secs", a.cfg.Now().Sub(a.started).Seconds())
	for _, state := range stateMetrics {
		if !state.ended && state.state != mesos.TaskState_TASK_UNREACHABLE {
			all.add("slave/tasks_"+state.name, float64(tasks[state.state]))
		}
	}
	return all.finish(), nil
}

// gauges are the numbers of a process.
type gauges []*mesos.Metric

func (g *gauges) add(name string, value float64) {
	*g = append(*g, &mesos.Metric{Name: &name, Value: &value})
}

// finish adds what every process has, and sorts.
func (g *gauges) finish() []*mesos.Metric {
	g.add("process/goroutines", float64(runtime.NumGoroutine()))
	slices.SortFunc(*g, func(a, b *mesos.Metric) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return *g
}

// addUsage is of thousandths; percent is a part of one, as ever.
func addUsage(add func(string, float64), name string, total, used int64) {
	percent := 0.0
	if total > 0 {
		percent = float64(used) / float64(total)
	}
	add(name+"_total", float64(total)/1000)
	add(name+"_used", float64(used)/1000)
	add(name+"_percent", percent)
}
