package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/gantry-project/gantry/kernel/link"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Whatever is sent to a cluster, it answers with the status and the sentence that clients know, and goes on with its
// accounts in order.
func TestBadInput(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	daemons := []int{c.daemon(t, "master").PID, c.daemon(t, "agent").PID}
	await(t, soon, "agent and plugins that run", c.describe, func() bool {
		starting := slices.ContainsFunc(c.plugins(t), func(p plugin) bool { return p.State != "running" })
		return !starting && len(c.state(t).GetAgents.Agents) == 1
	})

	t.Run("requests that are no calls", c.noCalls)
	t.Run("a body that ends early", c.earlyEnd)
	t.Run("operator calls", c.operatorCalls)
	t.Run("strangers", c.strangers)
	t.Run("only loopback listens", c.onlyLoopback)
	t.Run("an agent without the token", c.badToken)
	t.Run("an agent that makes no sense", c.badAgent)
	t.Run("Marathon", c.badApps)
	t.Run("a locked app", c.lockedApp)
	for _, f := range forms {
		for name, part := range map[string]func(*testing.T, *cluster, form){
			"subscriptions": badSubscriptions,
			"calls":         badCalls,
			"tasks":         badTasks,
			"task ids":      usedTaskIDs,
			"offers":        badOffers,
			"operations":    badOperations,
			"many at once":  manyAtOnce,
		} {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				part(t, c, f)
				c.checkNothingHeld(t)
			})
		}
	}

	if now := []int{c.daemon(t, "master").PID, c.daemon(t, "agent").PID}; !slices.Equal(now, daemons) {
		t.Errorf("master and agent are processes %v, and were %v\n%s", now, daemons, c.describe())
	}
	for _, plugin := range c.plugins(t) {
		if plugin.State != "running" || plugin.Restarts != 0 {
			t.Errorf("a plugin did not bear it: %+v", plugin)
		}
	}
	c.end()
	c.checkNothingLeft()
}

const (
	asJSON        = "Content-Type: application/json"
	asProtobuf    = "Content-Type: application/x-protobuf"
	schedulerPath = "/api/v1/scheduler"
)

// refusal is a request and its answer.
type refusal struct {
	name    string
	request request
	status  int
	text    string // its beginning; "=" before it: all of it
}

func (r refusal) check(t *testing.T, address string) {
	t.Helper()
	a := r.request.send(t, address)
	whole, exact := strings.CutPrefix(r.text, "=")
	if a.status != r.status || exact && a.text != whole || !strings.HasPrefix(a.text, whole) {
		t.Errorf("%s: %d %.300q, want %d %q", r.name, a.status, a.text, r.status, r.text)
	}
}

func (c *cluster) noCalls(t *testing.T) {
	post := func(body string, header ...string) request { return request{"POST", schedulerPath, header, body} }
	jsonCall := func(body string, header ...string) request { return post(body, append(header, asJSON)...) }
	const (
		subscribe  = `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"bad"}}}`
		revive     = `{"type":"REVIVE","framework_id":{"value":"nobody"}}`
		noJSON     = "Failed to parse body into JSON: "
		otherJSON  = "Failed to convert JSON into Call protobuf: "
		noProtobuf = "=Failed to parse body into Call protobuf"
		invalid    = "=Failed to validate scheduler::Call: "
		noType     = "=Expecting 'Content-Type' of application/json or application/x-protobuf"
		tooLarge   = "=The body is larger than 8388608 bytes: send less at a time."
		noAccept   = "=Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'"
	)
	reviving := string(forms[1].encode(t, revive))
	for _, r := range []refusal{
		{"GET", request{"GET", schedulerPath, nil, ""}, 405, "=405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."},
		{"no content type", post(revive), 400, "=Expecting 'Content-Type' to be present"},
		{"text", post(revive, "Content-Type: text/plain"), 415, noType},
		{"a form", post("type=REVIVE", "Content-Type: application/x-www-form-urlencoded"), 415, noType},
		{"RecordIO", post("2\n{}", "Content-Type: application/recordio"), 415, noType},
		{"a content type with a parameter", post(revive, asJSON+"; charset=utf-8"), 415, noType},

		{"nothing, as JSON", jsonCall(""), 400, noJSON},
		{"an open object", jsonCall("{"), 400, noJSON},
		{"half a call", jsonCall(revive[:len(revive)-1]), 400, noJSON},
		{"more than a call", jsonCall(revive + "x"), 400, noJSON},
		{"a word", jsonCall("REVIVE"), 400, noJSON},
		{"no UTF-8", jsonCall(`{"type":"` + "\xff\"}"), 400, "Failed to "},
		{"protobuf, as JSON", jsonCall(reviving), 400, noJSON},
		{"JSON 100,000 deep", jsonCall(strings.Repeat(`{"subscribe":`, 100_000)), 400, noJSON},
		{"JSON 100,000 deep and whole", jsonCall(`{"x":` + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000) + "}"), 400, noJSON},
		{"JSON 201 deep and whole", jsonCall(`{"x":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}"), 400, "Failed to "},
		{"a list", jsonCall("[]"), 400, otherJSON},
		{"a number for an object", jsonCall(`{"framework_id":7}`), 400, otherJSON},
		{"no base64", jsonCall(`{"type":"ACKNOWLEDGE","acknowledge":{"uuid":"?"}}`), 400, otherJSON},
		{"no required fields", jsonCall(`{"type":"KILL","framework_id":{"value":"F"},"kill":{"task_id":{}}}`), 400, otherJSON + "Missing required fields: "},

		{"JSON, as protobuf", post(revive, asProtobuf), 400, noProtobuf},
		{"half a call, as protobuf", post(reviving[:len(reviving)-1], asProtobuf), 400, noProtobuf},
		{"protobuf 100,000 deep", post(strings.Repeat("\x0b", 100_000), asProtobuf), 400, noProtobuf},
		{"no required fields, as protobuf", post(string(forms[1].encode(t, `{"type":"KILL","framework_id":{"value":"F"},"kill":{"task_id":{}}}`)), asProtobuf), 400, noProtobuf},

		{"9 MiB of JSON", jsonCall(`{"x":"` + strings.Repeat("x", 9<<20) + `"}`), 413, tooLarge},
		{"9 MiB of protobuf", post(strings.Repeat("\x00", 9<<20), asProtobuf), 413, tooLarge},
		{"a long address", request{"POST", schedulerPath + "?" + strings.Repeat("x", 9<<10), []string{asJSON}, revive}, 414, "The address of this request is longer than "},

		{"no type", jsonCall(`{}`), 400, invalid + "Expecting 'type' to be present"},
		{"nothing, as protobuf", post("", asProtobuf), 400, invalid + "Expecting 'type' to be present"},
		{"a type that nobody knows", jsonCall(`{"type":"NONSENSE","framework_id":{"value":"F"}}`), 400, invalid + "Expecting 'type' to be present"},
		{"a type that nobody knows, as protobuf", post("\x10\x63", asProtobuf), 400, "Failed to validate scheduler::Call: "},
		{"no framework", jsonCall(`{"type":"REVIVE"}`), 400, invalid + "Expecting 'framework_id' to be present"},
		{"no part", jsonCall(`{"type":"ACCEPT","framework_id":{"value":"F"},"decline":{}}`), 400, invalid + "Expecting 'accept' to be present"},
		{"no framework to subscribe", jsonCall(`{"type":"SUBSCRIBE"}`), 400, invalid + "Expecting 'subscribe' to be present"},
		{"two frameworks to subscribe", jsonCall(`{"type":"SUBSCRIBE","framework_id":{"value":"F"},"subscribe":{"framework_info":{"user":"root","name":"bad","id":{"value":"G"}}}}`),
			400, invalid + "'framework_id' differs from 'subscribe.framework_info.id'"},
		{"a short UUID", jsonCall(`{"type":"ACKNOWLEDGE","framework_id":{"value":"F"},"acknowledge":{"agent_id":{"value":"A"},"task_id":{"value":"T"},"uuid":"AAAA"}}`),
			400, invalid + "Not a valid UUID"},
		{"no role", jsonCall(`{"type":"REVIVE","framework_id":{"value":"F"},"revive":{"roles":["a//b"]}}`), 400, "Failed to validate scheduler::Call: Role 'a//b' "},

		{"nothing acceptable", jsonCall(subscribe, "Accept: text/html"), 406, noAccept},
		{"a stream to subscribe on", jsonCall(subscribe, "Mesos-Stream-Id: x"), 400, "=Subscribe calls should not include the 'Mesos-Stream-Id' header"},
		{"an unknown framework", jsonCall(revive, "Mesos-Stream-Id: x"), 400, "=Framework cannot be found"},
		{"an unknown framework without a stream", jsonCall(revive), 400, "=Framework cannot be found"},
		{"an unknown framework, as protobuf", post(reviving, asProtobuf), 400, "=Framework cannot be found"},
	} {
		r.check(t, c.at.Master)
	}
}

// earlyEnd sends less than it announces.
func (c *cluster) earlyEnd(t *testing.T) {
	conn, err := net.Dial("tcp", c.at.Master)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Length: 1000\r\n\r\n{", schedulerPath, c.at.Master, asJSON)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") || !strings.Contains(string(answer), "Failed to read the body: unexpected EOF") {
		t.Errorf("%v, %q", err, answer)
	}
}

func (c *cluster) operatorCalls(t *testing.T) {
	post := func(path, body string) request { return request{"POST", path, []string{asJSON}, body} }
	for _, r := range []refusal{
		{"GET", request{"GET", "/api/v1", nil, ""}, 405, "=405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'."},
		{"half a call", post("/api/v1", `{"type":`), 400, "Failed to parse body into JSON: "},
		{"no type", post("/api/v1", `{}`), 400, "=Failed to validate master::Call: Expecting 'type' to be present"},
		{"an unknown type", post("/api/v1", `{"type":"UNKNOWN"}`), 501, ""},
		{"9 MiB", post("/api/v1", strings.Repeat(" ", 9<<20)), 413, "=The body is larger than 8388608 bytes: send less at a time."},
		{"a task that nobody has", post("/gantry/v1/tasks/kill", `{"framework_id":"F","task_id":"t"}`), 404, "=No task t of framework F is running"},
		{"a task without its framework", post("/gantry/v1/tasks/kill", `{"task_id":"t"}`), 400, "Name the task: "},
		{"another place", post("/nowhere", `{}`), 404, `There is nothing at "/nowhere".`},
	} {
		r.check(t, c.at.Master)
	}
	read := func(path string) string {
		return fmt.Sprintf(`{"type":"READ_FILE","read_file":{"path":%q,"offset":0}}`, path)
	}
	for _, r := range []refusal{
		{"half a call", post("/api/v1", `{"type":`), 400, "Failed to parse body into JSON: "},
		{"no file", post("/api/v1", `{"type":"READ_FILE"}`), 400, "=Failed to validate agent::Call: Expecting 'read_file' to be present"},
		{"a file of the host", post("/api/v1", read("/etc/passwd")), 404, ""},
		{"a file above", post("/api/v1", read("/frameworks/../../../../etc/passwd")), 400, ""},
		{"a file above, in the query", request{"GET", "/files/read?path=/../../../etc/passwd", nil, ""}, 400, ""},
	} {
		r.check(t, c.at.Agents[0])
	}
}

// A web page can make a browser send requests to this machine, but not with another Host or Origin than its own.
func (c *cluster) strangers(t *testing.T) {
	const (
		host   = `The host "evil.example`
		origin = "=This request comes from a web page of another origin, and only the origin itself may send it."
	)
	for _, at := range []struct{ address, get, post, body string }{
		{c.at.Master, "/health", schedulerPath, `{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"bad"}}}`},
		{c.at.Master, "/version", "/gantry/v1/tasks/kill", `{}`},
		{c.at.Agents[0], "/health", "/api/v1", `{"type":"GET_HEALTH"}`},
		{c.at.Marathon, "/v2/apps", "/v2/apps", `{"id":"evil","cmd":"sleep 1000"}`},
		{c.at.Chronos, "/v1/scheduler/jobs", "/v1/scheduler/iso8601", `{"name":"evil","command":"sleep 1000"}`},
	} {
		for _, r := range []refusal{
			{"Host", request{"GET", at.get, []string{"Host: evil.example"}, ""}, 403, host},
			{"Host with the right port", request{"POST", at.post, []string{asJSON, "Host: evil.example:" + at.address[strings.LastIndex(at.address, ":")+1:]}, at.body}, 403, host},
			{"Origin", request{"POST", at.post, []string{asJSON, "Origin: http://evil.example"}, at.body}, 403, origin},
			{"Origin of another port", request{"POST", at.post, []string{asJSON, "Origin: http://127.0.0.1:1"}, at.body}, 403, origin},
			{"Origin of a file", request{"POST", at.post, []string{asJSON, "Origin: null"}, at.body}, 403, origin},
			{"Sec-Fetch-Site", request{"POST", at.post, []string{asJSON, "Sec-Fetch-Site: cross-site"}, at.body}, 403, origin},
		} {
			r.name = at.address + at.post + ": " + r.name
			r.check(t, at.address)
		}
		for _, header := range []string{"Host: localhost:1", "Host: [::1]", "Origin: http://evil.example"} { // reading is safe
			if a := (request{"GET", at.get, []string{header}, ""}).send(t, at.address); a.status != 200 {
				t.Errorf("%s: %d %s", header, a.status, a.text)
			}
		}
	}
}

// onlyLoopback looks at the sockets of all processes of the cluster, and at what a listener beyond is told.
func (c *cluster) onlyLoopback(t *testing.T) {
	own := map[string]bool{}
	for _, pid := range c.processes() {
		links, _ := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "fd", "*")) // the pattern is good
		for _, name := range links {
			socket, _ := os.Readlink(name) // an error says that it was just closed
			own[socket] = true
		}
	}
	listening := 0
	for table, loopback := range map[string]string{"tcp": "0100007F:", "tcp6": "00000000000000000000000001000000:"} {
		text, err := os.ReadFile("/proc/net/" + table)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			const address, state, inode, listens = 1, 3, 9, "0A"
			row := strings.Fields(line)
			if row[state] != listens || !own["socket:["+row[inode]+"]"] {
				continue
			}
			listening++
			if !strings.HasPrefix(row[address], loopback) {
				t.Errorf("a process of the cluster listens beyond loopback: %s", line)
			}
		}
	}
	if listening != 5 { // master, link, agent, Marathon, Chronos
		t.Errorf("%d sockets listen, want 5", listening)
	}
	for _, args := range [][]string{
		{"up", "--work-dir", t.TempDir(), "--listen", "0.0.0.0:0"},
		{"master", "--work-dir", t.TempDir(), "--listen", "0.0.0.0:0"},
		{"master", "--work-dir", t.TempDir(), "--listen", "127.0.0.1:0", "--link-listen", "[::]:0"},
		{"agent", "--work-dir", t.TempDir(), "--listen", "0.0.0.0:0", "--master", c.at.Master},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		out, err := exec.CommandContext(ctx, filepath.Join(bin, "gantry"), args...).CombinedOutput()
		cancel()
		if err == nil || !strings.Contains(string(out), "other machines") {
			t.Errorf("gantry %s: %v, %s", strings.Join(args, " "), err, out)
		}
	}
}

func (c *cluster) badToken(t *testing.T) {
	path := filepath.Join(c.workDir, "agent.token")
	token, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v, %v", info.Mode(), err)
	}
	for _, wrong := range []string{"", strings.Repeat("0", 64), string(token[:63]), strings.ToUpper(string(token[:64]))} {
		if _, err := c.dial(t, wrong); !errors.Is(err, link.ErrDenied) {
			t.Errorf("token %q: %v", wrong, err)
		}
	}
}

func (c *cluster) dial(t *testing.T, token string) (*link.Conn, error) {
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	return link.Dial(ctx, link.DialConfig{Masters: []string{c.at.Master}, Token: token})
}

// badAgent has the token, and says nonsense.
func (c *cluster) badAgent(t *testing.T) {
	token, err := os.ReadFile(filepath.Join(c.workDir, "agent.token"))
	if err != nil {
		t.Fatal(err)
	}
	resources := func(amount float64) []*mesos.Resource {
		return []*mesos.Resource{{Name: new("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &amount}}}
	}
	hello := func(h *linkpb.Hello) *linkpb.ToMaster {
		return &linkpb.ToMaster{Body: &linkpb.ToMaster_Hello{Hello: h}}
	}
	held := &linkpb.HeldTask{Info: &mesos.TaskInfo{Name: new("t"), TaskId: &mesos.TaskID{Value: new("t")},
		AgentId: &mesos.AgentID{Value: new("x")}, Resources: resources(4)},
		FrameworkId: &mesos.FrameworkID{Value: new("F")},
		Status:      &mesos.TaskStatus{TaskId: &mesos.TaskID{Value: new("t")}, State: mesos.TaskState_TASK_RUNNING.Enum()}}
	for name, message := range map[string]*linkpb.ToMaster{
		"nothing":                    {},
		"no hello":                   {Body: &linkpb.ToMaster_Update{Update: &linkpb.Update{}}},
		"an empty hello":             hello(&linkpb.Hello{}),
		"resources that are none":    hello(&linkpb.Hello{Info: &mesos.AgentInfo{Hostname: new("bad"), Resources: resources(-1)}}),
		"an id that is none":         hello(&linkpb.Hello{Info: &mesos.AgentInfo{Hostname: new("bad"), Id: &mesos.AgentID{Value: new("../x")}}}),
		"a task beyond its means":    hello(&linkpb.Hello{Info: &mesos.AgentInfo{Hostname: new("bad"), Resources: resources(2)}, Tasks: []*linkpb.HeldTask{held}}),
		"a master of another future": hello(&linkpb.Hello{Info: &mesos.AgentInfo{Hostname: new("bad")}, Epoch: 1 << 60}),
	} {
		conn, err := c.dial(t, strings.TrimSpace(string(token)))
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.Send(message); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for err == nil { // until the master has had enough
			var answer *linkpb.ToAgent
			if answer, err = conn.Recv(); answer.GetWelcome() != nil {
				t.Errorf("%s: welcome", name)
				err = errors.New("welcome")
			}
		}
		conn.Close()
	}
	if agents := c.state(t).GetAgents.Agents; len(agents) != 1 {
		t.Errorf("there are agents that nobody should know: %v", agents)
	}
}

func (c *cluster) badApps(t *testing.T) {
	post := func(body string) request { return request{"POST", "/v2/apps", []string{asJSON}, body} }
	get := func(path string) request { return request{"GET", path, nil, ""} }
	shape := func(path, text string) string {
		return fmt.Sprintf(`={"message":"Invalid JSON","details":[{"path":%q,"errors":[%q]}]}`, path, text)
	}
	invalid := func(path string) string {
		return fmt.Sprintf(`{"message":"Object is not valid","details":[{"path":%q,"errors":["`, path)
	}
	good := post(`{"id":"/group/app","cmd":"sleep 1000","instances":0}`)
	if a := good.send(t, c.at.Marathon); a.status != 201 {
		t.Fatalf("a good app: %d %s", a.status, a.text)
	}
	for _, r := range []refusal{
		{"half a definition", post(`{"id":`), 400, `{"message":"Invalid JSON","details":"`},
		{"nothing", post(``), 400, `{"message":"Invalid JSON","details":"`},
		{"deep JSON", post(strings.Repeat("[", 100_000)), 400, `{"message":"Invalid JSON","details":"`},
		{"a list", post(`[]`), 422, shape("", "error.expected.jsobject")},
		{"a number as id", post(`{"id":7,"cmd":"sleep 1"}`), 422, shape("/id", "error.expected.jsstring")},
		{"no id", post(`{"cmd":"sleep 1"}`), 422, shape("/id", "error.path.missing")},
		{"a word as number", post(`{"id":"bad","cmd":"sleep 1","cpus":"many"}`), 422, shape("/cpus", "error.expected.jsnumber")},
		{"a bad id", post(`{"id":"Bad_Id","cmd":"sleep 1"}`), 422, invalid("/id") + "must fully match regular expression "},
		{"a reserved id", post(`{"id":"/app/tasks","cmd":"sleep 1"}`), 422, invalid("/id")},
		{"the root", post(`{"id":"/","cmd":"sleep 1"}`), 422, invalid("/id")},
		{"fewer than no instances", post(`{"id":"bad","cmd":"sleep 1","instances":-1}`), 422, invalid("/instances")},
		{"too many instances", post(`{"id":"bad","cmd":"sleep 1","instances":1e9}`), 422, invalid("/instances")},
		{"no cpus", post(`{"id":"bad","cmd":"sleep 1","cpus":-0.5}`), 422, invalid("/cpus")},
		{"no command", post(`{"id":"bad"}`), 422, invalid("/")},
		{"too much capacity", post(`{"id":"bad","cmd":"sleep 1","upgradeStrategy":{"minimumHealthCapacity":2}}`), 422,
			`={"message":"Object is not valid","details":[{"path":"/upgradeStrategy/minimumHealthCapacity","errors":["is greater than 1"]}]}`},
		{"2 MiB", post(`{"id":"` + strings.Repeat("x", 2<<20) + `"}`), 413, ""},
		{"9 MiB", post(`{"id":"` + strings.Repeat("x", 9<<20) + `"}`), 413, ""},
		{"the same id", good, 409, `={"message":"An app with id [/group/app] already exists."}`},
		{"an unknown app", get("/v2/apps/nobody"), 404, `={"message":"App '/nobody' does not exist"}`},
		{"tasks of an unknown app", get("/v2/apps/nobody/tasks"), 404, `={"message":"App '/nobody' does not exist"}`},
		{"an unknown app to change", request{"PATCH", "/v2/apps/nobody", []string{asJSON}, `{"instances":1}`}, 404, `={"message":"App '/nobody' does not exist"}`},
		{"an unknown app to remove", request{"DELETE", "/v2/apps/nobody", nil, ""}, 404, `={"message":"App '/nobody' does not exist"}`},
		{"an unknown task", request{"DELETE", "/v2/apps/group/app/tasks/nothing", nil, ""}, 404, `={"message":"Task 'nothing' does not exist"}`},
		{"an unknown version", get("/v2/apps/group/app/versions/2001-01-01T00:00:00.000Z"), 404, `={"message":"App '/group/app' does not exist in version 2001-01-01T00:00:00.000Z"}`},
		{"a bad change", request{"PUT", "/v2/apps/group/app", []string{asJSON}, `{"instances":-1}`}, 422, invalid("/instances")},
		{"a bad selector", get("/v2/apps?label=%3D%3D"), 422, `{"message":"`},
		{"another place", get("/v2/nowhere"), 500, `={"message":"URI not found"}`},
	} {
		r.check(t, c.at.Marathon)
	}
	for _, path := range []string{"/v2/apps//group/app", "/v2/apps/group//app", "/v2/apps/%2Fgroup%2Fapp", "/v2/apps/%2fgroup/app", "//v2//apps/group/app/"} {
		var shown struct{ App struct{ ID string } }
		a := get(path).send(t, c.at.Marathon)
		if err := json.Unmarshal([]byte(a.text), &shown); err != nil || a.status != 200 || shown.App.ID != "/group/app" {
			t.Errorf("GET %s: %d %s", path, a.status, a.text)
		}
	}
	remove := request{"DELETE", "/v2/apps/%2Fgroup//app", nil, ""}
	if a := remove.send(t, c.at.Marathon); a.status != 200 {
		t.Errorf("%d %s", a.status, a.text)
	}
	if a := get("/v2/apps").send(t, c.at.Marathon); a.text != `{"apps":[]}` {
		t.Errorf("something is left of bad apps: %s", a.text)
	}
}

// lockedApp deploys what can't be.
func (c *cluster) lockedApp(t *testing.T) {
	create := request{"POST", "/v2/apps", []string{asJSON}, `{"id":"/large","cmd":"sleep 1000","cpus":100000}`}
	a := create.send(t, c.at.Marathon)
	var app struct{ Deployments []struct{ ID string } }
	if err := json.Unmarshal([]byte(a.text), &app); err != nil || a.status != 201 || len(app.Deployments) != 1 {
		t.Fatalf("%v: %d %s", err, a.status, a.text)
	}
	refusal{"a second deployment", request{"PUT", "/v2/apps/large", []string{asJSON}, `{"instances":2}`}, 409,
		`={"message":"App is locked by one or more deployments. Override with the option '?force=true'. View details at '/v2/deployments/<DEPLOYMENT_ID>'.",` +
			`"deployments":[{"id":"` + app.Deployments[0].ID + `"}]}`}.check(t, c.at.Marathon)
	remove := request{"DELETE", "/v2/apps/large", nil, ""}
	if a := remove.send(t, c.at.Marathon); a.status != 200 {
		t.Errorf("%d %s", a.status, a.text)
	}
	c.checkNothingHeld(t)
}

// marathonID is the id of the framework that is a plugin.
func (c *cluster) marathonID(t *testing.T) string {
	t.Helper()
	var info struct{ FrameworkID string }
	if err := json.Unmarshal([]byte(request{"GET", "/v2/info", nil, ""}.send(t, c.at.Marathon).text), &info); err != nil || info.FrameworkID == "" {
		t.Fatalf("%v, %+v", err, info)
	}
	return info.FrameworkID
}

// What is wrong with a subscription is said on its stream, which then ends.
func badSubscriptions(t *testing.T, c *cluster, f form) {
	for _, bad := range []struct{ id, fields, want string }{
		{"", `"roles":["a"]`, "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable"},
		{"", `"role":"a","capabilities":[{"type":"MULTI_ROLE"}]`, "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"},
		{"", `"roles":["a","a"],"capabilities":[{"type":"MULTI_ROLE"}]`, "'FrameworkInfo.roles' contains duplicate items: { a }"},
		{"", `"role":"/a"`, "'FrameworkInfo.role' is not a valid role: Role '/a' cannot start with a slash"},
		{"", `"failover_timeout":1e300`, "The framework failover_timeout (1e+300) is invalid"},
		{"", `"failover_timeout":"Infinity"`, "The framework failover_timeout (+Inf) is invalid"},
		{"a/b", "", "'a/b' contains invalid characters"},
		{"..", "", "'..' is disallowed"},
		{strings.Repeat("x", 256), "", "ID must not be greater than 255 characters"},
		{c.marathonID(t), "", "Framework " + c.marathonID(t) + " belongs to the plugin 'marathon': subscribe without its id"},
	} {
		if e := c.open(t, f, bad.id, bad.fields).last(); e.Type != "ERROR" || e.Error.Message != bad.want {
			t.Errorf("%+v: the stream ends with %s %s", bad, e.Type, e.Error.Message)
		}
	}
	s := c.subscribe(t, f, `"principal":"one"`)
	const message = "Changing framework's principal is not allowed."
	if e := c.open(t, f, s.id, `"principal":"two"`).last(); e.Type != "ERROR" || e.Error.Message != message {
		t.Errorf("another principal's subscription ends with %+v", e)
	}
	s.barrier() // it is still subscribed
	s.teardown()
}

func badCalls(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "")
	impostor := *s
	for stream, want := range map[string]string{
		"":          "All non-subscribe calls should include the 'Mesos-Stream-Id' header",
		"elsewhere": "The stream ID 'elsewhere' included in this request didn't match the stream ID currently associated with framework ID " + s.id,
	} {
		impostor.stream = stream
		if status, text := impostor.try("TEARDOWN", ""); status != 400 || text != want {
			t.Errorf("a call on stream %q: %d %s", stream, status, text)
		}
	}
	impostor.id = c.marathonID(t)
	if status, text := impostor.try("TEARDOWN", ""); status != 403 || text != "Framework is not connected via HTTP" {
		t.Errorf("a call for a plugin: %d %s", status, text)
	}
	other := c.subscribe(t, f, "")
	impostor.id, impostor.stream = other.id, s.stream
	if status, text := impostor.try("TEARDOWN", ""); status != 400 || !strings.HasPrefix(text, "The stream ID '"+s.stream+"' included") {
		t.Errorf("a call for another framework: %d %s", status, text)
	}
	other.barrier()
	other.teardown()

	for kind, part := range map[string]string{
		"UNKNOWN":                "",
		"ACCEPT_INVERSE_OFFERS":  `"accept_inverse_offers":{}`,
		"DECLINE_INVERSE_OFFERS": `"decline_inverse_offers":{}`,
		"RECONCILE_OPERATIONS":   `"reconcile_operations":{}`,
	} {
		if status, text := s.try(kind, part); status != 501 || !strings.Contains(text, kind) {
			t.Errorf("%s: %d %s", kind, status, text)
		}
	}
	// These are wrong in what they speak of, which no answer tells: it may have been right when they were sent.
	s.call("REQUEST", `"request":{}`)
	s.call("DECLINE", `"decline":{"offer_ids":[{"value":"nonsense"}]}`)
	s.call("REVIVE", `"revive":{"roles":["another"]}`)
	s.call("ACKNOWLEDGE", `"acknowledge":{"agent_id":{"value":"nonsense"},"task_id":{"value":"nonsense"},"uuid":"AAAAAAAAAAAAAAAAAAAAAA=="}`)
	s.call("KILL", `"kill":{"task_id":{"value":""}}`)
	s.call("RECONCILE", `"reconcile":{"tasks":[{"task_id":{"value":""}},{"task_id":{"value":"a/b"},"agent_id":{"value":".."}}]}`)

	o := s.offer()
	s.launch(o, task("t", o, "exec sleep 1000"))
	s.want("t", "TASK_STARTING")
	s.call("ACKNOWLEDGE", fmt.Sprintf(`"acknowledge":{"agent_id":{"value":%q},"task_id":{"value":"t"},"uuid":"AAAAAAAAAAAAAAAAAAAAAA=="}`, o.AgentID.Value))
	s.call("RECONCILE", `"reconcile":{}`)
	if status := s.reconciled("t"); status.State != "TASK_STARTING" {
		t.Errorf("after an acknowledgement of something else the task is %+v", status)
	}
	s.teardown()
}

func badTasks(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "")
	const (
		some = `"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1}}]`
		run  = `"command":{"value":"exec sleep 1000"}`
	)
	cpus := func(amount string) string { return run + `,"resources":[` + scalar("cpus", amount) + `]` }
	for _, bad := range []struct{ id, fields, want string }{
		{"", run + "," + some, "=ID must not be empty"},
		{"a/b", run + "," + some, "='a/b' contains invalid characters"},
		{`a\b`, run + "," + some, `='a\b' contains invalid characters`},
		{"a\nb", run + "," + some, "='a\nb' contains invalid characters"},
		{"..", run + "," + some, "='..' is disallowed"},
		{strings.Repeat("x", 256), run + "," + some, "=ID must not be greater than 255 characters"},
		{"t", cpus("1000000"), "Total resources "},
		{"t", run + `,"resources":[` + scalar("gold", "1") + `]`, "Total resources "},
		{"t", run + `,"resources":[{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":1,"end":2}]}}]`, "Total resources "},
		{"t", run + `,"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":0.1},"role":"another"}]`, "Total resources "},
		{"t", cpus("-0.1"), "Task uses invalid resources: "},
		{"t", cpus("1e300"), "Task uses invalid resources: "},
		{"t", cpus(`"Infinity"`), "Task uses invalid resources: "},
		{"t", run + `,"resources":[{"name":"cpus","type":"SCALAR"}]`, "Task uses invalid resources: "},
		{"t", run + `,"resources":[{"name":"cpus","type":"RANGES","ranges":{"range":[{"begin":2,"end":1}]}}]`, "Task uses invalid resources: "},
		{"t", cpus("0"), "=Task uses no resources"},
		{"t", run, "=Task uses no resources"},
		{"t", some, "=Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"},
		{"t", run + "," + some + `,"executor":{"executor_id":{"value":"e"},"command":{"value":"true"}}`, "=Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"},
		{"t", run + "," + some + `,"kill_policy":{"grace_period":{"nanoseconds":-1}}`, "=Task's 'kill_policy.grace_period' must be non-negative"},
		{"t", `"command":{"value":"a\u0000b"},` + some, "Task's `CommandInfo` is invalid: "},
	} {
		o := s.offer()
		s.launch(o, fmt.Sprintf(`{"name":"bad","task_id":{"value":%s},"agent_id":{"value":%q},%s}`, quote(bad.id), o.AgentID.Value, bad.fields))
		s.checkRefused(bad.id, "TASK_ERROR", "REASON_TASK_INVALID", bad.want)
	}
	o := s.offer()
	s.launch(o, fmt.Sprintf(`{"name":"bad","task_id":{"value":"t"},"agent_id":{"value":"elsewhere"},%s,%s}`, run, some))
	s.checkRefused("t", "TASK_ERROR", "REASON_TASK_INVALID", "=Task uses invalid agent elsewhere while agent "+o.AgentID.Value+" is expected")

	o = s.offer()
	notANumber := launching(o, fmt.Sprintf(`{"name":"bad","task_id":{"value":"t"},"agent_id":{"value":%q},%s}`, o.AgentID.Value, cpus(`"NaN"`)))
	if f.name == "JSON" {
		if status, text := s.try("ACCEPT", notANumber); status != 400 || !strings.HasPrefix(text, "Failed to convert JSON into Call protobuf: ") {
			t.Errorf("NaN: %d %s", status, text)
		}
	} else {
		s.call("ACCEPT", notANumber)
		s.checkRefused("t", "TASK_ERROR", "REASON_TASK_INVALID", "Task uses invalid resources: ")
		o = s.offer()
	}

	// Of several tasks each is judged by itself: two fit, what is between them does not.
	all := fmt.Sprintf(`{"name":"bad","task_id":{"value":"all"},"agent_id":{"value":%q},%s}`, o.AgentID.Value, cpus(strconv.FormatFloat(float64(o.milli("cpus"))/1000, 'f', -1, 64)))
	s.launch(o, task("one", o, "true"), all, task("two", o, "true"))
	s.checkRefused("all", "TASK_ERROR", "REASON_TASK_INVALID", "Total resources ")
	s.follow("one", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED")
	s.follow("two", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED")
	s.teardown()
}

// quote writes a JSON string.
func quote(text string) string {
	quoted, _ := json.Marshal(text) // strings always can be
	return string(quoted)
}

// checkRefused wants the master's own word about a task; message is its beginning, or all of it after a "=".
func (s *scheduler) checkRefused(id, state, reason, message string) {
	s.t.Helper()
	got := s.update(id)
	whole, exact := strings.CutPrefix(message, "=")
	if got.State != state || got.Reason != reason || got.Source != "SOURCE_MASTER" || got.UUID != "" ||
		exact && got.Message != whole || !strings.HasPrefix(got.Message, whole) {
		s.t.Errorf("task %q: %+v, want %s %s %q", id, got, state, reason, message)
	}
}

func usedTaskIDs(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "")
	o := s.offer()
	const message = "=Task has duplicate ID: t"
	s.launch(o, task("t", o, "exec sleep 1000"), task("t", o, "exec sleep 2000"))
	s.checkRefused("t", "TASK_ERROR", "REASON_TASK_INVALID", message)
	pid := s.follow("t", "TASK_STARTING", "TASK_RUNNING").pid()
	o = s.offer()
	s.launch(o, task("t", o, "exec sleep 3000"))
	s.checkRefused("t", "TASK_ERROR", "REASON_TASK_INVALID", message)
	s.call("RECONCILE", `"reconcile":{}`)
	if status := s.reconciled("t"); status.State != "TASK_RUNNING" || status.pid() != pid || !alive(pid) {
		t.Errorf("the task whose id was used again is %+v", status)
	}

	// Ids are each framework's own.
	o = s.offer()
	s.decline(o, "3600")
	other := c.subscribe(t, f, "")
	o = other.offer()
	other.launch(o, task("t", o, "true"))
	other.follow("t", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED")
	other.call("KILL", `"kill":{"task_id":{"value":"t"}}`)
	other.reconciled("t")
	other.teardown()
	if !alive(pid) {
		t.Error("a framework killed another one's task of the same id")
	}

	// Once a task has ended and that is acknowledged, its id is free.
	s.call("KILL", `"kill":{"task_id":{"value":"t"}}`)
	s.follow("t", "TASK_KILLED")
	s.call("REVIVE", "")
	o = s.offer()
	s.launch(o, task("t", o, "true"))
	s.follow("t", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED")
	s.teardown()
}

func badOffers(t *testing.T, c *cluster, f form) {
	for fields, lost := range map[string]string{"": "TASK_LOST", `"capabilities":[{"type":"PARTITION_AWARE"}]`: "TASK_DROPPED"} {
		s := c.subscribe(t, f, fields)
		refused := func(id, why string) {
			t.Helper()
			s.checkRefused(id, lost, "REASON_INVALID_OFFERS", "=Task launched with invalid offers: "+why)
		}
		used := s.offer()
		s.launch(used, task("good", used, "exec sleep 1000"))
		s.launch(used, task("late", used, "true"), task("later", used, "true"))
		refused("late", "Offer "+used.ID.Value+" is no longer valid")
		refused("later", "Offer "+used.ID.Value+" is no longer valid")
		s.follow("good", "TASK_STARTING", "TASK_RUNNING")

		twice := s.offer()
		s.call("ACCEPT", strings.Replace(launching(twice, task("twice", twice, "true")), `"offer_ids":[`, fmt.Sprintf(`"offer_ids":[{"value":%q},`, twice.ID.Value), 1))
		refused("twice", "Duplicate offer "+twice.ID.Value+" in offer list")
		valid := s.offer() // the offer is spent, and what it held comes anew
		s.call("ACCEPT", strings.Replace(launching(valid, task("half", valid, "true")), `"offer_ids":[`, `"offer_ids":[{"value":"nonsense"},`, 1))
		refused("half", "Offer nonsense is no longer valid")

		declined := s.offer()
		s.decline(declined, "0")
		s.launch(declined, task("declined", declined, "true"))
		refused("declined", "Offer "+declined.ID.Value+" is no longer valid")
		o := s.offer()
		s.call("ACCEPT", fmt.Sprintf(`"accept":{"operations":[{"type":"LAUNCH","launch":{"task_infos":[%s]}}]}`, task("free", o, "true")))
		refused("free", "No offers specified")

		// Another one's offer is nobody else's, and stays its owner's.
		thief := c.subscribe(t, f, fields)
		thief.launch(o, task("stolen", o, "true"))
		thief.checkRefused("stolen", lost, "REASON_INVALID_OFFERS", "=Task launched with invalid offers: Offer "+o.ID.Value+" is no longer valid")
		thief.call("DECLINE", fmt.Sprintf(`"decline":{"offer_ids":[{"value":%q}]}`, o.ID.Value))
		thief.call("KILL", `"kill":{"task_id":{"value":"good"}}`)
		thief.reconciled("good")
		thief.teardown()
		s.launch(o, task("owner", o, "true"))
		s.follow("owner", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED")
		s.call("RECONCILE", `"reconcile":{"tasks":[{"task_id":{"value":"good"}}]}`)
		if good := s.reconciled("good"); good.State != "TASK_RUNNING" {
			t.Errorf("the good task is %+v", good)
		}
		s.teardown()
	}
}

// An operation that is not carried out makes the whole ACCEPT void, and costs nothing.
func badOperations(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "")
	o := s.offer()
	launch := fmt.Sprintf(`{"type":"LAUNCH","launch":{"task_infos":[%s]}}`, task("t", o, "true"))
	resources := `"resources":[` + scalar("cpus", "0.1") + `]`
	for kind, operation := range map[string]string{
		"RESERVE":      `{"type":"RESERVE","reserve":{` + resources + `}}`,
		"UNRESERVE":    `{"type":"UNRESERVE","unreserve":{` + resources + `}}`,
		"CREATE":       `{"type":"CREATE","create":{"volumes":[]}}`,
		"DESTROY":      `{"type":"DESTROY","destroy":{"volumes":[]}}`,
		"LAUNCH_GROUP": `{"type":"LAUNCH_GROUP","launch_group":{"executor":{"executor_id":{"value":"e"}},"task_group":{"tasks":[]}}}`,
		"UNKNOWN":      `{"type":"UNKNOWN"}`,
	} {
		for _, operations := range []string{operation, launch + "," + operation} {
			part := fmt.Sprintf(`"accept":{"offer_ids":[{"value":%q}],"operations":[%s]}`, o.ID.Value, operations)
			if status, text := s.try("ACCEPT", part); status != 501 || !strings.Contains(text, kind) {
				t.Errorf("%s: %d %s", kind, status, text)
			}
		}
	}
	s.launch(o, task("t", o, "true"))
	s.follow("t", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED")
	s.teardown()
}

// One call may lead to more events than any queue holds; a client that reads them gets them all.
func manyAtOnce(t *testing.T, c *cluster, f form) {
	const many = 10_000
	s := c.subscribe(t, f, "")
	o := s.offer()
	var bad, unknown []string
	for i := range many {
		id := fmt.Sprintf("many-%05d", i)
		bad = append(bad, fmt.Sprintf(`{"name":"t","task_id":{"value":%q},"agent_id":{"value":"nonsense"}}`, id))
		unknown = append(unknown, fmt.Sprintf(`{"task_id":{"value":%q}}`, id))
	}
	s.launch(o, bad...)
	for i := range many {
		s.checkRefused(fmt.Sprintf("many-%05d", i), "TASK_ERROR", "REASON_TASK_INVALID", "Task uses invalid agent ")
	}
	s.call("RECONCILE", `"reconcile":{"tasks":[`+strings.Join(unknown, ",")+`]}`)
	for i := range many {
		s.reconciled(fmt.Sprintf("many-%05d", i))
	}
	o = s.offer()
	s.launch(o, task("t", o, "true"))
	s.follow("t", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED")
	s.teardown()
}

// plugin is one in the eyes of the cluster.
type plugin struct {
	Name, State string
	Restarts    int
}

// plugins is what the cluster says of its plugins.
func (c *cluster) plugins(t *testing.T) []plugin {
	t.Helper()
	var list []plugin
	a := request{"GET", "/gantry/v1/plugins", nil, ""}.send(t, c.at.Master)
	if err := json.Unmarshal([]byte(a.text), &list); err != nil || len(list) == 0 {
		t.Fatalf("%v in %s", err, a.text)
	}
	return list
}
