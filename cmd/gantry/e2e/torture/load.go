package torture

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// LoadConfig is what a Load needs of the world.
type LoadConfig struct {
	// Seed gives the jobs, the form of the wire and the delays.
	Seed uint64
	// Master returns HOST:PORT of the master, which a new start may change; empty while nobody knows it.
	Master func() string
	// Host finds the processes to strike.
	Host Host
	// Staying is how many jobs stay, Running how many others there are at a time; no agent gets more than its share.
	Staying, Running int
}

// Load is a scheduler that launches jobs and writes down what it does and hears. Its methods are safe for concurrent use.
type Load struct {
	cfg  LoadConfig
	form form
	info *mesos.FrameworkInfo
	rand *rand.Rand // Run's

	session atomic.Pointer[session] // subscribed, or nil

	mu        sync.Mutex // held while calls are made, up to callWithin
	histories map[string]*History
	next      int  // the number of the next job
	paused    bool // nothing is launched
	count     Count
	names     map[string]string // what a status's uuid is the name of
	acks      []ack
	troubles  []string
}

// Count is what a Load has done so far.
type Count struct {
	Launched, Ended, Statuses, Sessions int
	// NeverRan are tasks that the cluster gave back without running them, Unknown those whose end nobody saw.
	NeverRan, Unknown int
}

// ack is an acknowledgement that is owed.
type ack struct {
	due    time.Time
	status *mesos.TaskStatus
}

const (
	beat          = 50 * time.Millisecond
	again         = 2 * time.Second         // until what has no effect is asked again
	maxDelay      = 1500 * time.Millisecond // of an acknowledgement that is late
	reconnect     = 400 * time.Millisecond  // at most
	perOffer      = 4                       // tasks
	withExecutor  = 8                       // have to fit where one is launched that may bring its executor along
	jobCPUs       = 0.05
	jobMem        = 16.0
	failoverAfter = 3600.0 // seconds
)

// NewLoad returns a Load that waits for Run.
func NewLoad(cfg LoadConfig) *Load {
	l := &Load{
		cfg: cfg, form: inJSON, rand: rand.New(rand.NewPCG(cfg.Seed, 1<<40)), histories: map[string]*History{}, names: map[string]string{},
		info: &mesos.FrameworkInfo{
			User: proto.String("root"), Name: proto.String("torture"), FailoverTimeout: proto.Float64(failoverAfter), Checkpoint: proto.Bool(true),
		},
	}
	if l.rand.IntN(2) == 0 {
		l.form = inProtobuf
	}
	for _, c := range []mesos.FrameworkInfo_Capability_Type{
		mesos.FrameworkInfo_Capability_PARTITION_AWARE, mesos.FrameworkInfo_Capability_TASK_KILLING_STATE,
	} {
		if l.rand.IntN(2) == 0 {
			l.info.Capabilities = append(l.info.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
		}
	}
	for n := range cfg.Staying {
		l.add(Job{ID: fmt.Sprintf("stays-%d", n), Kind: Stays, For: forever})
	}
	return l
}

func (l *Load) add(j Job) *History {
	h := &History{Job: j}
	l.histories[j.ID] = h
	return h
}

// Run keeps a session open until ctx ends.
func (l *Load) Run(ctx context.Context) {
	for ctx.Err() == nil {
		err := l.attend(ctx)
		if l.session.Swap(nil) != nil {
			l.note("the session ended: %v", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(within(l.rand, reconnect)):
		}
	}
}

// note writes something down for all tasks that have not ended.
func (l *Load) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.histories {
		if !h.Ended && !h.Launched.IsZero() {
			h.did(format, args...)
		}
	}
}

// attend is one session.
func (l *Load) attend(ctx context.Context) error {
	master := l.cfg.Master()
	if master == "" {
		return fmt.Errorf("nobody knows the master")
	}
	s, err := subscribe(ctx, l.form, master, l.info)
	if err != nil {
		return err
	}
	defer s.close()
	tick := time.NewTicker(beat)
	defer tick.Stop()
	for {
		err := error(nil)
		select {
		case event, open := <-s.events:
			if !open {
				return s.why
			}
			err = l.hear(ctx, s, event)
		case <-tick.C:
			err = l.tend(ctx, s)
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}

// Cut breaks the connection, if there is one.
func (l *Load) Cut() {
	if s := l.session.Load(); s != nil {
		s.close()
	}
}

// Pause stops launching, or goes on with it.
func (l *Load) Pause(paused bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.paused = paused
}

// Open says what the framework waits for, or nothing: every task has ended that does not stay, those that stay run, and no
// acknowledgement is owed.
func (l *Load) Open() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var open []string
	if l.session.Load() == nil {
		open = append(open, "the load scheduler is not subscribed")
	}
	for _, id := range slices.Sorted(maps.Keys(l.histories)) {
		h := l.histories[id]
		switch {
		case h.Job.Kind == Stays && h.Pid == 0:
			open = append(open, id+" does not run yet")
		case h.Job.Kind != Stays && !h.Ended && !h.Launched.IsZero():
			open = append(open, id+" has not ended")
		}
	}
	if len(l.acks) > 0 {
		open = append(open, fmt.Sprintf("%d acknowledgements are owed", len(l.acks)))
	}
	return open
}

// Troubles returns what the scheduler met that must not be, whatever comes later.
func (l *Load) Troubles() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.troubles)
}

// Count returns what was done so far.
func (l *Load) Count() Count {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// Spread returns how many tasks were launched on each agent, by the agents' ids.
func (l *Load) Spread() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	spread := map[string]int{}
	for _, h := range l.histories {
		if h.Agent != "" {
			spread[h.Agent]++
		}
	}
	return spread
}

// Histories returns copies of all histories of what was launched, by id of the job.
func (l *Load) Histories() []History {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []History
	for _, id := range slices.Sorted(maps.Keys(l.histories)) {
		if h := *l.histories[id]; !h.Launched.IsZero() {
			h.Moments = slices.Clone(h.Moments)
			all = append(all, h)
		}
	}
	return all
}

// hear takes one event; an error ends the session.
func (l *Load) hear(ctx context.Context, s *session, event *schedulerpb.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch event.GetType() {
	case schedulerpb.Event_SUBSCRIBED:
		l.info.Id, s.framework = event.GetSubscribed().GetFrameworkId(), event.GetSubscribed().GetFrameworkId()
		l.session.Store(s)
		l.count.Sessions++
	case schedulerpb.Event_OFFERS:
		for _, o := range event.GetOffers().GetOffers() {
			if err := l.answer(ctx, s, o); err != nil {
				return err
			}
		}
	case schedulerpb.Event_UPDATE:
		l.update(event.GetUpdate().GetStatus())
	case schedulerpb.Event_ERROR:
		err := fmt.Errorf("the master said %s", event.GetError().GetMessage())
		l.troubles = append(l.troubles, err.Error())
		return err
	}
	return nil
}

// update writes a status down.
func (l *Load) update(s *mesos.TaskStatus) {
	l.count.Statuses++
	h := l.histories[s.GetTaskId().GetValue()]
	if h == nil {
		l.troubles = append(l.troubles, "a status of a task that was never launched: "+s.String())
		return
	}
	h.Moments = append(h.Moments, Moment{At: time.Now(), Status: s})
	if s.GetState() == mesos.TaskState_TASK_RUNNING {
		h.Pid = int(s.GetContainerStatus().GetExecutorPid())
		h.Container = s.GetContainerStatus().GetContainerId().GetValue()
	}
	// A reconciliation of what has ended is followed by the end itself; only that nobody knows the task is the end.
	if Final(s) && !h.Ended && (!reconciled(s) || neverRan(s.GetState())) {
		h.Ended = true
		l.count.Ended++
		if neverRan(s.GetState()) {
			l.count.NeverRan++
		}
		if s.GetReason() == mesos.TaskStatus_REASON_EXECUTOR_TERMINATED {
			l.count.Unknown++
		}
		if h.Job.Kind == Stays {
			l.troubles = append(l.troubles, fmt.Sprintf("a task has ended that was to stay:\n%s", h))
		}
	}
	if len(s.GetUuid()) == 0 {
		return
	}
	name := fmt.Sprintf("%s of %s", s.GetState(), s.GetTaskId().GetValue())
	if other, used := l.names[string(s.GetUuid())]; used && other != name {
		l.troubles = append(l.troubles, fmt.Sprintf("one uuid, %x, names both %s and %s: who goes by it takes them for the same", s.GetUuid(), other, name))
	}
	l.names[string(s.GetUuid())] = name
	a := ack{due: time.Now(), status: s}
	if l.rand.IntN(6) == 0 {
		a.due = a.due.Add(within(l.rand, maxDelay))
	}
	l.acks = slices.DeleteFunc(l.acks, func(b ack) bool { return string(b.status.GetUuid()) == string(s.GetUuid()) })
	l.acks = append(l.acks, a)
}

// answer launches on an offer what there is to launch, or declines it.
func (l *Load) answer(ctx context.Context, s *session, o *mesos.Offer) error {
	jobs := l.pick(o.GetAgentId().GetValue(), fits(o))
	if len(jobs) == 0 {
		return s.call(ctx, &schedulerpb.Call{Type: schedulerpb.Call_DECLINE.Enum(), Decline: &schedulerpb.Call_Decline{
			OfferIds: []*mesos.OfferID{o.GetId()}, Filters: &mesos.Filters{RefuseSeconds: proto.Float64(0.2)},
		}})
	}
	launch := &mesos.Offer_Operation_Launch{}
	for _, h := range jobs {
		h.Launched, h.Agent = time.Now(), o.GetAgentId().GetValue()
		launch.TaskInfos = append(launch.TaskInfos, l.cfg.Host.task(h.Job, o.GetAgentId()))
		l.count.Launched++
	}
	err := s.call(ctx, &schedulerpb.Call{Type: schedulerpb.Call_ACCEPT.Enum(), Accept: &schedulerpb.Call_Accept{
		OfferIds:   []*mesos.OfferID{o.GetId()},
		Operations: []*mesos.Offer_Operation{{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: launch}},
		Filters:    &mesos.Filters{RefuseSeconds: proto.Float64(0)},
	}})
	for _, h := range jobs {
		h.did("launched with offer %s: %s", o.GetId().GetValue(), outcome(err))
	}
	return err
}

// pick returns what to launch next on an agent where so many fit.
func (l *Load) pick(agent string, fit int) []*History {
	var due []*History
	stay, open := 0, 0 // of the agent
	for _, id := range slices.Sorted(maps.Keys(l.histories)) {
		h := l.histories[id]
		switch {
		case h.Job.Kind == Stays && h.Launched.IsZero():
			due = append(due, h)
		case h.Job.Kind == Stays && h.Agent == agent:
			stay++
		case h.Job.Kind != Stays && h.Agent == agent && !h.Ended:
			open++
		}
	}
	room := min(fit, perOffer)
	jobs := slices.Clip(due[:min(len(due), room, max(0, l.share(l.cfg.Staying)-stay))])
	for len(jobs) < room && !l.paused && open < l.share(l.cfg.Running) {
		j := NewJob(l.cfg.Seed, l.next)
		if j.Custom && fit-len(jobs) < withExecutor {
			break
		}
		jobs = append(jobs, l.add(j))
		l.next++
		open++
	}
	return jobs
}

// share is an agent's part of some jobs, rounded up.
func (l *Load) share(jobs int) int { return (jobs + l.cfg.Host.Agents - 1) / l.cfg.Host.Agents }

// fits is how many jobs an offer has room for.
func fits(o *mesos.Offer) int {
	have := map[string]float64{}
	for _, r := range o.GetResources() {
		have[r.GetName()] += r.GetScalar().GetValue()
	}
	return int(min(have["cpus"]/jobCPUs, have["mem"]/jobMem))
}

func (h Host) task(j Job, agent *mesos.AgentID) *mesos.TaskInfo {
	info := &mesos.TaskInfo{
		Name: proto.String(string(j.Kind)), TaskId: &mesos.TaskID{Value: &j.ID}, AgentId: agent,
		Resources: []*mesos.Resource{scalar("cpus", jobCPUs), scalar("mem", jobMem)},
	}
	if !j.Custom {
		info.Command = &mesos.CommandInfo{Value: proto.String(j.Command())}
		return info
	}
	info.Data = []byte(j.Command())
	info.Executor = &mesos.ExecutorInfo{
		Type: mesos.ExecutorInfo_CUSTOM.Enum(), ExecutorId: &mesos.ExecutorID{Value: proto.String(executorID)},
		Command: &mesos.CommandInfo{
			Value:       proto.String("./" + filepath.Base(h.Executor())),
			Uris:        []*mesos.CommandInfo_URI{{Value: proto.String("file://" + h.Executor()), Executable: proto.Bool(true)}},
			Environment: &mesos.Environment{Variables: []*mesos.Environment_Variable{{Name: proto.String(asExecutor), Value: proto.String("1")}}},
		},
		Resources: []*mesos.Resource{scalar("cpus", executorCPUs), scalar("mem", executorMem)},
	}
	return info
}

func scalar(name string, value float64) *mesos.Resource {
	return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value}}
}

func outcome(err error) string {
	if err != nil {
		return err.Error()
	}
	return "202"
}

// tend does what is due: acknowledgements, ends, and questions about tasks that nothing was heard of.
func (l *Load) tend(ctx context.Context, s *session) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session.Load() != s {
		return nil // not subscribed yet
	}
	now := time.Now()
	for len(l.acks) > 0 {
		i := slices.IndexFunc(l.acks, func(a ack) bool { return a.due.Before(now) })
		if i < 0 {
			break
		}
		status := l.acks[i].status
		err := s.call(ctx, &schedulerpb.Call{Type: schedulerpb.Call_ACKNOWLEDGE.Enum(), Acknowledge: &schedulerpb.Call_Acknowledge{
			AgentId: status.GetAgentId(), TaskId: status.GetTaskId(), Uuid: status.GetUuid(),
		}})
		l.histories[status.GetTaskId().GetValue()].did("acknowledged %x: %s", status.GetUuid(), outcome(err))
		if err != nil {
			return err
		}
		l.acks = slices.Delete(l.acks, i, i+1)
	}
	var silent []*schedulerpb.Call_Reconcile_Task
	for _, id := range slices.Sorted(maps.Keys(l.histories)) {
		h := l.histories[id]
		if h.Launched.IsZero() || h.Ended {
			continue
		}
		if err := l.end(ctx, s, h); err != nil {
			return err
		}
		if now.Sub(h.Moments[len(h.Moments)-1].At) > again && h.Job.Kind != Stays {
			h.did("reconciled")
			silent = append(silent, &schedulerpb.Call_Reconcile_Task{TaskId: &mesos.TaskID{Value: proto.String(id)}, AgentId: &mesos.AgentID{Value: proto.String(h.Agent)}})
		}
	}
	if len(silent) == 0 {
		return nil
	}
	return s.call(ctx, &schedulerpb.Call{Type: schedulerpb.Call_RECONCILE.Enum(), Reconcile: &schedulerpb.Call_Reconcile{Tasks: silent}})
}

// end kills a task, or strikes it, when its time has come; a KILL is sent again until it has had its effect.
func (l *Load) end(ctx context.Context, s *session, h *History) error {
	since := h.running()
	if since.IsZero() || time.Since(since) < h.Job.After {
		return nil
	}
	switch h.Job.Kind {
	case Killed:
		if h.Kill && time.Since(h.lastDone()) < again {
			return nil
		}
		h.Kill = true
		err := s.call(ctx, &schedulerpb.Call{Type: schedulerpb.Call_KILL.Enum(), Kill: &schedulerpb.Call_Kill{
			TaskId: &mesos.TaskID{Value: proto.String(h.Job.ID)}, AgentId: &mesos.AgentID{Value: proto.String(h.Agent)},
		}})
		h.did("killed: %s", outcome(err))
		return err
	case Struck:
		if h.Struck {
			return nil
		}
		h.Struck = true
		if p, err := l.cfg.Host.Process(h.Pid); err != nil || p.Container != l.cfg.Host.Folder(h.Agent)+"/"+h.Container {
			h.did("process %d is not that of container %s: %+v, %v", h.Pid, h.Container, p, err)
			return nil
		}
		h.did("process %d was struck: %v", h.Pid, syscall.Kill(h.Pid, syscall.SIGKILL))
	}
	return nil
}

// running is when the task was first heard to run.
func (h *History) running() time.Time {
	for _, m := range h.Moments {
		if m.Status.GetState() == mesos.TaskState_TASK_RUNNING {
			return m.At
		}
	}
	return time.Time{}
}

// lastDone is when the framework last did something about the task.
func (h *History) lastDone() time.Time {
	for _, m := range slices.Backward(h.Moments) {
		if m.Status == nil {
			return m.At
		}
	}
	return time.Time{}
}

// Framework is the id that the load was given; empty before.
func (l *Load) Framework() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.info.GetId().GetValue()
}
