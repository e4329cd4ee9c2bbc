package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

const (
	maxAnswerBytes = 32 << 20
	// knownFor is how long addresses are used without asking again; one that is missing
	// is asked for again after missingFor.
	knownFor   = 15 * time.Second
	missingFor = time.Second
)

// master is asked where things are.
type master interface {
	Operate(ctx context.Context, c *masterpb.Call) (*masterpb.Response, error)
	Get(ctx context.Context, path string) ([]byte, error)
}

// cluster knows where the parts of the cluster answer, by the master's word.
type cluster struct {
	master master
	http   http.Client

	mu        sync.Mutex       // held while the master is asked
	agents    map[string]place // by id
	agentsAt  time.Time
	plugins   map[string]string // HOST:PORT by name; empty where a plugin does not listen
	pluginsAt time.Time
}

func newCluster(m master) *cluster {
	return &cluster{master: m, http: http.Client{
		Transport:     &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}, // straight, never by a proxy
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// place is where an agent answers, and whether the master hears of it.
type place struct {
	address string // HOST:PORT
	active  bool
}

// agent returns the address of an agent that the master knows.
func (c *cluster) agent(ctx context.Context, id string) (string, error) {
	all, err := c.allAgents(ctx, id)
	if err != nil {
		return "", err
	}
	if _, known := all[id]; !known {
		return "", refused(http.StatusNotFound, "the master knows no agent %.100q now, so its files can't be read", id)
	}
	return all[id].address, nil
}

// allAgents returns where the agents are, one of which is wanted, or "". The map is not
// changed afterwards.
func (c *cluster) allAgents(ctx context.Context, wanted string) (map[string]place, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.agents[wanted]; fresh(c.agentsAt, known || wanted == "") {
		return c.agents, nil
	}
	answer, err := c.master.Operate(ctx, &masterpb.Call{Type: masterpb.Call_GET_AGENTS.Enum()})
	if err != nil {
		return nil, fmt.Errorf("the master does not tell its agents: %w", err)
	}
	agents := make(map[string]place)
	for _, a := range answer.GetGetAgents().GetAgents() {
		info := a.GetAgentInfo()
		agents[info.GetId().GetValue()] = place{net.JoinHostPort(info.GetHostname(), strconv.Itoa(int(info.GetPort()))), a.GetActive()}
	}
	c.agents, c.agentsAt = agents, time.Now()
	return agents, nil
}

// task returns a task, whether it has ended or not.
func (c *cluster) task(ctx context.Context, framework, id string) (*mesos.Task, error) {
	answer, err := c.master.Operate(ctx, &masterpb.Call{Type: masterpb.Call_GET_TASKS.Enum()})
	if err != nil {
		return nil, fmt.Errorf("the master does not tell its tasks: %w", err)
	}
	all := answer.GetGetTasks()
	for _, list := range [][]*mesos.Task{all.GetTasks(), all.GetUnreachableTasks(), all.GetCompletedTasks()} {
		for _, t := range list {
			if t.GetFrameworkId().GetValue() == framework && t.GetTaskId().GetValue() == id {
				return t, nil
			}
		}
	}
	return nil, refused(http.StatusNotFound, "the master knows no task %.100q of framework %.100q", id, framework)
}

// plugin returns the address where a plugin listens.
func (c *cluster) plugin(ctx context.Context, name string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !fresh(c.pluginsAt, c.plugins[name] != "") {
		text, err := c.master.Get(ctx, "/gantry/v1/plugins")
		if err != nil {
			return "", fmt.Errorf("the master does not tell its plugins: %w", err)
		}
		var list []struct{ Name, Listen string }
		if err := json.Unmarshal(text, &list); err != nil {
			return "", fmt.Errorf("the master does not tell its plugins: %w", err)
		}
		c.plugins, c.pluginsAt = make(map[string]string), time.Now()
		for _, p := range list {
			c.plugins[p.Name] = p.Listen
		}
	}
	address, ok := c.plugins[name]
	switch {
	case !ok:
		return "", refused(http.StatusNotFound, "the cluster runs no plugin named %s", name)
	case address == "":
		return "", refused(http.StatusNotFound, "the plugin %s does not listen: give it a listen line in plugins.toml", name)
	}
	return address, nil
}

func fresh(at time.Time, found bool) bool {
	if found {
		return time.Since(at) < knownFor
	}
	return time.Since(at) < missingFor
}

// askAgent makes a call of an agent's API. What the agent refuses is refused alike.
func (c *cluster) askAgent(ctx context.Context, address string, call *agentpb.Call) (*agentpb.Response, error) {
	body, err := proto.Marshal(call)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/api/v1", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Accept", "application/x-protobuf")
	text, err := c.do(req)
	if err != nil {
		return nil, err
	}
	answer := new(agentpb.Response)
	if err := proto.Unmarshal(text, answer); err != nil {
		return nil, fmt.Errorf("the agent at %s answers with something else: %w", address, err)
	}
	return answer, nil
}

func (c *cluster) get(ctx context.Context, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return c.do(req)
}

func (c *cluster) do(req *http.Request) ([]byte, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxAnswerBytes:
		return nil, errors.New("the answer is too large")
	case resp.StatusCode == http.StatusBadRequest || resp.StatusCode == http.StatusNotFound:
		return nil, refused(resp.StatusCode, "%s", cmp.Or(strings.TrimSpace(string(text[:min(len(text), 1000)])), resp.Status))
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("answered with %s: %.300q", resp.Status, text)
	}
	return text, nil
}
