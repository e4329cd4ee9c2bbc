package core

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/asked"
	"github.com/gantry-project/gantry/kernel/core/hello"
	"github.com/gantry-project/gantry/kernel/core/weights"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/step"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Config is what a master is told at its start.
type Config struct {
	// ID is unique for each start of a master; it prefixes every id that the master gives.
	ID string
	// Epoch is higher than that of every master before.
	Epoch uint64
	// Info is told to frameworks.
	Info *mesos.MasterInfo
	// Heartbeat is how often a subscriber hears something; zero means 15 s.
	Heartbeat time.Duration
	// PingInterval and PingMisses say when a silent agent is unreachable; zero means 15 s
	// and 5.
	PingInterval time.Duration
	PingMisses   int
	// ReconnectGrace is how long a framework of an earlier master has at least; zero
	// means 75 s.
	ReconnectGrace time.Duration
	// ReregisterTimeout is how long an agent of an earlier master has; zero means 10 min.
	ReregisterTimeout time.Duration
	// OfferTimeout rescinds offers that stand longer; zero means never.
	OfferTimeout time.Duration
}

// What has deadlines, as step.Owner.Kind; of several that are due the lower comes first.
const (
	agentDeadline = iota
	frameworkDeadline
	offerDeadline
	answerDeadline
)

const (
	maxCompletedFrameworks = 50
	maxCompletedTasks      = 1000 // for each framework
	maxStatuses            = 16   // kept for each task, the newest

	// Bounds in bytes: what is kept of one framework or agent fits the store, one task
	// the agent's checkpoint, and all tasks of an agent the one message that lists them.
	maxInfo       = 256 << 10
	maxTaskInfo   = 512 << 10
	maxAgentTasks = 8 << 20

	// Bounds of all frameworks together. A plugin's own is given its stream beyond them.
	maxStreams    = 2000
	maxFrameworks = 3000
	maxInfos      = 32 << 20 // bytes

	// forgetAfter is how long an unreachable agent is remembered.
	forgetAfter = 14 * 24 * time.Hour
)

// Machine is the master. It is not safe for concurrent use: one goroutine owns it.
type Machine struct {
	cfg    Config
	now    step.Time
	start  step.Time // of Recovered
	ledger *ledger.Ledger

	agents     map[id.Agent]*agent
	conns      map[uint64]*agent
	frameworks map[id.Framework]*framework
	streams    map[id.Stream]*framework
	plugins    map[string]id.Framework
	offers     map[id.Offer]*offer
	completed  []*framework // removed, oldest first
	gone       map[id.Framework]bool
	weights    weights.Weights
	watchers   []id.Stream // oldest first
	ended      States
	// invalidAcks counts acknowledgements that name another agent than the task's.
	invalidAcks uint64
	asked       asked.Questions

	allocator allocator
	deadlines step.Deadlines

	nextFramework, nextAgent, nextOffer uint64
}

// allocator is the one in office, or none.
type allocator struct {
	epoch uint64
	up    bool
}

// agent is an admitted agent: connected (conn != 0), disconnected, or unreachable.
type agent struct {
	id          id.Agent
	info        *mesos.AgentInfo
	version     string
	conn        uint64
	announced   bool // to the allocator in office
	unreachable bool
	recovered   bool // admitted by an earlier master and not seen yet
	stranger    bool // came with an id that the registry did not have
	since       step.Time
	registered  step.Time
	hello.Known
	// deadline is of the next ping, or of giving up while disconnected.
	deadline step.Time
	unponged int
	tasks    map[id.TaskKey]*task
	offers   map[id.Offer]*offer
	// executors are empty while the agent is unreachable.
	executors map[executorKey]*executor
	// taskBytes is the size of the infos of its tasks and executors together.
	taskBytes int
}

// framework is subscribed (stream != ""), disconnected, or removed with tasks still ending.
type framework struct {
	id         id.Framework
	info       *mesos.FrameworkInfo
	infoBytes  int // size of info
	plugin     string
	roles      []string // sorted
	suppressed map[string]bool
	stream     id.Stream
	principal  string
	removed    bool
	recovered  bool
	registered step.Time
	subscribed step.Time
	ended      step.Time
	deadline   step.Time // of removal, while disconnected
	tasks      map[id.Task]*task
	offers     map[id.Offer]*offer
	executors  int // on all agents
	completed  []*task
}

// task is launched and not yet acknowledged as terminal.
type task struct {
	key       id.TaskKey
	agent     id.Agent
	info      *mesos.TaskInfo
	role      string
	resources ledger.Resources
	// state is the newest known. The framework is told one status after the other, each
	// when it has acknowledged the one before: told is the last of them, if any, and
	// pending the same until its acknowledgement comes.
	state         mesos.TaskState
	pending, told *mesos.TaskStatus
	statuses      []*mesos.TaskStatus
	// acked says that pending was acknowledged while the agent, which has to know, was away.
	acked bool
	// held says that the ledger has a use for it.
	held bool
	// stray is a copy of a task that runs on another agent, too: it is accounted for
	// under a key of its own and killed, and its framework does not hear of it.
	stray bool
	// kill is sent again when the agent returns.
	kill *linkpb.Kill
}

// strayKey files a stray copy of a task: ids have no slashes.
func strayKey(key id.TaskKey, a *agent) id.TaskKey {
	return id.TaskKey{Framework: key.Framework, Task: key.Task + "/" + id.Task(a.id)}
}

// find returns the agent's task, or its stray copy of one.
func (a *agent) find(key id.TaskKey) *task {
	if t := a.tasks[key]; t != nil {
		return t
	}
	return a.tasks[strayKey(key, a)]
}

// wireKey is the key as the agent knows the task.
func (t *task) wireKey() id.TaskKey {
	return id.TaskKey{Framework: t.key.Framework, Task: id.Task(t.info.GetTaskId().GetValue())}
}

// add files a task with its agent and framework.
func (m *Machine) add(t *task, a *agent, f *framework) {
	a.tasks[t.key], f.tasks[t.key.Task] = t, t
	a.taskBytes += proto.Size(t.info)
}

// offer is outstanding; its claim is in the ledger.
type offer struct {
	id        id.Offer
	agent     id.Agent
	framework id.Framework
	role      string
	made      step.Time
	deadline  step.Time
}

// New returns a master that knows nothing; step Recovered first.
func New(cfg Config) *Machine {
	cfg.Heartbeat = cmp.Or(cfg.Heartbeat, 15*time.Second)
	cfg.PingInterval = cmp.Or(cfg.PingInterval, 15*time.Second)
	cfg.PingMisses = cmp.Or(cfg.PingMisses, 5)
	cfg.ReconnectGrace = cmp.Or(cfg.ReconnectGrace, 75*time.Second)
	cfg.ReregisterTimeout = cmp.Or(cfg.ReregisterTimeout, 10*time.Minute)
	return &Machine{
		cfg:        cfg,
		ledger:     ledger.New(),
		agents:     map[id.Agent]*agent{},
		conns:      map[uint64]*agent{},
		frameworks: map[id.Framework]*framework{},
		streams:    map[id.Stream]*framework{},
		plugins:    map[string]id.Framework{},
		offers:     map[id.Offer]*offer{},
		gone:       map[id.Framework]bool{},
		weights:    weights.Weights{},
	}
}

// Step takes one event at a time that never runs backwards (an earlier one counts as the
// latest) and appends to out what must be done about it.
func (m *Machine) Step(now step.Time, ev Event, out *Effects) {
	m.now = max(m.now, now)
	switch ev := ev.(type) {
	case Recovered:
		m.recover(ev, out)
	case AgentHello:
		m.agentHello(ev, out)
	case AgentMessage:
		m.agentMessage(ev, out)
	case AgentGone:
		m.agentGone(ev.Conn, out)
	case Call:
		m.call(ev, out)
	case StreamGone:
		m.streamGone(ev.Stream, out)
	case AllocatorUp:
		m.allocatorUp(ev, out)
	case AllocatorDown:
		m.allocator.up = false
	case Proposal:
		m.proposal(ev.Proposal, out)
	case KillTask:
		m.operatorKill(ev, out)
	case Teardown:
		m.teardown(ev, out)
	case SetWeights:
		m.setWeights(ev, out)
	case Watch:
		m.watch(ev, out)
	case WatcherGone:
		m.watcherGone(ev.Stream)
	case Tick:
	default:
		panic(fmt.Sprintf("core: event of unknown type %T", ev))
	}
	m.expire(out)
}

// NextDeadline is when the machine wants to be stepped at the latest.
func (m *Machine) NextDeadline() (step.Time, bool) {
	return m.deadlines.Next()
}

// expire does what is due.
func (m *Machine) expire(out *Effects) {
	for {
		o, ok := m.deadlines.Pop(m.now)
		if !ok {
			return
		}
		switch o.Kind {
		case agentDeadline:
			if a := m.agents[id.Agent(o.ID)]; a != nil && m.due(a.deadline, o) {
				m.agentDue(a, out)
			}
		case frameworkDeadline:
			if f := m.frameworks[id.Framework(o.ID)]; f != nil && m.due(f.deadline, o) {
				m.removeFramework(f, out)
			}
		case offerDeadline:
			if offer := m.offers[id.Offer(o.ID)]; offer != nil && m.due(offer.deadline, o) {
				m.rescind(offer, noFilter, out)
			}
		case answerDeadline:
			m.answer(id.Agent(o.ID), out)
		}
	}
}

// due says whether an owner's deadline has come; one that is still to come is queued again.
func (m *Machine) due(at step.Time, o step.Owner) bool {
	if at > m.now {
		m.deadlines.Add(at, o)
	}
	return at != 0 && at <= m.now
}

// notify appends an event for a framework, unless it is not connected.
func (m *Machine) notify(f *framework, ev *schedulerpb.Event, out *Effects) {
	if f.stream != "" {
		out.Notify = append(out.Notify, Notice{Framework: f.id, Stream: f.stream, Event: ev})
	}
}

// send appends a message for an agent, unless it is not connected.
func (m *Machine) send(a *agent, msg *linkpb.ToAgent, out *Effects) {
	if a.conn != 0 {
		msg.Epoch = m.cfg.Epoch
		out.Send = append(out.Send, AgentSend{Conn: a.conn, Message: msg})
	}
}

// ask appends a delta, unless no allocator is in office.
func (m *Machine) ask(d *allocatorpb.Delta, out *Effects) {
	if m.allocator.up {
		out.Ask = append(out.Ask, AllocatorAsk{Epoch: m.allocator.epoch, Delta: d})
	}
}

// sorted returns the keys of a map in order: the only way that maps are walked here.
func sorted[K cmp.Ordered, V any](all map[K]V) []K {
	return slices.Sorted(maps.Keys(all))
}

// sortedTasks is sorted for maps keyed by TaskKey.
func sortedTasks[V any](all map[id.TaskKey]V) []id.TaskKey {
	return slices.SortedFunc(maps.Keys(all), func(a, b id.TaskKey) int {
		return cmp.Or(cmp.Compare(a.Framework, b.Framework), cmp.Compare(a.Task, b.Task))
	})
}
