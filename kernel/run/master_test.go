package run_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/link"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/run"
	"github.com/gantry-project/gantry/kernel/store"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// startMaster runs a master on a store until stop, whose error it returns.
func startMaster(t *testing.T, s store.Store) (m *run.Master, stop func() error) {
	t.Helper()
	return startMasterAs(t, s, core.Config{})
}

func startMasterAs(t *testing.T, s store.Store, c core.Config) (m *run.Master, stop func() error) {
	t.Helper()
	m, err := run.NewMaster(t.Context(), run.MasterConfig{Core: c, Store: s, Log: slog.New(slog.DiscardHandler), Check: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { _ = stop() })
	return m, stop
}

func openStore(t *testing.T, dir string) store.Store {
	t.Helper()
	s, err := store.OpenBolt(filepath.Join(dir, "master.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// pipe is a plugin's stream: what the kernel sends comes out of sent, what is put into
// heard is received.
type pipe[Out, In any] struct {
	sent  chan Out
	heard chan In
}

func newPipe[Out, In any]() pipe[Out, In] {
	return pipe[Out, In]{make(chan Out, 1000), make(chan In, 1000)}
}

func (p pipe[Out, In]) Send(m Out) error { p.sent <- m; return nil }
func (p pipe[Out, In]) Recv() (In, error) {
	m, ok := <-p.heard
	if !ok {
		return m, io.EOF
	}
	return m, nil
}

type allocatorPipe = pipe[*allocatorpb.ToAllocator, *allocatorpb.FromAllocator]
type frameworkPipe = pipe[*frameworkpb.ToFramework, *frameworkpb.FromFramework]

// serveAllocator grants everything of each agent that it hears of to the first framework
// that it heard of.
func serveAllocator(m *run.Master) (stop func()) {
	p := newPipe[*allocatorpb.ToAllocator, *allocatorpb.FromAllocator]()
	ctx, cancel := context.WithCancel(context.Background())
	var both sync.WaitGroup
	both.Go(func() { _ = m.ServeAllocator(ctx, "greedy", nil, p) }) // ends with ctx
	both.Go(func() { greedy(ctx, p) })
	return sync.OnceFunc(func() {
		cancel()
		both.Wait()
		close(p.heard)
	})
}

func greedy(ctx context.Context, p allocatorPipe) {
	var agents []*allocatorpb.Agent
	framework, grants := "", uint64(0)
	for {
		var m *allocatorpb.ToAllocator
		select {
		case m = <-p.sent:
		case <-ctx.Done():
			return
		}
		agents = append(agents, m.GetSnapshot().GetAgents()...)
		for _, f := range m.GetSnapshot().GetFrameworks() {
			framework = f.Id
		}
		for _, d := range m.GetDeltas().GetDeltas() {
			if d.GetAgent() != nil {
				agents = append(agents, d.GetAgent())
			}
			if framework == "" {
				framework = d.GetFramework().GetId()
			}
		}
		if framework == "" {
			continue
		}
		for _, a := range agents {
			grants++
			p.heard <- &allocatorpb.FromAllocator{Epoch: m.Epoch, Revision: m.Revision, Grants: []*allocatorpb.Grant{
				{Id: grants, AgentId: a.Id, FrameworkId: framework, Role: "*", Resources: a.Total},
			}}
		}
		agents = nil
	}
}

// attachAgent is the test as an agent.
func attachAgent(t *testing.T, m *run.Master, hello *linkpb.Hello) *link.Conn {
	t.Helper()
	session, conn := link.Pair()
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = m.ServeAgent(t.Context(), session) // ends with the connection
	}()
	t.Cleanup(func() { conn.Close(); <-served })
	if err := conn.Send(&linkpb.ToMaster{Body: &linkpb.ToMaster_Hello{Hello: hello}}); err != nil {
		t.Fatal(err)
	}
	return conn
}

func hear[T any](t *testing.T, conn *link.Conn, pick func(*linkpb.ToAgent) (T, bool)) T {
	t.Helper()
	for {
		msg, err := conn.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if v, ok := pick(msg); ok {
			return v
		}
	}
}

func welcomed(m *linkpb.ToAgent) (string, bool) {
	return m.GetWelcome().GetAgentId().GetValue(), m.GetWelcome() != nil
}

func agentHello() *linkpb.Hello {
	total, err := ledger.Parse("cpus:4;mem:1024")
	if err != nil {
		panic(err)
	}
	return &linkpb.Hello{Info: &mesos.AgentInfo{Hostname: proto.String("host"), Resources: total.Mesos("")}}
}

func subscribeCall(fid *mesos.FrameworkID) *schedulerpb.Call {
	return &schedulerpb.Call{
		Type: schedulerpb.Call_SUBSCRIBE.Enum(), FrameworkId: fid,
		Subscribe: &schedulerpb.Call_Subscribe{FrameworkInfo: &mesos.FrameworkInfo{
			User: proto.String("root"), Name: proto.String("test"), Id: fid, FailoverTimeout: proto.Float64(600),
		}},
	}
}

// awaitEvent reads a stream up to an event of a type.
func awaitEvent(t *testing.T, s api.Stream[*schedulerpb.Event], kind schedulerpb.Event_Type) *schedulerpb.Event {
	t.Helper()
	for ev := range s.Events() {
		if ev.GetType() == kind {
			return ev
		}
	}
	t.Fatalf("the stream ended before %s", kind)
	return nil
}

// TestMasterLaunches goes from a subscription to an acknowledged end, and over a restart.
func TestMasterLaunches(t *testing.T) {
	s := openStore(t, t.TempDir())
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	m, stop := startMaster(t, s)
	stopAllocator := serveAllocator(m)
	stream, reply := m.Subscribe(t.Context(), api.Caller{}, subscribeCall(nil))
	if reply.Status != 200 {
		t.Fatalf("subscribe: %+v", reply)
	}
	fid := awaitEvent(t, stream, schedulerpb.Event_SUBSCRIBED).Subscribed.FrameworkId
	conn := attachAgent(t, m, agentHello())
	aid := hear(t, conn, welcomed)
	offer := awaitEvent(t, stream, schedulerpb.Event_OFFERS).Offers.Offers[0]
	from := api.Caller{Stream: stream.ID()}
	info := &mesos.TaskInfo{
		Name: proto.String("t"), TaskId: &mesos.TaskID{Value: proto.String("t1")}, AgentId: offer.AgentId,
		Resources: offer.Resources, Command: &mesos.CommandInfo{Value: proto.String("true")},
	}
	reply = m.Call(t.Context(), from, &schedulerpb.Call{Type: schedulerpb.Call_ACCEPT.Enum(), FrameworkId: fid, Accept: &schedulerpb.Call_Accept{
		OfferIds: []*mesos.OfferID{offer.Id},
		Operations: []*mesos.Offer_Operation{{
			Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{info}},
		}},
	}})
	if reply.Status != 202 {
		t.Fatalf("accept: %+v", reply)
	}
	running := hear(t, conn, func(m *linkpb.ToAgent) (*mesos.TaskInfo, bool) { return m.GetRun().GetTask(), m.GetRun() != nil })
	status := &mesos.TaskStatus{TaskId: running.TaskId, AgentId: offer.AgentId, State: mesos.TaskState_TASK_RUNNING.Enum(), Uuid: []byte("u")}
	if err := conn.Send(&linkpb.ToMaster{Body: &linkpb.ToMaster_Update{Update: &linkpb.Update{
		FrameworkId: fid, Status: status, Latest: int32(mesos.TaskState_TASK_RUNNING),
	}}}); err != nil {
		t.Fatal(err)
	}
	if got := awaitEvent(t, stream, schedulerpb.Event_UPDATE).Update.Status; got.GetState() != mesos.TaskState_TASK_RUNNING {
		t.Errorf("update: %v", got)
	}
	r, reply := m.Query(t.Context(), api.Caller{}, &masterpb.Call{Type: masterpb.Call_GET_TASKS.Enum()})
	if reply.Status != 200 || len(r.GetGetTasks().GetTasks()) != 1 {
		t.Errorf("GET_TASKS: %+v %v", reply, r)
	}
	stream.Close()
	stopAllocator()
	if err := stop(); err != nil {
		t.Fatalf("run: %v", err)
	}
	restarted(t, s, m.Epoch(), fid, aid, running)
}

// restarted runs the next master on the same store: it knows the framework, and takes the
// task from the agent.
func restarted(t *testing.T, s store.Store, epoch uint64, fid *mesos.FrameworkID, aid string, info *mesos.TaskInfo) {
	m, stop := startMaster(t, s)
	if m.Epoch() <= epoch {
		t.Errorf("epoch %d after %d", m.Epoch(), epoch)
	}
	hello := agentHello()
	hello.Info.Id = &mesos.AgentID{Value: &aid}
	hello.Tasks = []*linkpb.HeldTask{{
		FrameworkId: fid, Info: info,
		Status: &mesos.TaskStatus{TaskId: info.TaskId, State: mesos.TaskState_TASK_RUNNING.Enum()},
	}}
	conn := attachAgent(t, m, hello)
	if again := hear(t, conn, welcomed); again != aid {
		t.Errorf("the agent is %s now, not %s", again, aid)
	}
	stream, reply := m.Subscribe(t.Context(), api.Caller{}, subscribeCall(fid))
	if reply.Status != 200 {
		t.Fatalf("subscribe again: %+v", reply)
	}
	if again := awaitEvent(t, stream, schedulerpb.Event_SUBSCRIBED).Subscribed.FrameworkId; again.GetValue() != fid.GetValue() {
		t.Errorf("the framework is %s now, not %s", again, fid)
	}
	reply = m.Call(t.Context(), api.Caller{Stream: stream.ID()}, &schedulerpb.Call{
		Type: schedulerpb.Call_RECONCILE.Enum(), FrameworkId: fid, Reconcile: &schedulerpb.Call_Reconcile{},
	})
	if got := awaitEvent(t, stream, schedulerpb.Event_UPDATE).Update.Status; reply.Status != 202 || got.GetTaskId().GetValue() != "t1" {
		t.Errorf("reconcile: %+v %v", reply, got)
	}
	conn.Close()
	stream.Close()
	if err := stop(); err != nil {
		t.Fatalf("run again: %v", err)
	}
}

// TestFrameworkPlugin: a plugin subscribes, keeps its id over sessions, and has keys of
// its own.
func TestFrameworkPlugin(t *testing.T) {
	m, _ := startMaster(t, openStore(t, t.TempDir()))
	var fid string
	for session := range 2 {
		p := newPipe[*frameworkpb.ToFramework, *frameworkpb.FromFramework]()
		ended := make(chan error, 1)
		go func() { ended <- m.ServeFramework(t.Context(), &frameworkpb.Start{Name: "plugin"}, p) }()
		start := (<-p.sent).GetStart()
		if start.GetFrameworkId() != fid {
			t.Errorf("session %d: the id is %q, not %q", session, start.GetFrameworkId(), fid)
		}
		p.heard <- &frameworkpb.FromFramework{Body: &frameworkpb.FromFramework_Call{Call: &frameworkpb.Call{Seq: 1, Call: subscribeCall(nil)}}}
		for fid == "" || session > 0 {
			msg := <-p.sent
			if ev := msg.GetEvent(); ev.GetType() == schedulerpb.Event_SUBSCRIBED {
				fid = ev.Subscribed.FrameworkId.GetValue()
				break
			}
		}
		checkState(t, p, session)
		close(p.heard)
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("session %d ended with %v", session, err)
		}
	}
}

func checkState(t *testing.T, p frameworkPipe, session int) {
	ask := func(r *frameworkpb.StateRequest) *frameworkpb.StateReply {
		p.heard <- &frameworkpb.FromFramework{Body: &frameworkpb.FromFramework_State{State: r}}
		for {
			if reply := (<-p.sent).GetStateReply(); reply != nil {
				return reply
			}
		}
	}
	list := ask(&frameworkpb.StateRequest{Seq: 2, Body: &frameworkpb.StateRequest_List{List: &frameworkpb.List{}}})
	if len(list.Entries) != session {
		t.Fatalf("session %d: %v", session, list)
	}
	put := ask(&frameworkpb.StateRequest{Seq: 3, Body: &frameworkpb.StateRequest_Txn{Txn: &frameworkpb.Txn{
		Conditions: []*frameworkpb.Condition{{Key: "k"}}, Puts: []*frameworkpb.Put{{Key: "k", Value: []byte("v")}},
	}}})
	if put.Applied != (session == 0) || put.Error != "" || put.Seq != 3 {
		t.Errorf("session %d: %v", session, put)
	}
	for _, key := range []string{"", "a b", "\x00", "../../framework/x\n"} {
		bad := ask(&frameworkpb.StateRequest{Seq: 4, Body: &frameworkpb.StateRequest_Txn{Txn: &frameworkpb.Txn{Puts: []*frameworkpb.Put{{Key: key}}}}})
		if bad.Error == "" || bad.Applied {
			t.Errorf("key %q: %v", key, bad)
		}
	}
}

// brokenStore fails its writes once told to.
type brokenStore struct {
	store.Store
	broken atomic.Bool
}

func (s *brokenStore) Apply(ctx context.Context, t store.Txn) (store.Result, error) {
	if s.broken.Load() {
		return store.Result{}, errors.New("the disk is on fire")
	}
	return s.Store.Apply(ctx, t)
}

// TestNothingIsToldThatIsNotDurable: a failed write ends the master, and who asked is
// told nothing that rests on it.
func TestNothingIsToldThatIsNotDurable(t *testing.T) {
	s := &brokenStore{Store: openStore(t, t.TempDir())}
	m, err := run.NewMaster(t.Context(), run.MasterConfig{Store: s, Log: slog.New(slog.DiscardHandler), Check: true})
	if err != nil {
		t.Fatal(err)
	}
	s.broken.Store(true)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(context.Background()) }()
	if stream, reply := m.Subscribe(t.Context(), api.Caller{}, subscribeCall(nil)); stream != nil || reply.Status != 503 {
		t.Errorf("a subscription that is not durable: %+v", reply)
	}
	if err := <-ended; err == nil {
		t.Error("the master ended without an error")
	}
}

// heldStore holds its writes up once told to, until they are let go.
type heldStore struct {
	store.Store
	held      atomic.Bool
	came, let chan struct{}
}

func (s *heldStore) Apply(ctx context.Context, t store.Txn) (store.Result, error) {
	if s.held.Load() {
		s.came <- struct{}{}
		<-s.let
	}
	return s.Store.Apply(ctx, t)
}

// TestNobodySeesWhatIsNotDurable: an operator sees a framework when its record is written,
// and no sooner.
func TestNobodySeesWhatIsNotDurable(t *testing.T) {
	s := &heldStore{Store: openStore(t, t.TempDir()), came: make(chan struct{}, 16), let: make(chan struct{})}
	m, _ := startMaster(t, s)
	s.held.Store(true)
	subscribed := make(chan api.Reply, 1)
	go func() {
		_, reply := m.Subscribe(context.Background(), api.Caller{}, subscribeCall(nil))
		subscribed <- reply
	}()
	<-s.came
	look := &masterpb.Call{Type: masterpb.Call_GET_FRAMEWORKS.Enum()}
	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if state, reply := m.Query(soon, api.Caller{}, look); reply.Status == 200 {
		t.Errorf("while the write is under way an operator sees %v", state)
	}
	close(s.let)
	if reply := <-subscribed; reply.Status != 200 {
		t.Errorf("the subscription is answered with %+v", reply)
	}
	if state, _ := m.Query(t.Context(), api.Caller{}, look); len(state.GetGetFrameworks().GetFrameworks()) != 1 {
		t.Errorf("when the write is done an operator sees %v", state)
	}
}

// TestSlowSubscriberIsDropped: who does not read is disconnected at last, and a burst of
// thousands of events is no reason yet.
func TestSlowSubscriberIsDropped(t *testing.T) {
	m, _ := startMaster(t, openStore(t, t.TempDir()))
	slow, _ := m.Subscribe(t.Context(), api.Caller{}, subscribeCall(nil))
	fid := (<-slow.Events()).Subscribed.FrameworkId
	ask := &schedulerpb.Call{Type: schedulerpb.Call_RECONCILE.Enum(), FrameworkId: fid, Reconcile: &schedulerpb.Call_Reconcile{}}
	for range 10_000 {
		ask.Reconcile.Tasks = append(ask.Reconcile.Tasks, &schedulerpb.Call_Reconcile_Task{
			TaskId: &mesos.TaskID{Value: proto.String(strings.Repeat("x", 250))},
		})
	}
	calls := 0
	for m.Call(t.Context(), api.Caller{Stream: slow.ID()}, ask).Status == 202 {
		calls++
	}
	if calls < 3 || calls > 25 {
		t.Errorf("disconnected after %d calls of 10,000 answers each", calls)
	}
	var last *schedulerpb.Event
	for last = range slow.Events() { // ends
	}
	const why = "Dropped for reading too slowly: more than 16777216 bytes of events are unread; subscribe again"
	if last.GetError().GetMessage() != why {
		t.Errorf("the last word is %v", last)
	}
}

// TestLeavingMasterKeepsFrameworks: a framework without failover timeout that loses its
// connection because the master stops is there for the next master.
func TestLeavingMasterKeepsFrameworks(t *testing.T) {
	s := openStore(t, t.TempDir())
	m, stop := startMaster(t, s)
	call := subscribeCall(nil)
	call.Subscribe.FrameworkInfo.FailoverTimeout = nil
	stream, _ := m.Subscribe(t.Context(), api.Caller{}, call)
	fid := awaitEvent(t, stream, schedulerpb.Event_SUBSCRIBED).Subscribed.FrameworkId.GetValue()
	m.Leave()
	stream.Close()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	entries, _, err := s.List(t.Context(), "framework/", "", 0)
	if err != nil || len(entries) != 1 || entries[0].Key != "framework/"+fid {
		t.Errorf("the registry has %v of framework %s: %v", entries, fid, err)
	}
}
