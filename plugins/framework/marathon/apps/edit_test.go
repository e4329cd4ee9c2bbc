package apps

import (
	"errors"
	"fmt"
	"testing"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
)

// put is a PUT of these definitions as one array.
func (s *scene) put(bodies ...string) Reply {
	s.t.Helper()
	var e Edit
	for _, body := range bodies {
		patch, err := definition.ParsePatch([]byte(body))
		if err != nil {
			s.t.Fatal(err)
		}
		id, err := patch.ID()
		if err != nil {
			s.t.Fatal(err)
		}
		e.Changes = append(e.Changes, Change{App: id, Manner: Update, Body: patch})
	}
	return s.ask(e)
}

// ask has the machine answer one request.
func (s *scene) ask(op Op) Reply {
	s.t.Helper()
	var out Effects
	s.m.Step(s.now, Request{Op: op}, &out)
	if err := s.m.Check(); err != nil {
		s.t.Fatal(err)
	}
	return out.Replies[0]
}

func (s *scene) servicePorts(ids ...string) string {
	var ports []any
	for _, id := range ids {
		info, _ := s.m.App(id)
		ports = append(ports, info.App.ServicePorts())
	}
	return fmt.Sprint(ports...)
}

func TestServicePortsOfOneEditDiffer(t *testing.T) {
	s := newScene(t)
	for _, test := range []struct {
		name   string
		bodies []string
		want   string // of /a, /b and /c
	}{
		{"new ones", []string{`{"id": "/a", "cmd": "run"}`, `{"id": "/b", "cmd": "run", "ports": [0, 0]}`}, "[10000] [10001 10002] []"},
		{"one that is named comes first", []string{
			`{"id": "/c", "cmd": "run", "ports": [0]}`, `{"id": "/a", "ports": [10003]}`}, "[10003] [10001 10002] [10004]"},
		{"what is there stays", []string{
			`{"id": "/c", "cmd": "new", "ports": [0, 0]}`, `{"id": "/b", "cmd": "new", "ports": [0]}`}, "[10003] [10001] [10004 10000]"},
		{"what became free is given out", []string{`{"id": "/a", "ports": [0, 0]}`}, "[10003 10002] [10001] [10004 10000]"},
	} {
		if reply := s.put(test.bodies...); reply.Err != nil {
			t.Fatalf("%s: %v", test.name, reply.Err)
		}
		for _, d := range s.m.Deployments() {
			s.ask(Cancel{Deployment: d.ID})
		}
		if got := s.servicePorts("/a", "/b", "/c"); got != test.want {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
}

// The bound on apps counts what one edit brings, before any of it is worked out.
func TestOneEditOfTooManyApps(t *testing.T) {
	s := newScene(t)
	array := func(first, n int) Edit {
		var e Edit
		for i := range n {
			id := fmt.Sprintf("/app-%d", first+i)
			e.Changes = append(e.Changes, Change{App: id, Manner: Update, Body: definition.Patch{"cmd": "run", "ports": []any{}}})
		}
		return e
	}
	if reply := s.ask(array(0, maxApps+1)); !errors.Is(reply.Err, ErrTooMany) || len(s.m.apps) != 0 {
		t.Fatalf("%d apps at once: %v, %d are there", maxApps+1, reply.Err, len(s.m.apps))
	}
	if reply := s.ask(array(0, maxApps-1)); reply.Err != nil {
		t.Fatal(reply.Err)
	}
	if reply := s.ask(array(maxApps-1, 2)); !errors.Is(reply.Err, ErrTooMany) || len(s.m.apps) != maxApps-1 {
		t.Fatalf("two more: %v, %d are there", reply.Err, len(s.m.apps))
	}
	if reply := s.ask(array(maxApps-1, 1)); reply.Err != nil {
		t.Fatal(reply.Err)
	}
	mixed := array(maxApps-2, 2) // there already
	mixed.Force = true
	if reply := s.ask(mixed); reply.Err != nil {
		t.Fatal(reply.Err)
	}
}
