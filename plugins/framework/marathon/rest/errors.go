package rest

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
)

// statusError is an answer with a status and a sentence.
type statusError struct {
	status  int
	message string
}

func (e *statusError) Error() string { return e.message }

// errNoRoute has the status that clients of Marathon see for an unknown route.
var errNoRoute = &statusError{http.StatusInternalServerError, "URI not found"}

// absent are the parts of Marathon's surface outside /v2 that are not here.
var absent = map[string]string{
	"ui":          "there is no page here; the cluster's web page is a plugin of its own",
	"help":        "there is no API console; README.md of this plugin lists what is served",
	"api-console": "there is no API console; README.md of this plugin lists what is served",
	"public":      "there is no API console; README.md of this plugin lists what is served",
	"config":      "the settings are in plugins.toml; GET /v2/info shows them",
	"logging":     "the log level can't be changed while running",
}

// absentV2 are the parts of /v2 that are not here.
var absentV2 = map[string]string{
	"groups":  "groups are not supported yet; create the apps of a group one by one, or as an array with PUT /v2/apps",
	"pods":    "pods are not supported yet; use apps",
	"events":  "the event stream is not supported yet; poll /v2/apps or /v2/deployments",
	"plugins": "plugins of Marathon can't be loaded; the cluster's own plugins are listed by: gantry plugin list",
}

// problem is the body of an answer that is no success.
type problem struct {
	Message     string       `json:"message"`
	Details     any          `json:"details,omitempty"`
	Deployments []identified `json:"deployments,omitempty"`
}

type identified struct {
	ID string `json:"id"`
}

// writeError maps an error to its status and body.
func writeError(w http.ResponseWriter, err error) {
	status, p := http.StatusServiceUnavailable, problem{Message: err.Error()}
	var (
		answer  *statusError
		syntax  *definition.SyntaxError
		invalid *definition.InvalidError
		locked  *apps.LockedError
	)
	switch {
	case errors.As(err, &answer):
		status = answer.status
	case errors.As(err, &syntax):
		status, p = http.StatusBadRequest, problem{Message: "Invalid JSON", Details: syntax.Detail}
	case errors.As(err, &invalid):
		status, p = http.StatusUnprocessableEntity, problem{Message: "Object is not valid", Details: invalid.Details}
		if invalid.Shape {
			p.Message = "Invalid JSON"
		}
	case errors.As(err, &locked):
		status = http.StatusConflict
		p.Deployments = identify(locked.Deployments)
	case errors.Is(err, apps.ErrNotFound):
		status = http.StatusNotFound
	case errors.Is(err, apps.ErrExists):
		status = http.StatusConflict
	case errors.Is(err, apps.ErrTooMany):
		status = http.StatusForbidden
	}
	writeJSON(w, status, p)
}

func identify(ids []string) []identified {
	list := make([]identified, len(ids))
	for i, id := range ids {
		list[i].ID = id
	}
	return list
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
