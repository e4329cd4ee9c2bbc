package sim

import (
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/kernel/sim/words"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// framework is a scheduler's memory: what outlives its processes and connections.
type framework struct {
	*world
	c       *cluster
	name    string
	info    *mesos.FrameworkInfo
	aware   bool
	hostile bool
	// brings says that it has executors for some of its tasks.
	brings bool
	id     string
	// over says that the master has removed it, or that it has left.
	over bool
	// away says that it will never come back.
	away bool
	// idle frameworks launch nothing; deaf ones acknowledge nothing.
	idle, deaf bool
	// lost are offers that calls which were lost were about.
	lost     []*mesos.OfferID
	tasks    map[id.Task]*duty
	launched int
	// subs are its connections: one, or two that fight.
	subs []*subscription
}

// duty is a task as its scheduler knows it.
type duty struct {
	id    id.Task
	agent string
	since step.Time
	state mesos.TaskState
}

// subscription is one connection of a scheduler: events come in order on its lane.
type subscription struct {
	*world
	id     id.Stream
	f      *framework
	m      *master
	life   int // of the master
	lane   lane
	offers map[string]*mesos.Offer
	order  []string // of the offers
	open   bool
	heard  bool // anything at all
}

func newFramework(c *cluster, n int) *framework {
	f := &framework{world: c.world, c: c, name: fmt.Sprint("f", n), tasks: map[id.Task]*duty{}, aware: c.IntN(3) > 0}
	f.info = &mesos.FrameworkInfo{User: proto.String("root"), Name: proto.String(f.name)}
	add := func(capability mesos.FrameworkInfo_Capability_Type) {
		f.info.Capabilities = append(f.info.Capabilities, &mesos.FrameworkInfo_Capability{Type: capability.Enum()})
	}
	if f.aware {
		add(mesos.FrameworkInfo_Capability_PARTITION_AWARE)
	}
	if c.chance(2) {
		add(mesos.FrameworkInfo_Capability_TASK_KILLING_STATE)
	}
	if c.chance(2) {
		add(mesos.FrameworkInfo_Capability_MULTI_ROLE)
		f.info.Roles = []string{"a", "b"}[:1+c.IntN(2)]
	}
	f.brings = c.chance(2)
	f.info.FailoverTimeout = proto.Float64(float64(c.IntN(5) * c.IntN(200)))
	return f
}

// subscribe opens a new connection.
func (f *framework) subscribe() {
	if f.over || f.away {
		return
	}
	f.c.streams++
	sub := &subscription{
		world: f.world, id: id.Stream(fmt.Sprint("s", f.c.streams)), f: f, m: f.c.master, offers: map[string]*mesos.Offer{},
		lane: lane{world: f.world, slowest: f.c.latency}, open: true,
	}
	f.subs = append(f.subs, sub)
	info := proto.CloneOf(f.info)
	if f.id != "" {
		info.Id = &mesos.FrameworkID{Value: proto.String(f.id)}
	}
	call := &schedulerpb.Call{
		Type: schedulerpb.Call_SUBSCRIBE.Enum(), FrameworkId: info.Id,
		Subscribe: &schedulerpb.Call_Subscribe{FrameworkInfo: info},
	}
	f.post(sub, call, func() {
		sub.life = sub.m.life
		sub.m.subs[sub.id] = sub
		if !sub.open {
			sub.masterLearns()
		}
	})
	f.after(20*time.Second, func() {
		if !sub.heard {
			sub.leave()
		}
	})
}

// post sends a call, each on a connection of its own: calls may be lost or overtake one
// another. Arrived runs as the master takes it.
func (f *framework) post(sub *subscription, call *schedulerpb.Call, arrived func()) {
	if !f.calm && f.chance(50) {
		f.lost = slices.Concat(f.lost, call.GetAccept().GetOfferIds(), call.GetDecline().GetOfferIds())
		return
	}
	if err := rules.Call(call); err != nil && !f.hostile {
		fail("%s made an invalid call: %v", f.name, err)
	} else if err != nil {
		return // the API's to refuse
	}
	m := f.c.master
	f.after(f.between(0, f.c.latency), func() {
		m.accept(m.life, func() {
			if arrived != nil {
				arrived()
			}
			m.requests++
			m.note("%s %s %s", f.name, sub.id, words.Call(call))
			m.step(core.Call{Request: m.requests, Stream: sub.id, Call: call})
		})
	})
}

// call is any call but SUBSCRIBE, on the newest connection.
func (f *framework) call(c *schedulerpb.Call) {
	if sub := f.current(); sub != nil && f.id != "" {
		c.FrameworkId = &mesos.FrameworkID{Value: proto.String(f.id)}
		f.post(sub, c, nil)
	}
}

func (f *framework) current() *subscription {
	if len(f.subs) == 0 {
		return nil
	}
	return f.subs[len(f.subs)-1]
}

// deliver puts a notice on its way.
func (s *subscription) deliver(n core.Notice) {
	if n.Close {
		delete(s.m.subs, s.id)
	}
	s.lane.send(func() {
		if s.open {
			s.hear(n)
		}
	})
}

func (s *subscription) hear(n core.Notice) {
	f := s.f
	s.heard = true
	switch ev := n.Event; ev.GetType() {
	case schedulerpb.Event_SUBSCRIBED:
		f.note("%s %s subscribed as %s", f.name, s.id, ev.Subscribed.FrameworkId.GetValue())
		if f.id != "" && f.id != ev.Subscribed.FrameworkId.GetValue() {
			fail("%s was %s and is subscribed as %s", f.name, f.id, ev.Subscribed.FrameworkId.GetValue())
		}
		f.id = ev.Subscribed.FrameworkId.GetValue()
	case schedulerpb.Event_OFFERS:
		for _, o := range ev.Offers.Offers {
			s.offers[o.Id.GetValue()] = o
			s.order = append(s.order, o.Id.GetValue())
		}
	case schedulerpb.Event_RESCIND:
		delete(s.offers, ev.Rescind.OfferId.GetValue())
	case schedulerpb.Event_UPDATE:
		f.update(s, ev.Update.Status)
	case schedulerpb.Event_ERROR:
		f.note("%s %s error: %s", f.name, s.id, ev.Error.GetMessage())
		if ev.Error.GetMessage() == "Framework has been removed" {
			f.over = true
		}
	}
	if n.Close {
		s.closed()
	}
}

// closed forgets a connection that has ended.
func (s *subscription) closed() {
	s.open, s.lane.dead = false, true
	for i, other := range s.f.subs {
		if other == s {
			s.f.subs = append(s.f.subs[:i:i], s.f.subs[i+1:]...)
			return
		}
	}
}

// leave breaks the connection from the scheduler's side; the master learns of it later.
func (s *subscription) leave() {
	if !s.open {
		return
	}
	s.closed()
	s.masterLearns()
}

func (s *subscription) masterLearns() {
	life := s.life
	s.after(s.between(0, s.f.c.blindness), func() {
		s.m.accept(life, func() {
			if s.m.subs[s.id] == s {
				delete(s.m.subs, s.id)
				s.m.step(core.StreamGone{Stream: s.id})
			}
		})
	})
}

// sever breaks the connection for both.
func (s *subscription) sever() {
	if !s.open {
		return
	}
	s.lane.dead = true
	s.masterLearns()
	s.after(s.between(0, s.f.c.blindness), func() {
		if s.open {
			s.closed()
		}
	})
}

// update is a status: it is remembered, judged by the witness, and mostly acknowledged.
func (f *framework) update(s *subscription, status *mesos.TaskStatus) {
	if s != f.current() {
		return // a scheduler that was replaced, and does not know it yet
	}
	f.note("%s hears %s %s %x %s", f.name, status.GetTaskId().GetValue(), words.State(status.GetState()), status.GetUuid(), status.GetReason())
	d := f.tasks[id.Task(status.GetTaskId().GetValue())]
	if d != nil {
		d.state = status.GetState()
	}
	if !f.hostile {
		f.c.witness.heard(f, status)
	}
	if len(status.GetUuid()) == 0 || f.deaf {
		return
	}
	ack := func() {
		f.call(&schedulerpb.Call{Type: schedulerpb.Call_ACKNOWLEDGE.Enum(), Acknowledge: &schedulerpb.Call_Acknowledge{
			AgentId: status.AgentId, TaskId: status.TaskId, Uuid: status.Uuid,
		}})
	}
	switch n := f.IntN(20); {
	case n == 0 && !f.calm: // forgotten
	case n == 1:
		ack()
		ack()
	case n < 5 && !f.calm:
		f.after(f.between(0, time.Minute), ack)
	default:
		ack()
	}
}

// act is what a scheduler does now and then.
func (f *framework) act() {
	if f.away {
		return
	}
	f.after(f.between(500*time.Millisecond, 6*time.Second), f.act)
	sub := f.current()
	if sub == nil {
		if f.calm || f.chance(3) {
			f.subscribe()
		}
		return
	}
	if !sub.heard {
		return
	}
	for _, oid := range sub.order {
		if o := sub.offers[oid]; o != nil && (f.calm || f.IntN(4) > 0) {
			delete(sub.offers, oid)
			f.spend(o)
		}
	}
	sub.order = sorted(sub.offers)
	f.tend()
	if f.hostile && !f.calm {
		f.offend(sub)
	}
}

// spend accepts or declines an offer.
func (f *framework) spend(o *mesos.Offer) {
	filters := &mesos.Filters{RefuseSeconds: proto.Float64(float64(f.IntN(20)))}
	if f.idle || f.chance(4) {
		f.call(&schedulerpb.Call{Type: schedulerpb.Call_DECLINE.Enum(), Decline: &schedulerpb.Call_Decline{
			OfferIds: []*mesos.OfferID{o.Id}, Filters: filters,
		}})
		return
	}
	offered, err := ledger.FromMesos(o.Resources)
	if err != nil {
		fail("%s was offered %v: %v", f.name, o.Resources, err)
	}
	launch := &mesos.Offer_Operation_Launch{}
	left := offered
	brought := map[string]bool{}
	for range 1 + f.IntN(3) {
		executor := ""
		if f.brings && f.chance(2) {
			executor = fmt.Sprintf("%s-e%d", f.name, f.IntN(2))
		}
		need := ledger.Of(
			ledger.Resource{Key: ledger.Key{Name: "cpus"}, Milli: 100 * (1 + f.Int64N(15))},
			ledger.Resource{Key: ledger.Key{Name: "mem"}, Milli: 32000 * (1 + f.Int64N(20))},
		)
		whole := need
		if executor != "" && !brought[executor] {
			whole = need.Plus(executorNeeds)
		}
		rest, fits := left.Minus(whole)
		if !fits && !f.chance(10) {
			continue
		} else if fits {
			left, brought[executor] = rest, true
		}
		t := f.task(o, need)
		if executor != "" {
			t.Command, t.Executor = nil, f.executor(o, executor)
		}
		launch.TaskInfos = append(launch.TaskInfos, t)
	}
	accept := &schedulerpb.Call{Type: schedulerpb.Call_ACCEPT.Enum(), Accept: &schedulerpb.Call_Accept{
		OfferIds: []*mesos.OfferID{o.Id}, Filters: filters,
		Operations: []*mesos.Offer_Operation{{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: launch}},
	}}
	f.call(accept)
}

// executorNeeds is what every executor holds beside its tasks.
var executorNeeds = ledger.Of(
	ledger.Resource{Key: ledger.Key{Name: "cpus"}, Milli: 100}, ledger.Resource{Key: ledger.Key{Name: "mem"}, Milli: 32_000},
)

func (f *framework) executor(o *mesos.Offer, name string) *mesos.ExecutorInfo {
	return &mesos.ExecutorInfo{
		ExecutorId: &mesos.ExecutorID{Value: &name}, Command: &mesos.CommandInfo{Value: proto.String("./executor")},
		Resources: executorNeeds.Mesos(o.GetAllocationInfo().GetRole()),
	}
}

func (f *framework) task(o *mesos.Offer, need ledger.Resources) *mesos.TaskInfo {
	f.launched++
	tid := id.Task(fmt.Sprintf("%s-t%d", f.name, f.launched))
	if f.hostile && f.chance(4) {
		tid = id.Task(fmt.Sprintf("%s-t%d", f.name, 1+f.IntN(f.launched)))
	}
	f.tasks[tid] = &duty{id: tid, agent: o.AgentId.GetValue(), since: f.now, state: mesos.TaskState_TASK_STAGING}
	info := &mesos.TaskInfo{
		Name: proto.String(string(tid)), TaskId: &mesos.TaskID{Value: proto.String(string(tid))}, AgentId: o.AgentId,
		Resources: need.Mesos(o.GetAllocationInfo().GetRole()), Command: &mesos.CommandInfo{Value: proto.String("true")},
	}
	if f.chance(2) {
		info.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: proto.Int64(f.Int64N(10e9))}}
	}
	return info
}

// tend kills, reconciles, suppresses and revives.
func (f *framework) tend() {
	if n := f.IntN(40); n == 0 && !f.calm {
		f.call(&schedulerpb.Call{Type: schedulerpb.Call_SUPPRESS.Enum(), Suppress: &schedulerpb.Call_Suppress{}})
	} else if n < 3 {
		f.call(&schedulerpb.Call{Type: schedulerpb.Call_REVIVE.Enum(), Revive: &schedulerpb.Call_Revive{}})
	}
	if f.chance(20) {
		f.call(&schedulerpb.Call{Type: schedulerpb.Call_RECONCILE.Enum(), Reconcile: &schedulerpb.Call_Reconcile{}})
	}
	for _, tid := range sorted(f.tasks) {
		d := f.tasks[tid]
		if lifecycle.Terminal(d.state) {
			continue
		}
		if f.brings && f.chance(300) && !f.calm {
			f.call(&schedulerpb.Call{Type: schedulerpb.Call_SHUTDOWN.Enum(), Shutdown: &schedulerpb.Call_Shutdown{
				ExecutorId: &mesos.ExecutorID{Value: proto.String(f.name + "-e0")}, AgentId: &mesos.AgentID{Value: proto.String(d.agent)},
			}})
		}
		if f.chance(80) && !f.calm && f.now.Sub(d.since) > 10*time.Second { // else it may overtake the launch
			f.call(&schedulerpb.Call{Type: schedulerpb.Call_KILL.Enum(), Kill: &schedulerpb.Call_Kill{
				TaskId: &mesos.TaskID{Value: proto.String(string(tid))}, AgentId: &mesos.AgentID{Value: proto.String(d.agent)},
			}})
		}
		if f.now.Sub(d.since) > time.Minute && f.chance(10) {
			f.call(&schedulerpb.Call{Type: schedulerpb.Call_RECONCILE.Enum(), Reconcile: &schedulerpb.Call_Reconcile{
				Tasks: []*schedulerpb.Call_Reconcile_Task{{
					TaskId: &mesos.TaskID{Value: proto.String(string(tid))}, AgentId: &mesos.AgentID{Value: proto.String(d.agent)},
				}},
			}})
		}
	}
}

// teardown ends the framework for good.
func (f *framework) teardown() {
	f.call(&schedulerpb.Call{Type: schedulerpb.Call_TEARDOWN.Enum()})
	f.away = true
	f.after(f.between(5*time.Second, 10*time.Second), func() {
		if sub := f.current(); sub != nil {
			sub.leave()
		}
	})
}

// offend makes calls that no scheduler should make.
func (f *framework) offend(sub *subscription) {
	offer := &mesos.OfferID{Value: proto.String(fmt.Sprintf("M1-O%d", f.IntN(100)))}
	other := f.c.frameworks[f.IntN(len(f.c.frameworks))]
	call := &schedulerpb.Call{FrameworkId: &mesos.FrameworkID{Value: proto.String(other.id)}}
	switch f.IntN(5) {
	case 0:
		call.Type, call.Accept = schedulerpb.Call_ACCEPT.Enum(), &schedulerpb.Call_Accept{OfferIds: []*mesos.OfferID{offer, offer}}
	case 1:
		call.Type, call.Decline = schedulerpb.Call_DECLINE.Enum(), &schedulerpb.Call_Decline{OfferIds: []*mesos.OfferID{offer}}
	case 2:
		call.Type = schedulerpb.Call_TEARDOWN.Enum()
	case 3:
		call.Type, call.Kill = schedulerpb.Call_KILL.Enum(), &schedulerpb.Call_Kill{TaskId: &mesos.TaskID{Value: proto.String(other.name + "-t1")}}
	case 4:
		call.Type, call.Acknowledge = schedulerpb.Call_ACKNOWLEDGE.Enum(), &schedulerpb.Call_Acknowledge{
			AgentId: &mesos.AgentID{Value: proto.String("M1-S0")}, TaskId: &mesos.TaskID{Value: proto.String(f.name + "-t1")}, Uuid: []byte("mine"),
		}
	}
	if call.GetType() != schedulerpb.Call_TEARDOWN || other != f {
		f.post(sub, call, nil)
	}
}
