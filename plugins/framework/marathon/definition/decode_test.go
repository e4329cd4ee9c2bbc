package definition

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

// decode is what a POST of body makes.
func decode(body string) (App, error) {
	patch, err := ParsePatch([]byte(body))
	if err != nil {
		return App{}, err
	}
	id, err := patch.ID()
	if err != nil {
		return App{}, err
	}
	return patch.Apply(Initial(id), "*")
}

func TestDefaults(t *testing.T) {
	app, err := decode(`{"id": "web", "cmd": "serve"}`)
	if err != nil {
		t.Fatal(err)
	}
	want := Initial("/web")
	want.Cmd = "serve"
	if !reflect.DeepEqual(app, want) {
		t.Errorf("a minimal app is\n%+v, not\n%+v", app, want)
	}
}

func TestOldAndPartialForms(t *testing.T) {
	app, err := decode(`{"id": "//group/web/", "args": ["serve", "-v"], "instances": 2.0, "uris": ["http://x/y.tgz"], "ports": [8080, 0],
		"healthChecks": [{"path": "/health"}], "upgradeStrategy": {"minimumHealthCapacity": 0.5},
		"constraints": [["hostname", "unique"]], "networks": [{"mode": "host"}], "executor": "", "gpus": 0, "container": null,
		"dependencies": [], "secrets": {}, "tasksRunning": 3, "acceptedResourceRoles": ["*"], "unreachableStrategy": "disabled"}`)
	if err != nil {
		t.Fatal(err)
	}
	switch {
	case app.ID != "/group/web", app.Instances != 2:
		t.Errorf("id %q, %d instances", app.ID, app.Instances)
	case !reflect.DeepEqual(app.Fetch, []Artifact{{URI: "http://x/y.tgz", Extract: true}}):
		t.Errorf("fetch is %+v", app.Fetch)
	case !reflect.DeepEqual(app.ServicePorts(), []int{8080, 0}):
		t.Errorf("ports are %v", app.ServicePorts())
	case app.HealthChecks[0].IntervalSeconds != 60 || app.HealthChecks[0].Protocol != "HTTP":
		t.Errorf("the health check is %+v", app.HealthChecks[0])
	case app.UpgradeStrategy != UpgradeStrategy{0.5, 1}:
		t.Errorf("the upgrade strategy is %+v", app.UpgradeStrategy)
	case !reflect.DeepEqual(app.AcceptedResourceRoles, []string{"*"}):
		t.Errorf("the accepted roles are %q", app.AcceptedResourceRoles)
	case app.Constraints[0][1] != "UNIQUE":
		t.Errorf("the constraint is %v", app.Constraints)
	case !app.Unreachable.Disabled:
		t.Errorf("the unreachable strategy is %+v", app.Unreachable)
	}
}

// TestNullMeansAbsent: clients send null for what they do not want to say, which must not
// wipe what is there.
func TestNullMeansAbsent(t *testing.T) {
	base, err := decode(`{"id": "/web", "cmd": "serve", "ports": [8080], "env": {"A": "1"}, "labels": {"l": "v"}}`)
	if err != nil {
		t.Fatal(err)
	}
	patch, err := ParsePatch([]byte(`{"id": "/web", "instances": 2, "ports": null, "dependencies": null, "env": null, "labels": {"l": "v", "m": null}}`))
	if err != nil {
		t.Fatal(err)
	}
	got, err := patch.Apply(base, "*")
	if err != nil {
		t.Fatal(err)
	}
	want := base
	want.Instances = 2
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the app became\n%+v, not\n%+v", got, want)
	}
}

func TestPatchReplacesCollections(t *testing.T) {
	base, err := decode(`{"id": "/web", "cmd": "serve", "env": {"A": "1", "B": "2"}}`)
	if err != nil {
		t.Fatal(err)
	}
	patch, _ := ParsePatch([]byte(`{"env": {"C": "3"}}`))
	got, err := patch.Apply(base, "*")
	if err != nil || !reflect.DeepEqual(got.Env, map[string]string{"C": "3"}) {
		t.Errorf("env became %v (%v)", got.Env, err)
	}
	if len(base.Env) != 2 {
		t.Errorf("the definition it was laid over changed to %v", base.Env)
	}
}

func TestInvalidDefinitions(t *testing.T) {
	for body, want := range map[string]string{
		`{"cmd": "x1"}`:                                                              "/id: error.path.missing",
		`{"id": 7}`:                                                                  "/id: error.expected.jsstring",
		`{"id": "/", "cmd": "x1"}`:                                                   "/id: must not be root",
		`{"id": "/Web", "cmd": "x1"}`:                                                "/id: must fully match regular expression",
		`{"id": "/a/tasks", "cmd": "x1"}`:                                            "/id: must not end with any of the following reserved keywords",
		`{"id": "/a/../b", "cmd": "x1"}`:                                             "/id: must not end with",
		`{"id": "/a"}`:                                                               "AppDefinition must either contain one of 'cmd' or 'args'",
		`{"id": "/a", "cmd": "x1", "args": ["y"]}`:                                   "AppDefinition must either",
		`{"id": "/a", "cmd": "x"}`:                                                   "/cmd: must not be an empty string",
		`{"id": "/a", "cmd": "x1", "instances": -1}`:                                 "/instances: must be between",
		`{"id": "/a", "cmd": "x1", "instances": "two"}`:                              "/instances: error.expected.int",
		`{"id": "/a", "cmd": "x1", "instances": 1.5}`:                                "/instances: error.expected.int",
		`{"id": "/a", "cmd": "x1", "cpus": "much"}`:                                  "/cpus: error.expected.jsnumber",
		`{"id": "/a", "cmd": "x1", "cpus": 0}`:                                       "/cpus: must be between 0.001",
		`{"id": "/a", "cmd": "x1", "cpus": 1e300}`:                                   "/cpus: must be between",
		`{"id": "/a", "cmd": "x1", "mem": -1}`:                                       "/mem: must be between",
		`{"id": "/a", "cmd": "x1", "env": {"A": 1}}`:                                 "/env: error.expected.jsstring",
		`{"id": "/a", "cmd": "x1", "env": []}`:                                       "/env: error.expected.jsobject",
		`{"id": "/a", "cmd": "x1", "env": {"": "x"}}`:                                "names must not be empty",
		`{"id": "/a", "cmd": "x1", "env": {"P": {"secret": "s"}}}`:                   "/env/P: secrets are not supported yet",
		`{"id": "/a", "cmd": "x1", "container": {"type": "DOCKER"}}`:                 "/container/docker: must name an image",
		`{"id": "/a", "cmd": "x1", "container": {"type": "LXC"}}`:                    "/container/type: must be DOCKER or MESOS",
		`{"id": "/a", "cmd": "x1", "container": {"docker": {"image": "a b"}}}`:       "/container/docker/image: must be the name of an image",
		`{"id": "/a", "container": {"docker": {"image": "a", "privileged": true}}}`:  "/container/docker/privileged: no task gets more rights",
		`{"id": "/a", "container": {"docker": {"image": "a", "network": "BRIDGE"}}}`: "/container/docker/network: only host networking",
		`{"id": "/a", "container": {"docker": {"image": "a", "parameters": [{"key": "a", "value": "b"}]}}}`: "/container/docker/parameters: there is no Docker engine",
		`{"id": "/a", "container": {"docker": {"image": "a"}, "portMappings": [{"containerPort": 80}]}}`:    "/container/portMappings: only host networking",
		`{"id": "/a", "container": {"docker": {"image": "a"}, "volumes": [{"hostPath": "/"}]}}`:             "/container/volumes: volumes are not supported yet",
		`{"id": "/a", "container": {"docker": {"image": "a"}, "surprise": 1}}`:                              "/container/surprise: there is no such member",
		`{"id": "/a", "container": {"type": "MESOS"}}`:                                                      "AppDefinition must either contain one of",
		`{"id": "/a", "cmd": "x1", "gpus": 1}`:                                                              "/gpus: GPUs are not supported yet",
		`{"id": "/a", "cmd": "x1", "dependencies": ["/b"]}`:                                                 "/dependencies: dependencies are not supported yet",
		`{"id": "/a", "cmd": "x1", "readinessChecks": [{}]}`:                                                "/readinessChecks: readiness checks are not supported yet",
		`{"id": "/a", "cmd": "x1", "networks": [{"mode": "container"}]}`:                                    "/networks: only host networking",
		`{"id": "/a", "cmd": "x1", "role": "prod"}`:                                                         `/role: this framework runs with role "*" only`,
		`{"id": "/a", "cmd": "x1", "acceptedResourceRoles": ["prod"]}`:                                      "/acceptedResourceRoles: may hold",
		`{"id": "/a", "cmd": "x1", "executor": "/my"}`:                                                      "/executor: custom executors",
		`{"id": "/a", "cmd": "x1", "ports": [80, 80]}`:                                                      "/portDefinitions: Ports must be unique.",
		`{"id": "/a", "cmd": "x1", "portDefinitions": [{"port": 70000}]}`:                                   "/portDefinitions/port: must be between",
		`{"id": "/a", "cmd": "x1", "portDefinitions": [{"name": "a"}, {"name": "a"}]}`:                      "Port names must be unique.",
		`{"id": "/a", "cmd": "x1", "ports": [80], "portDefinitions": [{"port": 81}]}`:                       "cannot specify both ports and port definitions",
		`{"id": "/a", "cmd": "x1", "uris": ["http://x"], "fetch": [{"uri": "http://y"}]}`:                   "/uris: may not be set in conjunction with fetch",
		`{"id": "/a", "cmd": "x1", "fetch": [{"uri": "x"}]}`:                                                "/fetch/uri: URI has invalid syntax.",
		`{"id": "/a", "cmd": "x1", "healthChecks": [{"protocol": "COMMAND"}]}`:                              `/healthChecks/protocol: "COMMAND" is not supported yet`,
		`{"id": "/a", "cmd": "x1", "healthChecks": [{"portIndex": 3}]}`:                                     "Health check port indices must address",
		`{"id": "/a", "cmd": "x1", "healthChecks": [{"intervalSeconds": "x"}]}`:                             "/healthChecks/intervalSeconds: error.expected.int",
		`{"id": "/a", "cmd": "x1", "constraints": [["hostname"]]}`:                                          "/constraints(0): Each constraint must have either 2 or 3 fields",
		`{"id": "/a", "cmd": "x1", "constraints": [["hostname", "NEAR"]]}`:                                  "operator must be one of the following",
		`{"id": "/a", "cmd": "x1", "constraints": [["hostname", "LIKE", "("]]}`:                             "is not a valid regular expression",
		`{"id": "/a", "cmd": "x1", "constraints": [["hostname", "MAX_PER", "x"]]}`:                          "MAX_PER requires an integer value",
		`{"id": "/a", "cmd": "x1", "constraints": [["hostname", "UNIQUE", "x"]]}`:                           "UNIQUE does not accept a value",
		`{"id": "/a", "cmd": "x1", "upgradeStrategy": {"minimumHealthCapacity": 2}}`:                        "/upgradeStrategy/minimumHealthCapacity: is greater than 1",
		`{"id": "/a", "cmd": "x1", "upgradeStrategy": {"maximumOverCapacity": -1}}`:                         "/upgradeStrategy/maximumOverCapacity: is less than 0",
		`{"id": "/a", "cmd": "x1", "backoffFactor": 0.5}`:                                                   "/backoffFactor: must be between",
		`{"id": "/a", "cmd": "x1", "killSelection": "ANY"}`:                                                 "/killSelection: must be",
		`{"id": "/a", "cmd": "x1", "labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}}`:                     "must be 0 with the label",
		`{"id": "/a", "cmd": "x1", "unreachableStrategy": {"inactiveAfterSeconds": 5}}`:                     "inactiveAfterSeconds must not be greater",
		`[]`: "error.expected.jsobject",
		`7`:  "error.expected.jsobject",
	} {
		_, err := decode(body)
		var invalid *InvalidError
		if !errors.As(err, &invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is answered %v, not %q", body, err, want)
		}
	}
}

func TestBadSyntax(t *testing.T) {
	for _, body := range []string{``, ` `, `{`, `{"id": }`, `{} {}`, strings.Repeat("[", 100000), `{"a":` + strings.Repeat(`{"a":`, 40)} {
		_, err := ParsePatch([]byte(body))
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("%.20q is answered %v, not a syntax error", body, err)
		}
	}
}

// FuzzDefinition: whatever comes, a definition that is accepted survives the way to the
// store and back, and says the same when it is sent again.
func FuzzDefinition(f *testing.F) {
	f.Add(`{"id": "/web", "cmd": "serve", "instances": 2, "ports": [8080, 0], "uris": ["http://x/y"], "env": {"A": "b"}}`)
	f.Add(`{"id": "a/b", "args": ["x"], "healthChecks": [{"protocol": "TCP", "portIndex": 0}], "constraints": [["hostname", "LIKE", "a.*"]]}`)
	f.Add(`{"id": "/x", "cmd": "y1", "unreachableStrategy": "disabled", "taskKillGracePeriodSeconds": 3, "labels": {"a": "1"}}`)
	f.Add(`{"id": "/x", "args": ["y"], "container": {"docker": {"image": "a:1", "forcePullImage": true, "network": "HOST"}}}`)
	f.Add(`{"id":"/x","cmd":"\\\"{[","cpus":1e-3,"mem":0.5,"version":null}`)
	f.Fuzz(func(t *testing.T, body string) {
		app, err := decode(body)
		if err != nil {
			return
		}
		data, err := json.Marshal(app)
		if err != nil {
			t.Fatalf("an accepted app does not encode: %v", err)
		}
		again, err := decode(string(data))
		if err != nil {
			t.Fatalf("an accepted app is refused when sent again: %v\n%s", err, data)
		}
		if !app.SameConfig(again) {
			t.Fatalf("sent again it is another app:\n%+v\n%+v", app, again)
		}
	})
}
