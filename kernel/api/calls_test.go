package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

const (
	asJSON     = "Content-Type: application/json"
	asProtobuf = "Content-Type: application/x-protobuf"
	onStream   = "Mesos-Stream-Id: stream-1"
)

// check is one request to a master and its answer.
type check struct {
	name     string
	standing *Standing // nil: leading and recovered
	ask      ask
	status   int
	message  string // its beginning; "=" before it: all of it
}

var (
	notLeading = Standing{Leader: "10.1.2.3:5050"}
	noLeader   = Standing{}
	recovering = Standing{Leading: true, Leader: "10.1.2.3:5050"}
)

func (c check) run(t *testing.T) {
	cluster := newCluster()
	if c.standing != nil {
		cluster.standing = *c.standing
	}
	r := c.ask.to(t, cluster.handler())
	body := bodyOf(t, r)
	whole, exact := strings.CutPrefix(c.message, "=")
	if r.StatusCode != c.status || exact && body != whole || !strings.HasPrefix(body, whole) {
		t.Errorf("got %d %.300q, want %d %q", r.StatusCode, body, c.status, c.message)
	}
	if kind := r.Header.Get("Content-Type"); body != "" && r.StatusCode >= 400 && kind != "text/plain; charset=utf-8" {
		t.Errorf("a sentence of type %q", kind)
	}
}

// The checks in their order: each request passes all that stand before its own, and would
// fail several that stand behind.
func TestSchedulerChecks(t *testing.T) {
	const scheduler = "/api/v1/scheduler"
	revive := `{"type":"REVIVE","framework_id":{"value":"F"}}`
	revivePb := wire(t, &schedulerpb.Call{Type: schedulerpb.Call_REVIVE.Enum(), FrameworkId: frameworkID("F")})
	reconcileOps := `{"type":"RECONCILE_OPERATIONS","framework_id":{"value":"F"},"reconcile_operations":{}}`
	subscribe := `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"x"}}}`
	for _, c := range []check{
		{"not leading", &notLeading, ask{"GET", scheduler + "?a=b", nil, ""}, 307, "="},
		{"no leader", &noLeader, ask{"GET", scheduler, nil, ""}, 503, "=No leader elected"},
		{"not recovered", &recovering, ask{"GET", scheduler, nil, ""}, 503, "=Master has not finished recovery"},
		{"method", nil, ask{"GET", scheduler, nil, ""}, 405, "=405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."},
		{"no content type", nil, ask{"POST", scheduler, nil, "x"}, 400, "=Expecting 'Content-Type' to be present"},
		{"other content type", nil, ask{"POST", scheduler, []string{"Content-Type: text/plain"}, "x"}, 415, "=Expecting 'Content-Type' of application/json or application/x-protobuf"},
		{"empty content type", nil, ask{"POST", scheduler, []string{"Content-Type: "}, "x"}, 415, "=Expecting 'Content-Type' of application/json or application/x-protobuf"},
		{"content type in capitals", nil, ask{"POST", scheduler, []string{"Content-Type: Application/JSON"}, "x"}, 415, ""},
		{"not JSON", nil, ask{"POST", scheduler, []string{asJSON}, "{"}, 400, "Failed to parse body into JSON: "},
		{"empty JSON", nil, ask{"POST", scheduler, []string{asJSON}, ""}, 400, "Failed to parse body into JSON: "},
		{"not an object", nil, ask{"POST", scheduler, []string{asJSON}, "[]"}, 400, "Failed to convert JSON into Call protobuf: "},
		{"wrong kind of field", nil, ask{"POST", scheduler, []string{asJSON}, `{"framework_id":7}`}, 400, "Failed to convert JSON into Call protobuf: "},
		{"missing required field, JSON", nil, ask{"POST", scheduler, []string{asJSON}, `{"type":"KILL","kill":{"task_id":{}}}`}, 400, "Failed to convert JSON into Call protobuf: Missing required fields: "},
		{"deep JSON", nil, ask{"POST", scheduler, []string{asJSON}, repeat(`{"subscribe":`, 100_000)}, 400, "Failed to parse body into JSON: "},
		{"deep and whole JSON", nil, ask{"POST", scheduler, []string{asJSON}, `{"x":` + repeat("[", 5000) + repeat("]", 5000) + "}"}, 400, "Failed to convert JSON into Call protobuf: "},
		{"not protobuf", nil, ask{"POST", scheduler, []string{asProtobuf}, "\xff\xff\xff"}, 400, "=Failed to parse body into Call protobuf"},
		{"truncated protobuf", nil, ask{"POST", scheduler, []string{asProtobuf}, revivePb[:len(revivePb)-1]}, 400, "=Failed to parse body into Call protobuf"},
		{"missing required field, protobuf", nil, ask{"POST", scheduler, []string{asProtobuf}, wire(t, &schedulerpb.Call{Kill: &schedulerpb.Call_Kill{}})}, 400, "=Failed to parse body into Call protobuf"},
		{"deep protobuf", nil, ask{"POST", scheduler, []string{asProtobuf}, repeat("\x0b", 10_000)}, 400, "=Failed to parse body into Call protobuf"},
		{"no type", nil, ask{"POST", scheduler, []string{asJSON, "Accept: text/html"}, "{}"}, 400, "=Failed to validate scheduler::Call: Expecting 'type' to be present"},
		{"no type, protobuf", nil, ask{"POST", scheduler, []string{asProtobuf}, ""}, 400, "=Failed to validate scheduler::Call: Expecting 'type' to be present"},
		{"no framework id", nil, ask{"POST", scheduler, []string{asJSON}, `{"type":"REVIVE"}`}, 400, "=Failed to validate scheduler::Call: Expecting 'framework_id' to be present"},
		{"no part", nil, ask{"POST", scheduler, []string{asJSON}, `{"type":"KILL","framework_id":{"value":"F"}}`}, 400, "=Failed to validate scheduler::Call: Expecting 'kill' to be present"},
		{"unacceptable, subscribe", nil, ask{"POST", scheduler, []string{asJSON, "Accept: text/html", onStream}, subscribe}, 406, "=Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"},
		{"unacceptable, reconcile operations", nil, ask{"POST", scheduler, []string{asJSON, "Accept: text/html", onStream}, reconcileOps}, 406, "=Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"},
		{"subscribe on a stream", nil, ask{"POST", scheduler, []string{asJSON, onStream}, subscribe}, 400, "=Subscribe calls should not include the 'Mesos-Stream-Id' header"},
		{"subscribe refused", nil, ask{"POST", scheduler, []string{asJSON}, strings.Replace(subscribe, `"x"`, `"banned"`, 1)}, 403, "=Not here"},
		{"unknown framework", nil, ask{"POST", scheduler, []string{asJSON}, strings.Replace(revive, "F", "G", 1)}, 400, "=Framework cannot be found"},
		{"no stream", nil, ask{"POST", scheduler, []string{asJSON}, revive}, 400, "=All non-subscribe calls should include the 'Mesos-Stream-Id' header"},
		{"accepted, JSON", nil, ask{"POST", scheduler, []string{asJSON, onStream}, revive}, 202, "="},
		{"accepted, protobuf", nil, ask{"POST", scheduler, []string{asProtobuf, onStream}, revivePb}, 202, "="},
		{"accepted, whatever Accept says", nil, ask{"POST", "/master" + scheduler, []string{asJSON, onStream, "Accept: text/html"}, revive}, 202, "="},
	} {
		t.Run(c.name, c.run)
	}
}

func TestOperatorChecks(t *testing.T) {
	for _, c := range []check{
		{"not leading", &notLeading, ask{"GET", "/api/v1", nil, ""}, 307, "="},
		{"not recovered", &recovering, ask{"GET", "/api/v1", nil, ""}, 503, "=Master has not finished recovery"},
		{"method", nil, ask{"PUT", "/api/v1", nil, ""}, 405, "=405 Method Not Allowed. Expecting one of { 'POST' }, but received 'PUT'."},
		{"no content type", nil, ask{"POST", "/api/v1", nil, ""}, 400, "=Expecting 'Content-Type' to be present"},
		{"not JSON", nil, ask{"POST", "/api/v1", []string{asJSON}, "nope"}, 400, "Failed to parse body into JSON: "},
		{"no type", nil, ask{"POST", "/api/v1", []string{asJSON, "Accept: text/html"}, "{}"}, 400, "=Failed to validate master::Call: Expecting 'type' to be present"},
		{"unknown type", nil, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"NOSUCH"}`}, 400, "=Failed to validate master::Call: Expecting 'type' to be present"},
		{"unacceptable", nil, ask{"POST", "/api/v1", []string{asJSON, "Accept: text/html"}, `{"type":"UNKNOWN"}`}, 406, "=Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"},
		{"UNKNOWN", nil, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"UNKNOWN"}`}, 501, "=501 Not Implemented."},
		{"no part", nil, ask{"POST", "/api/v1", []string{asJSON, "Accept: text/html"}, `{"type":"UPDATE_WEIGHTS"}`}, 400, "=Failed to validate master::Call: Expecting 'update_weights' to be present"},
		{"no part, of one that is not there yet", nil, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"DRAIN_AGENT"}`}, 400, "=Failed to validate master::Call: Expecting 'drain_agent' to be present"},
		{"not yet", nil, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"MARK_AGENT_GONE","mark_agent_gone":{"agent_id":{"value":"A"}}}`}, 501, "=The call MARK_AGENT_GONE is not carried out by this version yet."},
		{"health", nil, ask{"POST", "/master/api/v1", []string{asJSON}, `{"type":"GET_HEALTH"}`}, 200, `={"type":"GET_HEALTH","get_health":{"healthy":true}}`},
		{"version", nil, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"GET_VERSION"}`}, 200, `={"type":"GET_VERSION","get_version":{"version_info":{"version":"0.1.0"}}}`},
		{"flags", nil, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"GET_FLAGS"}`}, 200, `={"type":"GET_FLAGS","get_flags":{"flags":[{"name":"work_dir","value":"/w"}]}}`},
		{"agents", nil, ask{"POST", "/api/v1", []string{asJSON}, `{"type":"GET_AGENTS"}`}, 200, `{"type":"GET_AGENTS","get_agents":{"agents":[`},
	} {
		t.Run(c.name, c.run)
	}
}

func TestPlainEndpoints(t *testing.T) {
	for _, c := range []check{
		{"health while recovering", &recovering, ask{"GET", "/health", nil, ""}, 200, "="},
		{"health without a leader", &noLeader, ask{"GET", "/master/health", nil, ""}, 200, "="},
		{"health, method", nil, ask{"POST", "/health", nil, ""}, 405, "=405 Method Not Allowed. Expecting one of { 'GET' }, but received 'POST'."},
		{"version", nil, ask{"GET", "/version", nil, ""}, 200, `={"version":"0.1.0"}`},
		{"redirect", nil, ask{"GET", "/redirect", nil, ""}, 307, "="},
		{"redirect without a leader", &noLeader, ask{"GET", "/master/redirect", nil, ""}, 503, "=No leader elected"},
		{"redirect to a path", nil, ask{"GET", "/redirect/x", nil, ""}, 404, "There is nothing at \"/redirect/x\""},
		{"link", nil, ask{"GET", "/gantry/v1/link", nil, ""}, 200, `={"address":"127.0.0.1:5049","epoch":7}`},
		{"link of a standby", &notLeading, ask{"GET", "/gantry/v1/link", nil, ""}, 307, "="},
		{"link while recovering", &recovering, ask{"GET", "/gantry/v1/link", nil, ""}, 503, "=Master has not finished recovery"},
		{"plugins", nil, ask{"GET", "/gantry/v1/plugins", nil, ""}, 200, `=[{"name":"drf"}]`},
		{"kill", nil, ask{"POST", "/gantry/v1/tasks/kill", []string{asJSON}, `{"framework_id":"F","task_id":"t"}`}, 202, "="},
		{"kill, no task", nil, ask{"POST", "/gantry/v1/tasks/kill", []string{asJSON}, `{"framework_id":"F"}`}, 400, "Name the task: "},
		{"kill, unknown field", nil, ask{"POST", "/gantry/v1/tasks/kill", []string{asJSON}, `{"framework":"F"}`}, 400, "The body is not the JSON object that is wanted here: "},
		{"kill, more than one value", nil, ask{"POST", "/gantry/v1/tasks/kill", []string{asJSON}, `{"framework_id":"F","task_id":"t"}{}`}, 400, "The body is not the JSON object that is wanted here: "},
		{"kill, as a form would", nil, ask{"POST", "/gantry/v1/tasks/kill", []string{"Content-Type: text/plain"}, `{"framework_id":"F","task_id":"t"}`}, 415, ""},
		{"kill, method", nil, ask{"GET", "/gantry/v1/tasks/kill", nil, ""}, 405, ""},
		{"nothing there", nil, ask{"GET", "/nothing", nil, ""}, 404, "There is nothing at \"/nothing\""},
		{"no cleaning of paths", nil, ask{"GET", "//health", nil, ""}, 404, ""},
		{"our own paths have no prefix", nil, ask{"GET", "/master/gantry/v1/link", nil, ""}, 404, ""},
	} {
		t.Run(c.name, c.run)
	}
}

// What the master does not serve itself may be a page; its own paths never are, and what it says of those
// that it lacks stands.
func TestPages(t *testing.T) {
	c := newCluster()
	cfg := c.config()
	cfg.Pages = func(path string) http.Handler {
		if path == "/nobody" {
			return nil
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page "+r.RequestURI) })
	}
	get := func(path string) *http.Response {
		return ask{"GET", path, nil, ""}.to(t, Secure(NewMaster(cfg), SecureConfig{}))
	}
	for path, want := range map[string]string{
		"/": "200 page /", "/x?y": "200 page /x?y", "/health": "200 ", "/flags": "200 ", "/quota/x": "501 ", "/nobody": "404 There is nothing at",
	} {
		r := get(path)
		body, err := io.ReadAll(r.Body)
		if got := fmt.Sprint(r.StatusCode, " ", string(body)); err != nil || !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q (%v)", path, got, want, err)
		}
	}
	c.standing = Standing{Leader: "10.1.2.3:5050"}
	cfg = c.config()
	cfg.Pages = func(string) http.Handler { return http.NotFoundHandler() }
	if r := get("/x?y"); r.StatusCode != 307 || r.Header.Get("Location") != "//10.1.2.3:5050/x?y" {
		t.Errorf("a page of a standby: %s to %q", r.Status, r.Header.Get("Location"))
	}
}

func TestRedirects(t *testing.T) {
	c := newCluster()
	c.standing = Standing{Leader: "10.1.2.3:5050"}
	for target, want := range map[string]string{
		"/api/v1/scheduler?a=b%20c": "//10.1.2.3:5050/api/v1/scheduler?a=b%20c",
		"/master/api/v1":            "//10.1.2.3:5050/master/api/v1",
		"/redirect":                 "//10.1.2.3:5050",
		"/master/redirect":          "//10.1.2.3:5050",
	} {
		r := ask{"POST", target, nil, ""}.to(t, c.handler())
		if got := r.Header.Get("Location"); r.StatusCode != 307 || got != want {
			t.Errorf("%s: %d to %q, want 307 to %q", target, r.StatusCode, got, want)
		}
	}
}

func TestWrongMethodNamesTheRightOne(t *testing.T) {
	for target, want := range map[string]string{"/api/v1": "POST", "/api/v1/scheduler": "POST", "/health": "GET"} {
		r := ask{"DELETE", target, nil, ""}.to(t, newCluster().handler())
		if got := r.Header.Get("Allow"); r.StatusCode != 405 || got != want {
			t.Errorf("%s: %d, Allow %q; want %q", target, r.StatusCode, got, want)
		}
	}
}

func TestKillReachesTheConsole(t *testing.T) {
	c := newCluster()
	ask{"POST", "/gantry/v1/tasks/kill", []string{"Content-Type: application/json; charset=utf-8"}, `{"framework_id":"F","task_id":"t"}`}.to(t, c.handler())
	if len(c.killed) != 1 || c.killed[0] != "F/t" {
		t.Errorf("killed %q", c.killed)
	}
}

// A call arrives the same in both forms.
func TestBothFormsOfACall(t *testing.T) {
	c := newCluster()
	pb := wire(t, &schedulerpb.Call{Type: schedulerpb.Call_SUPPRESS.Enum(), FrameworkId: frameworkID("F"), Suppress: &schedulerpb.Call_Suppress{Roles: []string{"web"}}})
	ask{"POST", "/api/v1/scheduler", []string{asProtobuf, onStream}, pb}.to(t, c.handler())
	ask{"POST", "/api/v1/scheduler", []string{asJSON, onStream}, `{"type":"SUPPRESS","framework_id":{"value":"F"},"suppress":{"roles":["web"]}}`}.to(t, c.handler())
	if len(c.calls) != 2 {
		t.Fatalf("%d calls arrived", len(c.calls))
	}
	for _, call := range c.calls {
		if got := wire(t, call); got != pb {
			t.Errorf("arrived as %q, want %q", got, pb)
		}
	}
}

func TestAccept(t *testing.T) {
	for _, c := range []struct{ accept, want string }{
		{"", jsonType},
		{"application/json", jsonType},
		{"application/x-protobuf", protobufType},
		{"application/x-protobuf, application/json", jsonType},
		{"APPLICATION/X-PROTOBUF", protobufType},
		{"*/*", jsonType},
		{"application/*", jsonType},
		{"application/json;q=0, application/x-protobuf", protobufType},
		{"application/json; q=0.0, */*", protobufType},
		{"application/json;q=0.1", jsonType},
		{"application/json;q=many, application/x-protobuf", protobufType},
		{"text/html, application/x-protobuf;q=0.5", protobufType},
		{"text/html", ""},
		{"*/*;q=0", ""},
		{",;,", ""},
	} {
		r := &http.Request{Header: http.Header{}}
		if c.accept != "" {
			r.Header.Set("Accept", c.accept)
		}
		got := ""
		if codec, ok := acceptCodec(r); ok {
			got = codec.mediaType()
		}
		if got != c.want {
			t.Errorf("Accept %q: got %q, want %q", c.accept, got, c.want)
		}
	}
}

// TestProtobufThatJSONCouldNotSay: what has no name counts as unset, what is no text is no
// message.
func TestProtobufThatJSONCouldNotSay(t *testing.T) {
	nameless := mesos.ContainerInfo_Type(99)
	call := func(value string, container *mesos.ContainerInfo, capability int32) *schedulerpb.Call {
		info := &mesos.FrameworkInfo{User: proto.String("u"), Name: &value}
		if capability != 0 {
			c := mesos.FrameworkInfo_Capability_Type(capability)
			info.Capabilities = []*mesos.FrameworkInfo_Capability{{Type: &c}}
		}
		c := &schedulerpb.Call{Type: schedulerpb.Call_SUBSCRIBE.Enum(), Subscribe: &schedulerpb.Call_Subscribe{FrameworkInfo: info}}
		if container != nil {
			c.Accept = &schedulerpb.Call_Accept{Operations: []*mesos.Offer_Operation{{
				Type: mesos.Offer_Operation_LAUNCH.Enum(),
				Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{{
					Name: proto.String("t"), TaskId: &mesos.TaskID{Value: proto.String("t")}, AgentId: &mesos.AgentID{Value: proto.String("a")},
					Container: container,
				}}},
			}}}
		}
		return c
	}
	decode := func(c *schedulerpb.Call) (*schedulerpb.Call, error) {
		body, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back schedulerpb.Call
		_, err = protobufCodec{}.decode(body, &back)
		return &back, err
	}
	if _, err := decode(call("\xff", nil, 0)); !errors.Is(err, errProtobuf) {
		t.Errorf("a name that is not UTF-8: %v", err)
	}
	if _, err := decode(call("n", &mesos.ContainerInfo{Type: &nameless}, 0)); !errors.Is(err, errProtobuf) {
		t.Errorf("a required enum without a name: %v", err)
	}
	got, err := decode(call("n", nil, 99))
	if err != nil || got.GetSubscribe().GetFrameworkInfo().GetCapabilities()[0].Type != nil {
		t.Errorf("an optional enum without a name: %v, %v", got, err)
	}
	var unknown schedulerpb.Call
	if _, err := (protobufCodec{}).decode([]byte{0x10, 99}, &unknown); err != nil || unknown.Type != nil {
		t.Errorf("a call of type 99: %v, %v", &unknown, err)
	}
}
