package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
	"github.com/gantry-project/gantry/sdk/framework"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// memory is a kernel in memory: a store that outlives conversations, and one agent whose
// tasks run at once and end when killed.
type memory struct {
	t      *testing.T
	mu     sync.Mutex
	store  map[string][]byte
	tasks  map[string]bool
	events chan *schedulerpb.Event
	offers int
	refuse map[schedulerpb.Call_Type]int // calls still to be refused
	broken error                         // what Txn answers
	txns   int
}

func newMemory(t *testing.T) *memory {
	return &memory{t: t, store: map[string][]byte{}, tasks: map[string]bool{}, refuse: map[schedulerpb.Call_Type]int{}}
}

func (m *memory) Events() <-chan *schedulerpb.Event { return m.events }

func (m *memory) List(_ context.Context, prefix, after string, _ int) ([]*frameworkpb.Entry, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var keys []string
	for key := range m.store {
		if strings.HasPrefix(key, prefix) && key > after {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	const page = 2 // small, so that pages are walked
	more := len(keys) > page
	var entries []*frameworkpb.Entry
	for _, key := range keys[:min(page, len(keys))] {
		entries = append(entries, &frameworkpb.Entry{Key: key, Value: m.store[key]})
	}
	return entries, more, nil
}

func (m *memory) Txn(_ context.Context, t *frameworkpb.Txn) (bool, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return false, 0, m.broken
	}
	m.txns++
	for _, put := range t.GetPuts() {
		m.store[put.GetKey()] = put.GetValue()
	}
	for _, key := range t.GetDeletes() {
		delete(m.store, key)
	}
	return true, uint64(m.txns), nil
}

func (m *memory) Call(_ context.Context, c *schedulerpb.Call) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse[c.GetType()] > 0 {
		m.refuse[c.GetType()]--
		return &framework.CallError{Status: 400, Message: "not today"}
	}
	switch c.GetType() {
	case schedulerpb.Call_SUBSCRIBE:
		m.events <- &schedulerpb.Event{Type: schedulerpb.Event_SUBSCRIBED.Enum(), Subscribed: &schedulerpb.Event_Subscribed{FrameworkId: &mesos.FrameworkID{Value: new("F")}}}
	case schedulerpb.Call_REVIVE:
		m.offer()
	case schedulerpb.Call_ACCEPT:
		for _, task := range c.GetAccept().GetOperations()[0].GetLaunch().GetTaskInfos() {
			id := task.GetTaskId().GetValue()
			if m.store["task/"+id] == nil {
				m.t.Errorf("task %s is launched before it is durable", id)
			}
			m.tasks[id] = true
			m.update(id, mesos.TaskState_TASK_RUNNING)
		}
	case schedulerpb.Call_KILL:
		m.end(c.GetKill().GetTaskId().GetValue(), mesos.TaskState_TASK_KILLED)
	case schedulerpb.Call_RECONCILE:
		m.reconcile(c.GetReconcile().GetTasks())
	}
	return nil
}

func (m *memory) reconcile(tasks []*schedulerpb.Call_Reconcile_Task) {
	for _, task := range tasks {
		id := task.GetTaskId().GetValue()
		if m.tasks[id] {
			m.update(id, mesos.TaskState_TASK_RUNNING)
		} else {
			m.update(id, mesos.TaskState_TASK_GONE)
		}
	}
	for id := range m.tasks {
		if len(tasks) == 0 {
			m.update(id, mesos.TaskState_TASK_RUNNING)
		}
	}
}

func (m *memory) end(id string, state mesos.TaskState) {
	delete(m.tasks, id)
	m.update(id, state)
}

func (m *memory) update(id string, state mesos.TaskState) {
	m.events <- &schedulerpb.Event{Type: schedulerpb.Event_UPDATE.Enum(), Update: &schedulerpb.Event_Update{Status: &mesos.TaskStatus{
		TaskId: &mesos.TaskID{Value: &id}, State: &state, AgentId: &mesos.AgentID{Value: new("S")}, Uuid: []byte("0123456789abcdef"),
	}}}
}

func (m *memory) offer() {
	m.offers++
	scalar := func(name string, value float64) *mesos.Resource {
		return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value}}
	}
	m.events <- &schedulerpb.Event{Type: schedulerpb.Event_OFFERS.Enum(), Offers: &schedulerpb.Event_Offers{Offers: []*mesos.Offer{{
		Id: &mesos.OfferID{Value: new(fmt.Sprint("O", m.offers))}, AgentId: &mesos.AgentID{Value: new("S")}, Hostname: new("127.0.0.1"),
		Resources: []*mesos.Resource{scalar("cpus", 8), scalar("mem", 8192), {Name: new("ports"), Type: mesos.Value_RANGES.Enum(),
			Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: new(uint64(31000)), End: new(uint64(32000))}}}}},
	}}}}
}

// session is a plugin process that talks to m.
type session struct {
	*owner
	stop  context.CancelFunc
	ended chan error
}

func (m *memory) connect(t *testing.T) *session {
	m.events = make(chan *schedulerpb.Event, 1024)
	ctx, cancel := context.WithCancel(t.Context())
	o, err := newOwner(ctx, m, apps.Config{Role: "*", User: "root", Principal: "marathon"}, slog.New(slog.NewTextHandler(io.Discard, nil)))
	if err != nil {
		t.Fatal(err)
	}
	s := &session{owner: o, stop: cancel, ended: make(chan error, 1)}
	go func() { s.ended <- o.run(ctx, time.Now) }()
	t.Cleanup(cancel)
	return s
}

func (s *session) create(t *testing.T, body string) error {
	patch, err := definition.ParsePatch([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	id, _ := patch.ID()
	_, err = s.Do(t.Context(), apps.Edit{Changes: []apps.Change{{App: id, Manner: apps.Create, Body: patch}}})
	return err
}

// until waits for an app to be as wanted; the test's own deadline ends a wait in vain.
func (s *session) until(t *testing.T, id string, wanted func(apps.Info) bool) apps.Info {
	t.Helper()
	for {
		var info apps.Info
		if err := s.View(t.Context(), func(m *apps.Machine, _ time.Time) { info, _ = m.App(id) }); err != nil {
			t.Fatal(err)
		}
		if wanted(info) {
			return info
		}
	}
}

const web = `{"id": "/web", "cmd": "serve", "cpus": 0.1, "mem": 32, "instances": 3}`

func running(n int) func(apps.Info) bool {
	return func(i apps.Info) bool { return i.Running == n && len(i.Tasks) == n }
}

func TestAnswersAreDurable(t *testing.T) {
	m := newMemory(t)
	s := m.connect(t)
	if err := s.create(t, web); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	if m.store["current/web"] == nil {
		t.Error("the creation was answered before it was durable")
	}
	m.mu.Unlock()
	s.until(t, "/web", running(3))
	if err := s.create(t, web); !errors.Is(err, apps.ErrExists) {
		t.Errorf("a second creation is answered %v", err)
	}
}

func TestLostInstanceIsReplaced(t *testing.T) {
	m := newMemory(t)
	s := m.connect(t)
	if err := s.create(t, web); err != nil {
		t.Fatal(err)
	}
	victim := s.until(t, "/web", running(3)).Tasks[1].ID
	m.mu.Lock()
	m.end(victim, mesos.TaskState_TASK_LOST)
	m.mu.Unlock()
	s.until(t, "/web", func(i apps.Info) bool {
		return running(3)(i) && !slices.ContainsFunc(i.Tasks, func(task apps.Task) bool { return task.ID == victim })
	})
}

func TestRestartKeepsInstances(t *testing.T) {
	m := newMemory(t)
	first := m.connect(t)
	if err := first.create(t, web); err != nil {
		t.Fatal(err)
	}
	before := first.until(t, "/web", running(3))
	first.stop()
	if err := <-first.ended; err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	delete(m.tasks, before.Tasks[0].ID) // it ends while nobody listens
	m.tasks["web.0-0"] = true           // and one is there that nobody knows
	m.mu.Unlock()

	second := m.connect(t)
	after := second.until(t, "/web", func(i apps.Info) bool { return running(3)(i) && i.Tasks[0].ID != before.Tasks[0].ID })
	if after.Tasks[0].ID != before.Tasks[1].ID || after.Tasks[1].ID != before.Tasks[2].ID {
		t.Errorf("of %v there is left %v", before.Tasks, after.Tasks)
	}
	if !strings.HasPrefix(after.Tasks[2].ID, "web.2-") {
		t.Errorf("the new one is %s, not of the second incarnation", after.Tasks[2].ID)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tasks["web.0-0"] {
		t.Error("a task that nobody knows is left alone")
	}
}

func TestRefusedLaunchIsTriedAgain(t *testing.T) {
	m := newMemory(t)
	m.refuse[schedulerpb.Call_ACCEPT] = 1
	s := m.connect(t)
	if err := s.create(t, `{"id": "/web", "cmd": "serve", "backoffSeconds": 0}`); err != nil {
		t.Fatal(err)
	}
	info := s.until(t, "/web", running(1))
	if info.LastFailure == nil || info.LastFailure.State != "TASK_DROPPED" {
		t.Errorf("the failure is %+v", info.LastFailure)
	}
}

func TestRefusedSubscriptionEndsTheSession(t *testing.T) {
	m := newMemory(t)
	m.refuse[schedulerpb.Call_SUBSCRIBE] = 1
	s := m.connect(t)
	if err := <-s.ended; err == nil || !strings.Contains(err.Error(), "not today") {
		t.Errorf("the session ended with %v", err)
	}
}

func TestBrokenStoreEndsTheSession(t *testing.T) {
	m := newMemory(t)
	s := m.connect(t)
	if err := s.create(t, web); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	m.broken = errors.New("no space left")
	m.mu.Unlock()
	if err := s.create(t, `{"id": "/other", "cmd": "serve"}`); !errors.Is(err, errEnded) {
		t.Errorf("a creation that is not durable is answered %v", err)
	}
	if err := <-s.ended; !errors.Is(err, m.broken) {
		t.Errorf("the session ended with %v", err)
	}
}

func TestHangUpEndsTheSession(t *testing.T) {
	m := newMemory(t)
	s := m.connect(t)
	if err := s.View(t.Context(), func(*apps.Machine, time.Time) {}); err != nil {
		t.Fatal(err)
	}
	close(m.events)
	if err := <-s.ended; err != nil {
		t.Errorf("the session ended with %v", err)
	}
	if err := s.View(t.Context(), func(*apps.Machine, time.Time) {}); !errors.Is(err, errEnded) {
		t.Errorf("a read after the end is answered %v", err)
	}
}

func TestManyClients(t *testing.T) {
	m := newMemory(t)
	s := m.connect(t)
	var group sync.WaitGroup
	for n := range 50 {
		group.Go(func() {
			if err := s.create(t, fmt.Sprintf(`{"id": "/app-%d", "cmd": "serve", "cpus": 0.01, "mem": 1}`, n)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for n := range 50 {
		s.until(t, fmt.Sprintf("/app-%d", n), running(1))
	}
}

func TestHealthCheckOfARealServer(t *testing.T) {
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/away" {
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
			return
		}
		w.WriteHeader(status)
	}))
	at := srv.Listener.Addr().(*net.TCPAddr)
	p := newProber()
	probe := func(http bool, path string) apps.Probed {
		return p.probe(t.Context(), apps.Probe{Task: "web.1-1", Check: 2, HTTP: http, Host: at.IP.String(), Port: at.Port, Path: path, Timeout: 5 * time.Second})
	}
	if r := probe(true, "/health"); !r.Alive || r.Task != "web.1-1" || r.Check != 2 {
		t.Errorf("200 is %+v", r)
	}
	if r := probe(true, "away"); !r.Alive {
		t.Errorf("a redirect is %+v", r)
	}
	if r := probe(false, ""); !r.Alive {
		t.Errorf("an open port is %+v", r)
	}
	status = http.StatusServiceUnavailable
	if r := probe(true, ""); r.Alive || r.Cause != "it answered 503 Service Unavailable" {
		t.Errorf("503 is %+v", r)
	}
	srv.Close()
	if r := probe(true, ""); r.Alive || r.Cause == "" {
		t.Errorf("a closed port is %+v by HTTP", r)
	}
	if r := probe(false, ""); r.Alive || r.Cause == "" {
		t.Errorf("a closed port is %+v by TCP", r)
	}
}

func TestProbeGivesUp(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connects, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	at := silent.Addr().(*net.TCPAddr)
	r := newProber().probe(t.Context(), apps.Probe{HTTP: true, Host: at.IP.String(), Port: at.Port, Timeout: time.Millisecond})
	if r.Alive || r.Cause != "no answer within 1ms" {
		t.Errorf("no answer is %+v", r)
	}
}

func TestSettings(t *testing.T) {
	for text, want := range map[string]settings{
		"":                   {"*", "root", "marathon"},
		"{}":                 {"*", "root", "marathon"},
		`{"role": "prod"}`:   {"prod", "root", "marathon"},
		`{"user": "nobody"}`: {"*", "nobody", "marathon"},
	} {
		if got, err := decodeSettings([]byte(text)); err != nil || got != want {
			t.Errorf("%s is %+v (%v)", text, got, err)
		}
	}
	if _, err := decodeSettings([]byte(`{"rolle": "prod"}`)); err == nil || !strings.Contains(err.Error(), "it knows role, user and principal") {
		t.Errorf("an unknown key is answered %v", err)
	}
}
