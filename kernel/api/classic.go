package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"

	"github.com/gantry-project/gantry/kernel/api/flat"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	"github.com/gantry-project/gantry/sdk/proto/mesosjson"
)

// defaultTasks is how many tasks /tasks lists unless it is asked for more.
const defaultTasks = 100

// classic is the table of the endpoints that are older than POST /api/v1: what they show is
// made from the answers of its calls.
func (m *master) classic() []route {
	rows := []route{
		{"/state", http.MethodGet, m.show(m.state)},
		{"/state-summary", http.MethodGet, m.show(m.summary)},
		{"/slaves", http.MethodGet, m.show(m.slaves)},
		{"/frameworks", http.MethodGet, m.show(m.frameworks)},
		{"/tasks", http.MethodGet, m.show(m.tasks)},
		{"/roles", http.MethodGet, m.show(m.roles)},
		{"/flags", http.MethodGet, m.show(func(looker) (any, Reply) { return flat.Flags(m.Flags), Reply{Status: 200} })},
		{"/metrics/snapshot", http.MethodGet, m.show(m.snapshot)},
		{"/weights", "", m.weights},
		{"/teardown", http.MethodPost, m.teardown},
		{"/maintenance/schedule", "", m.constantly(masterpb.Call_GET_MAINTENANCE_SCHEDULE)},
		{"/maintenance/status", "", m.constantly(masterpb.Call_GET_MAINTENANCE_STATUS)},
		{"/quota", "", m.constantly(masterpb.Call_GET_QUOTA)},
	}
	for _, path := range []string{"/create-volumes", "/destroy-volumes", "/reserve", "/unreserve", "/machine/down", "/machine/up"} {
		rows = append(rows, route{path, "", m.notYet})
	}
	return rows
}

// looker is what an endpoint may look at: the caller's view of the cluster, and the query.
type looker struct {
	ctx   context.Context
	from  Caller
	query url.Values
	*master
}

// ask carries out a call of the operator API, and others in the same moment.
func (l looker) ask(call masterpb.Call_Type, also ...masterpb.Call_Type) (*masterpb.Response, Reply) {
	return l.Operator.Query(l.ctx, l.from, &masterpb.Call{Type: call.Enum()}, also...)
}

// show serves a value as JSON, or as JSONP if the query has a callback.
func (m *master) show(view func(looker) (any, Reply)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !m.ready(w, r) {
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), callWithin)
		defer cancel()
		v, reply := view(looker{ctx, caller(r), r.URL.Query(), m})
		if reply.Status != 200 {
			answer(w, reply)
			return
		}
		answerJSONP(w, r, v)
	}
}

// callbacks are the names of functions that JSONP may call.
var callbacks = regexp.MustCompile(`^[A-Za-z_$][A-Za-z0-9_$.]{0,127}$`)

// answerJSONP writes a value as JSON, and with ?jsonp= as the call of a function: for pages
// of this site only, since a script may be loaded from anywhere.
func answerJSONP(w http.ResponseWriter, r *http.Request, v any) {
	callback := r.URL.Query().Get("jsonp")
	switch {
	case callback == "":
		answerJSON(w, v)
	case !sameSite(r):
		answer(w, Reply{403, "?jsonp= answers pages of this site only: use a request that is not a script."})
	case !callbacks.MatchString(callback):
		answer(w, Reply{400, fmt.Sprintf("?jsonp=%.40s is not the name of a function.", callback)})
	default:
		body, err := json.Marshal(v)
		if err != nil {
			answer(w, Reply{500, "Failed to encode the answer: " + err.Error()})
			return
		}
		w.Header().Set("Content-Type", "text/javascript")
		_, _ = fmt.Fprintf(w, "%s(%s);", callback, body) // a client that is gone needs no answer
	}
}

// sameSite tells whether a browser says that the request comes from this site, or by the
// user's own hand. One that does not say so obeys Cross-Origin-Resource-Policy, unless it is
// very old: then its Referer, if it sends one, must be of this host.
func sameSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "same-site", "none":
		return true
	case "":
		referer, err := url.Parse(r.Header.Get("Referer"))
		return err == nil && (referer.Host == "" || referer.Host == r.Host)
	}
	return false
}

func (m *master) state(l looker) (any, Reply) {
	return l.whole(flat.State)
}

func (m *master) summary(l looker) (any, Reply) {
	return l.whole(flat.Summary)
}

// whole makes a view of the whole state.
func (l looker) whole(view func(*masterpb.Response_GetState, flat.Master) any) (any, Reply) {
	s, reply := l.ask(masterpb.Call_GET_STATE, masterpb.Call_GET_MASTER, masterpb.Call_GET_METRICS)
	if reply.Status != 200 {
		return nil, reply
	}
	return view(s.GetGetState(), flat.Master{
		Master: s.GetGetMaster(), Version: l.Version, Flags: l.Flags,
		Unreachable: int(valueOf(s.GetGetMetrics().GetMetrics(), "master/slaves_unreachable")),
	}), reply
}

func valueOf(all []*mesos.Metric, name string) float64 {
	for _, m := range all {
		if m.GetName() == name {
			return m.GetValue()
		}
	}
	return 0
}

func (m *master) slaves(l looker) (any, Reply) {
	r, reply := l.ask(masterpb.Call_GET_AGENTS)
	return flat.Slaves(r.GetGetAgents(), l.query.Get("slave_id")), reply
}

func (m *master) frameworks(l looker) (any, Reply) {
	r, reply := l.ask(masterpb.Call_GET_STATE)
	return flat.Frameworks(r.GetGetState(), l.query.Get("framework_id")), reply
}

// tasks reads numbers as the reference does: what is no number counts as not given.
func (m *master) tasks(l looker) (any, Reply) {
	r, reply := l.ask(masterpb.Call_GET_TASKS)
	q := flat.TaskQuery{
		Framework: l.query.Get("framework_id"), Task: l.query.Get("task_id"), Limit: defaultTasks, Ascending: l.query.Get("order") == "asc",
	}
	if n, err := strconv.Atoi(l.query.Get("limit")); err == nil {
		q.Limit = n
	}
	if n, err := strconv.Atoi(l.query.Get("offset")); err == nil {
		q.Offset = n
	}
	return flat.Tasks(r.GetGetTasks(), q), reply
}

func (m *master) roles(l looker) (any, Reply) {
	s, reply := l.ask(masterpb.Call_GET_STATE, masterpb.Call_GET_ROLES)
	return flat.Roles(s.GetGetRoles(), s.GetGetState()), reply
}

// snapshot is /metrics/snapshot.
func (m *master) snapshot(l looker) (any, Reply) {
	r, reply := l.ask(masterpb.Call_GET_METRICS)
	return flat.Metrics(r.GetGetMetrics().GetMetrics()), reply
}

// weights shows the weights of roles, or sets some of them.
func (m *master) weights(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		m.show(func(l looker) (any, Reply) {
			r, reply := l.ask(masterpb.Call_GET_WEIGHTS)
			list := []json.RawMessage{}
			for _, info := range r.GetGetWeights().GetWeightInfos() {
				list = append(list, info.AppendJSON(nil))
			}
			return list, reply
		})(w, r)
	case http.MethodPut:
		if m.ready(w, r) {
			m.setWeights(w, r)
		}
	default:
		w.Header().Set("Allow", "GET, PUT")
		answer(w, Reply{405, fmt.Sprintf("405 Method Not Allowed. Expecting one of { 'GET', 'PUT' }, but received '%.32s'.", r.Method)})
	}
}

func (m *master) setWeights(w http.ResponseWriter, r *http.Request) {
	body, taken, refused := m.intake.read(r)
	if refused != nil {
		answer(w, *refused)
		return
	}
	defer taken.release()
	list, refused := readWeights(body)
	if refused != nil {
		answer(w, *refused)
		return
	}
	m.change(w, r, &masterpb.Call{Type: masterpb.Call_UPDATE_WEIGHTS.Enum(), UpdateWeights: &masterpb.Call_UpdateWeights{WeightInfos: list}})
}

// readWeights reads a list of weights, and not the rest of it behind one that is none.
func readWeights(body []byte) ([]*mesos.WeightInfo, *Reply) {
	var list []*mesos.WeightInfo
	if !json.Valid(body) || !bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("[")) {
		return nil, &Reply{400, "Failed to parse update weights request JSON: not a list in JSON"}
	}
	d := json.NewDecoder(bytes.NewReader(body))
	_, _ = d.Token() // the bracket
	for d.More() {
		var text json.RawMessage
		info := &mesos.WeightInfo{}
		err := d.Decode(&text)
		if err == nil {
			err = mesosjson.Unmarshal(text, info)
		}
		if err != nil {
			return nil, &Reply{400, "Failed to convert weights JSON array to protobuf: " + err.Error()}
		}
		list = append(list, info)
	}
	return list, nil
}

// teardown ends a framework: the body is the form frameworkId=ID.
func (m *master) teardown(w http.ResponseWriter, r *http.Request) {
	if !m.ready(w, r) {
		return
	}
	body, taken, refused := m.intake.read(r)
	if refused != nil {
		answer(w, *refused)
		return
	}
	defer taken.release()
	form, err := url.ParseQuery(string(body))
	if err != nil {
		answer(w, Reply{400, "Unable to decode query string: " + err.Error()})
		return
	}
	id := form.Get("frameworkId")
	if id == "" {
		answer(w, Reply{400, "Missing 'frameworkId' query parameter"})
		return
	}
	m.change(w, r, &masterpb.Call{Type: masterpb.Call_TEARDOWN.Enum(), Teardown: &masterpb.Call_Teardown{FrameworkId: &mesos.FrameworkID{Value: &id}}})
}

func (m *master) change(w http.ResponseWriter, r *http.Request, call *masterpb.Call) {
	ctx, cancel := context.WithTimeout(r.Context(), callWithin)
	defer cancel()
	answer(w, m.Operator.Change(ctx, caller(r), call))
}

// constantly shows a part of the cluster that this version has none of, and refuses to
// change it.
func (m *master) constantly(call masterpb.Call_Type) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			m.notYet(w, r)
			return
		}
		if !m.ready(w, r) {
			return
		}
		var none json.RawMessage
		switch c := m.constant(call); call {
		case masterpb.Call_GET_MAINTENANCE_SCHEDULE:
			none = c.GetMaintenanceSchedule.Schedule.AppendJSON(nil)
		case masterpb.Call_GET_MAINTENANCE_STATUS:
			none = c.GetMaintenanceStatus.Status.AppendJSON(nil)
		default:
			none = c.GetQuota.Status.AppendJSON(nil)
		}
		answerJSONP(w, r, none)
	}
}

func (m *master) notYet(w http.ResponseWriter, r *http.Request) {
	answer(w, Reply{501, fmt.Sprintf("%s %.100s is not carried out by this version yet.", r.Method, r.URL.Path)})
}
