package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"time"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// State returns everything that the master knows: agents, frameworks and tasks as of one moment.
func (c *Client) State(ctx context.Context) (*masterpb.Response_GetState, error) {
	answer, err := c.operate(ctx, masterpb.Call_GET_STATE)
	return answer.GetGetState(), err
}

// Agents returns the agents that the master knows.
func (c *Client) Agents(ctx context.Context) ([]*masterpb.Response_GetAgents_Agent, error) {
	answer, err := c.operate(ctx, masterpb.Call_GET_AGENTS)
	return answer.GetGetAgents().GetAgents(), err
}

// Tasks returns the tasks that the master knows, those that ended included.
func (c *Client) Tasks(ctx context.Context) (*masterpb.Response_GetTasks, error) {
	answer, err := c.operate(ctx, masterpb.Call_GET_TASKS)
	return answer.GetGetTasks(), err
}

func (c *Client) operate(ctx context.Context, what masterpb.Call_Type) (*masterpb.Response, error) {
	answer := new(masterpb.Response)
	err := c.post(ctx, c.master, "/api/v1", &masterpb.Call{Type: what.Enum()}, answer)
	return answer, err
}

// Plugin is one entry of plugins.toml and how it fares.
type Plugin struct {
	Name string `json:"name"`
	Kind string `json:"kind"`

	// State is one word, such as "running" or "failed".
	State string `json:"state"`

	// Listen is HOST:PORT of the plugin's own listener; empty when it has none.
	Listen string `json:"listen,omitempty"`

	// Restarts counts how often it was started again after it ended.
	Restarts int `json:"restarts"`

	// Problem is a sentence that says why it does not run; empty while it does.
	Problem string `json:"message,omitempty"`
}

// Plugins returns the plugins of the master, in the order of plugins.toml.
func (c *Client) Plugins(ctx context.Context) ([]Plugin, error) {
	var list []Plugin
	err := c.rest(ctx, request{method: http.MethodGet, address: c.master, path: "/gantry/v1/plugins"}, nil, &list)
	return list, err
}

// AgentPlugins returns the plugins of the agent at HOST:PORT, in the order of plugins.toml.
func (c *Client) AgentPlugins(ctx context.Context, agent string) ([]Plugin, error) {
	var list []Plugin
	err := c.rest(ctx, request{method: http.MethodGet, address: agent, path: "/gantry/v1/plugins"}, nil, &list)
	return list, err
}

// KillTask asks the master to end a task, whoever its framework is. The task ends later, or is not known any more.
func (c *Client) KillTask(ctx context.Context, framework, task string) error {
	body := map[string]string{"framework_id": framework, "task_id": task}
	r := request{method: http.MethodPost, address: c.master, path: "/gantry/v1/tasks/kill"}
	if err := c.rest(ctx, r, body, nil); err != nil {
		return fmt.Errorf("kill task %s: %w", task, err)
	}
	return nil
}

// AgentAddress returns HOST:PORT of an agent's API.
func AgentAddress(info *mesos.AgentInfo) string {
	return net.JoinHostPort(info.GetHostname(), strconv.Itoa(int(info.GetPort())))
}

// OfferAddress returns HOST:PORT of the API of the agent that an offer is of.
func OfferAddress(offer *mesos.Offer) string {
	at := offer.GetUrl().GetAddress()
	return net.JoinHostPort(at.GetHostname(), strconv.Itoa(int(at.GetPort())))
}

// Sandbox is where one task's files are.
type Sandbox struct {
	Agent     string // HOST:PORT of the agent's API
	Framework string
	Task      string
}

// maxReadBytes is asked for at a time; an agent may answer with less.
const maxReadBytes = 64 << 10

// Read returns bytes of a file in the sandbox from offset on, some 64 KiB at most, and nothing at its end. A file that is
// not there, yet or any more, reads as fs.ErrNotExist would: IsNotFound.
func (c *Client) Read(ctx context.Context, s Sandbox, file string, offset uint64) ([]byte, error) {
	length := uint64(maxReadBytes)
	name := path.Join("/frameworks", s.Framework, "executors", s.Task, "runs/latest", file)
	call := &agentpb.Call{
		Type:     agentpb.Call_READ_FILE.Enum(),
		ReadFile: &agentpb.Call_ReadFile{Path: &name, Offset: &offset, Length: &length},
	}
	answer := new(agentpb.Response)
	if err := c.post(ctx, s.Agent, "/api/v1", call, answer); err != nil {
		return nil, fmt.Errorf("read %s of task %s: %w", file, s.Task, err)
	}
	if answer.ReadFile == nil {
		return nil, errors.New("the agent answered READ_FILE with something else")
	}
	return answer.ReadFile.GetData(), nil
}

// Containers returns the living containers of the agent at HOST:PORT, with what they use.
func (c *Client) Containers(ctx context.Context, agent string) ([]*agentpb.Response_GetContainers_Container, error) {
	call := &agentpb.Call{Type: agentpb.Call_GET_CONTAINERS.Enum(), GetContainers: &agentpb.Call_GetContainers{}}
	answer := new(agentpb.Response)
	if err := c.post(ctx, agent, "/api/v1", call, answer); err != nil {
		return nil, fmt.Errorf("measure the containers of agent %s: %w", agent, err)
	}
	return answer.GetGetContainers().GetContainers(), nil
}

// Mark is one step of a task's way.
type Mark struct {
	Step string `json:"step"`

	// State is that of the status which the step is about; empty if it is about none.
	State string `json:"state,omitempty"`

	// Detail is more about it, like the digest of the image that was prepared; mostly empty.
	Detail string `json:"detail,omitempty"`

	// By is who did it: "allocator", "framework", "master", "agent" or "keeper".
	By string `json:"by"`

	// At is by the clock of the host whose daemon was asked.
	At time.Time `json:"at"`
}

// Trace returns what the master or agent at HOST:PORT saw of a task's way, in order; nothing if it remembers no such task.
func (c *Client) Trace(ctx context.Context, daemon, framework, task string) ([]Mark, error) {
	var answer struct {
		Traces []struct {
			Marks []Mark `json:"marks"`
		} `json:"traces"`
	}
	query := url.Values{"framework": {framework}, "task": {task}}
	r := request{method: http.MethodGet, address: daemon, path: "/gantry/v1/trace?" + query.Encode()}
	if err := c.rest(ctx, r, nil, &answer); err != nil {
		return nil, fmt.Errorf("trace task %s: %w", task, err)
	}
	if len(answer.Traces) == 0 {
		return nil, nil
	}
	return answer.Traces[0].Marks, nil
}
