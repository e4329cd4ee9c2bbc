package flat

import (
	"cmp"
	"encoding/json"
	"slices"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

type task struct {
	ID          string             `json:"id"`
	Name        string             `json:"name"`
	Framework   string             `json:"framework_id"`
	Executor    string             `json:"executor_id"`
	Agent       string             `json:"slave_id"`
	State       string             `json:"state"`
	Resources   resources          `json:"resources"`
	Limits      map[string]float64 `json:"limits,omitempty"`
	Role        string             `json:"role"`
	Statuses    []status           `json:"statuses"`
	User        *string            `json:"user,omitempty"`
	Labels      []json.RawMessage  `json:"labels,omitempty"`
	Discovery   json.RawMessage    `json:"discovery,omitempty"`
	Container   json.RawMessage    `json:"container,omitempty"`
	HealthCheck json.RawMessage    `json:"health_check,omitempty"`
}

type status struct {
	State     string            `json:"state"`
	Timestamp float64           `json:"timestamp"`
	Labels    []json.RawMessage `json:"labels,omitempty"`
	Container json.RawMessage   `json:"container_status,omitempty"`
	Healthy   *bool             `json:"healthy,omitempty"`
}

func labels(l *mesos.Labels) []json.RawMessage {
	if len(l.GetLabels()) == 0 {
		return nil
	}
	return wires(l.GetLabels())
}

func flatTask(t *mesos.Task) task {
	v := task{
		ID: t.GetTaskId().GetValue(), Name: t.GetName(), Framework: t.GetFrameworkId().GetValue(),
		Executor: t.GetExecutorId().GetValue(), Agent: t.GetAgentId().GetValue(), State: t.GetState().String(),
		Resources: flatten(t.GetResources()), Role: allocatedTo(t.GetResources()), Statuses: []status{},
		User: t.User, Labels: labels(t.GetLabels()),
	}
	for name, limit := range t.GetLimits() {
		if v.Limits == nil {
			v.Limits = map[string]float64{}
		}
		v.Limits[name] = limit.GetValue()
	}
	for _, s := range t.GetStatuses() {
		v.Statuses = append(v.Statuses, flatStatus(s))
	}
	if t.Discovery != nil {
		v.Discovery = wire(t.Discovery)
	}
	if t.Container != nil {
		v.Container = wire(t.Container)
	}
	if t.HealthCheck != nil {
		v.HealthCheck = wire(t.HealthCheck)
	}
	return v
}

func flatStatus(s *mesos.TaskStatus) status {
	v := status{State: s.GetState().String(), Timestamp: s.GetTimestamp(), Labels: labels(s.GetLabels()), Healthy: s.Healthy}
	if s.ContainerStatus != nil {
		v.Container = wire(s.ContainerStatus)
	}
	return v
}

// TaskQuery is which tasks /tasks lists.
type TaskQuery struct {
	Framework, Task string // empty: any
	Limit           int    // negative: no limit
	Offset          int
	Ascending       bool // the oldest first, by the first status; otherwise the newest
}

// Tasks is /tasks.
func Tasks(all *masterpb.Response_GetTasks, q TaskQuery) any {
	var chosen []*mesos.Task
	for _, list := range [][]*mesos.Task{all.GetTasks(), all.GetUnreachableTasks(), all.GetCompletedTasks()} {
		for _, t := range list {
			if (q.Framework == "" || t.GetFrameworkId().GetValue() == q.Framework) && (q.Task == "" || t.GetTaskId().GetValue() == q.Task) {
				chosen = append(chosen, t)
			}
		}
	}
	slices.SortStableFunc(chosen, func(a, b *mesos.Task) int {
		if q.Ascending {
			return cmp.Compare(first(a), first(b))
		}
		return cmp.Compare(first(b), first(a))
	})
	chosen = chosen[min(max(q.Offset, 0), len(chosen)):]
	if q.Limit >= 0 {
		chosen = chosen[:min(q.Limit, len(chosen))]
	}
	v := struct {
		Tasks []task `json:"tasks"`
	}{[]task{}}
	for _, t := range chosen {
		v.Tasks = append(v.Tasks, flatTask(t))
	}
	return v
}

// first is when a task was first heard of; one that was not yet is not older than others.
func first(t *mesos.Task) float64 {
	if len(t.GetStatuses()) == 0 {
		return 0
	}
	return t.GetStatuses()[0].GetTimestamp()
}
