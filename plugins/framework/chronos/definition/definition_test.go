package definition

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

func TestEverythingIsServedAgain(t *testing.T) {
	body := `{"name": "full", "command": "echo", "shell": false, "executorFlags": "-v", "taskInfoData": "data", "retries": "3",
		"owner": "a@x,b@x", "ownerName": "A", "description": "all", "cpus": "0.5", "mem": 64, "disk": 10, "disabled": true, "softError": "true",
		"dataProcessingJobType": true, "highPriority": true, "runAsUser": "nobody", "concurrent": true, "maxCompletionTime": 60,
		"uris": ["http://x/y"], "fetch": [{"uri": "http://x/z", "extract": false, "output_file": "q"}],
		"environmentVariables": [{"name": "A", "value": "1"}], "arguments": ["echo", "hi"], "constraints": [["rack", "like", "r.*"]],
		"schedule": "R/2026-01-01T00:00:00Z/P1D", "scheduleTimeZone": "UTC", "epsilon": "PT60S", "container": null, "mine": {"b": 1}, "a<b": [1, "2"]}`
	job, _, err := Parse([]byte(body), Scheduled)
	if err != nil {
		t.Fatal(err)
	}
	shape := Shape{Job: job, SuccessCount: 7, LastSuccess: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	data, err := json.Marshal(shape)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"name":"full","command":"echo","shell":false,"executor":"","executorFlags":"-v","taskInfoData":"data","retries":3,` +
		`"owner":"a@x,b@x","ownerName":"A","description":"all","cpus":0.5,"mem":64,"disk":10,"disabled":true,"softError":true,` +
		`"dataProcessingJobType":true,"highPriority":true,"runAsUser":"nobody","concurrent":true,"maxCompletionTime":60,` +
		`"fetch":[{"uri":"http://x/z","output_file":"q","executable":false,"cache":false,"extract":false},{"uri":"http://x/y","executable":false,"cache":false,"extract":true}],` +
		`"environmentVariables":[{"name":"A","value":"1"}],"arguments":["echo","hi"],"constraints":[["rack","LIKE","r.*"]],` +
		`"schedule":"R/2026-01-01T00:00:00Z/P1D","scheduleTimeZone":"UTC","uris":["http://x/z","http://x/y"],"successCount":7,"errorCount":0,` +
		`"lastSuccess":"2026-01-02T03:04:05.000Z","lastError":"","errorsSinceLastSuccess":0,"a\u003cb":[1,"2"],"mine":{"b":1}}`
	if string(data) != want {
		t.Errorf("served as\n%s\nwant\n%s", data, want)
	}
	again, counts, err := Parse(data, Scheduled)
	if err != nil {
		t.Fatal(err)
	}
	if *counts.SuccessCount != 7 || !counts.LastSuccess.Equal(shape.LastSuccess) || !counts.LastError.IsZero() {
		t.Errorf("the counts are read back as %+v", counts)
	}
	twice, err := json.Marshal(Shape{Job: again, SuccessCount: 7, LastSuccess: shape.LastSuccess})
	if err != nil || string(twice) != want {
		t.Errorf("served a second time as\n%s (%v)", twice, err)
	}
}

func TestDefaults(t *testing.T) {
	job, counts, err := Parse([]byte(`{"name": "a", "command": "true", "cpus": 0}`), Scheduled)
	if err != nil {
		t.Fatal(err)
	}
	if job.CPUs != 0.1 || job.Mem != 128 || job.Disk != 256 || job.Retries != 2 || !job.Shell || counts != (Counts{}) {
		t.Errorf("the defaults are %+v, %+v", job, counts)
	}
}

func TestRefusedDefinitions(t *testing.T) {
	long := strings.Repeat("x", maxName+1)
	for _, c := range []struct {
		body string
		kind Kind
		part string
	}{
		{``, Scheduled, "ends too early"},
		{`{"name": "a"`, Scheduled, "ends too early"},
		{`[]`, Scheduled, "not the JSON object"},
		{`null`, Scheduled, "not the JSON object"},
		{`{"name": "a", "command": "x"} {}`, Scheduled, "something follows"},
		{`{"command": "x"}`, Scheduled, "needs a name"},
		{`{"name": 7, "command": "x"}`, Scheduled, "name must be a string"},
		{`{"name": "a b", "command": "x"}`, Scheduled, "letters, digits"},
		{`{"name": "../a", "command": "x"}`, Scheduled, "letters, digits"},
		{`{"name": "..", "command": "x"}`, Scheduled, "letters, digits"},
		{`{"name": "` + long + `", "command": "x"}`, Scheduled, "at most 150"},
		{`{"name": "a"}`, Scheduled, "has no command"},
		{`{"name": "a", "command": "x\u0000"}`, Scheduled, "NUL"},
		{`{"name": "a", "command": "x", "cpus": "many"}`, Scheduled, "cpus must be a number"},
		{`{"name": "a", "command": "x", "cpus": "NaN"}`, Scheduled, "cpus must be a number"},
		{`{"name": "a", "command": "x", "cpus": -1}`, Scheduled, "cpus must be from 0"},
		{`{"name": "a", "command": "x", "mem": {}}`, Scheduled, "mem must be a number"},
		{`{"name": "a", "command": "x", "retries": 1.5}`, Scheduled, "retries must be a whole number"},
		{`{"name": "a", "command": "x", "retries": 1000}`, Scheduled, "retries must be a whole number"},
		{`{"name": "a", "command": "x", "maxCompletionTime": -1}`, Scheduled, "maxCompletionTime must be"},
		{`{"name": "a", "command": "x", "shell": "maybe"}`, Scheduled, "shell must be true or false"},
		{`{"name": "a", "command": "x", "environmentVariables": {"A": "1"}}`, Scheduled, "environmentVariables must be a list"},
		{`{"name": "a", "command": "x", "environmentVariables": [{"name": "A=B", "value": "1"}]}`, Scheduled, "hold '='"},
		{`{"name": "a", "command": "x", "arguments": "hi"}`, Scheduled, "arguments must be a list"},
		{`{"name": "a", "command": "x", "uris": ["x"]}`, Scheduled, "no URI"},
		{`{"name": "a", "command": "x", "fetch": ["x"]}`, Scheduled, "fetch must be a list"},
		{`{"name": "a", "command": "x", "constraints": [["rack", "EQUALS"]]}`, Scheduled, "constraints must be a list"},
		{`{"name": "a", "command": "x", "constraints": [["rack", "NEAR", "y"]]}`, Scheduled, "EQUALS, LIKE or UNLIKE"},
		{`{"name": "a", "command": "x", "constraints": [["rack", "LIKE", "("]]}`, Scheduled, "no regular expression"},
		{`{"name": "a", "command": "x", "container": {"image": "busybox"}}`, Scheduled, "images are not supported yet"},
		{`{"name": "a", "command": "x", "executor": "/bin/e"}`, Scheduled, "custom executors are not supported yet"},
		{`{"name": "a", "command": "x", "lastSuccess": "yesterday"}`, Scheduled, "lastSuccess must be a date"},
		{`{"name": "a", "command": "x", "parents": ["b"]}`, Scheduled, "/v1/scheduler/dependency"},
		{`{"name": "a", "command": "x", "parents": ["b"], "schedule": "R//P1D"}`, Dependent, "one of them"},
		{`{"name": "a", "command": "x", "schedule": "R//P1D"}`, Dependent, "/v1/scheduler/iso8601"},
		{`{"name": "a", "command": "x"}`, Dependent, "names no parents"},
		{`{"name": "a", "command": "x", "parents": ["a"]}`, Dependent, "its own parent"},
		{`{"name": "a", "command": "x", "parents": ["b", "b"]}`, Dependent, "twice"},
	} {
		if _, _, err := Parse([]byte(c.body), c.kind); err == nil || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s is answered %v, want %q", c.body, err, c.part)
		}
	}
}

// FuzzParse: what is accepted is served as JSON that is accepted again.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"name": "a", "command": "x", "cpus": "0.5", "shell": "true", "schedule": "R//P1D", "x": [1]}`))
	f.Add([]byte(`{"name": "a", "command": "x", "fetch": [{"uri": "/x"}], "constraints": [["a", "LIKE", "b"]]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		job, _, err := Parse(body, Scheduled)
		if err != nil {
			return
		}
		data, err := json.Marshal(Shape{Job: job})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Parse(data, Scheduled); err != nil {
			t.Fatalf("%s is served as %s: %v", body, data, err)
		}
	})
}
