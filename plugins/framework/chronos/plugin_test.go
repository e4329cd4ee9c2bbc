package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
	"github.com/gantry-project/gantry/plugins/framework/chronos/jobs"
	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
	"github.com/gantry-project/gantry/plugins/framework/internal/shell"
	"github.com/gantry-project/gantry/sdk/framework"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// memory is a kernel in memory: a store that outlives conversations, and one agent whose
// tasks end well as soon as they begin.
type memory struct {
	t      *testing.T
	mu     sync.Mutex
	store  map[string][]byte
	events chan *schedulerpb.Event
	refuse map[schedulerpb.Call_Type]int // calls still to be refused
	broken error                         // what Txn answers
	most   int                           // writes in one transaction
	ran    map[string]int                // launches by task id
}

func newMemory(t *testing.T) *memory {
	return &memory{t: t, store: map[string][]byte{}, refuse: map[schedulerpb.Call_Type]int{}, ran: map[string]int{}}
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
	var entries []*frameworkpb.Entry
	for _, key := range keys[:min(page, len(keys))] {
		entries = append(entries, &frameworkpb.Entry{Key: key, Value: m.store[key]})
	}
	return entries, len(keys) > page, nil
}

func (m *memory) Txn(_ context.Context, t *frameworkpb.Txn) (bool, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.broken != nil {
		return false, 0, m.broken
	}
	m.most = max(m.most, len(t.GetPuts())+len(t.GetDeletes()))
	for _, put := range t.GetPuts() {
		m.store[put.GetKey()] = put.GetValue()
	}
	for _, key := range t.GetDeletes() {
		delete(m.store, key)
	}
	return true, 1, nil
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
			if !strings.Contains(string(m.store["state/"+strings.Split(id, ":")[3]]), id) {
				m.t.Errorf("task %s is launched before it is durable", id)
			}
			m.ran[id]++
			m.update(id, mesos.TaskState_TASK_RUNNING)
			m.update(id, mesos.TaskState_TASK_FINISHED)
		}
	}
	return nil
}

func (m *memory) update(id string, state mesos.TaskState) {
	m.events <- &schedulerpb.Event{Type: schedulerpb.Event_UPDATE.Enum(), Update: &schedulerpb.Event_Update{Status: &mesos.TaskStatus{
		TaskId: &mesos.TaskID{Value: &id}, State: &state, AgentId: &mesos.AgentID{Value: new("S")}, Uuid: []byte("0123456789abcdef"),
	}}}
}

func (m *memory) offer() {
	scalar := func(name string, value float64) *mesos.Resource {
		return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value}}
	}
	m.events <- &schedulerpb.Event{Type: schedulerpb.Event_OFFERS.Enum(), Offers: &schedulerpb.Event_Offers{Offers: []*mesos.Offer{{
		Id: &mesos.OfferID{Value: new("O")}, AgentId: &mesos.AgentID{Value: new("S")}, Hostname: new("127.0.0.1"),
		Resources: []*mesos.Resource{scalar("cpus", 1e4), scalar("mem", 1e6), scalar("disk", 1e6)},
	}}}}
}

// session is a plugin process that talks to m.
type session struct {
	*shell.Owner[*jobs.Machine]
	stop  context.CancelFunc
	ended chan error
}

func (m *memory) connect(t *testing.T) *session {
	m.events = make(chan *schedulerpb.Event, 1<<14)
	ctx, cancel := context.WithCancel(t.Context())
	config := jobs.Config{Identity: machine.Identity{Name: "chronos", Role: "*", User: "root"}, LostAfter: time.Minute}
	o, err := shell.Load(ctx, m, slog.New(slog.NewTextHandler(io.Discard, nil)), func(records []machine.Write) (*jobs.Machine, error) {
		return jobs.New(config, records)
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &session{Owner: o, stop: cancel, ended: make(chan error, 1)}
	go func() { s.ended <- o.Run(ctx, time.Now) }()
	t.Cleanup(cancel)
	return s
}

func (s *session) post(t *testing.T, body string) error {
	job, counts, err := definition.Parse([]byte(body), definition.Scheduled)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Do(t.Context(), jobs.Put{Job: job, Counts: counts})
	return err
}

// until waits for a job to be as wanted; the test's own deadline ends a wait in vain.
func (s *session) until(t *testing.T, name string, wanted func(jobs.Info) bool) {
	t.Helper()
	for {
		var info jobs.Info
		if err := s.View(t.Context(), func(m *jobs.Machine, _ time.Time) { info, _ = m.Job(name) }); err != nil {
			t.Fatal(err)
		}
		if wanted(info) {
			return
		}
	}
}

func good(n uint64) func(jobs.Info) bool {
	return func(i jobs.Info) bool { return i.SuccessCount == n && i.State == "idle" }
}

func TestAnswersAreDurable(t *testing.T) {
	m := newMemory(t)
	s := m.connect(t)
	if err := s.post(t, `{"name": "once", "command": "x"}`); err != nil {
		t.Fatal(err)
	}
	s.until(t, "once", good(1))
	s.stop()
	<-s.ended
	s = m.connect(t)
	s.until(t, "once", good(1))
	if _, err := s.Do(t.Context(), jobs.Start{Job: "once"}); err != nil {
		t.Fatal(err)
	}
	s.until(t, "once", good(2))
	if len(m.ran) != 2 {
		t.Errorf("ran %v", m.ran)
	}
}

// A thousand jobs that are due at once run once each.
func TestManyAtOnce(t *testing.T) {
	const n = 1000
	m := newMemory(t)
	s := m.connect(t)
	due := time.Now().Add(-time.Minute).UTC().Format("2006-01-02T15:04:05Z")
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			if err := s.post(t, fmt.Sprintf(`{"name": "job-%d", "command": "x", "schedule": "R1/%s/PT1H"}`, i, due)); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for i := range n {
		s.until(t, fmt.Sprintf("job-%d", i), good(1))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, times := range m.ran {
		if times != 1 {
			t.Errorf("%s ran %d times", id, times)
		}
	}
	if len(m.ran) != n || m.most < 10 {
		t.Errorf("%d tasks ran; one write to the store carried %d records at most", len(m.ran), m.most)
	}
}

func TestRefusals(t *testing.T) {
	m := newMemory(t)
	m.refuse[schedulerpb.Call_ACCEPT] = 1
	s := m.connect(t)
	if err := s.post(t, `{"name": "once", "command": "x", "retries": 0}`); err != nil {
		t.Fatal(err)
	}
	s.until(t, "once", good(1)) // a launch that was refused is made again, and is no failure
	if _, err := s.Do(t.Context(), jobs.Kill{Job: "nobody"}); !errors.Is(err, jobs.ErrRefused) {
		t.Errorf("an unknown job is answered %v", err)
	}
	m.refuse[schedulerpb.Call_SUBSCRIBE] = 1
	s.stop()
	<-s.ended
	if err := <-m.connect(t).ended; err == nil || !strings.Contains(err.Error(), "not today") {
		t.Errorf("the session ended with %v", err)
	}
}

func TestTheEndOfASession(t *testing.T) {
	m := newMemory(t)
	s := m.connect(t)
	if err := s.post(t, `{"name": "a", "command": "x", "schedule": "R0//P1D"}`); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	m.broken = errors.New("no space left")
	m.mu.Unlock()
	if err := s.post(t, `{"name": "b", "command": "x", "schedule": "R0//P1D"}`); !errors.Is(err, shell.ErrEnded) {
		t.Errorf("a definition that is not durable is answered %v", err)
	}
	if err := <-s.ended; !errors.Is(err, m.broken) {
		t.Errorf("the session ended with %v", err)
	}
	m.broken = nil
	s = m.connect(t)
	s.until(t, "a", func(i jobs.Info) bool { return i.Name == "a" })
	close(m.events)
	if err := <-s.ended; err != nil {
		t.Errorf("the session ended with %v", err)
	}
	if err := s.View(t.Context(), func(*jobs.Machine, time.Time) {}); !errors.Is(err, shell.ErrEnded) {
		t.Errorf("a read after the end is answered %v", err)
	}
}

func TestSettings(t *testing.T) {
	for text, want := range map[string]settings{
		"":                     {"*", "root", "chronos", 60, 600},
		`{"role": "prod"}`:     {"prod", "root", "chronos", 60, 600},
		`{"retry_seconds": 0}`: {"*", "root", "chronos", 0, 600},
	} {
		if got, err := decodeSettings([]byte(text)); err != nil || got != want {
			t.Errorf("%s is %+v (%v)", text, got, err)
		}
	}
	for text, part := range map[string]string{
		`{"rolle": "prod"}`:     "it knows role",
		`{"retry_seconds": -1}`: "must be from 0",
		`{"lost_seconds": 0}`:   "lost_seconds from 1",
	} {
		if _, err := decodeSettings([]byte(text)); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s is answered %v", text, err)
		}
	}
}
