package e2e

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gantry-project/gantry/cmd/gantry/internal/compat"
	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// What compat.tsv says is not there is answered by 501 and a sentence, call by call and endpoint by endpoint; what it says
// is there is not.
func TestWhatIsNotThereSaysSo(t *testing.T) {
	rows, err := compat.Read()
	if err != nil {
		t.Fatal(err)
	}
	c := up(t, newWorkDir(t), "--no-demo")
	s := c.subscribe(t, forms[0], "")
	ask := map[string]func(item string) request{
		"scheduler call": func(kind string) request {
			r := callOf(new(schedulerpb.Call), kind, schedulerPath, fmt.Sprintf(`"framework_id":{"value":%q}`, s.id))
			r.header = append(r.header, "Mesos-Stream-Id: "+s.stream)
			return r
		},
		"executor call": func(kind string) request {
			return callOf(new(executorpb.Call), kind, "/api/v1/executor", `"executor_id":{"value":"x"},"framework_id":{"value":"x"}`)
		},
		"master call": func(kind string) request { return callOf(new(masterpb.Call), kind, "/api/v1", "") },
		"agent call":  func(kind string) request { return callOf(new(agentpb.Call), kind, "/api/v1", "") },

		"master endpoint":   visit,
		"agent endpoint":    visit,
		"marathon endpoint": visit,
		"chronos endpoint":  visit,
	}
	servers := map[string]string{"scheduler": c.at.Master, "master": c.at.Master, "executor": c.at.Agents[0], "agent": c.at.Agents[0], "marathon": c.at.Marathon, "chronos": c.at.Chronos}
	asked := 0
	for _, row := range rows {
		request, known := ask[row.Surface]
		if !known || row.Status == compat.Yes || row.Status == compat.Part {
			continue
		}
		asked++
		t.Run(row.Surface+" "+row.Item, func(t *testing.T) {
			server, _, _ := strings.Cut(row.Surface, " ")
			checkNotThere(t, servers[server], request(row.Item))
		})
	}
	if asked < 10 {
		t.Errorf("%d rows were asked for: is it the right table?", asked)
	}
	s.teardown()
	c.checkNothingHeld(t)
	c.end()
	c.checkNothingLeft()
}

// What a framework says of itself and of its tasks is told to who asks.
func TestWhatIsSaidIsKept(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	s := c.subscribe(t, forms[1], `"hostname":"here.example","webui_url":"http://here.example/","labels":{"labels":[{"key":"tier","value":"one"}]}`)
	o := s.offer()
	s.launch(o, strings.Replace(task("t", o, "sleep 1000"), "{",
		`{"data":"AAE=","labels":{"labels":[{"key":"color","value":"blue"}]},"discovery":{"visibility":"CLUSTER","name":"t.example"},`, 1))
	s.follow("t", "TASK_STARTING", "TASK_RUNNING")

	info := c.framework(t, s.id).FrameworkInfo
	if info.GetHostname() != "here.example" || info.GetWebuiUrl() != "http://here.example/" || info.GetLabels().GetLabels()[0].GetKey() != "tier" {
		t.Errorf("the framework is told as %v", info)
	}
	tasks := c.state(t).GetTasks.Tasks
	if len(tasks) != 1 || tasks[0].GetLabels().GetLabels()[0].GetKey() != "color" || tasks[0].GetDiscovery().GetName() != "t.example" {
		t.Errorf("the task is told as %v", tasks)
	}
	master := request{"POST", "/api/v1", []string{asJSON}, `{"type":"GET_MASTER"}`}.send(t, c.at.Master)
	if !strings.Contains(master.text, `"hostname":"127.0.0.1"`) || !strings.Contains(master.text, `"port":`+c.at.Master[strings.LastIndex(c.at.Master, ":")+1:]) {
		t.Errorf("GET_MASTER: %d %s", master.status, master.text)
	}
	if !strings.Contains(master.text, `"capabilities":[{"type":"AGENT_UPDATE"}]`) {
		t.Errorf("GET_MASTER: %s", master.text)
	}
	if state := (request{"GET", "/state", nil, ""}).send(t, c.at.Master); !strings.Contains(state.text, `"capabilities":["AGENT_UPDATE"]`) ||
		!strings.Contains(state.text, `"capabilities":["MULTI_ROLE","HIERARCHICAL_ROLE"]`) {
		t.Errorf("/state: %d %.500s", state.status, state.text)
	}
	s.teardown()
	c.checkNothingHeld(t)
	c.end()
	c.checkNothingLeft()
}

// checkNotThere wants 501 and a sentence; it reads nothing of a stream.
func checkNotThere(t *testing.T, address string, r request) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	resp := r.open(ctx, t, address)
	defer resp.Body.Close()
	var text []byte
	if resp.StatusCode >= 400 {
		var err error
		if text, err = io.ReadAll(resp.Body); err != nil {
			t.Error(err)
		}
	}
	if resp.StatusCode != 501 || len(strings.Fields(string(text))) < 3 && r.method != "HEAD" {
		t.Errorf("%s %s %s: %s %.300q, want 501 and why", r.method, r.path, r.body, resp.Status, text)
	}
}

var placeholder = regexp.MustCompile(`\{\w+\}`)

// visit is the request of an endpoint, "METHOD PATH", with x for whatever is to be filled in.
func visit(endpoint string) request {
	method, path, _ := strings.Cut(endpoint, " ")
	r := request{method: method, path: placeholder.ReplaceAllString(path, "x")}
	if method == "POST" || method == "PUT" || method == "PATCH" {
		r.header, r.body = []string{asJSON}, "{}"
	}
	return r
}

// callOf is the request of a call, with the least that it has to say besides the members given.
func callOf(call protoreflect.ProtoMessage, kind, path, members string) request {
	body := fmt.Sprintf(`{"type":%q`, kind)
	for _, part := range []string{members, partOfCall(call.ProtoReflect().Descriptor(), kind)} {
		if part != "" {
			body += "," + part
		}
	}
	return request{"POST", path, []string{asJSON}, body + "}"}
}

const anyUUID = "AAAAAAAAAAAAAAAAAAAAAA==" // 16 bytes

// partOfCall is the JSON member that belongs to a type of call, with its required fields; "" if there is none.
func partOfCall(call protoreflect.MessageDescriptor, kind string) string {
	if kind == "ACKNOWLEDGE_OPERATION_STATUS" { // which fields it needs depends on others
		return `"acknowledge_operation_status":{"agent_id":{"value":"x"},"operation_id":{"value":"x"},"uuid":"` + anyUUID + `"}`
	}
	field := call.Fields().ByName(protoreflect.Name(strings.ToLower(kind)))
	if field == nil || field.Message() == nil {
		return ""
	}
	return fmt.Sprintf("%q:%s", field.Name(), leastMessage(field.Message()))
}

func leastMessage(m protoreflect.MessageDescriptor) string {
	var members []string
	for i := range m.Fields().Len() {
		if field := m.Fields().Get(i); field.Cardinality() == protoreflect.Required {
			members = append(members, fmt.Sprintf("%q:%s", field.Name(), leastValue(field)))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func leastValue(field protoreflect.FieldDescriptor) string {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return leastMessage(field.Message())
	case protoreflect.EnumKind:
		values := field.Enum().Values()
		return fmt.Sprintf("%q", values.Get(values.Len()-1).Name())
	case protoreflect.StringKind:
		return `"x"`
	case protoreflect.BytesKind:
		return fmt.Sprintf("%q", anyUUID)
	case protoreflect.BoolKind:
		return "true"
	default:
		return "1"
	}
}
