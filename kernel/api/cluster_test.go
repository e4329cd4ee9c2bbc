package api

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// cluster is what stands behind the endpoints in these tests: one framework, F, on one
// stream at a time.
type cluster struct {
	standing Standing

	mu      sync.Mutex
	calls   []*schedulerpb.Call
	killed  []string
	changed []string // operator calls, as JSON
	hidden  bool     // the cluster, from everybody
	looks   int      // at the cluster
	stream  *stream[*schedulerpb.Event]
	news    *stream[*masterpb.Event]
}

type stream[E message] struct {
	events chan E
	closed chan struct{}
}

func newStream[E message]() *stream[E] {
	return &stream[E]{make(chan E, 64), make(chan struct{})}
}

func (s *stream[E]) ID() string       { return "stream-1" }
func (s *stream[E]) Events() <-chan E { return s.events }
func (s *stream[E]) Close()           { close(s.closed) } // panics if called twice

func (c *cluster) Standing() Standing { return c.standing }

func (c *cluster) Call(_ context.Context, from Caller, call *schedulerpb.Call) Reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case call.GetFrameworkId().GetValue() != "F":
		return Reply{400, "Framework cannot be found"}
	case from.Stream == "":
		return Reply{400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"}
	}
	c.calls = append(c.calls, call)
	return Reply{Status: 202}
}

func (c *cluster) Subscribe(_ context.Context, _ Caller, call *schedulerpb.Call) (Stream[*schedulerpb.Event], Reply) {
	if call.GetSubscribe().GetFrameworkInfo().GetName() == "banned" {
		return nil, Reply{403, "Not here"}
	}
	return c.stream, Reply{Status: 200}
}

// Query knows what response has.
func (c *cluster) Query(_ context.Context, _ Caller, call *masterpb.Call, also ...masterpb.Call_Type) (*masterpb.Response, Reply) {
	if c.hidden {
		return nil, Reply{403, "Not for you"}
	}
	c.looks++
	r := response(call.GetType())
	for _, other := range also {
		proto.Merge(r, response(other))
	}
	r.Type = response(call.GetType()).Type
	return r, Reply{Status: 200}
}

func (c *cluster) Change(_ context.Context, _ Caller, call *masterpb.Call) Reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	text, err := jsonCodec{}.encode(nil, call)
	if err != nil {
		return Reply{500, err.Error()}
	}
	c.changed = append(c.changed, string(text))
	return Reply{Status: 200}
}

func (c *cluster) Watch(context.Context, Caller) (Stream[*masterpb.Event], Reply) {
	if c.hidden {
		return nil, Reply{403, "Not for you"}
	}
	return c.news, Reply{Status: 200}
}

func (c *cluster) KillTask(_ context.Context, _ Caller, framework, task string) Reply {
	c.killed = append(c.killed, framework+"/"+task)
	return Reply{Status: 202}
}

func (c *cluster) Link() (string, uint64) { return "127.0.0.1:5049", 7 }
func (c *cluster) Plugins() any           { return []map[string]string{{"name": "drf"}} }

func newCluster() *cluster {
	return &cluster{
		standing: Standing{Leading: true, Recovered: true, Leader: "127.0.0.1:5050"},
		stream:   newStream[*schedulerpb.Event](),
		news:     newStream[*masterpb.Event](),
	}
}

func (c *cluster) config() MasterConfig {
	return MasterConfig{
		Scheduler: c, Operator: c, Console: c, Readiness: c,
		Version: &mesos.VersionInfo{Version: proto.String("0.1.0")},
		Flags:   []*mesos.Flag{{Name: proto.String("work_dir"), Value: proto.String("/w")}},
	}
}

// handler is the master's surface as it is served.
func (c *cluster) handler() http.Handler { return Secure(NewMaster(c.config()), SecureConfig{}) }

// ask is one request, written down: headers are "Name: value".
type ask struct {
	method, target string
	headers        []string
	body           string
}

func (a ask) to(t *testing.T, h http.Handler) *http.Response {
	t.Helper()
	r := httptest.NewRequest(a.method, a.target, strings.NewReader(a.body))
	r.Host = "127.0.0.1:5050"
	for _, header := range a.headers {
		name, value, _ := strings.Cut(header, ": ")
		if name == "Host" {
			r.Host = value
			continue
		}
		r.Header.Add(name, value)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// wire makes the protobuf of a message, required fields or not.
func wire(t *testing.T, m proto.Message) string {
	t.Helper()
	data, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func frameworkID(id string) *mesos.FrameworkID { return &mesos.FrameworkID{Value: &id} }

func subscribeCall(name string) *schedulerpb.Call {
	return &schedulerpb.Call{
		Type:      schedulerpb.Call_SUBSCRIBE.Enum(),
		Subscribe: &schedulerpb.Call_Subscribe{FrameworkInfo: &mesos.FrameworkInfo{User: proto.String("root"), Name: &name}},
	}
}

func repeat(s string, n int) string { return string(bytes.Repeat([]byte(s), n)) }
