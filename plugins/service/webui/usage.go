package main

import (
	"context"
	"slices"
	"sync"
	"time"

	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
)

const (
	measuredFor = 2 * time.Second // all pages that are open share one measurement
	agentWithin = 3 * time.Second
	atOnce      = 16 // agents
)

// usage measures the containers of all agents.
type usage struct {
	cluster *cluster

	mu   sync.Mutex // held while agents are asked
	last measurement
	at   time.Time
}

// measurement is what all containers use now.
type measurement struct {
	Containers []container `json:"containers"`
	// Silent are the agents that are there and did not answer.
	Silent []string `json:"silent"`
}

// container is one of them; what is not measured is left out.
type container struct {
	Agent     string `json:"agent"`
	Framework string `json:"framework"`
	Executor  string `json:"executor"`
	// At is when it was measured, by the agent's clock, in seconds.
	At float64 `json:"at"`
	// CPU is the time used so far, in seconds.
	CPU      float64  `json:"cpu"`
	CPULimit *float64 `json:"cpu_limit,omitempty"`
	// Memory is without the page cache. All are bytes.
	Memory      *uint64 `json:"memory,omitempty"`
	MemoryLimit *uint64 `json:"memory_limit,omitempty"`
	Received    *uint64 `json:"received,omitempty"`
	Sent        *uint64 `json:"sent,omitempty"`
}

// measure asks the agents, unless they have just been asked.
func (u *usage) measure(ctx context.Context) (measurement, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if time.Since(u.at) < measuredFor {
		return u.last, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerWithin) // others wait for it too
	defer cancel()
	agents, err := u.cluster.allAgents(ctx, "")
	if err != nil {
		return measurement{}, err
	}
	all := measurement{Containers: []container{}, Silent: []string{}}
	var mu sync.Mutex // guards all
	var asked sync.WaitGroup
	slots := make(chan struct{}, atOnce)
	for id, at := range agents {
		if !at.active {
			continue
		}
		slots <- struct{}{}
		asked.Go(func() {
			defer func() { <-slots }()
			found, err := u.of(ctx, id, at.address)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				all.Silent = append(all.Silent, id)
			}
			all.Containers = append(all.Containers, found...)
		})
	}
	asked.Wait()
	slices.Sort(all.Silent)
	u.last, u.at = all, time.Now()
	return all, nil
}

// of measures the containers of one agent.
func (u *usage) of(ctx context.Context, agent, address string) ([]container, error) {
	ctx, cancel := context.WithTimeout(ctx, agentWithin)
	defer cancel()
	answer, err := u.cluster.askAgent(ctx, address, &agentpb.Call{
		Type: agentpb.Call_GET_CONTAINERS.Enum(), GetContainers: &agentpb.Call_GetContainers{},
	})
	if err != nil {
		return nil, err
	}
	var list []container
	for _, c := range answer.GetGetContainers().GetContainers() {
		s := c.GetResourceStatistics()
		if s == nil {
			continue
		}
		list = append(list, container{
			Agent: agent, Framework: c.GetFrameworkId().GetValue(), Executor: c.GetExecutorId().GetValue(),
			At: s.GetTimestamp(), CPU: s.GetCpusUserTimeSecs() + s.GetCpusSystemTimeSecs(), CPULimit: s.CpusLimit,
			Memory: s.MemRssBytes, MemoryLimit: s.MemLimitBytes, Received: s.NetRxBytes, Sent: s.NetTxBytes,
		})
	}
	return list, nil
}
