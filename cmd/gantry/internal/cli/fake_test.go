package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
	"github.com/gantry-project/gantry/sdk/recordio"
)

// wire is a server that speaks enough of the real protocols for the command line: master, agent, Marathon and Chronos in one.
type wire struct {
	t      *testing.T
	server *httptest.Server
	play   func(w *wire, call *schedulerpb.Call) // reacts to what a scheduler calls

	mu     sync.Mutex
	events chan *schedulerpb.Event
	calls  []*schedulerpb.Call
	posts  []string                  // METHOD path body, of what is no v1 call
	files  map[string]string         // of the one sandbox
	used   *mesos.ResourceStatistics // by the container of hello-web.1; nil where agents do not measure
	traces []string                  // answers of master and agent, one after the other
	tasks  []*mesos.Task
	known  bool   // the framework has subscribed before
	wrong  string // why the framework may not subscribe
}

func newWire(t *testing.T) *wire {
	w := &wire{t: t, events: make(chan *schedulerpb.Event, 16), files: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /api/v1", w.operator)
	mux.HandleFunc("POST /api/v1/scheduler", w.scheduler)
	mux.HandleFunc("GET /gantry/v1/plugins", func(out http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(out, `[{"name":"drf","kind":"allocator","state":"running"},
			{"name":"marathon","kind":"framework","state":"running","listen":%[1]q},
			{"name":"chronos","kind":"framework","state":"running","listen":%[1]q}]`, w.address())
	})
	mux.HandleFunc("GET /gantry/v1/trace", func(out http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if r.FormValue("framework") != "F-0000" || r.FormValue("task") == "" || len(w.traces) == 0 {
			io.WriteString(out, `{"traces":[]}`)
			return
		}
		io.WriteString(out, w.traces[0])
		w.traces = w.traces[1:]
	})
	mux.HandleFunc("/", w.rest)
	w.server = httptest.NewServer(mux)
	t.Cleanup(w.server.Close)
	return w
}

func (w *wire) address() string { return strings.TrimPrefix(w.server.URL, "http://") }

// rest records what is sent to the master's own endpoints, to Marathon and to Chronos.
func (w *wire) rest(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.Method != http.MethodGet {
		w.posts = append(w.posts, r.Method+" "+r.URL.Path+" "+string(body))
	}
	app := map[string]any{
		"id": "/hello-web", "cmd": "./hello-web", "instances": 2, "tasksRunning": 1, "cpus": 0.1, "mem": 32,
		"tasks": []map[string]any{{"id": "hello-web.1", "state": "TASK_RUNNING", "host": "127.0.0.1", "ports": []int{31000}}},
	}
	switch {
	case r.URL.Path == "/gantry/v1/jobs":
		io.WriteString(out, `{"jobs":[`+aJob+`]}`)
	case r.URL.Path == "/gantry/v1/jobs/nightly":
		io.WriteString(out, aJob)
	case strings.HasPrefix(r.URL.Path, "/v1/scheduler/job/") && r.Method == http.MethodPut:
		out.Header().Set("Gantry-Run", "8")
		out.WriteHeader(http.StatusNoContent)
	case strings.HasSuffix(r.URL.Path, "/nobody"):
		http.Error(out, `{"status":"400","message":"there is no job \"nobody\""}`, http.StatusBadRequest)
	case r.URL.Path == "/v2/apps":
		json.NewEncoder(out).Encode(map[string]any{"apps": []any{app}})
	case r.URL.Path == "/v2/apps/hello-web" && r.Method == http.MethodGet:
		json.NewEncoder(out).Encode(map[string]any{"app": app})
	case r.URL.Path == "/v2/apps/none" && r.Method == http.MethodPut: // which would create it
		http.Error(out, `{"message":"Object is not valid","details":[{"path":"/","errors":["no command"]}]}`, http.StatusUnprocessableEntity)
	case strings.HasPrefix(r.URL.Path, "/v2/apps/none"):
		http.Error(out, `{"message":"App '/none' does not exist"}`, http.StatusNotFound)
	default:
		io.WriteString(out, "{}")
	}
}

// aJob has run once on the agent and waits for its next attempt.
const aJob = `{"job":{"name":"nightly","command":"./backup","shell":false,"arguments":["./backup","--all"],"cpus":0.1,"mem":32,"retries":2,
	"schedule":"cron 0 3 * * *","scheduleTimeZone":"Europe/Berlin","successCount":7,"errorCount":1},
	"status":"success","state":"queued","next":"2030-01-02T02:00:00Z","skipped":3,"lastSkipped":"2029-12-01T02:00:00Z","why":"attempt 1 begins soon","children":["report"],
	"runs":[{"number":7,"task":"ct:1:1:nightly:","due":"2030-01-01T02:00:00Z","cause":"schedule","attempt":1,"state":"WAITING"}],
	"history":[{"number":6,"task":"a.1","due":"2030-01-01T02:00:00Z","cause":"schedule","attempt":0,"state":"TASK_FAILED","host":"127.0.0.1",
		"started":"2030-01-01T02:00:01Z","ended":"2030-01-01T02:00:03.5Z","exitStatus":3,"message":"evil\u001b[2J"}]}`

// operator serves the operator API of the master and of the agent, which differ in their calls' numbers only.
func (w *wire) operator(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil || r.Header.Get("Content-Type") != "application/x-protobuf" {
		w.t.Errorf("operator call: %v, %v", r.Header, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	read := new(agentpb.Call)
	if proto.Unmarshal(body, read) == nil && read.GetType() == agentpb.Call_READ_FILE {
		w.readFile(out, read.GetReadFile())
		return
	}
	if read.GetType() == agentpb.Call_GET_CONTAINERS && read.GetContainers != nil {
		w.containers(out)
		return
	}
	answer(w.t, out, w.state())
}

func (w *wire) readFile(out http.ResponseWriter, read *agentpb.Call_ReadFile) {
	content, found := w.files[read.GetPath()]
	if !found {
		http.Error(out, "no such file", http.StatusNotFound)
		return
	}
	data := content[min(int(read.GetOffset()), len(content)):]
	answer(w.t, out, &agentpb.Response{
		Type: agentpb.Response_READ_FILE.Enum(),
		ReadFile: &agentpb.Response_ReadFile{
			Size: proto.Uint64(uint64(len(content))), Data: []byte(data[:min(len(data), 5)]), // in small pieces
		},
	})
}

func (w *wire) containers(out http.ResponseWriter) {
	if w.used == nil {
		http.Error(out, "nothing is measured here", http.StatusNotImplemented)
		return
	}
	answer(w.t, out, &agentpb.Response{
		Type: agentpb.Response_GET_CONTAINERS.Enum(),
		GetContainers: &agentpb.Response_GetContainers{Containers: []*agentpb.Response_GetContainers_Container{{
			FrameworkId: &mesos.FrameworkID{Value: proto.String("F-0000")}, ExecutorId: &mesos.ExecutorID{Value: proto.String("hello-web.1")},
			ContainerId: &mesos.ContainerID{Value: proto.String("c1-1")}, ResourceStatistics: w.used,
		}}},
	})
}

// state answers every GET call at once.
func (w *wire) state() *masterpb.Response {
	host, portText, _ := net.SplitHostPort(w.address())
	port, _ := strconv.Atoi(portText)
	agents := &masterpb.Response_GetAgents{Agents: []*masterpb.Response_GetAgents_Agent{{
		AgentInfo: &mesos.AgentInfo{
			Hostname: &host, Port: proto.Int32(int32(port)), Id: &mesos.AgentID{Value: proto.String("S0")},
			Attributes: []*mesos.Attribute{
				{Name: proto.String("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: proto.String("a\x1b[2J")}},
				{Name: proto.String("level"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(2.5)}},
				{Name: proto.String("lanes"), Type: mesos.Value_RANGES.Enum(), Ranges: &mesos.Value_Ranges{
					Range: []*mesos.Value_Range{{Begin: proto.Uint64(1), End: proto.Uint64(4)}},
				}},
			},
		},
		Active: proto.Bool(true), Version: proto.String("1"),
		TotalResources:     []*mesos.Resource{scalarResource("cpus", 2), scalarResource("mem", 4096)},
		AllocatedResources: []*mesos.Resource{scalarResource("cpus", 0.1), scalarResource("cpus", 0.2), scalarResource("mem", 64)},
	}}}
	tasks := &masterpb.Response_GetTasks{Tasks: w.tasks}
	return &masterpb.Response{
		Type:      masterpb.Response_GET_STATE.Enum(),
		GetAgents: agents,
		GetTasks:  tasks,
		GetState: &masterpb.Response_GetState{
			GetAgents: agents,
			GetTasks:  tasks,
			GetFrameworks: &masterpb.Response_GetFrameworks{Frameworks: []*masterpb.Response_GetFrameworks_Framework{{
				FrameworkInfo: &mesos.FrameworkInfo{
					Id: &mesos.FrameworkID{Value: proto.String("F-0000")}, User: proto.String("root"), Name: proto.String("marathon"),
				},
				Active: proto.Bool(true), Connected: proto.Bool(true), Recovered: proto.Bool(false),
			}}},
		},
	}
}

func scalarResource(name string, value float64) *mesos.Resource {
	return &mesos.Resource{
		Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value},
		AllocationInfo: &mesos.Resource_AllocationInfo{Role: proto.String("*")},
	}
}

func (w *wire) addTask(id string, state mesos.TaskState) {
	w.tasks = append(w.tasks, &mesos.Task{
		Name: &id, TaskId: &mesos.TaskID{Value: &id}, FrameworkId: &mesos.FrameworkID{Value: proto.String("F-0000")},
		AgentId: &mesos.AgentID{Value: proto.String("S0")}, State: state.Enum(),
		Resources: []*mesos.Resource{scalarResource("cpus", 0.1), scalarResource("mem", 32)},
	})
}

func (w *wire) scheduler(out http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.t.Error(err)
	}
	call := new(schedulerpb.Call)
	if err := proto.Unmarshal(body, call); err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	if call.GetType() == schedulerpb.Call_SUBSCRIBE {
		w.stream(out, r, call)
		return
	}
	if r.Header.Get("Mesos-Stream-Id") != "stream" || call.GetFrameworkId().GetValue() != "F-0001" {
		http.Error(out, "wrong stream id", http.StatusBadRequest)
		return
	}
	w.mu.Lock()
	w.calls = append(w.calls, call)
	w.mu.Unlock()
	out.WriteHeader(http.StatusAccepted)
	if w.play != nil {
		w.play(w, call)
	}
}

// stream sends the events as they come.
func (w *wire) stream(out http.ResponseWriter, r *http.Request, subscribe *schedulerpb.Call) {
	out.Header().Set("Mesos-Stream-Id", "stream")
	send := func(event *schedulerpb.Event) {
		text, err := proto.Marshal(event)
		if err != nil {
			w.t.Error(err)
		}
		out.Write(recordio.Append(nil, text))
		out.(http.Flusher).Flush()
	}
	w.mu.Lock()
	wrong, again := w.wrong, w.known
	w.known = true
	w.mu.Unlock()
	if got := subscribe.GetFrameworkId().GetValue(); again != (got == "F-0001") || got != subscribe.GetSubscribe().GetFrameworkInfo().GetId().GetValue() {
		w.t.Errorf("SUBSCRIBE of framework %q, subscribed before: %t", got, again)
	}
	if wrong != "" {
		send(&schedulerpb.Event{Type: schedulerpb.Event_ERROR.Enum(), Error: &schedulerpb.Event_Error{Message: &wrong}})
		return
	}
	send(&schedulerpb.Event{
		Type:       schedulerpb.Event_SUBSCRIBED.Enum(),
		Subscribed: &schedulerpb.Event_Subscribed{FrameworkId: &mesos.FrameworkID{Value: proto.String("F-0001")}},
	})
	for {
		select {
		case <-r.Context().Done():
			return
		case event := <-w.events:
			send(event)
		}
	}
}

func (w *wire) offer(id string, cpus, mem float64) {
	w.events <- &schedulerpb.Event{
		Type: schedulerpb.Event_OFFERS.Enum(),
		Offers: &schedulerpb.Event_Offers{Offers: []*mesos.Offer{{
			Id: &mesos.OfferID{Value: &id}, FrameworkId: &mesos.FrameworkID{Value: proto.String("F-0001")},
			AgentId: &mesos.AgentID{Value: proto.String("S0")}, Hostname: proto.String("127.0.0.1"),
			Resources: []*mesos.Resource{scalarResource("cpus", cpus), scalarResource("mem", mem)}, Url: w.url(),
		}}},
	}
}

// url is the agent's.
func (w *wire) url() *mesos.URL {
	host, port, _ := net.SplitHostPort(w.address())
	number, _ := strconv.Atoi(port)
	return &mesos.URL{Scheme: proto.String("http"), Address: &mesos.Address{Hostname: &host, Port: proto.Int32(int32(number))}}
}

// refuse has no framework subscribe any more.
func (w *wire) refuse(why string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = why
}

// reconciled answers as a master that does not have to hear that it was heard.
func (w *wire) reconciled(task string, state mesos.TaskState) {
	w.events <- &schedulerpb.Event{Type: schedulerpb.Event_UPDATE.Enum(), Update: &schedulerpb.Event_Update{Status: &mesos.TaskStatus{
		TaskId: &mesos.TaskID{Value: &task}, AgentId: &mesos.AgentID{Value: proto.String("S0")}, State: &state,
		Reason: mesos.TaskStatus_REASON_RECONCILIATION.Enum(), Source: mesos.TaskStatus_SOURCE_MASTER.Enum(),
	}}}
}

func (w *wire) update(task string, status *mesos.TaskStatus) {
	status.TaskId = &mesos.TaskID{Value: &task}
	status.AgentId = &mesos.AgentID{Value: proto.String("S0")}
	status.Uuid = []byte("0123456789abcdef")
	w.events <- &schedulerpb.Event{
		Type: schedulerpb.Event_UPDATE.Enum(), Update: &schedulerpb.Event_Update{Status: status},
	}
}

// said returns how often a call was made.
func (w *wire) said(what schedulerpb.Call_Type) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, c := range w.calls {
		if c.GetType() == what {
			n++
		}
	}
	return n
}

func answer(t *testing.T, out http.ResponseWriter, m proto.Message) {
	body, err := proto.Marshal(m)
	if err != nil {
		t.Error(err)
	}
	out.Header().Set("Content-Type", "application/x-protobuf")
	out.Write(body)
}

// gantry runs one command line against the wire.
func gantry(ctx context.Context, w *wire, args ...string) (status int, stdout, stderr string) {
	var out, errOut bytes.Buffer
	if w != nil {
		args = append([]string{"--master", w.address()}, args...)
	}
	status = run(ctx, args, Daemons{}, &out, &errOut)
	return status, out.String(), errOut.String()
}
