package api

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	"github.com/gantry-project/gantry/sdk/proto/mesosjson"
	"github.com/gantry-project/gantry/sdk/recordio"
)

// response is what the cluster of these tests is like.
func response(call masterpb.Call_Type) *masterpb.Response {
	texts := map[masterpb.Call_Type]string{
		masterpb.Call_GET_AGENTS:     `{"type":"GET_AGENTS","get_agents":` + agentsText + `}`,
		masterpb.Call_GET_FRAMEWORKS: `{"type":"GET_FRAMEWORKS","get_frameworks":` + frameworksText + `}`,
		masterpb.Call_GET_TASKS:      `{"type":"GET_TASKS","get_tasks":` + tasksText + `}`,
		masterpb.Call_GET_EXECUTORS:  `{"type":"GET_EXECUTORS","get_executors":{}}`,
		masterpb.Call_GET_STATE: `{"type":"GET_STATE","get_state":{"get_tasks":` + tasksText + `,"get_executors":{},
			"get_frameworks":` + frameworksText + `,"get_agents":` + agentsText + `}}`,
		masterpb.Call_GET_ROLES:   `{"type":"GET_ROLES","get_roles":{"roles":[{"name":"eng/web","weight":2.5,"frameworks":[{"value":"F"}],"resources":[` + twoCPUs + `]}]}}`,
		masterpb.Call_GET_WEIGHTS: `{"type":"GET_WEIGHTS","get_weights":{"weight_infos":[{"weight":2.5,"role":"eng/web"}]}}`,
		masterpb.Call_GET_METRICS: `{"type":"GET_METRICS","get_metrics":{"metrics":[{"name":"master/elected","value":1.0},{"name":"master/slaves_unreachable","value":3.0}]}}`,
		masterpb.Call_GET_MASTER: `{"type":"GET_MASTER","get_master":{"start_time":1.5,"elected_time":1.5,
			"master_info":{"id":"M","ip":16777343,"port":5050,"pid":"master@127.0.0.1:5050","hostname":"127.0.0.1"}}}`,
	}
	r := &masterpb.Response{}
	if err := mesosjson.Unmarshal([]byte(texts[call]), r); err != nil {
		panic(call.String() + ": " + err.Error())
	}
	return r
}

const (
	twoCPUs    = `{"name":"cpus","type":"SCALAR","scalar":{"value":2.0},"allocation_info":{"role":"eng/web"}}`
	agentsText = `{"agents":[{"agent_info":{"hostname":"h","port":5051,"id":{"value":"A"},"attributes":[{"name":"rack","type":"TEXT","text":{"value":"a"}}]},
		"active":true,"version":"0.1.0","registered_time":{"nanoseconds":2500000000},
		"total_resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":4.0}},
			{"name":"mem","type":"SCALAR","scalar":{"value":64.0},"reservations":[{"type":"STATIC","role":"eng"}]},
			{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":5},{"begin":7,"end":7}]}}],
		"allocated_resources":[` + twoCPUs + `]}],"recovered_agents":[{"hostname":"old","id":{"value":"B"}}]}`
	frameworksText = `{"frameworks":[{"framework_info":{"user":"root","name":"f","id":{"value":"F"},"roles":["eng/web"],"capabilities":[{"type":"MULTI_ROLE"}]},
		"active":true,"connected":true,"recovered":false,"allocated_resources":[` + twoCPUs + `]}]}`
	tasksText = `{"tasks":[{"name":"one","task_id":{"value":"t1"},"framework_id":{"value":"F"},"agent_id":{"value":"A"},"state":"TASK_RUNNING","resources":[` + twoCPUs + `],
			"statuses":[{"task_id":{"value":"t1"},"state":"TASK_RUNNING","timestamp":10.5,"healthy":true}],"labels":{"labels":[{"key":"k","value":"v"}]}}],
		"completed_tasks":[{"name":"two","task_id":{"value":"t0"},"framework_id":{"value":"F"},"agent_id":{"value":"A"},"state":"TASK_FAILED",
			"statuses":[{"task_id":{"value":"t0"},"state":"TASK_FAILED","timestamp":5.0}]}]}`
)

// Every call that looks is answered in the type of its name, and the lists of what is never
// there are there.
func TestOperatorLooks(t *testing.T) {
	c := newCluster()
	for _, name := range []string{
		"GET_HEALTH", "GET_FLAGS", "GET_VERSION", "GET_METRICS", "GET_LOGGING_LEVEL", "GET_STATE", "GET_AGENTS", "GET_FRAMEWORKS",
		"GET_EXECUTORS", "GET_OPERATIONS", "GET_TASKS", "GET_ROLES", "GET_WEIGHTS", "GET_MASTER", "GET_MAINTENANCE_STATUS",
		"GET_MAINTENANCE_SCHEDULE", "GET_QUOTA",
	} {
		for _, accept := range []codec{jsonCodec{}, protobufCodec{}} {
			r := ask{"POST", "/api/v1", []string{asJSON, "Accept: " + accept.mediaType()}, `{"type":"` + name + `","get_metrics":{}}`}.to(t, c.handler())
			body := bodyOf(t, r)
			got := &masterpb.Response{}
			if _, err := accept.decode([]byte(body), got); err != nil || r.StatusCode != 200 || got.GetType().String() != name {
				t.Errorf("%s: %d %v %q", name, r.StatusCode, err, body)
			}
			part := got.ProtoReflect().Descriptor().Fields().ByName(proto.Message(got).ProtoReflect().Descriptor().Fields().ByTextName(strings.ToLower(name)).Name())
			if !got.ProtoReflect().Has(part) {
				t.Errorf("%s: the answer has no %s", name, part.Name())
			}
		}
	}
	c.hidden = true
	r := ask{"POST", "/api/v1", []string{asJSON}, `{"type":"GET_TASKS"}`}.to(t, c.handler())
	if body := bodyOf(t, r); r.StatusCode != 403 || body != "Not for you" {
		t.Errorf("refused: %d %q", r.StatusCode, body)
	}
}

func TestOperatorChanges(t *testing.T) {
	const weights = `{"type":"UPDATE_WEIGHTS","update_weights":{"weight_infos":[{"weight":2.0,"role":"a"}]}}`
	const teardown = `{"type":"TEARDOWN","teardown":{"framework_id":{"value":"F"}}}`
	for _, x := range []struct {
		ask    ask
		status int
		call   string // what is carried out
	}{
		{ask{"POST", "/api/v1", []string{asJSON}, weights}, 200, weights},
		{ask{"PUT", "/weights", nil, `[{"role":"a","weight":2}]`}, 200, weights},
		{ask{"PUT", "/weights", nil, `[{"role":"a"}]`}, 400, ""},
		{ask{"PUT", "/weights", nil, `{"role":"a"}`}, 400, ""},
		{ask{"POST", "/weights", nil, `[]`}, 405, ""},
		{ask{"POST", "/api/v1", []string{asJSON}, teardown}, 200, teardown},
		{ask{"POST", "/master/teardown", nil, "frameworkId=F"}, 200, teardown},
		{ask{"POST", "/teardown", nil, "framework=F"}, 400, ""},
		{ask{"POST", "/teardown", nil, "%zz"}, 400, ""},
		{ask{"GET", "/teardown", nil, ""}, 405, ""},
		{ask{"POST", "/teardown", []string{"Sec-Fetch-Site: cross-site"}, "frameworkId=F"}, 403, ""},
		{ask{"POST", "/quota", nil, "{}"}, 501, ""},
		{ask{"POST", "/reserve", nil, ""}, 501, ""},
		{ask{"DELETE", "/quota/eng", nil, ""}, 501, ""},
		{ask{"GET", "/files/browse", nil, ""}, 501, ""},
		{ask{"GET", "/profiler/start", nil, ""}, 501, ""},
		{ask{"GET", "/__processes__", nil, ""}, 501, ""},
		{ask{"GET", "/master/machine/down", nil, ""}, 501, ""},
	} {
		c := newCluster()
		r := x.ask.to(t, c.handler())
		if got := strings.Join(c.changed, ""); r.StatusCode != x.status || got != x.call {
			t.Errorf("%s %s %s: %d %q, carried out %q", x.ask.method, x.ask.target, x.ask.body, r.StatusCode, bodyOf(t, r), got)
		}
	}
}

// TestClassic reads the older endpoints as scripts do: by a path of keys.
func TestClassic(t *testing.T) {
	c := newCluster()
	for _, x := range []struct{ target, path, want string }{
		{"/state", "version", `"0.1.0"`},
		{"/master/state", "leader_info.port", `5050`},
		{"/state", "pid", `"master@127.0.0.1:5050"`},
		{"/state", "activated_slaves", `1`},
		{"/state", "unreachable_slaves", `3`},
		{"/state", "start_time", `1.5`},
		{"/state", "flags.work_dir", `"/w"`},
		{"/state", "slaves.0.resources", `{"cpus":4,"disk":0,"gpus":0,"mem":64,"ports":"[1-5, 7-7]"}`},
		{"/state", "slaves.0.reserved_resources.eng.mem", `64`},
		{"/state", "slaves.0.unreserved_resources.mem", `0`},
		{"/state", "slaves.0.pid", `"slave(1)@h:5051"`},
		{"/state", "slaves.0.attributes.rack", `"a"`},
		{"/state", "slaves.0.registered_time", `2.5`},
		{"/state", "recovered_slaves.0.id", `"B"`},
		{"/state", "frameworks.0.roles", `["eng/web"]`},
		{"/state", "frameworks.0.role", ``},
		{"/state", "frameworks.0.capabilities", `["MULTI_ROLE"]`},
		{"/state", "frameworks.0.tasks.0.id", `"t1"`},
		{"/state", "frameworks.0.tasks.0.role", `"eng/web"`},
		{"/state", "frameworks.0.tasks.0.statuses", `[{"state":"TASK_RUNNING","timestamp":10.5,"healthy":true}]`},
		{"/state", "frameworks.0.tasks.0.labels", `[{"key":"k","value":"v"}]`},
		{"/state", "frameworks.0.completed_tasks.0.state", `"TASK_FAILED"`},
		{"/state", "frameworks.0.unreachable_tasks", `[]`},
		{"/state", "orphan_tasks", `[]`},
		{"/state", "completed_frameworks", `[]`},
		{"/state-summary", "slaves.0.TASK_RUNNING", `1`},
		{"/state-summary", "slaves.0.framework_ids", `["F"]`},
		{"/state-summary", "frameworks.0.TASK_FAILED", `1`},
		{"/state-summary", "frameworks.0.slave_ids", `["A"]`},
		{"/state-summary", "frameworks.0.tasks", ``},
		{"/slaves", "slaves.0.reserved_resources_full.eng.0.name", `"mem"`},
		{"/slaves", "slaves.0.used_resources_full.0.scalar.value", `2.0`},
		{"/slaves?slave_id=B", "slaves", `[]`},
		{"/slaves?slave_id=B", "recovered_slaves.0.hostname", `"old"`},
		{"/frameworks", "frameworks.0.used_resources.cpus", `2`},
		{"/frameworks?framework_id=G", "frameworks", `[]`},
		{"/tasks", "tasks.0.id", `"t1"`},
		{"/tasks", "tasks.1.id", `"t0"`},
		{"/tasks?order=asc", "tasks.0.id", `"t0"`},
		{"/tasks?limit=1&offset=1", "tasks.0.id", `"t0"`},
		{"/tasks?limit=1", "tasks.1", ``},
		{"/tasks?limit=nonsense&offset=-4", "tasks.1.id", `"t0"`},
		{"/tasks?offset=9", "tasks", `[]`},
		{"/tasks?task_id=t0", "tasks.0.name", `"two"`},
		{"/tasks?limit=-1&framework_id=G", "tasks", `[]`},
		{"/roles", "roles.0.name", `"eng/web"`},
		{"/roles", "roles.0.weight", `2.5`},
		{"/roles", "roles.0.allocated.cpus", `2`},
		{"/roles", "roles.0.offered.cpus", `0`},
		{"/roles", "roles.0.frameworks", `["F"]`},
		{"/weights", "0.weight", `2.5`},
		{"/flags", "flags.work_dir", `"/w"`},
		{"/metrics/snapshot", "master/elected", `1`},
		{"/maintenance/schedule", "", `{}`},
		{"/master/quota", "", `{}`},
	} {
		c.looks = 0
		r := ask{"GET", x.target, nil, ""}.to(t, c.handler())
		body := bodyOf(t, r)
		if c.looks > 1 {
			t.Errorf("%s is made of %d looks, between which the cluster may change", x.target, c.looks)
		}
		if got := at(json.RawMessage(body), x.path); r.StatusCode != 200 || got != x.want {
			t.Errorf("%s: %d, %s is %s, want %s", x.target, r.StatusCode, x.path, got, x.want)
		}
	}
}

// at finds the JSON at a path of keys and indices, compacted; "" if there is none.
func at(text json.RawMessage, path string) string {
	for path != "" {
		var key string
		key, path, _ = strings.Cut(path, ".")
		var object map[string]json.RawMessage
		var list []json.RawMessage
		switch {
		case json.Unmarshal(text, &object) == nil:
			text = object[key]
		case json.Unmarshal(text, &list) == nil && len(key) == 1 && int(key[0]-'0') < len(list):
			text = list[key[0]-'0']
		default:
			return ""
		}
	}
	return string(text)
}

func TestClassicChecks(t *testing.T) {
	script := func(headers ...string) ask { return ask{"GET", "/flags?jsonp=a.b", headers, ""} }
	for _, c := range []check{
		{"not leading", &notLeading, ask{"GET", "/state", nil, ""}, 307, "="},
		{"not recovered", &recovering, ask{"GET", "/state", nil, ""}, 503, "=Master has not finished recovery"},
		{"method", nil, ask{"POST", "/state", nil, ""}, 405, "=405 Method Not Allowed. Expecting one of { 'GET' }, but received 'POST'."},
		{"JSONP", nil, script(), 200, `=a.b({"flags":{"work_dir":"/w"}});`},
		{"JSONP of this site", nil, script("Sec-Fetch-Site: same-origin"), 200, `=a.b({"flags":{"work_dir":"/w"}});`},
		{"JSONP of this host", nil, script("Referer: http://127.0.0.1:5050/ui"), 200, `=a.b({"flags":{"work_dir":"/w"}});`},
		{"JSONP of another site", nil, script("Sec-Fetch-Site: cross-site"), 403, "?jsonp= answers pages of this site only"},
		{"JSONP of another host", nil, script("Referer: http://evil.example/"), 403, "?jsonp= answers pages of this site only"},
		{"JSONP of the version", nil, ask{"GET", "/version?jsonp=v", nil, ""}, 200, `=v({"version":"0.1.0"});`},
		{"not the agent's state", nil, ask{"GET", "/state/", nil, ""}, 404, "There is nothing at"},
		{"JSONP that is no name", nil, ask{"GET", "/flags?jsonp=alert(1)", nil, ""}, 400, "?jsonp=alert(1) is not the name of a function."},
	} {
		t.Run(c.name, c.run)
	}
	hidden := newCluster()
	hidden.hidden = true
	for _, target := range []string{"/state", "/state-summary", "/slaves", "/frameworks", "/tasks", "/roles", "/weights", "/metrics/snapshot"} {
		if r := (ask{"GET", target, nil, ""}).to(t, hidden.handler()); r.StatusCode != 403 {
			t.Errorf("%s: %d", target, r.StatusCode)
		}
	}
}

// TestWatch: the events come as they are, framed, with heartbeats.
func TestWatch(t *testing.T) {
	for _, c := range []codec{jsonCodec{}, protobufCodec{}} {
		cluster := newCluster()
		cluster.news.events <- &masterpb.Event{Type: masterpb.Event_SUBSCRIBED.Enum(), Subscribed: &masterpb.Event_Subscribed{}}
		cluster.news.events <- &masterpb.Event{Type: masterpb.Event_TASK_ADDED.Enum(), TaskAdded: &masterpb.Event_TaskAdded{
			Task: response(masterpb.Call_GET_TASKS).GetTasks.Tasks[0],
		}}
		// Without its task it can't be written: the stream ends, as there is no event that says why.
		cluster.news.events <- &masterpb.Event{Type: masterpb.Event_TASK_ADDED.Enum(), TaskAdded: &masterpb.Event_TaskAdded{}}
		r := ask{"POST", "/api/v1", []string{asJSON, "Accept: " + c.mediaType()}, `{"type":"SUBSCRIBE"}`}.to(t, cluster.handler())
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != c.mediaType() {
			t.Errorf("%d %v", r.StatusCode, r.Header)
		}
		if got := strings.Join(readNews(t, r.Body, c), ", "); got != "SUBSCRIBED, HEARTBEAT, TASK_ADDED" {
			t.Errorf("%s: got %s", c.mediaType(), got)
		}
		<-cluster.news.closed
	}
	hidden := newCluster()
	hidden.hidden = true
	if r := (ask{"POST", "/api/v1", []string{asJSON}, `{"type":"SUBSCRIBE"}`}).to(t, hidden.handler()); r.StatusCode != 403 {
		t.Errorf("refused: %d", r.StatusCode)
	}
}

func readNews(t *testing.T, in io.Reader, c codec) (got []string) {
	t.Helper()
	records := recordio.NewReader(in, 1<<20)
	for {
		record, err := records.Next()
		if err == io.EOF {
			return got
		}
		e := &masterpb.Event{}
		if err == nil {
			_, err = c.decode(record, e)
		}
		if err != nil {
			t.Fatalf("after %q: %q: %v", got, record, err)
		}
		got = append(got, e.GetType().String())
	}
}

// A watcher hears a heartbeat behind SUBSCRIBED, and then every 15 s. Time is the bubble's.
func TestWatcherHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		w := &timedWriter{header: http.Header{}, start: time.Now()}
		c.news.events <- &masterpb.Event{Type: masterpb.Event_SUBSCRIBED.Enum()}
		go func() {
			time.Sleep(40 * time.Second)
			close(c.news.events)
		}()
		r, err := http.NewRequest("POST", "http://localhost/api/v1", strings.NewReader(`{"type":"SUBSCRIBE"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", jsonType)
		c.handler().ServeHTTP(w, r)
		if want := "0s 1; 0s 1; 15s 1; 30s 1; "; w.log.String() != want {
			t.Errorf("records written at: %s; want %s", w.log.String(), want)
		}
	})
}
