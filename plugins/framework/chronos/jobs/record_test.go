package jobs

import (
	"errors"
	"strings"
	"testing"

	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
)

// written are the records of a cluster with a job, its child and runs of both.
func written(t *testing.T) map[string][]byte {
	s := newScene(t)
	for _, line := range []string{
		"start", "subscribed",
		`post {"name": "a", "command": "work", "schedule": "R5//PT1H"}`,
		`child {"name": "b", "command": "work", "parents": ["a"]}`,
		"tick", "offers x,4,1024", "status ct:1893456000000:0:a: FINISHED", "offers x,4,1024", "run a",
	} {
		s.do(line)
	}
	if len(s.m.tasks) != 1 || len(s.store) != 5 {
		t.Fatalf("%d tasks, %d records", len(s.m.tasks), len(s.store))
	}
	return s.store
}

func load(store map[string][]byte) (*Machine, error) {
	var records []machine.Write
	for _, key := range sortedKeys(store) {
		records = append(records, machine.Write{Key: key, Value: store[key]})
	}
	return New(testConfig(), records)
}

func TestDamagedRecords(t *testing.T) {
	for _, c := range []struct{ key, old, new, at, part string }{
		{"job/a", `{`, ``, "job/a", ""},
		{"job/a", `"schema":1`, `"schema":9`, "job/a", "its schema is 9"},
		{"job/a", `"name":"a"`, `"name":"c"`, "job/a", "it is that of job/c"},
		{"job/a", `R5/`, `R/x`, "job/a", "is not"},
		{"job/b", `"parents":["a"]`, `"parents":["z"]`, "job/b", `no record of its parent "z"`},
		{"state/a", `"state":`, `"sate":`, "state/a", "it is empty"},
		{"state/a", `"attempt":0`, `"attempt":7`, "state/a", "not of this job"},
		{"state/b", `"state":"TASK_STAGING"`, `"state":"HAPPY"`, "state/b", "no state of a run"},
		{"state/b", `"number":1,"successCount"`, `"number":0,"successCount"`, "state/b", "beyond the last"},
		{"history/a/0000000000000001", `"number":1`, `"number":2`, "history/a/0000000000000001", "it is that of"},
	} {
		store := written(t)
		damaged := strings.Replace(string(store[c.key]), c.old, c.new, 1)
		if damaged == string(store[c.key]) {
			t.Fatalf("%s is not in %s: %s", c.old, c.key, store[c.key])
		}
		store[c.key] = []byte(damaged)
		_, err := load(store)
		var record *RecordError
		if !errors.As(err, &record) || record.Key != c.at || !strings.Contains(err.Error(), c.part) {
			t.Errorf("%s with %s is answered %v", c.key, c.new, err)
		}
	}
}

// Each record can be dropped: either its absence is told, or what depends on it ends.
func TestLostRecords(t *testing.T) {
	for key, want := range map[string]string{
		"job/a":                      `no record of its parent "a"`,
		"job/b":                      "",
		"state/a":                    "no record of the job's state",
		"state/b":                    "no record of the job's state",
		"history/a/0000000000000001": "",
	} {
		store := written(t)
		delete(store, key)
		m, err := load(store)
		if want != "" {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("without %s: %v", key, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("without %s: %v", key, err)
			continue
		}
		var out machine.Effects
		m.Step(dawn, machine.Start{}, &out)
		if err := m.Check(); err != nil {
			t.Errorf("without %s: %v", key, err)
		}
		if key == "job/b" && m.jobs["b"].Runs[0].Doomed != byRemoval {
			t.Errorf("a task without a job goes on: %+v", m.jobs["b"].Runs[0])
		}
	}
}
