package rest

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
	"github.com/gantry-project/gantry/plugins/framework/chronos/jobs"
)

// statusError is an answer with a status and a sentence.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return e.message }

var errNoRoute = &statusError{http.StatusNotFound, "there is nothing at this path; README.md of this plugin lists what is served"}

// absent are the parts of Chronos' surface that are not here.
var absent = map[string]string{
	"task/all": "purging the queue is not supported; kill the runs of one job with DELETE /v1/scheduler/task/kill/NAME",
	"info":     "this was of Chronos 2 only; GET /metrics tells what is known",
}

// problem is the body of an answer that is no success, as Chronos words it but for the
// stack trace.
type problem struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

// writeError maps an error to its status and body: what a client did wrong is a 400.
func writeError(w http.ResponseWriter, err error) {
	status := http.StatusServiceUnavailable
	var (
		answer  *statusError
		invalid *definition.InvalidError
	)
	switch {
	case errors.As(err, &answer):
		status = answer.status
	case errors.As(err, &invalid), errors.Is(err, jobs.ErrRefused):
		status = http.StatusBadRequest
	}
	writeJSON(w, status, problem{strconv.Itoa(status), err.Error()})
}

// writeJSON answers with v on one line. Nothing can be done about a client that is gone.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return nil
}
