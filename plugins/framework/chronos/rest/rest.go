// Package rest is the HTTP surface that clients of Chronos speak, over package jobs.
//
//	handler := rest.New(service, "127.0.0.1:4400")
//
// Paths of Chronos 2 begin with /scheduler, those of Chronos 3 with /v1/scheduler: both are served,
// and are the same. What Chronos does not tell, such as the history of runs, is under
// /gantry/v1/jobs. Whatever a client does wrong is answered 400 with a sentence.
package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/jobs"
)

// Service is the owner of the machine.
type Service interface {
	// Do hands a request to the machine; it returns once the outcome is durable.
	Do(ctx context.Context, op any) (any, error)
	// View lets read look at the machine; read must be quick and keep nothing of it.
	View(ctx context.Context, read func(m *jobs.Machine, now time.Time)) error
}

// maxBody bounds what a client may send; a definition has room in one record of the store.
const maxBody = 256 << 10

// New is the handler of the whole surface; address is where clients find it.
func New(s Service, address string) http.Handler { return &server{service: s, address: address} }

type server struct {
	service Service
	address string
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	path, err := split(r.URL.EscapedPath())
	if err == nil {
		err = s.route(w, r, path)
	}
	if err != nil {
		writeError(w, err)
	}
}

// split is the path without empty segments; an escaped slash belongs to its segment.
func split(path string) ([]string, error) {
	parts := strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
	for i, part := range parts {
		text, err := url.PathUnescape(part)
		if err != nil {
			return nil, &statusError{http.StatusBadRequest, "the path can't be read: " + err.Error()}
		}
		parts[i] = text
	}
	return parts, nil
}

// endpoint answers one method of a resource.
type endpoint func(w http.ResponseWriter, r *http.Request) error

// methods is a resource. HEAD is GET.
type methods map[string]endpoint

func (m methods) serve(w http.ResponseWriter, r *http.Request) error {
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	if e, ok := m[method]; ok {
		return e(w, r)
	}
	return &statusError{http.StatusMethodNotAllowed, r.Method + " is not for " + r.URL.Path}
}

func (s *server) route(w http.ResponseWriter, r *http.Request, path []string) error {
	switch join(path, 1) {
	case "ping":
		return methods{http.MethodGet: s.ping}.serve(w, r)
	case "metrics":
		return methods{http.MethodGet: s.metrics}.serve(w, r)
	case "leader":
		return methods{http.MethodGet: s.leader}.serve(w, r)
	case "", "assets", "logging":
		return &statusError{http.StatusNotImplemented, "there is no page here and nothing to set; the cluster's web page is a plugin of its own"}
	case "scheduler":
		return s.scheduler(w, r, path[1:])
	}
	switch join(path, 2) {
	case "v1/scheduler":
		return s.scheduler(w, r, path[2:])
	case "gantry/v1":
		return s.own(w, r, path[2:])
	}
	return errNoRoute
}

// join is the first n segments, or all if there are fewer.
func join(path []string, n int) string { return strings.Join(path[:min(n, len(path))], "/") }

// scheduler serves what is below /scheduler and /v1/scheduler.
func (s *server) scheduler(w http.ResponseWriter, r *http.Request, path []string) error {
	if sentence, ok := absent[join(path, 2)]; ok {
		return &statusError{http.StatusNotImplemented, sentence}
	}
	switch strings.Join(path, "/") {
	case "jobs":
		return methods{http.MethodGet: s.listJobs}.serve(w, r)
	case "jobs/search":
		return methods{http.MethodGet: s.search}.serve(w, r)
	case "jobs/summary":
		return methods{http.MethodGet: s.summary}.serve(w, r)
	case "iso8601":
		return methods{http.MethodPost: s.postScheduled, http.MethodPut: s.postScheduled}.serve(w, r)
	case "dependency":
		return methods{http.MethodPost: s.postDependent, http.MethodPut: s.postDependent}.serve(w, r)
	case "graph/dot":
		return methods{http.MethodGet: s.dot}.serve(w, r)
	case "graph/csv":
		return methods{http.MethodGet: s.csv}.serve(w, r)
	case "leader":
		return methods{http.MethodGet: s.leader}.serve(w, r)
	}
	return s.named(w, r, path)
}

// named serves what ends in the name of a job, or of a figure.
func (s *server) named(w http.ResponseWriter, r *http.Request, path []string) error {
	if len(path) < 2 {
		return errNoRoute
	}
	name := path[len(path)-1]
	switch strings.Join(path[:len(path)-1], "/") {
	case "job":
		return methods{http.MethodGet: s.showJob(name), http.MethodPut: s.start(name), http.MethodDelete: s.do(http.StatusNoContent, jobs.Remove{Job: name})}.serve(w, r)
	case "job/success":
		return methods{http.MethodPut: s.markSuccess(name)}.serve(w, r)
	case "job/stat":
		return methods{http.MethodGet: s.jobStat(name)}.serve(w, r)
	case "task/kill", "job/task/kill":
		return methods{http.MethodDelete: s.do(http.StatusNoContent, jobs.Kill{Job: name})}.serve(w, r)
	case "stats":
		return methods{http.MethodGet: s.stats(name)}.serve(w, r)
	case "task":
		return &statusError{http.StatusNotImplemented, "a task that ends by a call, which was of Chronos 2 only, is not supported; it ends when its command does"}
	}
	if len(path) == 5 && path[0] == "job" && path[2] == "task" && name == "progress" {
		return &statusError{http.StatusNotImplemented, "progress of tasks is not supported yet: nothing reads it"}
	}
	return errNoRoute
}

// own serves what is below /gantry/v1.
func (s *server) own(w http.ResponseWriter, r *http.Request, path []string) error {
	switch {
	case len(path) == 1 && path[0] == "jobs":
		return methods{http.MethodGet: s.ownJobs}.serve(w, r)
	case len(path) == 2 && path[0] == "jobs":
		return methods{http.MethodGet: s.ownJob(path[1])}.serve(w, r)
	}
	return errNoRoute
}

// body reads all of the request.
func body(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &statusError{http.StatusRequestEntityTooLarge, "the body is larger than 256 KiB, which is the most that a job may be"}
	}
	if err != nil {
		return nil, &statusError{http.StatusBadRequest, "the body could not be read: " + err.Error()}
	}
	return data, nil
}
