package api

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func (h *host) Containers(context.Context) ([]Container, error) {
	return slices.Clone(h.containers), h.busy
}

func (h *host) Traces(framework, task string) []Trace {
	if framework != "" && framework != "F" || task != "T" {
		return nil
	}
	return []Trace{{Framework: "F", Task: "T", Marks: []Mark{
		{Step: "received", By: "agent", At: time.Unix(1000, 5).UTC()},
		{Step: "reported", State: "TASK_RUNNING", By: "agent", At: time.Unix(1001, 0).UTC()},
	}}}
}

func TestMonitor(t *testing.T) {
	h := newHost(t)
	h.containers = []Container{
		{
			ID: "c1", Framework: "F", Executor: "T", Name: "Command Executor", Source: "T",
			Status:     &mesos.ContainerStatus{ExecutorPid: proto.Uint32(7)},
			Statistics: &mesos.ResourceStatistics{Timestamp: proto.Float64(5), NetRxBytes: proto.Uint64(1 << 62)},
		},
		{ID: "c2", Framework: "F", Executor: "U", Name: "N", Source: "S"}, // which has not started
	}
	const (
		c1   = `"executor_id":"T","executor_name":"Command Executor","framework_id":"F","source":"T","statistics":{"timestamp":5.0,"net_rx_bytes":4611686018427387904}`
		row1 = `{"container_id":"c1",` + c1 + `,"status":{"executor_pid":7}}`
		row2 = `{"container_id":"c2","executor_id":"U","executor_name":"N","framework_id":"F","source":"S"}`
		call = `{"type":"GET_CONTAINERS","get_containers":{"containers":[` +
			`{"framework_id":{"value":"F"},"executor_id":{"value":"T"},"executor_name":"Command Executor","container_id":{"value":"c1"},` +
			`"container_status":{"executor_pid":7},"resource_statistics":{"timestamp":5.0,"net_rx_bytes":4611686018427387904}},` +
			`{"framework_id":{"value":"F"},"executor_id":{"value":"U"},"executor_name":"N","container_id":{"value":"c2"}}]}}`
		traces = `{"traces":[{"framework_id":"F","task_id":"T","marks":[{"step":"received","by":"agent","at":"1970-01-01T00:16:40.000000005Z"},` +
			`{"step":"reported","state":"TASK_RUNNING","by":"agent","at":"1970-01-01T00:16:41Z"}]}]}`
	)
	post := []string{asJSON}
	busy := errors.New("the agent is stopping")
	for _, c := range []struct {
		ask    ask
		busy   error
		status int
		body   string
	}{
		{ask{"GET", "/monitor/statistics", nil, ""}, nil, 200, `[{` + c1 + `}]`},
		{ask{"GET", "/slave(1)/monitor/statistics", nil, ""}, nil, 200, `[{` + c1 + `}]`},
		{ask{"GET", "/monitor/statistics?jsonp=f", nil, ""}, nil, 200, `f([{` + c1 + `}]);`},
		{ask{"GET", "/containers?jsonp=f", nil, ""}, nil, 200, "f([" + row1 + "," + row2 + "]);"},
		{ask{"GET", "/containers?jsonp=f()", nil, ""}, nil, 400, "?jsonp=f() is not the name of a function."},
		{ask{"GET", "/state", nil, ""}, nil, 501, "The agent's state is not shown here yet; the master's /state has it."},
		{ask{"GET", "/containers", nil, ""}, nil, 200, "[" + row1 + "," + row2 + "]"},
		{ask{"GET", "/slave(1)/containers?container_id=c2", nil, ""}, nil, 200, "[" + row2 + "]"},
		{ask{"GET", "/containers?container_id=", nil, ""}, nil, 200, "[]"},
		{ask{"POST", "/api/v1", post, `{"type":"GET_CONTAINERS"}`}, nil, 200, call},
		{ask{"POST", "/api/v1", post, `{"type":"GET_CONTAINERS","get_containers":{"show_nested":true,"show_standalone":true}}`}, nil, 200, call},
		{ask{"GET", "/monitor/statistics", nil, ""}, busy, 503, "The containers can't be listed: the agent is stopping"},
		{ask{"GET", "/containers", nil, ""}, busy, 503, "The containers can't be listed: the agent is stopping"},
		{ask{"POST", "/api/v1", post, `{"type":"GET_CONTAINERS"}`}, busy, 503, "The containers can't be listed: the agent is stopping"},
		{ask{"GET", "/gantry/v1/trace?task=T", nil, ""}, nil, 200, traces},
		{ask{"GET", "/gantry/v1/trace?task=T&framework=F", nil, ""}, nil, 200, traces},
		{ask{"GET", "/gantry/v1/trace?task=T&framework=G", nil, ""}, nil, 200, `{"traces":[]}`},
		{ask{"GET", "/gantry/v1/trace", nil, ""}, nil, 400, "Name the task: /gantry/v1/trace?task=TASK."},
	} {
		h.busy = c.busy
		r := c.ask.to(t, Secure(NewAgent(h.config()), SecureConfig{}))
		if body := bodyOf(t, r); r.StatusCode != c.status || body != c.body {
			t.Errorf("%s %s %s: got %d\n%s\nwant %d\n%s", c.ask.method, c.ask.target, c.ask.body, r.StatusCode, body, c.status, c.body)
		}
	}
}
