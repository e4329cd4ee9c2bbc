package node

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node/nodepb"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Config is what an agent is, for as long as its process lives.
type Config struct {
	// Info describes the host; its id, if any, is ignored: the checkpoint has it.
	Info    *mesos.AgentInfo
	Version string
}

// Machine is the agent. Its zero value is not usable: New makes one.
type Machine struct {
	cfg  Config
	boot string
	home string

	// agentID is empty until the first welcome, epoch the highest ever heard,
	// incarnation this start's number, registered that of the last start that a master
	// welcomed; all four are durable.
	agentID     string
	epoch       uint64
	incarnation uint64
	registered  uint64
	// uuids and containers count what this incarnation has named, streams its links.
	uuids, containers, streams uint64

	// tasks are those with anything left to do or to say; owners finds them by container.
	tasks  map[id.TaskKey]*task
	owners map[string]*task
	// strays are containers of the keeper that no task owns, and whether they have ended.
	// They are left alone until a master has welcomed the agent: its checkpoint might be
	// an old copy that knows nothing of them.
	strays map[string]bool
	// executors are those that have a container; hosts finds them by it.
	executors map[executorKey]*executor
	hosts     map[string]*executor
	// frameworks are those of the tasks and executors, no others.
	frameworks map[id.Framework]*framework

	link     link
	keeperUp bool
	stopping bool
	stats    Stats

	// now never steps back; out and the dirty sets live for one step.
	now             step.Time
	out             *Effects
	dirtyAgent      bool
	dirtyTasks      map[id.TaskKey]bool
	dirtyExecutors  map[executorKey]bool
	dirtyFrameworks map[id.Framework]bool
}

type framework struct {
	info *mesos.FrameworkInfo
	// members is how many tasks and executors it has here, never zero between steps.
	members int
}

// Stats counts what the machine refused or ignored since it was made.
type Stats struct {
	// StaleConns are messages of a stream that is not the current one, StaleEpochs those
	// of a master that has been deposed, Unwelcome those that came before a Welcome.
	StaleConns, StaleEpochs, Unwelcome uint64
	// DuplicateRuns name a task that exists, InvalidRuns can't be run at all.
	DuplicateRuns, InvalidRuns uint64
	// UnknownKills and UnknownAcks fit no task and no pending status.
	UnknownKills, UnknownAcks uint64
	// UnknownUpdates are statuses of executors that fit no task, or not the task's state.
	UnknownUpdates uint64
	// Strays are containers that no task owns.
	Strays uint64
}

// New returns a machine that waits for Recovered.
func New(cfg Config) *Machine {
	return &Machine{
		cfg:             cfg,
		tasks:           map[id.TaskKey]*task{},
		owners:          map[string]*task{},
		strays:          map[string]bool{},
		executors:       map[executorKey]*executor{},
		hosts:           map[string]*executor{},
		frameworks:      map[id.Framework]*framework{},
		dirtyTasks:      map[id.TaskKey]bool{},
		dirtyExecutors:  map[executorKey]bool{},
		dirtyFrameworks: map[id.Framework]bool{},
	}
}

// Step applies one event and appends what follows from it to out. It panics if Recovered
// does not come first and once, and on a broken invariant; nothing that a master or a
// keeper sends can make it panic.
func (m *Machine) Step(now step.Time, ev Event, out *Effects) {
	if _, first := ev.(Recovered); first != (m.incarnation == 0) {
		panic(fmt.Sprintf("node: %T in incarnation %d: Recovered comes first and once", ev, m.incarnation))
	}
	m.now, m.out = max(m.now, now), out
	switch ev := ev.(type) {
	case Recovered:
		m.recover(ev)
	case Linked:
		m.linked(ev.Conn)
	case Unlinked:
		m.unlinked(ev.Conn)
	case FromMaster:
		m.fromMaster(ev)
	case KeeperUp:
		m.keeperConnected(ev)
	case KeeperDown:
		m.keeperUp = false
	case ContainerStarted:
		m.containerStarted(ev)
	case ContainerFailed:
		m.containerFailed(ev)
	case ContainerExited:
		m.containerExited(ev.Exit)
	case ExecutorCall:
		m.executorCall(ev)
	case ExecutorGone:
		m.executorGone(ev.Stream)
	case Stop:
		m.stop(ev.KillTasks)
	case Tick:
		m.tick()
	}
	m.flush()
	m.out = nil
}

// NextDeadline says when the machine wants a Tick, if nothing else happens.
func (m *Machine) NextDeadline() (step.Time, bool) {
	next, some := m.link.deadline()
	add := func(at step.Time) {
		if !some || at < next {
			next, some = at, true
		}
	}
	for _, t := range m.tasks { // any order: the least of all
		if t.killDue() {
			add(t.kill.due)
		}
		if m.link.welcome && len(t.pending) > 0 {
			add(t.resendAt)
		}
	}
	for _, e := range m.executors { // any order: the least of all
		if at, some := e.deadline(); some {
			add(at)
		}
	}
	return next, some
}

// AgentID is the agent's id, or empty before its first welcome.
func (m *Machine) AgentID() id.Agent { return id.Agent(m.agentID) }

// Epoch is the highest master epoch that the agent has heard.
func (m *Machine) Epoch() uint64 { return m.epoch }

// Linked says whether a master has welcomed the agent on the current stream.
func (m *Machine) Linked() bool { return m.link.welcome }

// Live is how many tasks and executors have not ended.
func (m *Machine) Live() int {
	live := len(m.executors)
	for _, t := range m.tasks { // any order: a count
		if !t.ended() {
			live++
		}
	}
	return live
}

// Stats returns the counts so far.
func (m *Machine) Stats() Stats { return m.stats }

// Task is one task as it stands; its messages are shared and must not be changed.
type Task struct {
	Framework *mesos.FrameworkInfo
	Info      *mesos.TaskInfo
	Latest    *mesos.TaskStatus
	Container string
	// Sandbox is relative to the work dir.
	Sandbox string
}

// Tasks lists the tasks, ordered by framework and task id.
func (m *Machine) Tasks() []Task {
	list := make([]Task, 0, len(m.tasks))
	for _, t := range m.ordered() {
		list = append(list, Task{
			Framework: m.frameworks[t.key.Framework].info,
			Info:      t.info,
			Latest:    t.latest,
			Container: t.container,
			Sandbox:   t.sandbox,
		})
	}
	return list
}

// ordered lists the tasks in the one order that the machine ever walks them.
func (m *Machine) ordered() []*task {
	return slices.SortedFunc(maps.Values(m.tasks), func(a, b *task) int { return compareKeys(a.key, b.key) })
}

func compareKeys(a, b id.TaskKey) int {
	return cmp.Or(cmp.Compare(a.Framework, b.Framework), cmp.Compare(a.Task, b.Task))
}

func (m *Machine) recover(ev Recovered) {
	saved := ev.Checkpoint
	if err := saved.CheckHome(ev.Home); err != nil {
		panic(fmt.Sprintf("node: the checkpoint was not checked: %v", err))
	}
	m.boot, m.home = ev.Boot, cmp.Or(ev.Home, saved.Agent.GetHome())
	m.agentID = saved.Agent.GetAgentId()
	m.epoch = saved.Agent.GetEpoch()
	m.incarnation = saved.Agent.GetIncarnation() + 1
	m.registered = saved.Agent.GetRegistered()
	m.dirtyAgent = true
	for _, f := range saved.Frameworks {
		m.frameworks[id.Framework(f.GetInfo().GetId().GetValue())] = &framework{info: f.Info}
	}
	for _, r := range saved.Executors {
		e := executorOf(r, m.now)
		m.executors[e.key], m.hosts[e.container] = e, e
		m.frameworks[e.key.Framework].members++
	}
	for _, r := range saved.Tasks {
		t := taskOf(r, m.now)
		m.tasks[t.key] = t
		m.frameworks[t.key.Framework].members++
		switch {
		case !t.custom():
			m.owners[t.container] = t
		case !t.ended():
			t.executor = m.hosts[t.container]
			t.executor.tasks[t.key] = t
			t.launched = t.executor.registered || t.latest.GetState() != mesos.TaskState_TASK_STAGING
		}
	}
	for fid, f := range m.frameworks { // any order: each is dropped, and flush sorts
		if f.members == 0 {
			delete(m.frameworks, fid)
			m.dirtyFrameworks[fid] = true
		}
	}
}

// stop ends the tasks if it is told to, and takes no new ones in either case.
func (m *Machine) stop(killTasks bool) {
	m.stopping = true
	if !killTasks {
		return
	}
	for _, t := range m.ordered() {
		m.killTask(t, killOrder{grace: graceOf(nil, t.info), message: "The agent was stopped"})
	}
	for _, e := range m.orderedExecutors() {
		m.shutdown(e, ending{killing: killing{message: "The agent was stopped"}})
	}
}

func (m *Machine) tick() {
	m.linkDue()
	for _, t := range m.ordered() {
		if t.killDue() && m.now >= t.kill.due {
			m.killNow(t)
		}
		if m.link.welcome && len(t.pending) > 0 && m.now >= t.resendAt {
			m.sendHead(t)
		}
	}
	for _, e := range m.orderedExecutors() {
		m.executorDue(e)
	}
}

// flush turns what the step touched into writes, each key once and in order.
func (m *Machine) flush() {
	if m.dirtyAgent {
		m.out.Persist = append(m.out.Persist, step.Write{Key: agentKey, Value: encode(&nodepb.Agent{
			AgentId: m.agentID, Epoch: m.epoch, Incarnation: m.incarnation, Registered: m.registered, Home: m.home,
		})})
		m.dirtyAgent = false
	}
	for _, fid := range slices.Sorted(maps.Keys(m.dirtyFrameworks)) {
		w := step.Write{Key: frameworkPrefix + string(fid)}
		if f := m.frameworks[fid]; f != nil {
			w.Value = encode(&nodepb.Framework{Info: f.info})
		}
		m.out.Persist = append(m.out.Persist, w)
	}
	for _, key := range slices.SortedFunc(maps.Keys(m.dirtyExecutors), executorKey.compare) {
		w := step.Write{Key: keyOfExecutor(key)}
		if e := m.executors[key]; e != nil {
			w.Value = encode(e.record())
		}
		m.out.Persist = append(m.out.Persist, w)
	}
	for _, key := range slices.SortedFunc(maps.Keys(m.dirtyTasks), compareKeys) {
		w := step.Write{Key: keyOfTask(key)}
		if t := m.tasks[key]; t != nil {
			w.Value = encode(t.record())
		} else {
			m.out.Dropped = append(m.out.Dropped, key)
		}
		m.out.Persist = append(m.out.Persist, w)
	}
	clear(m.dirtyFrameworks)
	clear(m.dirtyExecutors)
	clear(m.dirtyTasks)
}

func (m *Machine) send(msg *linkpb.ToMaster) {
	m.out.Send = append(m.out.Send, Send{Conn: m.link.conn, Message: msg})
}

const (
	// resendMin doubles with each repetition, up to resendMax.
	resendMin = 10 * time.Second
	resendMax = 10 * time.Minute
	// defaultGrace is that of a task whose framework names none.
	defaultGrace = 3 * time.Second
	// maxGrace keeps the arithmetic of deadlines far from overflow.
	maxGrace = 365 * 24 * time.Hour
	// killAgain is how long a SIGKILL is given before the next.
	killAgain = 10 * time.Second
	// welcomeWithin bounds the wait for an answer to Hello.
	welcomeWithin = 30 * time.Second
	// missedPings make the agent leave a silent master.
	missedPings = 5
	// registerWithin is how long an executor may take to subscribe once it runs, and
	// reregisterWithin how long when the agent was restarted under it.
	registerWithin   = time.Minute
	reregisterWithin = 15 * time.Second
	// defaultShutdownGrace is that of an executor whose framework names none.
	defaultShutdownGrace = 5 * time.Second
	// defaultPing is assumed of a master that names no period.
	defaultPing = 15 * time.Second
)
