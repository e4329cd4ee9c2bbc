package api

import (
	"context"
	"encoding/json"
	"net/http"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
)

// Container is one container of an agent that has not ended.
type Container struct {
	ID, Framework, Executor string
	// Name and Source are what the wire says of the executor.
	Name, Source string
	// Status is nil where nothing is known of it.
	Status *mesos.ContainerStatus
	// Statistics are nil where nothing is measured: before the container has started, say.
	Statistics *mesos.ResourceStatistics
}

// Monitor measures containers.
type Monitor interface {
	// Containers lists all that have not ended, in an order that stays.
	Containers(ctx context.Context) ([]Container, error)
}

// containers lists those that are chosen, or answers why it can't.
func (a *agent) containers(ctx context.Context, chosen func(Container) bool) ([]Container, *Reply) {
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	all, err := a.Monitor.Containers(ctx)
	if err != nil {
		return nil, &Reply{503, "The containers can't be listed: " + err.Error()}
	}
	list := all[:0]
	for _, c := range all {
		if chosen(c) {
			list = append(list, c)
		}
	}
	return list, nil
}

// executorUsage is a row of the two endpoints, its fields in the order of clients' texts.
type executorUsage struct {
	ContainerID string          `json:"container_id,omitempty"`
	Executor    string          `json:"executor_id"`
	Name        string          `json:"executor_name"`
	Framework   string          `json:"framework_id"`
	Source      string          `json:"source"`
	Statistics  json.RawMessage `json:"statistics,omitempty"`
	Status      json.RawMessage `json:"status,omitempty"`
}

func usageOf(c Container) executorUsage {
	return executorUsage{Executor: c.Executor, Name: c.Name, Framework: c.Framework, Source: c.Source, Statistics: raw(c.Statistics)}
}

// raw is a message as JSON; nil is nothing.
func raw(m message) json.RawMessage {
	if !m.ProtoReflect().IsValid() {
		return nil
	}
	return m.AppendJSON(nil)
}

// statistics is GET /monitor/statistics: the containers that are measured.
func (a *agent) statistics(w http.ResponseWriter, r *http.Request) {
	list, refused := a.containers(r.Context(), func(c Container) bool { return c.Statistics != nil })
	if refused != nil {
		answer(w, *refused)
		return
	}
	rows := make([]executorUsage, len(list))
	for i, c := range list {
		rows[i] = usageOf(c)
	}
	answerJSONP(w, r, rows)
}

// listContainers is GET /containers, of which ?container_id= chooses one.
func (a *agent) listContainers(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	list, refused := a.containers(r.Context(), func(c Container) bool {
		return !query.Has("container_id") || query.Get("container_id") == c.ID
	})
	if refused != nil {
		answer(w, *refused)
		return
	}
	rows := make([]executorUsage, len(list))
	for i, c := range list {
		rows[i] = usageOf(c)
		rows[i].ContainerID, rows[i].Status = c.ID, raw(c.Status)
	}
	answerJSONP(w, r, rows)
}

// getContainers answers GET_CONTAINERS. No container is nested or stands alone, so the
// call's two options change nothing.
func (a *agent) getContainers(ctx context.Context) (*agentpb.Response, Reply) {
	list, refused := a.containers(ctx, func(Container) bool { return true })
	if refused != nil {
		return nil, *refused
	}
	found := &agentpb.Response_GetContainers{}
	for _, c := range list {
		found.Containers = append(found.Containers, &agentpb.Response_GetContainers_Container{
			FrameworkId:        &mesos.FrameworkID{Value: &c.Framework},
			ExecutorId:         &mesos.ExecutorID{Value: &c.Executor},
			ExecutorName:       &c.Name,
			ContainerId:        &mesos.ContainerID{Value: &c.ID},
			ContainerStatus:    c.Status,
			ResourceStatistics: c.Statistics,
		})
	}
	return &agentpb.Response{Type: agentpb.Response_GET_CONTAINERS.Enum(), GetContainers: found}, Reply{Status: 200}
}
