package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// truth is a master's word on where things are.
type truth struct {
	agents  map[string]string // HOST:PORT by id
	plugins string
	asked   int
}

func (m *truth) Operate(_ context.Context, c *masterpb.Call) (*masterpb.Response, error) {
	if c.GetType() == masterpb.Call_GET_TASKS {
		return &masterpb.Response{GetTasks: &masterpb.Response_GetTasks{CompletedTasks: []*mesos.Task{{
			Name: proto.String("<b>"), TaskId: &mesos.TaskID{Value: proto.String("t 1")}, FrameworkId: &mesos.FrameworkID{Value: proto.String("F")},
			State: mesos.TaskState_TASK_FAILED.Enum(),
		}}}}, nil
	}
	if c.GetType() != masterpb.Call_GET_AGENTS {
		return nil, errors.New("not yet")
	}
	m.asked++
	found := &masterpb.Response_GetAgents{}
	for id, address := range m.agents {
		host, portText, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		port, err := strconv.Atoi(portText)
		if err != nil {
			return nil, err
		}
		found.Agents = append(found.Agents, &masterpb.Response_GetAgents_Agent{AgentInfo: &mesos.AgentInfo{
			Id: &mesos.AgentID{Value: &id}, Hostname: &host, Port: proto.Int32(int32(port)),
		}, Active: proto.Bool(id != "away")})
	}
	return &masterpb.Response{GetAgents: found}, nil
}

func (m *truth) Get(_ context.Context, path string) ([]byte, error) {
	if path != "/gantry/v1/plugins" {
		return nil, fmt.Errorf("nothing is at %s", path)
	}
	return []byte(m.plugins), nil
}

// agent answers the calls of an agent's API on a listener; log is the one file that it has.
func agent(t *testing.T, log []byte) string {
	const file = "/slaves/S0/frameworks/F/executors/e x/runs/latest/stdout"
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		call := new(agentpb.Call)
		if err != nil || r.URL.Path != "/api/v1" || r.Method != http.MethodPost || proto.Unmarshal(body, call) != nil {
			t.Errorf("%s %s %q, %v", r.Method, r.URL, body, err)
		}
		answer := &agentpb.Response{}
		switch read := call.GetReadFile(); call.GetType() {
		case agentpb.Call_GET_CONTAINERS:
			answer.GetContainers = &agentpb.Response_GetContainers{Containers: []*agentpb.Response_GetContainers_Container{
				{FrameworkId: &mesos.FrameworkID{Value: proto.String("F")}, ExecutorId: &mesos.ExecutorID{Value: proto.String("e x")},
					ContainerId: &mesos.ContainerID{Value: proto.String("c")}, ExecutorName: proto.String(""),
					ResourceStatistics: &mesos.ResourceStatistics{
						Timestamp: proto.Float64(7), CpusUserTimeSecs: proto.Float64(1), CpusSystemTimeSecs: proto.Float64(0.5), MemRssBytes: proto.Uint64(4096),
					}},
				{FrameworkId: &mesos.FrameworkID{Value: proto.String("F")}, ExecutorId: &mesos.ExecutorID{Value: proto.String("new")},
					ContainerId: &mesos.ContainerID{Value: proto.String("d")}, ExecutorName: proto.String("")},
			}}
		case agentpb.Call_LIST_FILES:
			answer.ListFiles = &agentpb.Response_ListFiles{FileInfos: []*mesos.FileInfo{
				{Path: proto.String("stdout"), Size: proto.Uint64(uint64(len(log))), Mode: proto.Uint32(0o100644), Mtime: &mesos.TimeInfo{Nanoseconds: proto.Int64(2e9)}},
				{Path: proto.String("a/<b>"), Mode: proto.Uint32(0o040755)},
			}}
		case agentpb.Call_READ_FILE:
			if read.GetPath() != file {
				http.Error(w, fmt.Sprintf("nothing is at %q.", read.GetPath()), http.StatusNotFound)
				return
			}
			begin := min(read.GetOffset(), uint64(len(log)))
			end := min(begin+read.GetLength(), uint64(len(log)))
			answer.ReadFile = &agentpb.Response_ReadFile{Size: proto.Uint64(uint64(len(log))), Data: log[begin:end]}
		}
		text, err := proto.MarshalOptions{AllowPartial: true}.Marshal(answer)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(text)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func newSite(t *testing.T, m master, built fs.FS) *site {
	t.Helper()
	p, err := newPages(built)
	if err != nil {
		t.Fatal(err)
	}
	s, err := decodeSettings([]byte("{}"))
	if err != nil {
		t.Fatal(err)
	}
	return &site{path: "/plugins/webui/", pages: p, data: newData(m, s)}
}

var built = fstest.MapFS{
	"page/plain.html":           {Data: []byte("plain")},
	"page/built/index.html":     {Data: []byte("<p>index")},
	"page/built/icon.svg":       {Data: []byte("<svg>")},
	"page/built/assets/x-1.js":  {Data: []byte(strings.Repeat("script;", 100))},
	"page/built/assets/x-1.css": {Data: []byte("style")},
}

func ask(s http.Handler, method, target string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, "http://127.0.0.1:5050"+target, nil)
	for _, h := range headers {
		name, value, _ := strings.Cut(h, ": ")
		r.Header.Set(name, value)
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	return w.Result()
}

func bodyOf(t *testing.T, r *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestThePageIsServedAtBothItsPlaces(t *testing.T) {
	s := newSite(t, &truth{}, built)
	for _, prefix := range []string{"/", "/plugins/webui/"} {
		for _, f := range []struct{ place, text, mediaType, cache string }{
			{"", "<p>index", "text/html; charset=utf-8", "no-cache"},
			{"icon.svg", "<svg>", "image/svg+xml", "no-cache"},
			{"assets/x-1.js", strings.Repeat("script;", 100), "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"},
		} {
			r := ask(s, http.MethodGet, prefix+f.place)
			if got := bodyOf(t, r); r.StatusCode != 200 || got != f.text || r.Header.Get("Content-Type") != f.mediaType || r.Header.Get("Cache-Control") != f.cache {
				t.Errorf("%s%s: %s %v %.40q", prefix, f.place, r.Status, r.Header, got)
			}
			if r.Header.Get("Content-Security-Policy") != policy || r.Header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s%s: %v", prefix, f.place, r.Header)
			}
		}
	}
	packed := ask(s, http.MethodGet, "/assets/x-1.js", "Accept-Encoding: gzip, br")
	z, err := gzip.NewReader(packed.Body)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := io.ReadAll(z); err != nil || string(text) != strings.Repeat("script;", 100) {
		t.Errorf("%.40q, %v", text, err)
	}
	if r := ask(s, http.MethodGet, "/", "If-None-Match: "+ask(s, http.MethodGet, "/").Header.Get("ETag")); r.StatusCode != 304 {
		t.Errorf("a page that is known: %s", r.Status)
	}
	if r := ask(newSite(t, &truth{}, fstest.MapFS{"page/plain.html": {Data: []byte("plain")}}), http.MethodGet, "/"); bodyOf(t, r) != "plain" {
		t.Error("a page that was not built is not the plain one")
	}
}

// What is embedded is a page, built or not.
func TestThePageIsThere(t *testing.T) {
	r := ask(newSite(t, &truth{}, files), http.MethodGet, "/")
	if text := bodyOf(t, r); r.StatusCode != 200 || !strings.Contains(text, "<title>Gantry</title>") || strings.Contains(text, "style=") {
		t.Errorf("%s %s", r.Status, text)
	}
}

func TestWhatIsNotThere(t *testing.T) {
	s := newSite(t, &truth{}, built)
	for _, c := range []struct {
		method, target string
		status         int
		text           string
	}{
		{"GET", "/nowhere", 404, `There is nothing at "/nowhere".`},
		{"POST", "/nowhere", 404, `There is nothing at "/nowhere".`},
		{"GET", "/index.html", 404, ""},
		{"GET", "//", 404, ""},
		{"GET", "/assets/../plain.html", 404, ""},
		{"GET", "/page/plain.html", 404, ""},
		{"GET", "/data/agents", 404, ""},
		{"POST", "/", 405, "send a GET"},
		{"DELETE", "/data/applications", 405, "send a GET"},
	} {
		r := ask(s, c.method, c.target)
		if text := bodyOf(t, r); r.StatusCode != c.status || !strings.Contains(text, c.text) || r.Header.Get("Content-Security-Policy") != policy {
			t.Errorf("%s %s: %s %s", c.method, c.target, r.Status, text)
		}
	}
}

// Bytes of a file come as they are, and never as something that a browser would show by itself.
func TestFilesOfASandbox(t *testing.T) {
	log := append([]byte("<script>\xff\x00"), bytes.Repeat([]byte("x"), 100_000)...)
	m := &truth{agents: map[string]string{"S0": agent(t, log)}}
	s := newSite(t, m, built)
	place := "agent=S0&framework=F&executor=" + url.QueryEscape("e x")
	for _, c := range []struct {
		offset     string
		begin, end int
	}{
		{"0", 0, maxReadBytes}, {"5", 5, 5 + maxReadBytes}, {"-10", len(log) - 10, len(log)}, {"-1000000", 0, maxReadBytes}, {"100010", len(log), len(log)},
	} {
		r := ask(s, http.MethodGet, "/data/file?path=stdout&offset="+c.offset+"&"+place)
		text := bodyOf(t, r)
		if r.StatusCode != 200 || text != string(log[c.begin:c.end]) || r.Header.Get("Content-Type") != "application/octet-stream" ||
			r.Header.Get("Gantry-File-Size") != fmt.Sprint(len(log)) || r.Header.Get("Gantry-File-Offset") != fmt.Sprint(c.begin) {
			t.Errorf("offset %s: %s %v, %d bytes", c.offset, r.Status, r.Header, len(text))
		}
	}
	var entries []entry
	r := ask(s, http.MethodGet, "/plugins/webui/data/files?"+place)
	if err := json.NewDecoder(r.Body).Decode(&entries); err != nil {
		t.Fatal(err)
	}
	if want := (entry{"stdout", uint64(len(log)), 0o100644, 2, false}); len(entries) != 2 || entries[0] != want || entries[1].Name != "<b>" || !entries[1].Folder {
		t.Errorf("%+v", entries)
	}
}

// The page names whom the master knows, or nobody is asked.
func TestOnlyKnownPlacesAreAsked(t *testing.T) {
	private := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("somebody else was asked") }))
	defer private.Close()
	address := strings.TrimPrefix(private.URL, "http://")
	m := &truth{agents: map[string]string{"S0": agent(t, nil)}, plugins: `[{"name":"other","listen":"` + address + `"},{"name":"marathon","listen":""}]`}
	s := newSite(t, m, built)
	for _, c := range []struct {
		target string
		status int
		text   string
	}{
		{"/data/file?agent=" + address + "&framework=F&executor=e&offset=0", 404, "The master knows no agent "},
		{"/data/file?agent=S0/../x&framework=F&executor=e&offset=0", 400, "Name the sandbox"},
		{"/data/file?agent=S0&framework=F&executor=", 400, "Name the sandbox"},
		{"/data/file?agent=S0&framework=F&executor=e&path=x", 400, "Say where to read from"},
		{"/data/file?agent=S0&framework=F&executor=e&path=../../x&offset=0", 404, "Nothing is at"},
		{"/data/jobs", 404, "The cluster runs no plugin named chronos."},
		{"/data/applications", 404, "The plugin marathon does not listen"},
	} {
		r := ask(s, http.MethodGet, c.target)
		if text := bodyOf(t, r); r.StatusCode != c.status || !strings.HasPrefix(text, c.text) {
			t.Errorf("%s: %s %s", c.target, r.Status, text)
		}
	}
	if m.asked > 3 {
		t.Errorf("the master was asked %d times for its agents", m.asked)
	}
}

// An answer is passed on; a redirect is not followed, and a failure is told.
func TestAnswersOfPlugins(t *testing.T) {
	answer := func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, `{"apps":[]}`) }
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v2/apps" {
			t.Errorf("asked for %s", r.URL)
		}
		answer(w, r)
	}))
	defer server.Close()
	s := newSite(t, &truth{plugins: `[{"name":"marathon","listen":"` + strings.TrimPrefix(server.URL, "http://") + `"}]`}, built)
	if r := ask(s, http.MethodGet, "/data/applications"); r.StatusCode != 200 || bodyOf(t, r) != `{"apps":[]}` || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s %v", r.Status, r.Header)
	}
	answer = func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
	}
	if r := ask(s, http.MethodGet, "/data/applications"); r.StatusCode != 502 {
		t.Errorf("a redirect: %s %s", r.Status, bodyOf(t, r))
	}
	answer = func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) }
	if r := ask(s, http.MethodGet, "/data/applications"); r.StatusCode != 502 || !strings.Contains(bodyOf(t, r), "The plugin marathon does not answer") {
		t.Errorf("a failure: %s", r.Status)
	}
}

// All open pages share a measurement; an agent that is silent is named, and keeps nobody else's.
func TestUsage(t *testing.T) {
	m := &truth{agents: map[string]string{"S0": agent(t, nil), "S1": "127.0.0.1:1", "away": "127.0.0.1:1"}}
	s := newSite(t, m, built)
	for range 2 {
		r := ask(s, http.MethodGet, "/data/usage")
		const want = `{"containers":[{"agent":"S0","framework":"F","executor":"e x","at":7,"cpu":1.5,"memory":4096}],"silent":["S1"]}`
		if text := bodyOf(t, r); r.StatusCode != 200 || text != want {
			t.Errorf("%s %s, want %s", r.Status, text, want)
		}
	}
	if m.asked != 1 {
		t.Errorf("the master was asked %d times", m.asked)
	}
}

func TestOneTask(t *testing.T) {
	s := newSite(t, &truth{}, built)
	r := ask(s, http.MethodGet, "/data/task?framework=F&task=t+1")
	var found struct {
		Name, State string
	}
	if err := json.NewDecoder(r.Body).Decode(&found); err != nil || r.StatusCode != 200 || found.Name != "<b>" || found.State != "TASK_FAILED" {
		t.Errorf("%s %+v, %v", r.Status, found, err)
	}
	if r := ask(s, http.MethodGet, "/data/task?framework=G&task=t+1"); r.StatusCode != 404 {
		t.Errorf("a task of another: %s", r.Status)
	}
}

func TestSettings(t *testing.T) {
	if s, err := decodeSettings([]byte(`{"jobs":"cron"}`)); err != nil || s != (settings{"marathon", "cron"}) {
		t.Errorf("%+v, %v", s, err)
	}
	if _, err := decodeSettings([]byte(`{"job":"cron"}`)); err == nil || !strings.Contains(err.Error(), "it knows applications and jobs") {
		t.Error(err)
	}
}
