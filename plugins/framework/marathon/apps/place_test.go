package apps

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/gantry-project/gantry/plugins/framework/internal/offer"
	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
)

// placed is an app of n wanted instances with one already on each of the racks.
func placed(n int, racks ...string) *app {
	a := &app{id: "/web", versions: []*definition.App{{ID: "/web", Instances: n}}}
	for _, rack := range racks {
		i := &instance{life: life{Host: "host-" + rack, Attributes: map[string]string{"rack": rack}}}
		a.instances = append(a.instances, i)
	}
	return a
}

func TestConstraints(t *testing.T) {
	for _, c := range []struct {
		constraint string
		wanted     int
		there      string
		rack       string // of the offer; empty: the agent has none
		want       bool
	}{
		{"rack UNIQUE", 3, "a b", "c", true},
		{"rack UNIQUE", 3, "a b", "a", false},
		{"rack UNIQUE", 3, "a b", "", false},
		{"rack CLUSTER", 3, "", "a", true},
		{"rack CLUSTER", 3, "a", "a", true},
		{"rack CLUSTER", 3, "a", "b", false},
		{"rack CLUSTER b", 3, "", "b", true},
		{"rack CLUSTER b", 3, "", "a", false},
		{"rack LIKE [ab]", 3, "", "a", true},
		{"rack LIKE [ab]", 3, "", "ab", false},
		{"rack UNLIKE [ab]", 3, "", "c", true},
		{"rack UNLIKE [ab]", 3, "", "a", false},
		{"rack UNLIKE [ab]", 3, "", "", true},
		{"rack IS a", 3, "", "a", true},
		{"rack IS 1.0", 3, "", "1", true},
		{"rack IS a", 3, "", "b", false},
		{"rack MAX_PER 2", 9, "a a b", "a", false},
		{"rack MAX_PER 2", 9, "a a b", "b", true},
		{"rack GROUP_BY 2", 4, "a a", "a", false},
		{"rack GROUP_BY 2", 4, "a a", "b", true},
		{"rack GROUP_BY 2", 4, "a b", "c", false},
		{"rack GROUP_BY 2", 3, "a b", "a", true},
		{"rack GROUP_BY 2", 3, "a a", "a", false},
		{"rack GROUP_BY", 4, "a", "b", true},
		{"rack GROUP_BY", 4, "a a b", "a", false},
		{"rack GROUP_BY", 4, "a a b", "b", true},
		{"hostname UNIQUE", 4, "a", "a", false},
	} {
		a := placed(c.wanted, strings.Fields(c.there)...)
		p := offer.Place{Host: "host-" + c.rack, Attributes: map[string]string{}}
		if c.rack != "" {
			p.Attributes["rack"] = c.rack
		}
		if got := a.allows(strings.Fields(c.constraint), p); got != c.want {
			t.Errorf("%s, %d wanted, there are %q: an offer from %q is %v", c.constraint, c.wanted, c.there, c.rack, got)
		}
	}
}

func TestTaskInfo(t *testing.T) {
	patch, err := definition.ParsePatch([]byte(`{"id": "/prod/web", "cmd": "serve", "cpus": 0.5, "mem": 64, "user": "nobody", "taskKillGracePeriodSeconds": 7,
		"portDefinitions": [{"port": 8080, "name": "http"}, {"port": 0, "name": "admin-x", "protocol": "udp,tcp"}],
		"labels": {"owner.team": "a"}, "env": {"HOST": "mine", "X": "y"}, "fetch": [{"uri": "http://x/y", "destPath": "z"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	spec, err := patch.Apply(definition.Initial("/prod/web"), "*")
	if err != nil {
		t.Fatal(err)
	}
	i := &instance{spec: &spec, life: life{Task: "prod_web.1-2", App: spec.ID, Version: "V", Host: "a", Agent: "S", Ports: []int{31000, 31007}}}
	info := i.taskInfo(nil)
	if info.GetName() != "web.prod" || info.GetKillPolicy().GetGracePeriod().GetNanoseconds() != 7e9 {
		t.Errorf("the task is %v", info)
	}
	env := map[string]string{}
	for _, v := range info.GetCommand().GetEnvironment().GetVariables() {
		env[v.GetName()] = v.GetValue()
	}
	want := map[string]string{
		"HOST": "mine", "X": "y", "MESOS_TASK_ID": "prod_web.1-2", "MARATHON_APP_ID": "/prod/web", "MARATHON_APP_VERSION": "V",
		"MARATHON_APP_RESOURCE_CPUS": "0.5", "MARATHON_APP_RESOURCE_MEM": "64.0", "MARATHON_APP_RESOURCE_DISK": "0.0", "MARATHON_APP_RESOURCE_GPUS": "0",
		"MARATHON_APP_ENFORCE_GROUP_ROLE": "FALSE",
		"MARATHON_APP_LABELS":             "OWNER_TEAM", "MARATHON_APP_LABEL_OWNER_TEAM": "a",
		"PORT": "31000", "PORT0": "31000", "PORT1": "31007", "PORTS": "31000,31007",
		"PORT_8080": "31000", "PORT_HTTP": "31000", "PORT_31007": "31007", "PORT_ADMIN_X": "31007",
	}
	if !reflect.DeepEqual(env, want) {
		t.Errorf("the environment is\n%v, not\n%v", env, want)
	}
	if ports := info.GetDiscovery().GetPorts().GetPorts(); len(ports) != 3 || ports[1].GetNumber() != 31007 || ports[2].GetProtocol() != "tcp" {
		t.Errorf("the discovered ports are %v", ports)
	}
	if uri := info.GetCommand().GetUris()[0]; uri.GetOutputFile() != "z" || !uri.GetExtract() {
		t.Errorf("the artifact is %v", uri)
	}
}

func TestTaskInfoOfAnImage(t *testing.T) {
	for body, want := range map[string]string{
		`{"container": {"docker": {"image": "redis:7"}}}`:                                                 `type:DOCKER docker:{image:"redis:7" network:HOST force_pull_image:false} | shell:false`,
		`{"args": ["-v"], "container": {"docker": {"image": "redis:7", "network": "HOST"}}}`:              `type:DOCKER docker:{image:"redis:7" network:HOST force_pull_image:false} | shell:false arguments:"-v"`,
		`{"cmd": "redis -v", "container": {"type": "MESOS", "docker": {"image": "oci:/srv/redis"}}}`:      `type:MESOS mesos:{image:{type:DOCKER docker:{name:"oci:/srv/redis"} cached:true}} | shell:true value:"redis -v"`,
		`{"cmd": "x1", "container": {"type": "MESOS", "docker": {"image": "a", "forcePullImage": true}}}`: `type:MESOS mesos:{image:{type:DOCKER docker:{name:"a"} cached:false}} | shell:true value:"x1"`,
		`{"cmd": "x1", "container": {"type": "MESOS"}}`:                                                   `<nil> | shell:true value:"x1"`,
		`{"cmd": "x1", "container": {}}`:                                                                  `<nil> | shell:true value:"x1"`,
	} {
		patch, err := definition.ParsePatch([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		spec, err := patch.Apply(definition.Initial("/a"), "*")
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		info := (&instance{spec: &spec, life: life{Ports: []int{31000}}}).taskInfo(nil)
		for _, v := range info.Command.Environment.Variables {
			if v.GetName() == "MARATHON_APP_DOCKER_IMAGE" && v.GetValue() != spec.Container.Docker.Image {
				t.Errorf("%s: it is told that its image is %s", body, v.GetValue())
			}
		}
		info.Command.Environment = nil
		// The text form has spaces at random.
		plain := func(text string) string { return strings.Join(strings.Fields(text), " ") }
		if got := plain(fmt.Sprintf("%v | %v", info.Container, info.Command)); got != want {
			t.Errorf("%s: the task is\n%s, not\n%s", body, got, want)
		}
	}
}

func TestServicePorts(t *testing.T) {
	s := newScene(t)
	s.do("start")
	s.do(`create /a {"cmd": "serve", "ports": [0, 10001]}`)
	s.do(`create /b {"cmd": "serve"}`)
	port := func(id string) []int {
		info, _ := s.m.App(id)
		return info.ServicePorts()
	}
	if got := port("/a"); !reflect.DeepEqual(got, []int{10000, 10001}) {
		t.Errorf("/a has %v", got)
	}
	if got := port("/b"); !reflect.DeepEqual(got, []int{10002}) {
		t.Errorf("/b has %v", got)
	}
	s.do("force")
	s.do(`put /b {"ports": [0, 0]}`)
	if got := port("/b"); !reflect.DeepEqual(got, []int{10002, 10003}) {
		t.Errorf("/b has %v after an update, not its old port first", got)
	}
}

// TestTaskIDLeadsToApp: clients take the text before the last dot for the app.
func TestTaskIDLeadsToApp(t *testing.T) {
	m, err := New(Config{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"/web", "/prod/web.v1/a-b", "/a.b"} {
		if task := m.taskID(id); AppOfTask(task) != id {
			t.Errorf("task %s of %s leads to %s", task, id, AppOfTask(task))
		}
	}
}

func TestNewRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for _, w := range []Write{
		{Key: "app/a/V", Value: []byte(`{`)},
		{Key: "app/a/V", Value: []byte(`{"schema": 2, "app": {}}`)},
		{Key: "app/a/V", Value: []byte(`{"schema": 1}`)},
		{Key: "app/a/V", Value: []byte(`{"schema": 1, "app": {"id": "/a", "version": "V"}}`)},
		{Key: "current/a", Value: []byte(`{"schema": 1, "current": "2030-01-01T00:00:00.000Z"}`)},
	} {
		if _, err := New(Config{}, []Write{w}); err == nil || !strings.HasPrefix(err.Error(), "read ") {
			t.Errorf("%s: %s is answered %v", w.Key, w.Value, err)
		}
	}
}

// TestHalfWritten: a process may end between the many writes of one step.
func TestHalfWritten(t *testing.T) {
	record := func(version string) Write {
		return Write{Key: appKey("/a", version), Value: []byte(`{"schema": 1, "app": {"id": "/a", "cmd": "` + version + `", "version": "` + version + `"}}`)}
	}
	const first, second = "2030-01-01T00:00:00.000Z", "2030-01-01T00:00:01.000Z"
	current := Write{Key: "current/a", Value: []byte(`{"schema": 1, "current": "` + first + `"}`)}
	for _, c := range []struct {
		name    string
		records []Write
		app     string // its command; empty: there is none
		erased  []string
	}{
		{"a new version without its pointer", []Write{record(first), record(second), current}, first, []string{appKey("/a", second)}},
		{"a removal that left versions", []Write{record(first), record(second)}, "", []string{appKey("/a", first), appKey("/a", second)}},
	} {
		m, err := New(Config{}, c.records)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		info, _ := m.App("/a")
		var out Effects
		m.Step(dawn, Start{}, &out)
		var erased []string
		for _, w := range out.Persist {
			if w.Value == nil {
				erased = append(erased, w.Key)
			}
		}
		if info.Cmd != c.app || !reflect.DeepEqual(erased, c.erased) {
			t.Errorf("%s: the app is %q, and %v is erased", c.name, info.Cmd, erased)
		}
	}
}
