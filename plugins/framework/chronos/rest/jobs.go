package rest

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
	"github.com/gantry-project/gantry/plugins/framework/chronos/jobs"
)

// all are the jobs, by name.
func (s *server) all(r *http.Request) (list []jobs.Info, err error) {
	err = s.service.View(r.Context(), func(m *jobs.Machine, _ time.Time) { list = m.Jobs() })
	return list, err
}

// find is one job.
func (s *server) find(r *http.Request, name string) (info jobs.Info, err error) {
	found := false
	err = s.service.View(r.Context(), func(m *jobs.Machine, _ time.Time) { info, found = m.Job(name) })
	if err == nil && !found {
		err = jobs.NotFound(name)
	}
	return info, err
}

func (s *server) listJobs(w http.ResponseWriter, r *http.Request) error {
	list, err := s.all(r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, shapes(list))
}

func shapes(list []jobs.Info) []definition.Shape {
	out := make([]definition.Shape, len(list))
	for i, info := range list {
		out[i] = info.Shape
	}
	return out
}

func (s *server) search(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	limit, err := number(query.Get("limit"), 10)
	if err != nil {
		return err
	}
	offset, err := number(query.Get("offset"), 0)
	if err != nil {
		return err
	}
	list, err := s.all(r)
	if err != nil {
		return err
	}
	holds := func(text, part string) bool { return strings.Contains(strings.ToLower(text), strings.ToLower(part)) }
	found := []jobs.Info{}
	for _, info := range list {
		anywhere := query.Get("any")
		if holds(info.Name, query.Get("name")) && holds(info.Command, query.Get("command")) &&
			(holds(info.Name, anywhere) || holds(info.Command, anywhere)) {
			found = append(found, info)
		}
	}
	found = found[min(offset, len(found)):]
	return writeJSON(w, http.StatusOK, shapes(found[:min(limit, len(found))]))
}

func number(text string, absent int) (int, error) {
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, &statusError{http.StatusBadRequest, fmt.Sprintf("%q is no number: limit and offset count jobs", text)}
	}
	return int(n), nil
}

type summaryShape struct {
	Name     string   `json:"name"`
	Status   string   `json:"status"`
	State    string   `json:"state"`
	Schedule string   `json:"schedule"`
	Parents  []string `json:"parents"`
	Disabled bool     `json:"disabled"`
}

func (s *server) summary(w http.ResponseWriter, r *http.Request) error {
	list, err := s.all(r)
	if err != nil {
		return err
	}
	out := make([]summaryShape, len(list))
	for i, info := range list {
		out[i] = summaryShape{info.Name, info.Status, info.State, info.Schedule, append([]string{}, info.Parents...), info.Disabled}
	}
	return writeJSON(w, http.StatusOK, map[string]any{"jobs": out})
}

func (s *server) showJob(name string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		info, err := s.find(r, name)
		if err != nil {
			return err
		}
		return writeJSON(w, http.StatusOK, info.Shape)
	}
}

func (s *server) postScheduled(w http.ResponseWriter, r *http.Request) error {
	return s.post(w, r, definition.Scheduled)
}

func (s *server) postDependent(w http.ResponseWriter, r *http.Request) error {
	return s.post(w, r, definition.Dependent)
}

func (s *server) post(w http.ResponseWriter, r *http.Request, kind definition.Kind) error {
	data, err := body(r)
	if err != nil {
		return err
	}
	job, counts, err := definition.Parse(data, kind)
	if err != nil {
		return err
	}
	return s.do(http.StatusNoContent, jobs.Put{Job: job, Counts: counts})(w, r)
}

// do hands a request to the machine and answers with nothing but a status.
func (s *server) do(status int, op any) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, err := s.service.Do(r.Context(), op); err != nil {
			return err
		}
		w.WriteHeader(status)
		return nil
	}
}

// start answers nothing, as Chronos does, but names the number of the run in a header.
func (s *server) start(name string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		value, err := s.service.Do(r.Context(), jobs.Start{Job: name, Arguments: r.URL.Query().Get("arguments")})
		if err != nil {
			return err
		}
		if run, ok := value.(jobs.Run); ok {
			w.Header().Set("Gantry-Run", strconv.FormatUint(run.Number, 10))
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
}

func (s *server) markSuccess(name string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) error {
		if _, err := s.service.Do(r.Context(), jobs.Succeed{Job: name}); err != nil {
			return err
		}
		return writeText(w, "marked job "+name+" as successful: true")
	}
}

func writeText(w http.ResponseWriter, text string) error {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text) // nothing can be done about a client that is gone
	return nil
}
