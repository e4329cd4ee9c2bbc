package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

const (
	// HeartbeatInterval is the time between two HEARTBEAT events of a stream; SUBSCRIBED
	// tells it to the client.
	HeartbeatInterval = 15 * time.Second

	callWithin = 20 * time.Second // for what stands behind a call to answer it
)

// Scheduler carries out what frameworks call. The calls have passed the checks that need
// no knowledge of the cluster; whatever is wrong beyond that is in the Reply.
type Scheduler interface {
	// Call carries out any call but SUBSCRIBE.
	Call(ctx context.Context, from Caller, c *schedulerpb.Call) Reply
	// Subscribe opens a stream if the status is 200. Ctx ends with the client's connection.
	Subscribe(ctx context.Context, from Caller, c *schedulerpb.Call) (Stream[*schedulerpb.Event], Reply)
}

// Operator carries out operator calls. What they need besides the cluster's state has been
// checked; GET_HEALTH, GET_VERSION, GET_FLAGS and GET_LOGGING_LEVEL don't reach it.
type Operator interface {
	// Query answers a call that looks at the cluster: with a response if the status is 200.
	// It also has the answers of other such calls, as of the same moment.
	Query(ctx context.Context, from Caller, c *masterpb.Call, also ...masterpb.Call_Type) (*masterpb.Response, Reply)
	// Change carries out a call that changes the cluster; status 200 says that it is done.
	Change(ctx context.Context, from Caller, c *masterpb.Call) Reply
	// Watch opens a stream if the status is 200: SUBSCRIBED with the cluster's state, then
	// what happens to it. Ctx ends with the client's connection.
	Watch(ctx context.Context, from Caller) (Stream[*masterpb.Event], Reply)
}

// Console is behind the endpoints that only Gantry has.
type Console interface {
	// KillTask ends a task whoever its framework is; status 200 or 202 says that it will.
	KillTask(ctx context.Context, from Caller, framework, task string) Reply
	// Link returns HOST:PORT where agents attach, and the master's epoch.
	Link() (address string, epoch uint64)
	// Plugins returns a value that encoding/json can write.
	Plugins() any
}

// Standing is where a master stands.
type Standing struct {
	Leading   bool
	Recovered bool   // whether a leading master has read its registry
	Leader    string // HOST:PORT of the leading master's API, itself included; "" if unknown
}

// Readiness tells where the master stands now.
type Readiness interface{ Standing() Standing }

// MasterConfig is what NewMaster serves; the five interfaces and Version are required. While
// Readiness says that another master leads, nothing but Readiness is asked.
type MasterConfig struct {
	Scheduler Scheduler
	Operator  Operator
	Console   Console
	Readiness Readiness
	Tracer    Tracer
	Version   *mesos.VersionInfo
	Flags     []*mesos.Flag // what GET_FLAGS tells: nothing secret
	Heartbeat time.Duration // 0 means HeartbeatInterval
	// Pages returns who answers a path that is not the master's own, or nil; it may be nil.
	Pages func(path string) http.Handler
}

type master struct {
	MasterConfig
	intake *intake
}

// NewMaster returns the HTTP surface of a master, to be wrapped by Secure. The wire's
// own paths are served as /x and /master/x.
func NewMaster(cfg MasterConfig) http.Handler {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = HeartbeatInterval
	}
	m := &master{cfg, newIntake()}
	return routes("/master", masterAbsences, append(m.classic(), []route{
		{"/api/v1/scheduler", "", m.scheduler},
		{"/api/v1", "", m.operator},
		{"/health", http.MethodGet, healthy},
		{"/redirect", "", m.redirect},
		{"/version", http.MethodGet, version(cfg.Version)},
	}...), []route{
		{"/gantry/v1/link", http.MethodGet, m.link},
		{"/gantry/v1/plugins", http.MethodGet, m.plugins},
		{"/gantry/v1/trace", http.MethodGet, m.trace},
		{"/gantry/v1/tasks/kill", http.MethodPost, m.killTask},
	}, m.elsewhere)
}

// elsewhere finds who answers a path that is not the master's own. A page is about the
// cluster, so that of a standby is the leader's.
func (m *master) elsewhere(r *http.Request) http.Handler {
	if m.Pages == nil {
		return nil
	}
	page := m.Pages(r.URL.Path)
	if page == nil || m.Readiness.Standing().Leading {
		return page
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { m.ready(w, r) })
}

func healthy(w http.ResponseWriter, _ *http.Request) { answer(w, Reply{Status: 200}) }

func version(v *mesos.VersionInfo) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { answerJSONP(w, r, raw(v)) }
}

// ready answers a request that this master can't serve, and tells whether it can.
func (m *master) ready(w http.ResponseWriter, r *http.Request) bool {
	switch s := m.Readiness.Standing(); {
	case !s.Leading:
		toLeader(w, s.Leader, r.URL.RequestURI())
	case !s.Recovered:
		answer(w, Reply{503, "Master has not finished recovery"})
	default:
		return true
	}
	return false
}

// toLeader redirects to the leading master, keeping the client's protocol.
func toLeader(w http.ResponseWriter, leader, uri string) {
	if leader == "" {
		answer(w, Reply{503, "No leader elected"})
		return
	}
	w.Header().Set("Location", "//"+leader+uri)
	answer(w, Reply{Status: 307})
}

func (m *master) redirect(w http.ResponseWriter, _ *http.Request) {
	toLeader(w, m.Readiness.Standing().Leader, "")
}

// receive takes the call out of a request, in the order of checks that clients know; if
// it can't, it answers and returns false. The room is to be released when the call is not
// needed any more.
func (m *master) receive(w http.ResponseWriter, r *http.Request, call message) (*room, bool) {
	if !m.ready(w, r) {
		return nil, false
	}
	if r.Method != http.MethodPost {
		wrongMethod(w, r, http.MethodPost)
		return nil, false
	}
	taken, refused := m.intake.call(r, call)
	if refused != nil {
		answer(w, *refused)
		return nil, false
	}
	return taken, true
}

// call reads a body as the call that it is of, or says why it can't.
func (in *intake) call(r *http.Request, call message) (*room, *Reply) {
	if len(r.Header.Values("Content-Type")) == 0 {
		return nil, &Reply{400, "Expecting 'Content-Type' to be present"}
	}
	c, ok := contentCodec(r.Header.Get("Content-Type"))
	if !ok {
		return nil, &Reply{415, "Expecting 'Content-Type' of " + jsonType + " or " + protobufType}
	}
	taken, err := in.decode(r, c, call)
	var refused refusal
	switch {
	case errors.As(err, &refused):
		return nil, &refused.Reply
	case err == nil:
		return taken, nil
	case errors.Is(err, errProtobuf):
		return nil, &Reply{400, "Failed to parse body into Call protobuf"}
	case errors.Is(err, errSyntax):
		return nil, &Reply{400, "Failed to parse body into JSON: " + err.Error()}
	default:
		return nil, &Reply{400, "Failed to convert JSON into Call protobuf: " + err.Error()}
	}
}

// notAcceptable is the answer to an Accept header that allows neither form.
func notAcceptable() Reply {
	return Reply{406, fmt.Sprintf("Expecting 'Accept' to allow '%s' or '%s'", protobufType, jsonType)}
}

// caller says who sends a request. Until there is authentication it is anybody.
func caller(r *http.Request) Caller { return Caller{Stream: r.Header.Get(streamHeader)} }

func (m *master) link(w http.ResponseWriter, r *http.Request) {
	if !m.ready(w, r) {
		return
	}
	address, epoch := m.Console.Link()
	answerJSON(w, struct {
		Address string `json:"address"`
		Epoch   uint64 `json:"epoch"`
	}{address, epoch})
}

func (m *master) plugins(w http.ResponseWriter, r *http.Request) {
	if m.ready(w, r) {
		answerJSON(w, m.Console.Plugins())
	}
}

// killTask ends a task for an operator.
func (m *master) killTask(w http.ResponseWriter, r *http.Request) {
	if !m.ready(w, r) {
		return
	}
	var task struct {
		Framework string `json:"framework_id"`
		Task      string `json:"task_id"`
	}
	if refused := m.intake.decodeJSON(r, &task); refused != nil {
		answer(w, *refused)
		return
	}
	if task.Framework == "" || task.Task == "" {
		answer(w, Reply{400, `Name the task: {"framework_id": "...", "task_id": "..."}.`})
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), callWithin)
	defer cancel()
	answer(w, m.Console.KillTask(ctx, caller(r), task.Framework, task.Task))
}

// decodeJSON reads the body of one of our own endpoints, strictly.
func (in *intake) decodeJSON(r *http.Request, v any) *Reply {
	if contentType, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); contentType != jsonType {
		return &Reply{415, "Expecting 'Content-Type' of " + jsonType}
	}
	body, taken, refused := in.read(r)
	if refused != nil {
		return refused
	}
	defer taken.release()
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return nil
		}
		err = errors.New("there is more after it")
	}
	return &Reply{400, "The body is not the JSON object that is wanted here: " + err.Error()}
}
