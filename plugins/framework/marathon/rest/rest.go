// Package rest is the /v2 HTTP surface that clients of Marathon speak, over package apps.
//
//	handler := rest.New(service, rest.Place{Address: "127.0.0.1:8080"})
//
// It routes on the path as it came, because clients send doubled, escaped and trailing
// slashes; it bounds bodies; and it answers 501 with a sentence for the parts of
// Marathon's surface that it does not have.
package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
)

// Service is the owner of the machine.
type Service interface {
	// Do hands a request to the machine; it returns once the outcome is durable. The
	// error is the reply's Err, or says that there was none.
	Do(ctx context.Context, op apps.Op) (apps.Reply, error)
	// View lets read look at the machine; read must be quick and keep nothing of it.
	View(ctx context.Context, read func(m *apps.Machine, now time.Time)) error
}

// Place says where things are.
type Place struct {
	// Address is host:port of this API and Master of the master's, as clients see them.
	Address string
	Master  string
}

// maxBody bounds what a client may send.
const maxBody = 1 << 20

// New is the handler of the whole surface.
func New(s Service, p Place) http.Handler { return &server{service: s, place: p} }

type server struct {
	service Service
	place   Place
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Marathon-Leader", "http://"+s.place.Address)
	h.Set("X-Frame-Options", "DENY")
	h.Set("X-XSS-Protection", "1; mode=block")
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := s.route(w, r, split(r.URL.Path)); err != nil {
		writeError(w, err)
	}
}

// split is the path without empty segments; escaped slashes divide too.
func split(path string) []string {
	return strings.FieldsFunc(path, func(c rune) bool { return c == '/' })
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
	return &statusError{http.StatusMethodNotAllowed, "Method Not Allowed"}
}

func (s *server) route(w http.ResponseWriter, r *http.Request, path []string) error {
	if len(path) == 0 {
		http.Redirect(w, r, "/ui/", http.StatusFound)
		return nil
	}
	if sentence, ok := absent[path[0]]; ok {
		return &statusError{http.StatusNotImplemented, sentence}
	}
	switch {
	case len(path) == 1 && path[0] == "ping":
		return methods{http.MethodGet: s.ping}.serve(w, r)
	case len(path) == 1 && path[0] == "metrics":
		return methods{http.MethodGet: s.metrics}.serve(w, r)
	case path[0] == "metrics":
		return &statusError{http.StatusNotImplemented, "metrics are not supported yet in this form; GET /metrics has them as JSON"}
	case len(path) == 1 || path[0] != "v2":
		return errNoRoute
	}
	return s.routeV2(w, r, path[1], path[2:])
}

func (s *server) routeV2(w http.ResponseWriter, r *http.Request, resource string, rest []string) error {
	if sentence, ok := absentV2[resource]; ok {
		return &statusError{http.StatusNotImplemented, sentence}
	}
	switch {
	case resource == "apps":
		return s.routeApps(w, r, rest)
	case resource == "tasks" && len(rest) == 0:
		return methods{http.MethodGet: s.listTasks}.serve(w, r)
	case resource == "tasks" && len(rest) == 1 && rest[0] == "delete":
		return methods{http.MethodPost: s.deleteTasks}.serve(w, r)
	case resource == "deployments" && len(rest) == 0:
		return methods{http.MethodGet: s.listDeployments}.serve(w, r)
	case resource == "deployments" && len(rest) == 1:
		return methods{http.MethodDelete: s.cancelDeployment(rest[0])}.serve(w, r)
	case resource == "queue" && len(rest) == 0:
		return methods{http.MethodGet: s.listQueue}.serve(w, r)
	case resource == "queue" && len(rest) > 1 && rest[len(rest)-1] == "delay":
		return methods{http.MethodDelete: s.resetDelay(absolute(rest[:len(rest)-1]))}.serve(w, r)
	case resource == "info" && len(rest) == 0:
		return methods{http.MethodGet: s.info}.serve(w, r)
	case resource == "leader" && len(rest) == 0:
		return methods{http.MethodGet: s.leader, http.MethodDelete: s.abdicate}.serve(w, r)
	}
	return errNoRoute
}

// routeApps tells ids from what follows them: an id never ends in restart, tasks or
// versions.
func (s *server) routeApps(w http.ResponseWriter, r *http.Request, path []string) error {
	n := len(path)
	switch {
	case n == 0:
		return methods{
			http.MethodGet: s.listApps, http.MethodPost: s.createApp,
			http.MethodPut: s.putApps(apps.Update), http.MethodPatch: s.putApps(apps.UpdateExisting),
		}.serve(w, r)
	case n >= 2 && path[n-1] == "restart" && r.Method == http.MethodPost:
		return s.restart(absolute(path[:n-1]))(w, r)
	case n >= 2 && path[n-1] == "tasks":
		id := absolute(path[:n-1])
		return methods{http.MethodGet: s.appTasks(id), http.MethodDelete: s.deleteAppTasks(id)}.serve(w, r)
	case n >= 3 && path[n-2] == "tasks":
		return methods{http.MethodDelete: s.deleteAppTask(path[n-1])}.serve(w, r)
	case n >= 2 && path[n-1] == "versions":
		return methods{http.MethodGet: s.versions(absolute(path[:n-1]))}.serve(w, r)
	case n >= 3 && path[n-2] == "versions":
		return methods{http.MethodGet: s.version(absolute(path[:n-2]), path[n-1])}.serve(w, r)
	}
	id := absolute(path)
	return methods{
		http.MethodGet: s.showApp(id), http.MethodPut: s.putApp(id),
		http.MethodPatch: s.patchApp(id), http.MethodDelete: s.deleteApp(id),
	}.serve(w, r)
}

func absolute(path []string) string { return "/" + strings.Join(path, "/") }

// flag reads a query parameter the way clients know: "true" in any case is true.
func flag(r *http.Request, name string, absent bool) bool {
	values, ok := r.URL.Query()[name]
	if !ok {
		return absent
	}
	return len(values) > 0 && strings.EqualFold(values[0], "true")
}

// body reads all of the request.
func body(r *http.Request) ([]byte, error) {
	data, err := io.ReadAll(r.Body)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, &statusError{http.StatusRequestEntityTooLarge, "the body is larger than 1 MiB, which is the most an app definition may be"}
	}
	if err != nil {
		return nil, &statusError{http.StatusBadRequest, "the body could not be read: " + err.Error()}
	}
	return data, nil
}
