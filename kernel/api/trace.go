package api

import (
	"net/http"
	"time"
)

// Trace is what one daemon saw of one task's way.
type Trace struct {
	Framework string `json:"framework_id"`
	Task      string `json:"task_id"`
	// Marks are in the order in which they were made; each step comes once, or once for
	// each state.
	Marks []Mark `json:"marks"`
}

// Mark is one step of a task's way.
type Mark struct {
	// Step is a word like "accepted".
	Step string `json:"step"`
	// State is that of the status which the step is about, like "TASK_RUNNING".
	State string `json:"state,omitempty"`
	// Detail is more about it, like "image sha256:..." of what was prepared.
	Detail string `json:"detail,omitempty"`
	// By is who did it: "allocator", "framework", "master", "agent" or "keeper".
	By string `json:"by"`
	// At is by the clock of the host of the daemon that tells it.
	At time.Time `json:"at"`
}

// Tracer remembers the ways of tasks: of those that live, and of some that have ended.
type Tracer interface {
	// Traces returns those of a task id, one for each framework that has such a task; an
	// empty framework stands for all.
	Traces(framework, task string) []Trace
}

// trace asks the leading master, like everything about tasks.
func (m *master) trace(w http.ResponseWriter, r *http.Request) {
	if m.ready(w, r) {
		trace(m.Tracer)(w, r)
	}
}

// trace is GET /gantry/v1/trace?task=TASK&framework=FRAMEWORK, of which the second may
// be missing.
func trace(t Tracer) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		if query.Get("task") == "" {
			answer(w, Reply{400, "Name the task: /gantry/v1/trace?task=TASK."})
			return
		}
		answerJSON(w, struct {
			Traces []Trace `json:"traces"`
		}{append([]Trace{}, t.Traces(query.Get("framework"), query.Get("task"))...)})
	}
}
