package core_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// TestStorm throws random but possible events at a master, with agents that keep their
// word, and checks the invariants after each (cluster.step does). In the end everything
// calms down and nothing may be held any more.
func TestStorm(t *testing.T) {
	seeds := uint64(40)
	if testing.Short() {
		seeds = 5
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := &storm{
				cluster: newCluster(t), r: rand.New(rand.NewPCG(seed, 1)),
				agents: map[string]*stormAgent{}, frameworks: map[string]*stormFramework{},
				watcher: &replica{t: t},
			}
			s.step(core.Watch{Stream: "watcher"})
			for range 1500 {
				s.now = s.now.Add(time.Duration(s.r.IntN(3000)) * time.Millisecond)
				s.act()
				s.hear()
			}
			s.watcher.agrees(s.m.State())
			s.calm()
			s.watcher.agrees(s.m.State())
		})
	}
}

// storm is the world around a master: agents with disks, frameworks with what they heard.
type storm struct {
	*cluster
	r          *rand.Rand
	agents     map[string]*stormAgent
	frameworks map[string]*stormFramework
	watcher    *replica // hears all from the first event on
	conn       uint64
	stream     int
	task       int
	uuid       int
	grants     uint64
	epoch      uint64
}

type stormAgent struct {
	id        string
	conn      uint64
	tasks     map[id.TaskKey]*stormTask
	executors map[string]*linkpb.HeldExecutor
}

type stormTask struct {
	info   *mesos.TaskInfo
	queue  []*mesos.TaskStatus // unacknowledged, oldest first
	latest *mesos.TaskStatus
}

type stormFramework struct {
	id     string
	stream string
	offers map[string]*mesos.Offer
}

func (s *storm) act() {
	switch n := s.r.IntN(100); {
	case n < 4:
		s.connect()
	case n < 7:
		s.disconnect()
	case n < 12:
		s.subscribeOne()
	case n < 14:
		s.drop()
	case n < 16:
		s.step(core.AllocatorUp{})
	case n < 17:
		s.step(core.AllocatorDown{})
	case n < 40:
		s.propose()
	case n < 55:
		s.spend()
	case n < 80:
		s.progress()
	case n < 90:
		s.killOne()
	case n < 92:
		s.plain(schedulerpb.Call_TEARDOWN)
	case n < 94:
		s.plain(schedulerpb.Call_SUPPRESS)
	case n < 97:
		s.plain(schedulerpb.Call_REVIVE)
	case n < 98:
		s.restartMaster()
	default:
		s.now = s.now.Add(40 * time.Second)
		s.step(core.Tick{})
	}
}

func pick[V any](r *rand.Rand, all map[string]V) (v V, ok bool) {
	keys := sortedKeys(all)
	if len(keys) == 0 {
		return v, false
	}
	return all[keys[r.IntN(len(keys))]], true
}

func (s *storm) connect() {
	a, ok := pick(s.r, s.agents)
	if !ok || len(s.agents) < 6 && s.r.IntN(2) == 0 {
		a = &stormAgent{tasks: map[id.TaskKey]*stormTask{}, executors: map[string]*linkpb.HeldExecutor{}}
	}
	s.conn++
	a.conn = s.conn
	var held []*linkpb.HeldTask
	for _, key := range sortedKeysFunc(a.tasks) {
		t := a.tasks[key]
		h := &linkpb.HeldTask{FrameworkId: frameworkID(string(key.Framework)), Info: t.info, Status: t.latest}
		if len(t.queue) > 0 {
			h.Unacknowledged = t.queue[0]
		}
		held = append(held, h)
	}
	s.agents[fmt.Sprint("new", a.conn)] = a
	if a.id != "" {
		delete(s.agents, fmt.Sprint("new", a.conn))
	}
	h := hello("host", a.id, "cpus:8;mem:4096;ports:[1-100]", s.cfg.Epoch, held...)
	for _, key := range sortedKeys(a.executors) {
		h.Executors = append(h.Executors, a.executors[key])
	}
	s.step(core.AgentHello{Conn: a.conn, Hello: h})
}

func sortedKeysFunc(all map[id.TaskKey]*stormTask) []id.TaskKey {
	byName := map[string]id.TaskKey{}
	for key := range all {
		byName[key.String()] = key
	}
	var keys []id.TaskKey
	for _, name := range sortedKeys(byName) {
		keys = append(keys, byName[name])
	}
	return keys
}

func (s *storm) disconnect() {
	if a, ok := pick(s.r, s.agents); ok && a.conn != 0 {
		conn := a.conn
		a.conn = 0
		s.step(core.AgentGone{Conn: conn})
	}
}

func (s *storm) subscribeOne() {
	s.stream++
	f, ok := pick(s.r, s.frameworks)
	if !ok || len(s.frameworks) < 5 {
		f = &stormFramework{offers: map[string]*mesos.Offer{}}
	}
	f.stream = fmt.Sprint("s", s.stream)
	clear(f.offers)
	s.frameworks[f.stream+"?"] = f
	info := frameworkInfo(f.id, float64(s.r.IntN(2)*100), []string{"a", "b"}, mesos.FrameworkInfo_Capability_PARTITION_AWARE)
	if s.r.IntN(2) == 0 {
		info = frameworkInfo(f.id, 50, nil)
	}
	s.call(f.stream, f.id, &schedulerpb.Call{
		Type: schedulerpb.Call_SUBSCRIBE.Enum(), Subscribe: &schedulerpb.Call_Subscribe{FrameworkInfo: info},
	})
}

func (s *storm) drop() {
	if f, ok := pick(s.r, s.frameworks); ok && f.stream != "" {
		s.step(core.StreamGone{Stream: id.Stream(f.stream)})
		f.stream = ""
		clear(f.offers)
	}
}

// propose grants something, sensible or not.
func (s *storm) propose() {
	a, okA := pick(s.r, s.agents)
	f, okF := pick(s.r, s.frameworks)
	if !okA || !okF {
		return
	}
	p := &allocatorpb.FromAllocator{Epoch: s.epoch}
	for range 1 + s.r.IntN(3) {
		s.grants++
		r := ledger.Of(
			ledger.Resource{Key: ledger.Key{Name: "cpus"}, Milli: int64(1 + s.r.IntN(4000))},
			ledger.Resource{Key: ledger.Key{Name: "mem"}, Milli: int64(1 + s.r.IntN(2048000))},
		)
		p.Grants = append(p.Grants, &allocatorpb.Grant{
			Id: s.grants, AgentId: a.id, FrameworkId: f.id, Role: []string{"a", "b", "*"}[s.r.IntN(3)],
			Resources: r.Contract(), Mode: allocatorpb.ClaimMode(s.r.IntN(2)),
		})
	}
	s.step(core.Proposal{Proposal: p})
}

// spend accepts or declines some of a framework's offers, some of them stale.
func (s *storm) spend() {
	f, ok := pick(s.r, s.frameworks)
	if !ok || len(f.offers) == 0 {
		return
	}
	o, _ := pick(s.r, f.offers)
	offers := []string{o.Id.GetValue()}
	if s.r.IntN(10) == 0 {
		offers = append(offers, "M1-O1")
	}
	if s.r.IntN(4) > 0 {
		delete(f.offers, o.Id.GetValue())
	}
	if s.r.IntN(4) == 0 {
		s.call(f.stream, f.id, &schedulerpb.Call{Type: schedulerpb.Call_DECLINE.Enum(), Decline: &schedulerpb.Call_Decline{OfferIds: offerIDs(offers...)}})
		return
	}
	var tasks []*mesos.TaskInfo
	for range s.r.IntN(4) {
		s.task++
		t := taskInfo(fmt.Sprint("t", s.task-s.r.IntN(2)), o.AgentId.GetValue(), fmt.Sprintf("cpus:%d;mem:%d", 1+s.r.IntN(2), 1+s.r.IntN(512)))
		if s.r.IntN(3) == 0 {
			t.Command, t.Executor = nil, executorInfo(fmt.Sprint("e", s.r.IntN(3)), "cpus:0.5;mem:32")
		}
		tasks = append(tasks, t)
	}
	refuse := float64(s.r.IntN(10))
	s.call(f.stream, f.id, acceptCall(offers, &refuse, tasks...))
}

// progress moves a random task of a random agent on, or repeats its head.
func (s *storm) progress() {
	a, ok := pick(s.r, s.agents)
	if e, has := pick(s.r, executorsOf(a)); has && s.r.IntN(5) == 0 {
		s.endExecutors(a, func(held *linkpb.HeldExecutor) bool { return held == e })
	}
	if !ok || len(a.tasks) == 0 {
		return
	}
	keys := sortedKeysFunc(a.tasks)
	key := keys[s.r.IntN(len(keys))]
	t := a.tasks[key]
	if !lifecycle.Terminal(t.latest.GetState()) {
		states := []mesos.TaskState{mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_FAILED}
		s.enqueue(key, t, states[s.r.IntN(3)])
	}
	s.sendHead(a, key)
}

func (s *storm) enqueue(key id.TaskKey, t *stormTask, state mesos.TaskState) {
	s.uuid++
	t.latest = status(string(key.Task), t.info.AgentId.GetValue(), state, fmt.Sprint("u", s.uuid))
	t.queue = append(t.queue, t.latest)
}

func (s *storm) sendHead(a *stormAgent, key id.TaskKey) {
	if t := a.tasks[key]; a.conn != 0 && len(t.queue) > 0 {
		s.step(core.AgentMessage{Conn: a.conn, Message: update(string(key.Framework), t.queue[0], t.latest.GetState())})
	}
}

func (s *storm) killOne() {
	f, ok := pick(s.r, s.frameworks)
	if ok && s.task > 0 {
		s.call(f.stream, f.id, &schedulerpb.Call{Type: schedulerpb.Call_KILL.Enum(), Kill: &schedulerpb.Call_Kill{TaskId: taskID(fmt.Sprint("t", s.r.IntN(s.task)))}})
	}
}

func (s *storm) plain(kind schedulerpb.Call_Type) {
	if f, ok := pick(s.r, s.frameworks); ok {
		s.call(f.stream, f.id, &schedulerpb.Call{Type: kind.Enum()})
	}
}

func (s *storm) restartMaster() {
	for _, name := range sortedKeys(s.agents) {
		s.agents[name].conn = 0
	}
	for _, name := range sortedKeys(s.frameworks) {
		s.frameworks[name].stream = ""
		clear(s.frameworks[name].offers)
	}
	s.restart()
	s.step(core.Watch{Stream: "watcher"})
}

// hear lets agents and frameworks take in what the master said, which makes them say more.
func (s *storm) hear() {
	for len(s.out.Send)+len(s.out.Notify)+len(s.out.Ask)+len(s.out.News) > 0 {
		sends, notices := s.out.Send, s.out.Notify
		for _, n := range s.out.News {
			s.watcher.read(n.Event)
		}
		for _, ask := range s.out.Ask {
			s.epoch = ask.Epoch
		}
		s.out = core.Effects{}
		for _, m := range sends {
			s.agentHears(m)
		}
		for _, n := range notices {
			s.frameworkHears(n)
		}
	}
}

func (s *storm) agentHears(m core.AgentSend) {
	var a *stormAgent
	for _, name := range sortedKeys(s.agents) {
		if s.agents[name].conn == m.Conn {
			a = s.agents[name]
		}
	}
	if a == nil {
		return
	}
	if m.Close {
		a.conn = 0
		s.step(core.AgentGone{Conn: m.Conn})
		return
	}
	switch b := m.Message.Body.(type) {
	case *linkpb.ToAgent_Welcome:
		delete(s.agents, fmt.Sprint("new", a.conn))
		a.id = b.Welcome.AgentId.GetValue()
		s.agents[a.id] = a
		for _, key := range sortedKeysFunc(a.tasks) {
			s.sendHead(a, key)
		}
	case *linkpb.ToAgent_Run:
		key := id.TaskKey{Framework: id.Framework(b.Run.Framework.Id.GetValue()), Task: id.Task(b.Run.Task.TaskId.GetValue())}
		if s.r.IntN(10) > 0 && a.tasks[key] == nil { // one in ten is lost with its connection
			a.tasks[key] = &stormTask{info: b.Run.Task}
			if b.Run.LaunchExecutor {
				e := b.Run.Task.Executor
				a.executors[string(key.Framework)+"/"+e.ExecutorId.GetValue()] = &linkpb.HeldExecutor{FrameworkId: b.Run.Framework.Id, Info: e}
			}
			s.enqueue(key, a.tasks[key], mesos.TaskState_TASK_STARTING)
			s.sendHead(a, key)
		} else {
			s.disconnect()
		}
	case *linkpb.ToAgent_Kill:
		s.end(a, id.TaskKey{Framework: id.Framework(b.Kill.FrameworkId.GetValue()), Task: id.Task(b.Kill.TaskId.GetValue())})
	case *linkpb.ToAgent_ShutdownExecutor:
		s.endExecutors(a, func(e *linkpb.HeldExecutor) bool {
			return proto.Equal(e.FrameworkId, b.ShutdownExecutor.FrameworkId) && proto.Equal(e.Info.ExecutorId, b.ShutdownExecutor.ExecutorId)
		})
	case *linkpb.ToAgent_EndFramework:
		s.endExecutors(a, func(e *linkpb.HeldExecutor) bool { return proto.Equal(e.FrameworkId, b.EndFramework.FrameworkId) })
		for _, key := range sortedKeysFunc(a.tasks) {
			if string(key.Framework) == b.EndFramework.FrameworkId.GetValue() {
				s.end(a, key)
			}
		}
	case *linkpb.ToAgent_Acknowledge:
		s.agentAcked(a, b.Acknowledge)
	}
}

func (s *storm) end(a *stormAgent, key id.TaskKey) {
	if t := a.tasks[key]; t != nil {
		if !lifecycle.Terminal(t.latest.GetState()) {
			s.enqueue(key, t, mesos.TaskState_TASK_KILLED)
		}
		s.sendHead(a, key)
	}
}

func (s *storm) agentAcked(a *stormAgent, ack *linkpb.Acknowledge) {
	key := id.TaskKey{Framework: id.Framework(ack.FrameworkId.GetValue()), Task: id.Task(ack.TaskId.GetValue())}
	t := a.tasks[key]
	if t == nil || len(t.queue) == 0 || string(t.queue[0].Uuid) != string(ack.Uuid) {
		return
	}
	head := t.queue[0]
	t.queue = t.queue[1:]
	if lifecycle.Terminal(head.GetState()) {
		delete(a.tasks, key)
		return
	}
	s.sendHead(a, key)
}

func (s *storm) frameworkHears(n core.Notice) {
	for _, name := range sortedKeys(s.frameworks) {
		f := s.frameworks[name]
		if f.stream != string(n.Stream) {
			continue
		}
		if n.Close {
			f.stream = ""
			f.id = ""
			clear(f.offers)
			return
		}
		s.frameworkEvent(name, f, n.Event)
		return
	}
}

func (s *storm) frameworkEvent(name string, f *stormFramework, ev *schedulerpb.Event) {
	switch ev.GetType() {
	case schedulerpb.Event_SUBSCRIBED:
		delete(s.frameworks, name)
		f.id = ev.Subscribed.FrameworkId.GetValue()
		s.frameworks[f.id] = f
	case schedulerpb.Event_OFFERS:
		for _, o := range ev.Offers.Offers {
			f.offers[o.Id.GetValue()] = o
		}
	case schedulerpb.Event_RESCIND:
		delete(f.offers, ev.Rescind.OfferId.GetValue())
	case schedulerpb.Event_UPDATE:
		if u := ev.Update.Status; u.Uuid != nil && s.r.IntN(5) > 0 {
			s.call(f.stream, f.id, &schedulerpb.Call{Type: schedulerpb.Call_ACKNOWLEDGE.Enum(), Acknowledge: &schedulerpb.Call_Acknowledge{
				AgentId: u.AgentId, TaskId: u.TaskId, Uuid: u.Uuid,
			}})
		}
	}
}

// calm brings every agent back and ends every framework; no task may remain.
func (s *storm) calm() {
	for _, name := range sortedKeys(s.frameworks) {
		s.plainOf(s.frameworks[name], schedulerpb.Call_TEARDOWN)
		s.hear()
	}
	s.now = s.now.Add(24 * time.Hour)
	s.step(core.Tick{})
	s.hear()
	for range 3 {
		for _, name := range sortedKeys(s.agents) {
			a := s.agents[name]
			if a.conn == 0 && a.id != "" {
				s.conn++
				a.conn = s.conn
				var held []*linkpb.HeldTask
				for _, key := range sortedKeysFunc(a.tasks) {
					held = append(held, &linkpb.HeldTask{FrameworkId: frameworkID(string(key.Framework)), Info: a.tasks[key].info, Status: a.tasks[key].latest})
				}
				s.step(core.AgentHello{Conn: a.conn, Hello: hello("host", a.id, "cpus:8;mem:4096;ports:[1-100]", s.cfg.Epoch, held...)})
				s.hear()
			}
		}
	}
	for _, a := range s.agents {
		for key, t := range a.tasks {
			s.t.Errorf("agent %s still has task %s in %s", a.id, key, t.latest.GetState())
		}
	}
	state := s.m.State()
	if n := len(state.GetTasks.Tasks) + len(state.GetTasks.UnreachableTasks); n != 0 {
		s.t.Errorf("the master still has %d tasks: %v", n, state.GetTasks.Tasks)
	}
	for _, a := range state.GetAgents.Agents {
		if len(a.AllocatedResources)+len(a.OfferedResources) != 0 {
			s.t.Errorf("agent %s still has %v allocated and %v offered", a.AgentInfo.Id.GetValue(), a.AllocatedResources, a.OfferedResources)
		}
	}
	if len(state.GetFrameworks.Frameworks) != 0 {
		s.t.Errorf("%d frameworks are left", len(state.GetFrameworks.Frameworks))
	}
}

func (s *storm) plainOf(f *stormFramework, kind schedulerpb.Call_Type) {
	s.call(f.stream, f.id, &schedulerpb.Call{Type: kind.Enum(), FrameworkId: &mesos.FrameworkID{Value: proto.String(f.id)}})
}
