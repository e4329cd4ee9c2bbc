package core_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// operate plays what operators do, and the looks that they take:
//
//	watch stream=w | unwatch stream=w | weights (a=2,b=0.5) | operator-teardown f=F
//	offer-timeout after=30s (for the masters from the next restart on)
//	roles | tally
func (s script) operate() bool {
	c := s.c
	switch s.d.Cmd {
	case "watch":
		c.step(core.Watch{Stream: id.Stream(s.arg("stream", ""))})
	case "unwatch":
		c.step(core.WatcherGone{Stream: id.Stream(s.arg("stream", ""))})
	case "weights":
		c.step(core.SetWeights{Weights: s.weights()})
	case "operator-teardown":
		c.step(core.Teardown{Framework: id.Framework(s.arg("f", ""))})
	case "offer-timeout":
		c.cfg.OfferTimeout, _ = time.ParseDuration(s.arg("after", ""))
	case "roles":
		for _, r := range c.m.Roles().Roles {
			c.seen += fmt.Sprintf("role %s weight=%g members=%d resources=%d\n", r.GetName(), r.GetWeight(), len(r.Frameworks), len(r.Resources))
		}
	case "tally":
		t := c.m.Tally()
		c.seen += fmt.Sprintf("agents %d+%d-%d frameworks %d+%d offers %d cpus %d of %d\nrunning %d finished %d killed %d\n",
			t.Connected, t.Disconnected, t.Unreachable, t.Subscribed, t.Unsubscribed, t.Offers, t.Used.Firm["cpus"], t.Total.Firm["cpus"],
			t.Tasks[mesos.TaskState_TASK_RUNNING], t.Ended[mesos.TaskState_TASK_FINISHED], t.Ended[mesos.TaskState_TASK_KILLED])
	default:
		return false
	}
	return true
}

func (s script) weights() (list []*mesos.WeightInfo) {
	for _, w := range s.list("of") {
		role, text, _ := strings.Cut(w, "=")
		weight, err := strconv.ParseFloat(text, 64)
		if err != nil {
			s.d.Fatalf(s.c.t, "%v", err)
		}
		list = append(list, &mesos.WeightInfo{Role: &role, Weight: &weight})
	}
	return list
}

func (s script) frameworkUpdate() *schedulerpb.Call_UpdateFramework {
	info := frameworkInfo(s.arg("f", ""), float64(s.number("timeout", 0)), s.list("roles"))
	if s.d.HasArg("user") {
		info.User = proto.String(s.arg("user", ""))
	}
	return &schedulerpb.Call_UpdateFramework{FrameworkInfo: info, SuppressedRoles: s.list("suppressed")}
}

// newsText words what watchers are told.
func newsText(e *masterpb.Event) string {
	if e == nil {
		return ""
	}
	text := " " + e.GetType().String()
	switch e.GetType() {
	case masterpb.Event_SUBSCRIBED:
		st := e.Subscribed.GetState
		return text + fmt.Sprintf(" agents=%d frameworks=%d tasks=%d every %gs", len(st.GetAgents.Agents),
			len(st.GetFrameworks.Frameworks), len(st.GetTasks.Tasks), e.Subscribed.GetHeartbeatIntervalSeconds())
	case masterpb.Event_TASK_ADDED:
		return text + fmt.Sprintf(" %s %s", e.TaskAdded.Task.TaskId.GetValue(), e.TaskAdded.Task.GetState())
	case masterpb.Event_TASK_UPDATED:
		return text + fmt.Sprintf(" %s %s by %s", e.TaskUpdated.Status.TaskId.GetValue(), e.TaskUpdated.GetState(), e.TaskUpdated.Status.GetState())
	case masterpb.Event_AGENT_ADDED:
		return text + " " + e.AgentAdded.Agent.AgentInfo.Id.GetValue()
	case masterpb.Event_AGENT_REMOVED:
		return text + " " + e.AgentRemoved.AgentId.GetValue()
	case masterpb.Event_FRAMEWORK_ADDED:
		return text + frameworkText(e.FrameworkAdded.Framework)
	case masterpb.Event_FRAMEWORK_UPDATED:
		return text + frameworkText(e.FrameworkUpdated.Framework)
	case masterpb.Event_FRAMEWORK_REMOVED:
		return text + " " + e.FrameworkRemoved.FrameworkInfo.Id.GetValue()
	}
	return text
}

func frameworkText(f *masterpb.Response_GetFrameworks_Framework) string {
	return fmt.Sprintf(" %s active=%t roles=%v", f.FrameworkInfo.Id.GetValue(), f.GetActive(), f.FrameworkInfo.Roles)
}

// TestRefusals is the checks of a call that HTTP alone can't fail, in their order.
func TestRefusals(t *testing.T) {
	c := newCluster(t)
	subscribe := func(stream, plugin, principal string) string {
		info := frameworkInfo("", 60, nil)
		info.Principal = &principal
		c.step(core.Call{Stream: id.Stream(stream), Plugin: plugin, Principal: principal, Call: &schedulerpb.Call{
			Type: schedulerpb.Call_SUBSCRIBE.Enum(), Subscribe: &schedulerpb.Call_Subscribe{FrameworkInfo: info},
		}})
		return c.out.Notify[len(c.out.Notify)-1].Event.GetSubscribed().GetFrameworkId().GetValue()
	}
	own, plugged := subscribe("s1", "", "ann"), subscribe("s2", "marathon", "")
	for _, x := range []struct {
		name, framework, principal, stream string
		status                             int
		message                            string
	}{
		{"another principal", own, "bob", "", 400, "Authenticated principal 'bob' does not match principal 'ann' set in `FrameworkInfo`"},
		{"of a plugin", plugged, "", "s2", 403, "Framework is not connected via HTTP"},
		{"its principal", own, "ann", "s1", 202, ""},
		{"anonymous", own, "", "s1", 202, ""},
	} {
		c.out.Reset()
		c.step(core.Call{Stream: id.Stream(x.stream), Principal: x.principal, Call: &schedulerpb.Call{
			Type: schedulerpb.Call_REVIVE.Enum(), FrameworkId: frameworkID(x.framework),
		}})
		if r := c.out.Replies[0]; r.Status != x.status || r.Message != x.message {
			t.Errorf("%s: %d %q, want %d %q", x.name, r.Status, r.Message, x.status, x.message)
		}
	}
}

// TestWatchersAreBounded: one more than there may be, and the oldest goes.
func TestWatchersAreBounded(t *testing.T) {
	c := newCluster(t)
	for i := range 1001 {
		c.step(core.Watch{Stream: id.Stream(fmt.Sprint("w", i))})
	}
	var ended []id.Stream
	for _, n := range c.out.News {
		if n.Close {
			ended = append(ended, n.Stream)
		}
	}
	if len(ended) != 1 || ended[0] != "w0" {
		t.Errorf("ended: %v", ended)
	}
}

// replica is the cluster as one watcher has it from its events alone.
type replica struct {
	t          *testing.T
	agents     map[string]bool
	frameworks map[string]bool // whether it is active
	tasks      map[id.TaskKey]mesos.TaskState
}

func (r *replica) read(e *masterpb.Event) {
	switch e.GetType() {
	case masterpb.Event_SUBSCRIBED:
		*r = replicaOf(r.t, e.Subscribed.GetState)
	case masterpb.Event_AGENT_ADDED:
		r.change("agent added twice", !r.agents[e.AgentAdded.Agent.AgentInfo.Id.GetValue()])
		r.agents[e.AgentAdded.Agent.AgentInfo.Id.GetValue()] = true
	case masterpb.Event_AGENT_REMOVED:
		delete(r.agents, e.AgentRemoved.AgentId.GetValue()) // or one that was recovered only
	case masterpb.Event_FRAMEWORK_ADDED:
		f := e.FrameworkAdded.Framework
		_, known := r.frameworks[f.FrameworkInfo.Id.GetValue()]
		r.change("framework added twice", !known)
		r.frameworks[f.FrameworkInfo.Id.GetValue()] = f.GetActive()
	case masterpb.Event_FRAMEWORK_UPDATED:
		f := e.FrameworkUpdated.Framework
		_, known := r.frameworks[f.FrameworkInfo.Id.GetValue()]
		r.change("unknown framework updated", known)
		r.frameworks[f.FrameworkInfo.Id.GetValue()] = f.GetActive()
	case masterpb.Event_FRAMEWORK_REMOVED:
		_, known := r.frameworks[e.FrameworkRemoved.FrameworkInfo.Id.GetValue()]
		r.change("unknown framework removed", known)
		delete(r.frameworks, e.FrameworkRemoved.FrameworkInfo.Id.GetValue())
	case masterpb.Event_TASK_ADDED:
		key := keyOf(e.TaskAdded.Task)
		_, active := r.frameworks[string(key.Framework)]
		r.change("task of an unknown framework", active)
		r.change("task on an unknown agent", r.agents[e.TaskAdded.Task.AgentId.GetValue()])
		r.tasks[key] = e.TaskAdded.Task.GetState() // an id may be used again after its end
	case masterpb.Event_TASK_UPDATED:
		u := e.TaskUpdated
		key := id.TaskKey{Framework: id.Framework(u.FrameworkId.GetValue()), Task: id.Task(u.Status.TaskId.GetValue())}
		before, known := r.tasks[key]
		r.change("unknown task updated", known)
		r.change("update that changes nothing", before != u.GetState())
		r.tasks[key] = u.GetState()
	}
}

func (r *replica) change(what string, ok bool) {
	r.t.Helper()
	if !ok {
		r.t.Error(what)
	}
}

func keyOf(t *mesos.Task) id.TaskKey {
	return id.TaskKey{Framework: id.Framework(t.FrameworkId.GetValue()), Task: id.Task(t.TaskId.GetValue())}
}

func replicaOf(t *testing.T, s *masterpb.Response_GetState) replica {
	r := replica{t, map[string]bool{}, map[string]bool{}, map[id.TaskKey]mesos.TaskState{}}
	for _, a := range s.GetAgents.Agents {
		r.agents[a.AgentInfo.Id.GetValue()] = true
	}
	for _, f := range s.GetFrameworks.Frameworks {
		r.frameworks[f.FrameworkInfo.Id.GetValue()] = f.GetActive()
	}
	for _, list := range [][]*mesos.Task{s.GetTasks.CompletedTasks, s.GetTasks.Tasks, s.GetTasks.UnreachableTasks} {
		for _, task := range list {
			r.tasks[keyOf(task)] = task.GetState()
		}
	}
	return r
}

// agrees tells whether a watcher that read every event knows what one knows that asks now:
// agents, frameworks, and the tasks that go on.
func (r *replica) agrees(s *masterpb.Response_GetState) {
	r.t.Helper()
	now := replicaOf(r.t, s)
	for _, all := range []struct{ mine, real map[string]bool }{{r.agents, now.agents}, {r.frameworks, now.frameworks}} {
		if fmt.Sprint(all.mine) != fmt.Sprint(all.real) {
			r.t.Errorf("the watcher knows %v, the master has %v", all.mine, all.real)
		}
	}
	for _, list := range [][]*mesos.Task{s.GetTasks.Tasks, s.GetTasks.UnreachableTasks} {
		for _, task := range list {
			if got, known := r.tasks[keyOf(task)]; !known || got != task.GetState() {
				r.t.Errorf("task %s is %s, and the watcher has it as %s", keyOf(task), task.GetState(), got)
			}
		}
	}
}
