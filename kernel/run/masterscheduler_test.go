package run_test

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/run"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// TestSchedulerChecksOfTheCaller: who may speak for a framework is looked at before whether
// it is subscribed, and that before how.
func TestSchedulerChecksOfTheCaller(t *testing.T) {
	m, _ := startMaster(t, openStore(t, t.TempDir()))
	subscribed := func(principal string) (fid, stream string, leave func()) {
		c := subscribeCall(nil)
		c.Subscribe.FrameworkInfo.Principal = &principal
		s, _ := m.Subscribe(t.Context(), api.Caller{Principal: principal}, c)
		return awaitEvent(t, s, schedulerpb.Event_SUBSCRIBED).Subscribed.FrameworkId.GetValue(), s.ID(), s.Close
	}
	here, stream, _ := subscribed("ops")
	away, _, leave := subscribed("ops")
	leave()
	plugin := pluginFramework(t, m)

	const wrong = "Authenticated principal '%s' does not match principal '%s' set in `FrameworkInfo`"
	for name, c := range map[string]struct {
		framework string
		caller    api.Caller
		status    int
		message   string
	}{
		"nobody's, whoever calls":             {"nobody", api.Caller{Principal: "eve"}, 400, "Framework cannot be found"},
		"another principal, not subscribed":   {away, api.Caller{Principal: "eve"}, 400, fmt.Sprintf(wrong, "eve", "ops")},
		"another principal, no stream":        {here, api.Caller{Principal: "eve"}, 400, fmt.Sprintf(wrong, "eve", "ops")},
		"another principal, a plugin's":       {plugin, api.Caller{Principal: "eve"}, 400, fmt.Sprintf(wrong, "eve", "")},
		"not subscribed, another stream":      {away, api.Caller{Principal: "ops", Stream: "x"}, 403, "Framework is not subscribed"},
		"a plugin's, no stream":               {plugin, api.Caller{}, 403, "Framework is not connected via HTTP"},
		"no stream":                           {here, api.Caller{Principal: "ops"}, 400, "All non-subscribe calls should include the 'Mesos-Stream-Id' header"},
		"another stream":                      {here, api.Caller{Principal: "ops", Stream: "x"}, 400, "The stream ID 'x' included in this request didn't match the stream ID currently associated with framework ID " + here},
		"its own":                             {here, api.Caller{Principal: "ops", Stream: stream}, 202, ""},
		"nobody who is known, as on loopback": {here, api.Caller{Stream: stream}, 202, ""},
	} {
		t.Run(name, func(t *testing.T) {
			revive := &schedulerpb.Call{Type: schedulerpb.Call_REVIVE.Enum(), FrameworkId: &mesos.FrameworkID{Value: &c.framework}}
			if got := m.Call(t.Context(), c.caller, revive); got.Status != c.status || got.Message != c.message {
				t.Errorf("got %d %q, want %d %q", got.Status, got.Message, c.status, c.message)
			}
		})
	}
}

// pluginFramework is the id of a framework that is a plugin.
func pluginFramework(t *testing.T, m *run.Master) string {
	t.Helper()
	p := newPipe[*frameworkpb.ToFramework, *frameworkpb.FromFramework]()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = m.ServeFramework(context.Background(), &frameworkpb.Start{Name: "plugin"}, p) // ends with the pipe
	}()
	t.Cleanup(func() { close(p.heard); <-ended })
	p.heard <- &frameworkpb.FromFramework{Body: &frameworkpb.FromFramework_Call{Call: &frameworkpb.Call{Seq: 1, Call: subscribeCall(nil)}}}
	for {
		if e := (<-p.sent).GetEvent(); e.GetType() == schedulerpb.Event_SUBSCRIBED {
			return e.Subscribed.FrameworkId.GetValue()
		}
	}
}

// bazaar is a master with two agents and a framework of the roles a and b, to which the test
// offers what it likes.
type bazaar struct {
	m         *run.Master
	allocator allocatorPipe
	epoch     uint64
	grants    uint64
	framework *mesos.FrameworkID
	stream    api.Stream[*schedulerpb.Event]
	agents    [2]string
	runs      [2]<-chan *linkpb.Run
}

func openBazaar(t *testing.T, c core.Config) *bazaar {
	t.Helper()
	b := &bazaar{allocator: newPipe[*allocatorpb.ToAllocator, *allocatorpb.FromAllocator]()}
	b.m, _ = startMasterAs(t, openStore(t, t.TempDir()), c)
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = b.m.ServeAllocator(ctx, "bazaar", nil, b.allocator) // ends with ctx
	}()
	t.Cleanup(func() { cancel(); <-served; close(b.allocator.heard) })
	b.epoch = (<-b.allocator.sent).Epoch

	subscribe := subscribeCall(nil)
	info := subscribe.Subscribe.FrameworkInfo
	info.Roles = []string{"a", "b"}
	for _, can := range []mesos.FrameworkInfo_Capability_Type{mesos.FrameworkInfo_Capability_MULTI_ROLE, mesos.FrameworkInfo_Capability_PARTITION_AWARE} {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: can.Enum()})
	}
	b.stream, _ = b.m.Subscribe(t.Context(), api.Caller{}, subscribe)
	b.framework = awaitEvent(t, b.stream, schedulerpb.Event_SUBSCRIBED).Subscribed.FrameworkId
	for i := range b.agents {
		hello := agentHello()
		hello.Info.Domain = &mesos.DomainInfo{FaultDomain: &mesos.DomainInfo_FaultDomain{
			Region: &mesos.DomainInfo_FaultDomain_RegionInfo{Name: proto.String("here")}, Zone: &mesos.DomainInfo_FaultDomain_ZoneInfo{Name: proto.String(strconv.Itoa(i))},
		}}
		conn := attachAgent(t, b.m, hello)
		b.agents[i] = hear(t, conn, welcomed)
		runs := make(chan *linkpb.Run, 10)
		b.runs[i] = runs
		go func() {
			for {
				msg, err := conn.Recv()
				if err != nil {
					return
				}
				if msg.GetRun() != nil {
					runs <- msg.GetRun()
				}
			}
		}()
	}
	return b
}

// offer offers half a CPU of an agent in a role.
func (b *bazaar) offer(t *testing.T, agent int, role string) *mesos.Offer {
	t.Helper()
	half, err := ledger.Parse("cpus:0.5")
	if err != nil {
		t.Fatal(err)
	}
	b.grants++
	b.allocator.heard <- &allocatorpb.FromAllocator{Epoch: b.epoch, Grants: []*allocatorpb.Grant{
		{Id: b.grants, AgentId: b.agents[agent], FrameworkId: b.framework.GetValue(), Role: role, Resources: half.Contract()},
	}}
	return awaitEvent(t, b.stream, schedulerpb.Event_OFFERS).Offers.Offers[0]
}

// task wants so many CPUs of the first agent.
func (b *bazaar) task(cpus float64) *mesos.TaskInfo {
	return &mesos.TaskInfo{
		Name: proto.String("t"), TaskId: &mesos.TaskID{Value: proto.String("t")}, AgentId: &mesos.AgentID{Value: &b.agents[0]},
		Command:   &mesos.CommandInfo{Value: proto.String("true")},
		Resources: []*mesos.Resource{{Name: proto.String("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &cpus}}},
	}
}

// accept launches a task.
func (b *bazaar) accept(t *testing.T, info *mesos.TaskInfo, offers ...*mesos.OfferID) {
	t.Helper()
	reply := b.m.Call(t.Context(), api.Caller{Stream: b.stream.ID()}, &schedulerpb.Call{
		Type: schedulerpb.Call_ACCEPT.Enum(), FrameworkId: b.framework,
		Accept: &schedulerpb.Call_Accept{OfferIds: offers, Operations: []*mesos.Offer_Operation{{
			Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{info}},
		}}},
	})
	if reply.Status != 202 {
		t.Fatalf("accept: %+v", reply)
	}
}

// nothingOffered says that no offer stands.
func (b *bazaar) nothingOffered(t *testing.T) {
	t.Helper()
	r, reply := b.m.Query(t.Context(), api.Caller{}, &masterpb.Call{Type: masterpb.Call_GET_AGENTS.Enum()})
	if reply.Status != 200 || len(r.GetAgents.Agents) != 2 {
		t.Fatalf("agents: %+v %v", reply, r)
	}
	for _, a := range r.GetAgents.Agents {
		if len(a.OfferedResources) > 0 {
			t.Errorf("%v of agent %s are still offered", a.OfferedResources, a.AgentInfo.Id.GetValue())
		}
	}
}

// TestRulesOfAccept: offers that don't go together are void, all of them, and the tasks on
// them are dropped with the reason.
func TestRulesOfAccept(t *testing.T) {
	b := openBazaar(t, core.Config{})
	type offers = []*mesos.OfferID
	for name, c := range map[string]struct {
		offers offers
		want   func(offers) string
	}{
		"no offers": {nil, func(offers) string { return "No offers specified" }},
		"an unknown offer": {offers{b.offer(t, 0, "a").Id, {Value: proto.String("x")}}, func(offers) string {
			return "Offer x is no longer valid"
		}},
		"an offer twice": {func() offers { o := b.offer(t, 0, "a").Id; return offers{o, o} }(), func(o offers) string {
			return fmt.Sprintf("Duplicate offer %s in offer list", o[1].GetValue())
		}},
		"offers of two agents": {offers{b.offer(t, 0, "a").Id, b.offer(t, 1, "a").Id}, func(o offers) string {
			return fmt.Sprintf("Aggregated offers must belong to one single agent. Offer %s uses agent %s and agent %s", o[1].GetValue(), b.agents[1], b.agents[0])
		}},
		"offers to two roles": {offers{b.offer(t, 0, "a").Id, b.offer(t, 0, "b").Id}, func(o offers) string {
			return fmt.Sprintf("Aggregated offers must be allocated to the same role. Offer %s uses role b but another is using role a", o[1].GetValue())
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b.accept(t, b.task(0.1), c.offers...)
			s := awaitEvent(t, b.stream, schedulerpb.Event_UPDATE).Update.Status
			if s.GetState() != mesos.TaskState_TASK_DROPPED || s.GetReason() != mesos.TaskStatus_REASON_INVALID_OFFERS ||
				s.GetSource() != mesos.TaskStatus_SOURCE_MASTER || s.Uuid != nil || s.GetMessage() != "Task launched with invalid offers: "+c.want(c.offers) {
				t.Errorf("%v, want %s", s, c.want(c.offers))
			}
		})
	}
	b.nothingOffered(t)

	// Offers of one agent to one role are one.
	b.accept(t, b.task(1), b.offer(t, 0, "b").Id, b.offer(t, 0, "b").Id)
	if task := (<-b.runs[0]).Task; task.Resources[0].GetScalar().GetValue() != 1 || task.Resources[0].GetAllocationInfo().GetRole() != "b" {
		t.Errorf("launched: %v", task)
	}
	b.nothingOffered(t)
}

// TestOfferTimeout: an offer that nobody answers is rescinded in the end, and void.
func TestOfferTimeout(t *testing.T) {
	b := openBazaar(t, core.Config{OfferTimeout: time.Millisecond})
	o := b.offer(t, 0, "a").Id
	if late := awaitEvent(t, b.stream, schedulerpb.Event_RESCIND).Rescind.OfferId; late.GetValue() != o.GetValue() {
		t.Errorf("%v is rescinded, want %v", late, o)
	}
	b.nothingOffered(t)
	b.accept(t, b.task(0.1), o)
	if s := awaitEvent(t, b.stream, schedulerpb.Event_UPDATE).Update.Status; s.GetReason() != mesos.TaskStatus_REASON_INVALID_OFFERS {
		t.Errorf("a task on it: %v", s)
	}
}

// TestOffersTellOfTheAgent: where it is, and which of the framework's executors run there.
func TestOffersTellOfTheAgent(t *testing.T) {
	b := openBazaar(t, core.Config{})
	first := b.offer(t, 0, "a")
	if zone := first.GetDomain().GetFaultDomain().GetZone().GetName(); zone != "0" || len(first.ExecutorIds) != 0 {
		t.Errorf("offered: %v", first)
	}
	info := b.task(0.25)
	info.Command, info.Data = nil, []byte("for the executor")
	info.Executor = &mesos.ExecutorInfo{ExecutorId: &mesos.ExecutorID{Value: proto.String("e")}, Command: &mesos.CommandInfo{Value: proto.String("true")}}
	b.accept(t, info, first.Id)
	if run := <-b.runs[0]; !run.LaunchExecutor || string(run.Task.Data) != "for the executor" {
		t.Errorf("launched: %v", run)
	}
	if again := b.offer(t, 0, "b"); len(again.ExecutorIds) != 1 || again.ExecutorIds[0].GetValue() != "e" {
		t.Errorf("offered: %v", again)
	}
	if other := b.offer(t, 1, "a"); len(other.ExecutorIds) != 0 || other.GetDomain().GetFaultDomain().GetZone().GetName() != "1" {
		t.Errorf("offered of another agent: %v", other)
	}
}

// TestMasterTellsItsCapabilities: to frameworks and operators alike; among them that agents
// may come back with other resources, which are offered then.
func TestMasterTellsItsCapabilities(t *testing.T) {
	info := &mesos.MasterInfo{Id: proto.String("M"), Ip: proto.Uint32(0), Port: proto.Uint32(5050)}
	m, _ := startMasterAs(t, openStore(t, t.TempDir()), core.Config{ID: "M", Info: info})
	defer serveAllocator(m)()

	stream, _ := m.Subscribe(t.Context(), api.Caller{}, subscribeCall(nil))
	said, _ := m.Query(t.Context(), api.Caller{}, &masterpb.Call{Type: masterpb.Call_GET_MASTER.Enum()})
	for who, info := range map[string]*mesos.MasterInfo{
		"SUBSCRIBED": awaitEvent(t, stream, schedulerpb.Event_SUBSCRIBED).Subscribed.MasterInfo,
		"GET_MASTER": said.GetGetMaster().GetMasterInfo(),
	} {
		if c := info.GetCapabilities(); len(c) != 1 || c[0].GetType() != mesos.MasterInfo_Capability_AGENT_UPDATE {
			t.Errorf("%s: %v", who, info)
		}
	}
	if len(info.Capabilities) > 0 {
		t.Error("the caller's info was changed")
	}

	hello := agentHello()
	conn := attachAgent(t, m, hello)
	hello.Info.Id = &mesos.AgentID{Value: proto.String(hear(t, conn, welcomed))}
	awaitEvent(t, stream, schedulerpb.Event_OFFERS)
	conn.Close()
	more, err := ledger.Parse("cpus:6;mem:2048")
	if err != nil {
		t.Fatal(err)
	}
	hello.Info.Resources = more.Mesos("")
	conn = attachAgent(t, m, hello)
	hear(t, conn, welcomed)
	if offer := awaitEvent(t, stream, schedulerpb.Event_OFFERS).Offers.Offers[0]; offer.Resources[0].GetScalar().GetValue() != 6 {
		t.Errorf("an agent with more came back, and %v is offered", offer)
	}
}
