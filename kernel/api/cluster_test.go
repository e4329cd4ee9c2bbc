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

	mu     sync.Mutex
	calls  []*schedulerpb.Call
	killed []string
	stream *stream
}

type stream struct {
	events chan *schedulerpb.Event
	closed chan struct{}
}

func (s *stream) ID() string                        { return "stream-1" }
func (s *stream) Events() <-chan *schedulerpb.Event { return s.events }
func (s *stream) Close()                            { close(s.closed) } // panics if called twice

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

func (c *cluster) Subscribe(_ context.Context, _ Caller, call *schedulerpb.Call) (Stream, Reply) {
	if call.GetSubscribe().GetFrameworkInfo().GetName() == "banned" {
		return nil, Reply{403, "Not here"}
	}
	return c.stream, Reply{Status: 200}
}

func (c *cluster) Query(_ context.Context, _ Caller, call *masterpb.Call) (*masterpb.Response, Reply) {
	if call.GetType() != masterpb.Call_GET_AGENTS {
		return nil, Reply{403, "Only agents may be seen"}
	}
	return &masterpb.Response{Type: masterpb.Response_GET_AGENTS.Enum(), GetAgents: &masterpb.Response_GetAgents{}}, Reply{Status: 200}
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
		stream:   &stream{events: make(chan *schedulerpb.Event, 64), closed: make(chan struct{})},
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
