package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Job is what Chronos says of one job, as far as the command line shows it.
type Job struct {
	Job         JobDefinition `json:"job"`
	Status      string        `json:"status"` // fresh, success or failure
	State       string        `json:"state"`  // idle, queued or "1 running"
	Next        time.Time     `json:"next,omitzero"`
	Skipped     uint64        `json:"skipped"` // due times that passed over a run that had not ended
	LastSkipped time.Time     `json:"lastSkipped,omitzero"`
	Why         string        `json:"why,omitempty"` // it waits
	Children    []string      `json:"children"`
	Runs        []JobRun      `json:"runs"`              // those that have not ended, oldest first
	History     []JobRun      `json:"history,omitempty"` // those that have, newest first
}

// JobDefinition is what a job is, and how it went.
type JobDefinition struct {
	Name         string   `json:"name"`
	Command      string   `json:"command"`
	Shell        bool     `json:"shell"`
	Arguments    []string `json:"arguments,omitempty"`
	CPUs         float64  `json:"cpus"`
	Mem          float64  `json:"mem"` // MiB
	Retries      int      `json:"retries"`
	Concurrent   bool     `json:"concurrent"`
	Disabled     bool     `json:"disabled"`
	Schedule     string   `json:"schedule,omitempty"`
	Zone         string   `json:"scheduleTimeZone,omitempty"`
	Parents      []string `json:"parents,omitempty"`
	SuccessCount uint64   `json:"successCount"`
	ErrorCount   uint64   `json:"errorCount"`
	LastSuccess  string   `json:"lastSuccess"`
	LastError    string   `json:"lastError"`
}

// NewJob is a job to create or replace. What is empty is left to Chronos.
type NewJob struct {
	Name       string   `json:"name"`
	Command    string   `json:"command"`
	Shell      bool     `json:"shell"`
	Arguments  []string `json:"arguments,omitempty"`
	CPUs       float64  `json:"cpus,omitempty"`
	Mem        float64  `json:"mem,omitempty"` // MiB
	Retries    int      `json:"retries"`
	Concurrent bool     `json:"concurrent,omitempty"`
	Schedule   string   `json:"schedule,omitempty"`
	Zone       string   `json:"scheduleTimeZone,omitempty"`
	Parents    []string `json:"parents,omitempty"`
}

// JobRun is one attempt to run a job.
type JobRun struct {
	Number     uint64    `json:"number"`
	Task       string    `json:"task"`
	Due        time.Time `json:"due"`
	Cause      string    `json:"cause"` // schedule, parents or manual
	Arguments  string    `json:"arguments,omitempty"`
	Attempt    int       `json:"attempt"`
	State      string    `json:"state"` // WAITING, or as on the wire
	Started    time.Time `json:"started,omitzero"`
	Ended      time.Time `json:"ended,omitzero"`
	Agent      string    `json:"agent,omitempty"`
	Host       string    `json:"host,omitempty"`
	ExitStatus *int      `json:"exitStatus,omitempty"`
	Message    string    `json:"message,omitempty"`
}

// WithChronos returns a client that also knows the Chronos API at HOST:PORT.
func (c *Client) WithChronos(address string) *Client {
	other := *c
	other.chronos = address
	return &other
}

// Jobs returns every job, without its history.
func (c *Client) Jobs(ctx context.Context) ([]Job, error) {
	var answer struct {
		Jobs []Job `json:"jobs"`
	}
	err := c.rest(ctx, request{method: http.MethodGet, address: c.chronos, path: "/gantry/v1/jobs"}, nil, &answer)
	return answer.Jobs, err
}

// Job returns one job with its history.
func (c *Client) Job(ctx context.Context, name string) (Job, error) {
	var job Job
	err := c.rest(ctx, request{method: http.MethodGet, address: c.chronos, path: "/gantry/v1/jobs/" + url.PathEscape(name)}, nil, &job)
	return job, err
}

// PutJob creates or replaces a job.
func (c *Client) PutJob(ctx context.Context, job NewJob) error {
	path := "/v1/scheduler/iso8601"
	if len(job.Parents) > 0 {
		path = "/v1/scheduler/dependency"
	}
	if err := c.rest(ctx, request{method: http.MethodPost, address: c.chronos, path: path}, job, nil); err != nil {
		return fmt.Errorf("add job %s: %w", job.Name, err)
	}
	return nil
}

// RunJob starts a job now, with arguments added to its command, and returns the number of the run.
func (c *Client) RunJob(ctx context.Context, name, arguments string) (uint64, error) {
	r := c.jobRequest(http.MethodPut, "job", name)
	r.path += "?" + url.Values{"arguments": {arguments}}.Encode()
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return strconv.ParseUint(resp.Header.Get("Gantry-Run"), 10, 64)
}

// KillJob ends the runs of a job.
func (c *Client) KillJob(ctx context.Context, name string) error {
	return c.rest(ctx, c.jobRequest(http.MethodDelete, "task/kill", name), nil, nil)
}

// RemoveJob removes a job; its runs end later.
func (c *Client) RemoveJob(ctx context.Context, name string) error {
	return c.rest(ctx, c.jobRequest(http.MethodDelete, "job", name), nil, nil)
}

func (c *Client) jobRequest(method, resource, name string) request {
	return request{method: method, address: c.chronos, path: "/v1/scheduler/" + resource + "/" + url.PathEscape(name)}
}
