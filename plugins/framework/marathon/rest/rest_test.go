package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// desk serves the real machine against a cluster of one agent in memory: offers come when
// asked for, tasks run at once and end when killed.
type desk struct {
	mu      sync.Mutex
	machine *apps.Machine
	now     time.Time
	offers  int
	deaf    bool // the cluster makes no offers
	stuck   bool // tasks do not get to run
	replies []apps.Reply
}

func newDesk(t *testing.T) *desk {
	m, err := apps.New(apps.Config{Role: "*", User: "root", Principal: "marathon"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &desk{machine: m, now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)}
	d.step(apps.Start{})
	d.step(apps.Scheduler{Event: &schedulerpb.Event{
		Type:       schedulerpb.Event_SUBSCRIBED.Enum(),
		Subscribed: &schedulerpb.Event_Subscribed{FrameworkId: &mesos.FrameworkID{Value: new("F-0000")}},
	}})
	return d
}

// step feeds ev and lets the cluster answer until it has nothing more to say.
func (d *desk) step(ev apps.Event) {
	events := []apps.Event{ev}
	for len(events) > 0 {
		var out apps.Effects
		d.now = d.now.Add(2 * time.Second)
		d.machine.Step(d.now, events[0], &out)
		d.replies = append(d.replies, out.Replies...)
		events = events[1:]
		for _, c := range out.Calls {
			events = append(events, d.cluster(c)...)
		}
	}
}

func (d *desk) cluster(c *schedulerpb.Call) []apps.Event {
	var events []apps.Event
	update := func(task string, state mesos.TaskState) {
		if d.stuck && state == mesos.TaskState_TASK_RUNNING {
			return
		}
		events = append(events, apps.Scheduler{Event: &schedulerpb.Event{
			Type:   schedulerpb.Event_UPDATE.Enum(),
			Update: &schedulerpb.Event_Update{Status: &mesos.TaskStatus{TaskId: &mesos.TaskID{Value: &task}, State: &state, AgentId: &mesos.AgentID{Value: new("S0")}}},
		}})
	}
	switch c.GetType() {
	case schedulerpb.Call_REVIVE:
		if !d.deaf {
			events = append(events, d.offer())
		}
	case schedulerpb.Call_ACCEPT:
		for _, task := range c.GetAccept().GetOperations()[0].GetLaunch().GetTaskInfos() {
			update(task.GetTaskId().GetValue(), mesos.TaskState_TASK_RUNNING)
		}
	case schedulerpb.Call_KILL:
		update(c.GetKill().GetTaskId().GetValue(), mesos.TaskState_TASK_KILLED)
	}
	return events
}

func (d *desk) offer() apps.Event {
	d.offers++
	scalar := func(name string, value float64) *mesos.Resource {
		return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value}}
	}
	ports := &mesos.Resource{Name: new("ports"), Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{
		Range: []*mesos.Value_Range{{Begin: new(uint64(31000)), End: new(uint64(32000))}},
	}}
	return apps.Scheduler{Event: &schedulerpb.Event{Type: schedulerpb.Event_OFFERS.Enum(), Offers: &schedulerpb.Event_Offers{Offers: []*mesos.Offer{{
		Id: &mesos.OfferID{Value: new(fmt.Sprint("O", d.offers))}, AgentId: &mesos.AgentID{Value: new("S0")}, Hostname: new("agent"),
		Resources: []*mesos.Resource{scalar("cpus", 8), scalar("mem", 8192), ports},
	}}}}}
}

func (d *desk) Do(_ context.Context, op apps.Op) (apps.Reply, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replies = nil
	d.step(apps.Request{Op: op})
	return d.replies[0], d.replies[0].Err
}

func (d *desk) View(_ context.Context, read func(*apps.Machine, time.Time)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	read(d.machine, d.now)
	return nil
}

// client talks to the surface over a real connection, so that paths arrive as written.
type client struct {
	t    *testing.T
	desk *desk
	url  string
}

func newClient(t *testing.T) *client {
	d := newDesk(t)
	srv := httptest.NewServer(New(d, Place{Address: "127.0.0.1:8080", Master: "127.0.0.1:5050"}))
	t.Cleanup(srv.Close)
	return &client{t: t, desk: d, url: srv.URL}
}

// answer is a response with its body decoded.
type answer struct {
	status int
	header http.Header
	text   string
	json   map[string]any
}

func (c *client) do(method, path, body string) answer {
	c.t.Helper()
	req, err := http.NewRequest(method, c.url+path, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, text: string(text)}
	_ = json.Unmarshal([]byte(a.text), &a.json) // arrays and plain text stay text
	return a
}

// want fails unless the status is this one.
func (c *client) want(status int, method, path, body string) answer {
	c.t.Helper()
	a := c.do(method, path, body)
	if a.status != status {
		c.t.Fatalf("%s %s %s is answered %d, not %d: %s", method, path, body, a.status, status, a.text)
	}
	return a
}

const web = `{"id": "/web", "cmd": "serve", "cpus": 0.5, "mem": 64, "instances": 2}`

func TestLifeOfAnApp(t *testing.T) {
	c := newClient(t)
	a := c.want(201, "POST", "/v2/apps", web)
	if a.header.Get("Location") != "/web" || a.header.Get("Marathon-Deployment-Id") == "" {
		t.Errorf("the headers of the creation are %v", a.header)
	}
	if a.json["id"] != "/web" || a.json["tasksRunning"] != 0.0 || len(a.json["deployments"].([]any)) != 1 {
		t.Errorf("the creation is answered %s", a.text)
	}
	app := c.want(200, "GET", "/v2/apps/web", "").json["app"].(map[string]any)
	if app["tasksRunning"] != 2.0 || len(app["tasks"].([]any)) != 2 || len(app["deployments"].([]any)) != 0 {
		t.Errorf("the app is %v", app)
	}
	first := c.want(200, "PUT", "/v2/apps/web", `{"instances": 4}`)
	if first.json["deploymentId"] == "" || first.json["version"] == "" {
		t.Errorf("scaling is answered %s", first.text)
	}
	if n := len(c.want(200, "GET", "/v2/apps/web/tasks", "").json["tasks"].([]any)); n != 4 {
		t.Errorf("there are %d tasks, not 4", n)
	}
	versions := c.want(200, "GET", "/v2/apps/web/versions", "").json["versions"].([]any)
	if len(versions) != 2 || versions[0] != first.json["version"] {
		t.Errorf("the versions are %v", versions)
	}
	old := c.want(200, "GET", "/v2/apps/web/versions/"+versions[1].(string), "")
	if old.json["instances"] != 2.0 {
		t.Errorf("the first version is %s", old.text)
	}
	c.want(200, "PUT", "/v2/apps/web", fmt.Sprintf(`{"version": %q}`, versions[1]))
	c.want(200, "POST", "/v2/apps/web/restart", `{}`)
	c.want(200, "PATCH", "/v2/apps/web", `{"cmd": "serve2"}`)
	app = c.want(200, "GET", "/v2/apps/web", "").json["app"].(map[string]any)
	if app["cmd"] != "serve2" || app["tasksRunning"] != 2.0 {
		t.Errorf("the app is %v", app)
	}
	c.want(200, "DELETE", "/v2/apps/web", "")
	c.want(404, "GET", "/v2/apps/web", "")
	if n := len(c.want(200, "GET", "/v2/tasks", "").json["tasks"].([]any)); n != 0 {
		t.Errorf("%d tasks outlive their app", n)
	}
}

func TestPutCreates(t *testing.T) {
	c := newClient(t)
	if a := c.want(201, "PUT", "/v2/apps/new", `{"cmd": "serve"}`); a.header.Get("Location") != "/new" {
		t.Errorf("the location is %q", a.header.Get("Location"))
	}
	c.want(404, "PATCH", "/v2/apps/other", `{"cmd": "serve"}`)
	c.want(200, "PUT", "/v2/apps", `[{"id": "a", "cmd": "serve"}, {"id": "/b", "cmd": "serve"}]`)
	c.want(404, "PATCH", "/v2/apps", `[{"id": "a", "instances": 2}, {"id": "nobody", "instances": 2}]`)
	if app := c.want(200, "GET", "/v2/apps/a", "").json["app"].(map[string]any); app["instances"] != 1.0 {
		t.Errorf("a refused change of several apps changed one: %v", app["instances"])
	}
	c.want(200, "PUT", "/v2/apps/new?partialUpdate=false", `{"cmd": "other"}`)
	if app := c.want(200, "GET", "/v2/apps/new", "").json["app"].(map[string]any); app["cmd"] != "other" {
		t.Errorf("the replaced app is %v", app)
	}
}

func TestListFilters(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps", `{"id": "/prod/web", "cmd": "Serve pages", "labels": {"tier": "front", "x": "1"}}`)
	c.want(201, "POST", "/v2/apps", `{"id": "/prod/db", "args": ["store"], "labels": {"tier": "back"}}`)
	for query, want := range map[string][]string{
		"":                                   {"/prod/db", "/prod/web"},
		"?id=WEB":                            {"/prod/web"},
		"?cmd=serve":                         {"/prod/web"},
		"?label=tier":                        {"/prod/db", "/prod/web"},
		"?label=tier%3D%3Dback":              {"/prod/db"},
		"?label=tier!%3Dback":                {"/prod/web"},
		"?label=tier+in+(front,back),x":      {"/prod/web"},
		"?label=tier+notin+(front)":          {"/prod/db"},
		"?label=nothing!%3Dback":             {},
		"?embed=apps.tasks&embed=apps.wrong": {"/prod/db", "/prod/web"},
	} {
		ids := []string{}
		for _, app := range c.want(200, "GET", "/v2/apps"+query, "").json["apps"].([]any) {
			ids = append(ids, app.(map[string]any)["id"].(string))
		}
		if !reflect.DeepEqual(ids, want) {
			t.Errorf("%s finds %v, not %v", query, ids, want)
		}
	}
	if n := len(c.want(200, "GET", "/v2/apps/prod/*", "").json["*"].([]any)); n != 2 {
		t.Errorf("the group has %d apps", n)
	}
	if n := len(c.want(200, "GET", "/v2/apps/prod/*/tasks", "").json["tasks"].([]any)); n != 2 {
		t.Errorf("the group has %d tasks", n)
	}
	c.want(404, "GET", "/v2/apps/test/*", "")
}

func (c *client) taskIDs(path string) []string {
	c.t.Helper()
	ids := []string{}
	for _, task := range c.want(200, "GET", path, "").json["tasks"].([]any) {
		ids = append(ids, task.(map[string]any)["id"].(string))
	}
	return ids
}

func TestKills(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps", web)
	ids := c.taskIDs("/v2/apps/web/tasks")
	a := c.want(200, "DELETE", "/v2/apps/web/tasks/"+ids[0], "")
	if a.json["task"].(map[string]any)["id"] != ids[0] {
		t.Errorf("a kill is answered %s", a.text)
	}
	now := c.taskIDs("/v2/tasks?status=running")
	if len(now) != 2 || now[0] == ids[0] || now[1] == ids[0] {
		t.Errorf("after a kill of %s there are %v", ids[0], now)
	}
	c.want(200, "POST", "/v2/tasks/delete", fmt.Sprintf(`{"ids": [%q]}`, now[0]))
	if n := len(c.taskIDs("/v2/tasks")); n != 2 {
		t.Errorf("there are %d tasks", n)
	}
	a = c.want(200, "DELETE", "/v2/apps/web/tasks?host=agent", "")
	if n := len(a.json["tasks"].([]any)); n != 2 {
		t.Errorf("%d tasks of the host were killed", n)
	}
	a = c.want(200, "DELETE", "/v2/apps/web/tasks?host=elsewhere", "")
	if n := len(a.json["tasks"].([]any)); n != 0 {
		t.Errorf("%d tasks of another host were killed", n)
	}
	a = c.want(200, "DELETE", "/v2/apps/web/tasks/"+c.taskIDs("/v2/tasks")[0]+"?scale=TRUE", "")
	if a.json["deploymentId"] == nil {
		t.Errorf("a kill with scale is answered %s", a.text)
	}
	if n := len(c.taskIDs("/v2/tasks")); n != 1 {
		t.Errorf("after a kill with scale there are %d tasks", n)
	}
	c.want(400, "DELETE", "/v2/apps/web/tasks?scale=true&wipe=true", "")
	c.want(400, "POST", "/v2/tasks/delete", `{"ids": ["garbage"]}`)
	c.want(422, "POST", "/v2/tasks/delete", `{"ids": "web.1-1"}`)
	c.want(404, "DELETE", "/v2/apps/web/tasks/web.9-9", "")
	c.want(404, "DELETE", "/v2/apps/nobody/tasks", "")
}

func TestQueueSaysWhy(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps", `{"id": "/big", "cmd": "serve", "cpus": 64}`)
	queue := c.want(200, "GET", "/v2/queue", "").json["queue"].([]any)
	if len(queue) != 1 {
		t.Fatalf("the queue is %v", queue)
	}
	entry := queue[0].(map[string]any)
	if entry["count"] != 1.0 || entry["why"] != "agent offers 8 cpus, one instance asks for 64" {
		t.Errorf("the entry is %v", entry)
	}
	summary := entry["processedOffersSummary"].(map[string]any)["rejectSummaryLastOffers"].([]any)
	if cpus := summary[4].(map[string]any); cpus["reason"] != "InsufficientCpus" || cpus["declined"] != 1.0 || cpus["processed"] != 1.0 {
		t.Errorf("the funnel is %v", summary)
	}
	if next := summary[5].(map[string]any); next["processed"] != 0.0 {
		t.Errorf("the funnel goes on with %v", next)
	}
	c.want(204, "DELETE", "/v2/queue//big/delay", "")
	c.want(404, "DELETE", "/v2/queue/web/delay", "")
}

func TestDeployments(t *testing.T) {
	c := newClient(t)
	c.desk.stuck = true
	id := c.want(201, "POST", "/v2/apps", web).header.Get("Marathon-Deployment-Id")
	var list []map[string]any
	if err := json.Unmarshal([]byte(c.want(200, "GET", "/v2/deployments", "").text), &list); err != nil || len(list) != 1 {
		t.Fatalf("the deployments are %v (%v)", list, err)
	}
	if list[0]["id"] != id || list[0]["currentStep"] != 1.0 || list[0]["affectedApps"].([]any)[0] != "/web" {
		t.Errorf("the deployment is %v", list[0])
	}
	a := c.want(409, "PUT", "/v2/apps/web", `{"instances": 1}`)
	if a.json["deployments"].([]any)[0].(map[string]any)["id"] != id {
		t.Errorf("the lock is answered %s", a.text)
	}
	c.want(409, "PUT", "/v2/apps/web?force=False", `{"instances": 1}`)
	c.want(200, "PUT", "/v2/apps/web?force=True", `{"instances": 1}`)
	c.want(404, "DELETE", "/v2/deployments/"+id+"?force=true", "")
	id = c.want(200, "PUT", "/v2/apps/web?force=true", `{"instances": 2}`).json["deploymentId"].(string)
	c.want(501, "DELETE", "/v2/deployments/"+id, "")
	if a := c.want(202, "DELETE", "/v2/deployments/"+id+"?force=true", ""); a.text != "" {
		t.Errorf("a cancellation is answered %q", a.text)
	}
	c.want(200, "DELETE", "/v2/apps/web", "") // forced unless told otherwise
}

// TestErrorMapping is the table that clients know.
func TestErrorMapping(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps", web)
	for _, e := range []struct {
		method, path, body string
		status             int
		message            string
	}{
		{"POST", "/v2/apps", `{`, 400, "Invalid JSON"},
		{"POST", "/v2/apps", ``, 400, "Invalid JSON"},
		{"POST", "/v2/apps", `{"id": 7}`, 422, "Invalid JSON"},
		{"POST", "/v2/apps", `{"id": "/a", "cmd": "x1", "upgradeStrategy": {"minimumHealthCapacity": 2}}`, 422, "Object is not valid"},
		{"POST", "/v2/apps", web, 409, "An app with id [/web] already exists."},
		{"POST", "/v2/apps", `{"id":"/a","cmd":"` + strings.Repeat("x", maxBody) + `"}`, 413, "the body is larger than 1 MiB, which is the most an app definition may be"},
		{"GET", "/v2/apps/nobody", "", 404, "App '/nobody' does not exist"},
		{"PATCH", "/v2/apps/nobody", "{}", 404, "App '/nobody' does not exist"},
		{"DELETE", "/v2/apps/nobody", "", 404, "App '/nobody' does not exist"},
		{"POST", "/v2/apps/nobody/restart", "", 404, "App '/nobody' does not exist"},
		{"GET", "/v2/apps/nobody/tasks", "", 404, "App '/nobody' does not exist"},
		{"GET", "/v2/apps/nobody/versions", "", 404, "App '/nobody' does not exist"},
		{"GET", "/v2/apps/web/versions/2001-01-01T00:00:00.000Z", "", 404, "App '/web' does not exist in version 2001-01-01T00:00:00.000Z"},
		{"DELETE", "/v2/apps/web/tasks/web.9-9", "", 404, "Task 'web.9-9' does not exist"},
		{"GET", "/v2/apps?label=a+near+b", "", 422, "Parsing of label selector failed: a near b is not of the form: a, a==b, a!=b, a in (x,y), a notin (x,y), joined by commas"},
		{"DELETE", "/v2/deployments/nobody?force=true", "", 404, "DeploymentPlan nobody does not exist"},
		{"GET", "/v2/nothing", "", 500, "URI not found"},
		{"GET", "/v1/apps", "", 500, "URI not found"},
		{"DELETE", "/v2/apps", "", 405, "Method Not Allowed"},
		{"POST", "/v2/info", "", 405, "Method Not Allowed"},
		{"GET", "/v2/groups", `""`, 501, absentV2["groups"]},
		{"GET", "/v2/events", "", 501, absentV2["events"]},
		{"HEAD", "/v2/pods", "", 501, ""},
		{"GET", "/ui/", "", 501, absent["ui"]},
		{"GET", "/metrics/prometheus", "", 501, "metrics are not supported yet in this form; GET /metrics has them as JSON"},
		{"DELETE", "/v2/leader", "", 501, "this framework runs where the leading master runs; let the master give way instead"},
	} {
		a := c.do(e.method, e.path, e.body)
		message, _ := a.json["message"].(string)
		if a.status != e.status || message != e.message {
			t.Errorf("%s %s %.60s is answered %d %q, not %d %q", e.method, e.path, e.body, a.status, message, e.status, e.message)
		}
	}
}

func TestPlainAnswers(t *testing.T) {
	c := newClient(t)
	if a := c.want(200, "GET", "/ping", ""); a.text != "pong" {
		t.Errorf("ping is answered %q", a.text)
	}
	a := c.want(200, "GET", "/v2/info", "")
	if a.json["name"] != "marathon" || a.json["frameworkId"] != "F-0000" || a.json["elected"] != true || a.json["leader"] != "127.0.0.1:8080" {
		t.Errorf("info is %s", a.text)
	}
	if a := c.want(200, "GET", "/v2/leader", ""); a.json["leader"] != "127.0.0.1:8080" {
		t.Errorf("the leader is %s", a.text)
	}
	if a := c.want(200, "GET", "/metrics", ""); a.json["version"] != "4.0.0" {
		t.Errorf("the metrics are %s", a.text)
	}
	if a := c.want(302, "GET", "/", ""); a.header.Get("Location") != "/ui/" {
		t.Errorf("the root leads to %q", a.header.Get("Location"))
	}
	if leader := c.want(200, "HEAD", "/v2/apps", "").header.Get("X-Marathon-Leader"); leader != "http://127.0.0.1:8080" {
		t.Errorf("the leader header is %q", leader)
	}
}

// The traps that real clients set.

func TestTrapDoubledSlashes(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps", web)
	c.want(200, "GET", "/v2/apps//web", "")
	c.want(200, "PUT", "/v2/apps//web", `{"instances": 1}`)
	c.want(200, "POST", "/v2/apps//web/restart?force=true", "")
	c.want(200, "DELETE", "/v2/apps//web", "")
}

func TestTrapEscapedSlashes(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps", web)
	c.want(200, "GET", "/v2/apps/%2Fweb/versions", "")
	c.want(200, "GET", "/v2/apps/%2Fweb", "")
}

func TestTrapTrailingSlash(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps/", web)
	c.want(200, "GET", "/v2/apps/", "")
	c.want(200, "GET", "/v2/apps/web/", "")
}

func TestTrapNullsAreAbsent(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps", `{"id": "/web", "cmd": "serve", "ports": [8080], "env": null, "container": null}`)
	c.want(200, "PUT", "/v2/apps/web", `{"id":"/web","instances":2,"ports":null,"dependencies":null}`)
	app := c.want(200, "GET", "/v2/apps/web", "").json["app"].(map[string]any)
	if port := app["portDefinitions"].([]any)[0].(map[string]any)["port"]; port != 8080.0 || app["instances"] != 2.0 {
		t.Errorf("the app is %v", app)
	}
}

func TestTrapAppDerivedFromTaskID(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps", strings.Replace(web, "/web", "/prod/web", 1))
	task := c.taskIDs("/v2/tasks")[0]
	app := strings.ReplaceAll(task[:strings.LastIndex(task, ".")], "_", "/")
	if app != "prod/web" {
		t.Errorf("task %s leads to app %s", task, app)
	}
	c.want(200, "DELETE", "/v2/apps/some/other._app/tasks/"+task, "")
}

func TestTrapOddRequests(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps?force=False", `{"id": "web", "cmd": "serve"}`)
	c.want(200, "POST", "/v2/apps/web/restart", `{}`)
	c.want(200, "GET", "/v2/apps", `""`)
	c.want(200, "GET", "/v2/apps/web", "")
}

func TestTrapFieldsThatClientsRead(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps", web)
	app := c.want(200, "GET", "/v2/apps/web", "").json["app"].(map[string]any)
	for _, field := range []string{"tasksRunning", "tasksStaged", "tasksHealthy", "tasksUnhealthy", "deployments", "tasks", "version", "versionInfo",
		"networks", "env", "labels", "constraints", "healthChecks", "fetch", "dependencies", "portDefinitions"} {
		if _, ok := app[field]; !ok {
			t.Errorf("the app has no %s", field)
		}
	}
	task := app["tasks"].([]any)[0].(map[string]any)
	for _, field := range []string{"id", "appId", "host", "ports", "servicePorts", "state", "healthCheckResults", "ipAddresses", "slaveId", "stagedAt", "startedAt", "version"} {
		if _, ok := task[field]; !ok {
			t.Errorf("the task has no %s", field)
		}
	}
}

func TestTrapOneLine(t *testing.T) {
	c := newClient(t)
	c.want(201, "POST", "/v2/apps", web)
	if a := c.want(200, "GET", "/v2/apps", ""); strings.Count(a.text, "\n") != 1 || !strings.HasSuffix(a.text, "\n") {
		t.Errorf("the list is not one line: %q", a.text)
	}
}
