package rest

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/jobs"
	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// direct is a machine without a kernel: what it asks for is left undone.
type direct struct{ m *jobs.Machine }

func (d direct) Do(_ context.Context, op any) (any, error) {
	var out machine.Effects
	d.m.Step(now, machine.Request{Op: op}, &out)
	return out.Replies[0].Value, out.Replies[0].Err
}

func (d direct) View(_ context.Context, read func(*jobs.Machine, time.Time)) error {
	read(d.m, now)
	return nil
}

func (d direct) step(ev machine.Event) {
	var out machine.Effects
	d.m.Step(now, ev, &out)
}

// finish lets the runs that wait be launched and end in a state.
func (d direct) finish(state mesos.TaskState) {
	scalar := func(name string, value float64) *mesos.Resource {
		return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value}}
	}
	d.step(machine.Scheduler{Event: &schedulerpb.Event{Type: schedulerpb.Event_OFFERS.Enum(), Offers: &schedulerpb.Event_Offers{Offers: []*mesos.Offer{{
		Id: &mesos.OfferID{Value: new("O")}, AgentId: &mesos.AgentID{Value: new("S")}, Hostname: new("here"),
		Resources: []*mesos.Resource{scalar("cpus", 100), scalar("mem", 100000), scalar("disk", 100000)},
	}}}}})
	for _, name := range d.m.Names() {
		info, _ := d.m.Job(name)
		for _, run := range info.Runs {
			for _, s := range []mesos.TaskState{mesos.TaskState_TASK_RUNNING, state} {
				d.step(machine.Scheduler{Event: &schedulerpb.Event{Type: schedulerpb.Event_UPDATE.Enum(), Update: &schedulerpb.Event_Update{
					Status: &mesos.TaskStatus{TaskId: &mesos.TaskID{Value: new(run.Task)}, State: &s, AgentId: &mesos.AgentID{Value: new("S")}},
				}}})
			}
		}
	}
}

type fixture struct {
	direct
	*httptest.Server
	t *testing.T
}

func newFixture(t *testing.T) *fixture {
	m, err := jobs.New(jobs.Config{Identity: machine.Identity{FrameworkID: "F", Name: "chronos", Role: "*", User: "root"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := direct{m}
	d.step(machine.Start{})
	srv := httptest.NewServer(New(d, "127.0.0.1:4400"))
	t.Cleanup(srv.Close)
	return &fixture{d, srv, t}
}

// call is the status and body of an answer.
func (f *fixture) call(method, path, body string) (int, string) {
	f.t.Helper()
	req, err := http.NewRequest(method, f.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	resp, err := f.Client().Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(data))
}

// want calls and compares; a body that ends in ... is the beginning of what is wanted.
func (f *fixture) want(method, path, body string, status int, answer string) {
	f.t.Helper()
	got, text := f.call(method, path, body)
	beginning, open := strings.CutSuffix(answer, "...")
	if got != status || (text != answer && !(open && strings.HasPrefix(text, beginning))) {
		f.t.Errorf("%s %s is answered %d %s\nwant %d %s", method, path, got, text, status, answer)
	}
}

const nightly = `{"name": "nightly", "command": "backup --all", "schedule": "R/2030-01-01T03:00:00Z/P1D", "owner": "ops@example.org", "retries": 0}`

func TestJobsOverBothPrefixes(t *testing.T) {
	for _, prefix := range []string{"/scheduler", "/v1/scheduler"} {
		t.Run(prefix[1:], func(t *testing.T) {
			f := newFixture(t)
			f.want("GET", prefix+"/jobs", "", 200, `[]`)
			f.want("POST", prefix+"/iso8601", nightly, 204, "")
			f.want("PUT", prefix+"/iso8601", nightly, 204, "")
			f.want("POST", prefix+"/dependency", `{"name": "report", "command": "mail", "parents": ["nightly"]}`, 204, "")
			f.want("GET", prefix+"/job/nightly", "", 200, `{"name":"nightly","command":"backup --all","shell":true,"executor":"",...`)
			f.want("GET", prefix+"/jobs", "", 200, `[{"name":"nightly",...`)
			f.want("GET", prefix+"/jobs/search?name=NIGHT", "", 200, `[{"name":"nightly",...`)
			f.want("GET", prefix+"/jobs/search?any=mail", "", 200, `[{"name":"report",...`)
			f.want("GET", prefix+"/jobs/search?command=mail&name=night", "", 200, `[]`)
			f.want("GET", prefix+"/jobs/search?offset=1&limit=1", "", 200, `[{"name":"report",...`)
			f.want("GET", prefix+"/jobs/summary", "", 200, `{"jobs":[{"name":"nightly","status":"fresh","state":"idle","schedule":"R/2030-01-01T03:00:00.000Z/P1D","parents":[],"disabled":false},`+
				`{"name":"report","status":"fresh","state":"idle","schedule":"","parents":["nightly"],"disabled":false}]}`)
			f.want("GET", prefix+"/graph/csv", "", 200, "node,nightly,fresh,idle\nnode,report,fresh,idle\nlink,nightly,report")
			f.want("GET", prefix+"/graph/dot", "", 200, "digraph G {\n  \"nightly\";\n  \"report\";\n  \"nightly\" -> \"report\";\n}")
			f.want("PUT", prefix+"/job/nightly?arguments=--now", "", 204, "")
			f.want("GET", prefix+"/graph/csv", "", 200, "node,nightly,fresh,queued...")
			f.finish(mesos.TaskState_TASK_FINISHED)
			f.want("GET", prefix+"/graph/csv", "", 200, "node,nightly,success,idle\nnode,report,fresh,queued...")
			f.want("DELETE", prefix+"/task/kill/report", "", 204, "")
			f.want("DELETE", prefix+"/job/task/kill/report", "", 204, "")
			f.want("PUT", prefix+"/job/success/nightly", "", 200, "marked job nightly as successful: true")
			f.want("GET", prefix+"/job/stat/nightly", "", 200, `{"histogram":{"75thPercentile":0,"95thPercentile":0,"98thPercentile":0,"99thPercentile":0,"count":1,"mean":0,"median":0},`+
				`"taskStatHistory":[{"taskId":"ct:1893456000000:0:nightly:--now","jobName":"nightly","slaveId":"S","startTime":"2030-01-01T00:00:00Z","endTime":"2030-01-01T00:00:00Z","duration":"0.000","status":"TASK_FINISHED","numElementsProcessed":0}]}`)
			f.want("GET", prefix+"/stats/median", "", 200, `[{"jobNameLabel":"nightly","time":0},{"jobNameLabel":"report","time":0}]`)
			f.want("GET", prefix+"/leader", "", 200, `{"leader":"127.0.0.1:4400"}`)
			f.want("DELETE", prefix+"/job/nightly", "", 204, "")
			f.want("GET", prefix+"/job/report", "", 200, `{"name":"report",...`)
			f.want("DELETE", prefix+"/job/report", "", 204, "")
			f.want("GET", prefix+"/jobs", "", 200, `[]`)
		})
	}
}

func TestOutsideTheScheduler(t *testing.T) {
	f := newFixture(t)
	f.want("GET", "/ping", "", 200, "pong")
	f.want("HEAD", "/ping", "", 200, "")
	f.want("GET", "/leader", "", 200, `{"leader":"127.0.0.1:4400"}`)
	f.want("GET", "/metrics", "", 200, `{"counters":...`)
	f.want("POST", "//v1/scheduler//iso8601/", nightly, 204, "")
	f.want("GET", "/gantry/v1/jobs", "", 200, `{"jobs":[{"job":{"name":"nightly",...`)
	f.want("PUT", "/v1/scheduler/job/nightly", "", 204, "")
	f.finish(mesos.TaskState_TASK_FAILED)
	_, text := f.call("GET", "/gantry/v1/jobs/nightly", "")
	var own struct {
		State, Status string
		History       []jobs.Run
		Next          time.Time
	}
	if err := json.Unmarshal([]byte(text), &own); err != nil {
		t.Fatal(err)
	}
	if own.State != "idle" || own.Status != "failure" || len(own.History) != 1 || own.History[0].State != "TASK_FAILED" || own.Next.Hour() != 3 {
		t.Errorf("the job is told as %s", text)
	}
}

func TestRefusals(t *testing.T) {
	f := newFixture(t)
	f.want("POST", "/v1/scheduler/iso8601", nightly, 204, "")
	const there = `{"status":"400","message":"`
	for _, c := range []struct {
		method, path, body string
		status             int
		answer             string
	}{
		{"POST", "/v1/scheduler/iso8601", `{`, 400, there + "the body is not the JSON object of a job: it ends too early\"}"},
		{"POST", "/v1/scheduler/iso8601", `{"name": "a", "command": "x", "schedule": "R/2030-02-30T00:00:00Z/P1D"}`, 400, there + "the start ..."},
		{"POST", "/v1/scheduler/iso8601", `{"name": "a", "command": "x", "schedule": "R/2030-02-03T00:00:00Z/P1D", "scheduleTimeZone": "Moon"}`, 400, there + "there is no time zone ..."},
		{"POST", "/v1/scheduler/iso8601", `{"name": "a", "command": "x", "schedule": "cron 0 0 31 2 *"}`, 400, there + "the cron expression ..."},
		{"POST", "/v1/scheduler/iso8601", strings.Repeat(" ", maxBody+1), 413, `{"status":"413","message":"the body is larger...`},
		{"POST", "/v1/scheduler/dependency", `{"name": "a", "command": "x", "parents": ["b"]}`, 400, there + `job a names the parent \"b\", which does not exist; create it first"}`},
		{"POST", "/v1/scheduler/dependency", `{"name": "a", "command": "x", "parents": ["a"]}`, 400, there + "job a can't be its own parent\"}"},
		{"GET", "/v1/scheduler/job/b", "", 400, there + `there is no job \"b\""}`},
		{"PUT", "/v1/scheduler/job/b", "", 400, there + "there is no job..."},
		{"DELETE", "/v1/scheduler/job/b", "", 400, there + "there is no job..."},
		{"DELETE", "/v1/scheduler/job/%2e%2e%2f%3Cb%3E", "", 400, there + `there is no job \"../<b>\""}`},
		{"DELETE", "/v1/scheduler/task/kill/b", "", 400, there + "there is no job..."},
		{"PUT", "/v1/scheduler/job/success/b", "", 400, there + "there is no job..."},
		{"GET", "/v1/scheduler/job/stat/b", "", 400, there + "there is no job..."},
		{"GET", "/gantry/v1/jobs/b", "", 400, there + "there is no job..."},
		{"PUT", "/v1/scheduler/job/nightly?arguments=%00", "", 400, there + "arguments may hold..."},
		{"GET", "/v1/scheduler/stats/mode", "", 400, there + "there is no figure..."},
		{"GET", "/v1/scheduler/jobs/search?limit=-1", "", 400, there + `\"-1\" is no number...`},
		{"PATCH", "/v1/scheduler/jobs", "", 405, `{"status":"405",...`},
		{"GET", "/v1/scheduler/nothing", "", 404, `{"status":"404",...`},
		{"GET", "/v2/apps", "", 404, `{"status":"404",...`},
		{"GET", "/", "", 501, `{"status":"501",...`},
		{"GET", "/logging", "", 501, `{"status":"501",...`},
		{"GET", "/scheduler/info", "", 501, `{"status":"501",...`},
		{"DELETE", "/v1/scheduler/task/all", "", 501, `{"status":"501",...`},
		{"PUT", "/v1/scheduler/task/ct:1:0:a:", `{"statusCode": 0}`, 501, `{"status":"501",...`},
		{"POST", "/v1/scheduler/job/nightly/task/ct:1:0:a:/progress", `{}`, 501, `{"status":"501",...`},
	} {
		f.want(c.method, c.path, c.body, c.status, c.answer)
	}
	f.want("GET", "/v1/scheduler/jobs/summary", "", 200, `{"jobs":[{"name":"nightly",...`)
}
