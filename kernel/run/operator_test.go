package run_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/run"
	"github.com/gantry-project/gantry/kernel/store"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

func watch(t *testing.T, m *run.Master) api.Stream[*masterpb.Event] {
	t.Helper()
	s, reply := m.Watch(t.Context(), api.Caller{})
	if reply.Status != 200 {
		t.Fatalf("watch: %+v", reply)
	}
	return s
}

// awaitNews reads a watcher's stream up to an event of a type, and tells what came before.
func awaitNews(t *testing.T, s api.Stream[*masterpb.Event], kind masterpb.Event_Type) (ev *masterpb.Event, before []string) {
	t.Helper()
	for ev := range s.Events() {
		if ev.GetType() == kind {
			return ev, before
		}
		before = append(before, ev.GetType().String())
	}
	t.Fatalf("the stream ended before %s", kind)
	return nil, nil
}

func frameworkNamed(name string) *schedulerpb.Call {
	return &schedulerpb.Call{Type: schedulerpb.Call_SUBSCRIBE.Enum(), Subscribe: &schedulerpb.Call_Subscribe{
		FrameworkInfo: &mesos.FrameworkInfo{User: proto.String("root"), Name: proto.String(name)},
	}}
}

// TestWatchersMissNothing: while frameworks come all the time, each watcher knows each of
// them once, from its snapshot or from an event.
func TestWatchersMissNothing(t *testing.T) {
	db := openStore(t, t.TempDir())
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	m, stop := startMaster(t, db)
	const frameworks = 40
	seenAll := make(chan struct{})
	var coming sync.WaitGroup
	coming.Go(func() {
		for i := range frameworks {
			s, _ := m.Subscribe(t.Context(), api.Caller{}, frameworkNamed(fmt.Sprint(i)))
			defer s.Close()
		}
		<-seenAll
	})
	for range 5 {
		w := watch(t, m)
		first := <-w.Events()
		if first.GetType() != masterpb.Event_SUBSCRIBED {
			t.Fatalf("the first event is %s", first.GetType())
		}
		seen := map[string]int{}
		for _, f := range first.Subscribed.GetState.GetFrameworks.Frameworks {
			seen[f.FrameworkInfo.GetName()]++
		}
		for len(seen) < frameworks {
			if ev := <-w.Events(); ev.GetType() == masterpb.Event_FRAMEWORK_ADDED {
				seen[ev.FrameworkAdded.Framework.FrameworkInfo.GetName()]++
			}
		}
		for name, times := range seen {
			if times != 1 {
				t.Errorf("framework %s was told %d times", name, times)
			}
		}
		w.Close()
	}
	close(seenAll)
	coming.Wait()
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// TestSlowWatcherIsDropped: who does not read is dropped when too much waits for it, and
// the others hear on.
func TestSlowWatcherIsDropped(t *testing.T) {
	m, _ := startMaster(t, openStore(t, t.TempDir()))
	slow, healthy := watch(t, m), watch(t, m)
	defer healthy.Close()
	awaitNews(t, slow, masterpb.Event_SUBSCRIBED)
	large := strings.Repeat("x", 200<<10)
	for i := range 500 {
		c := frameworkNamed(fmt.Sprint(i))
		c.Subscribe.FrameworkInfo.Hostname = &large
		s, _ := m.Subscribe(t.Context(), api.Caller{}, c)
		awaitNews(t, healthy, masterpb.Event_FRAMEWORK_ADDED)
		s.Close()
		awaitNews(t, healthy, masterpb.Event_FRAMEWORK_REMOVED) // not all of them would be kept
	}
	got := 0
	for range slow.Events() { // ends
		got++
	}
	if got >= 500 {
		t.Errorf("the slow watcher still got all %d events", got)
	}
}

// TestWeightsOutliveTheMaster: what was answered is durable, and the next allocator and the
// next master know it.
func TestWeightsOutliveTheMaster(t *testing.T) {
	s := openStore(t, t.TempDir())
	m, stop := startMaster(t, s)
	reply := m.Change(t.Context(), api.Caller{}, &masterpb.Call{Type: masterpb.Call_UPDATE_WEIGHTS.Enum(), UpdateWeights: &masterpb.Call_UpdateWeights{
		WeightInfos: []*mesos.WeightInfo{{Role: proto.String("eng/web"), Weight: proto.Float64(2.5)}},
	}})
	if reply.Status != 200 {
		t.Fatalf("update: %+v", reply)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	m, _ = startMaster(t, s)
	r, _ := m.Query(t.Context(), api.Caller{}, &masterpb.Call{Type: masterpb.Call_GET_WEIGHTS.Enum()})
	if w := r.GetGetWeights().GetWeightInfos(); len(w) != 1 || w[0].GetRole() != "eng/web" || w[0].GetWeight() != 2.5 {
		t.Errorf("weights: %v", w)
	}
	r, _ = m.Query(t.Context(), api.Caller{}, &masterpb.Call{Type: masterpb.Call_GET_ROLES.Enum()})
	if roles := r.GetGetRoles().GetRoles(); len(roles) != 1 || roles[0].GetWeight() != 2.5 {
		t.Errorf("roles: %v", roles)
	}
}

// TestOperatorTeardown ends a framework, and its stream.
func TestOperatorTeardown(t *testing.T) {
	m, _ := startMaster(t, openStore(t, t.TempDir()))
	s, _ := m.Subscribe(t.Context(), api.Caller{}, subscribeCall(nil))
	defer s.Close()
	fid := awaitEvent(t, s, schedulerpb.Event_SUBSCRIBED).Subscribed.FrameworkId
	end := &masterpb.Call{Type: masterpb.Call_TEARDOWN.Enum(), Teardown: &masterpb.Call_Teardown{FrameworkId: fid}}
	if reply := m.Change(t.Context(), api.Caller{}, end); reply.Status != 200 {
		t.Errorf("teardown: %+v", reply)
	}
	for range s.Events() { // ends
	}
	if reply := m.Change(t.Context(), api.Caller{}, end); reply.Status != 400 || reply.Message != "No framework found with specified ID" {
		t.Errorf("teardown again: %+v", reply)
	}
}

// leading is a master that leads.
type leading struct{}

func (leading) Standing() api.Standing { return api.Standing{Leading: true, Recovered: true} }

// door is a master's HTTP surface with one framework subscribed and one that is away.
type door struct {
	handler            http.Handler
	here, away, stream string
}

func openDoor(t *testing.T, s store.Store) door {
	m, _ := startMaster(t, s)
	d := door{handler: api.NewMaster(api.MasterConfig{
		Scheduler: m, Operator: m, Readiness: leading{}, Version: &mesos.VersionInfo{Version: proto.String("1")},
	})}
	for _, id := range []*string{&d.here, &d.away} {
		stream, _ := m.Subscribe(t.Context(), api.Caller{}, subscribeCall(nil))
		*id = awaitEvent(t, stream, schedulerpb.Event_SUBSCRIBED).Subscribed.FrameworkId.GetValue()
		if id == &d.here {
			d.stream = stream.ID()
			t.Cleanup(stream.Close)
		} else {
			stream.Close()
		}
	}
	return d
}

// TestSchedulerCheckOrder sends requests that pass all checks before the one they are named
// after, and fail it and some behind it. Those that need no state stand with the api.
func TestSchedulerCheckOrder(t *testing.T) {
	d := openDoor(t, openStore(t, t.TempDir()))
	call := func(kind, framework, rest string) string {
		return fmt.Sprintf(`{"type":"%s","framework_id":{"value":"%s"}%s}`, kind, framework, rest)
	}
	info := func(user, more string) string {
		return fmt.Sprintf(`,"update_framework":{"framework_info":{"id":{"value":"%s"},"user":"%s","name":"test","failover_timeout":600%s}}`, d.here, user, more)
	}
	for _, c := range []struct {
		name, stream, body string
		status             int
		message            string
	}{
		{"framework cannot be found", "", call("KILL", "nobody", `,"kill":{"task_id":{"value":"t"}}`), 400, "Framework cannot be found"},
		{"not subscribed", "", call("REVIVE", d.away, ""), 403, "Framework is not subscribed"},
		{"no stream id", "", call("REVIVE", d.here, ""), 400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"},
		{"another stream id", "other", call("REVIVE", d.here, ""), 400, "The stream ID 'other' included in this request didn't match the stream ID currently associated with framework ID " + d.here},
		{"not there yet", d.stream, call("ACCEPT_INVERSE_OFFERS", d.here, `,"accept_inverse_offers":{"inverse_offer_ids":[]}`), 501,
			"ACCEPT_INVERSE_OFFERS is not supported yet"},
		{"no such type", d.stream, call("NONESUCH", d.here, ""), 400, "Failed to validate scheduler::Call: Expecting 'type' to be present"},
		{"REQUEST is accepted and ignored", d.stream, call("REQUEST", d.here, `,"request":{}`), 202, ""},
		{"accepted", d.stream, call("REVIVE", d.here, ""), 202, ""},
		{"UPDATE_FRAMEWORK, wrong user", d.stream, call("UPDATE_FRAMEWORK", d.here, info("nobody", "")), 400,
			"Not a valid update of the framework: Updating 'FrameworkInfo.user' is unsupported; attempted to update from 'root' to 'nobody'"},
		{"UPDATE_FRAMEWORK, wrong principal", d.stream, call("UPDATE_FRAMEWORK", d.here, info("root", `,"principal":"p"`)), 400,
			"Not a valid update of the framework: Changing framework's principal is not allowed."},
		{"UPDATE_FRAMEWORK", d.stream, call("UPDATE_FRAMEWORK", d.here, info("root", "")), 200, ""},
		{"UPDATE_FRAMEWORK with constraints", d.stream, call("UPDATE_FRAMEWORK", d.here,
			strings.TrimSuffix(info("root", ""), "}")+`,"offer_constraints":{"role_constraints":{"*":{}}}}`), 501, "UPDATE_FRAMEWORK with offer_constraints is not supported yet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := httptest.NewRequest("POST", "/api/v1/scheduler", strings.NewReader(c.body))
			r.Header.Set("Content-Type", "application/json")
			if c.stream != "" {
				r.Header.Set("Mesos-Stream-Id", c.stream)
			}
			w := httptest.NewRecorder()
			d.handler.ServeHTTP(w, r)
			if w.Code != c.status || w.Body.String() != c.message {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body.String(), c.status, c.message)
			}
		})
	}
}
