package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
)

// Reply is an answer of a status and a sentence. An empty Message means an empty body.
type Reply struct {
	Status  int
	Message string
}

// Caller says who sent a call.
type Caller struct {
	Principal string // "" is anybody on this machine
	Stream    string // the Mesos-Stream-Id header, "" without one
}

// route is one row of the table of endpoints.
type route struct {
	path    string
	method  string // GET also answers HEAD; "" leaves it to the handler, whose checks have an order
	handler http.HandlerFunc
}

// routes serves two tables; the paths of the first are served below prefix as well. Paths
// are compared as they come: nothing is cleaned or redirected. Elsewhere, unless nil, has
// who answers a path of neither table, or nil.
func routes(prefix string, absent absences, wire, plain []route, elsewhere func(*http.Request) http.Handler) http.Handler {
	byPath := make(map[string]route)
	for _, row := range wire {
		byPath[row.path] = row
		byPath[prefix+row.path] = row
	}
	for _, row := range plain {
		byPath[row.path] = row
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		row, ok := byPath[r.URL.Path]
		why := absent.why(prefix, r.URL.Path)
		switch {
		case !ok && why != "":
			answer(w, Reply{501, why})
		case !ok:
			if elsewhere != nil {
				if h := elsewhere(r); h != nil {
					h.ServeHTTP(w, r)
					return
				}
			}
			answer(w, Reply{404, fmt.Sprintf("There is nothing at %.200q. The operator API is a POST to /api/v1, and /health and /version answer a GET.", r.URL.Path)})
		case row.method != "" && r.Method != row.method && (row.method != http.MethodGet || r.Method != http.MethodHead):
			wrongMethod(w, r, row.method)
		default:
			row.handler(w, r)
		}
	})
}

func wrongMethod(w http.ResponseWriter, r *http.Request, want string) {
	w.Header().Set("Allow", want)
	answer(w, Reply{405, fmt.Sprintf("405 Method Not Allowed. Expecting one of { '%s' }, but received '%.32s'.", want, r.Method)})
}

// answer writes a sentence.
func answer(w http.ResponseWriter, r Reply) {
	if r.Message != "" {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	}
	w.WriteHeader(r.Status)
	_, _ = w.Write([]byte(r.Message)) // a client that is gone needs no answer
}

// answerJSON writes a value of our own endpoints.
func answerJSON(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		answer(w, Reply{500, "Failed to encode the answer: " + err.Error()})
		return
	}
	w.Header().Set("Content-Type", jsonType)
	_, _ = w.Write(body)
}

// answerMessage writes a v1 message.
func answerMessage(w http.ResponseWriter, c codec, m message) {
	body, err := c.encode(nil, m)
	if err != nil {
		answer(w, Reply{500, "Failed to encode the answer: " + err.Error()})
		return
	}
	w.Header().Set("Content-Type", c.mediaType())
	_, _ = w.Write(body)
}

// notYet is the answer to a call that this version does not carry out.
func notYet(call fmt.Stringer) Reply {
	return Reply{501, fmt.Sprintf("The call %s is not carried out by this version yet.", call)}
}

func expecting(part string) string { return "Expecting '" + strings.ToLower(part) + "' to be present" }
