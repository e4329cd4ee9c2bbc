package core_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

func sortedKeys[K cmp.Ordered, V any](all map[K]V) []K { return slices.Sorted(maps.Keys(all)) }

// TestScripts plays testdata/scripts; -rewrite writes what happens into them. A command
// is an event:
//
//	restart [after=10s] | tick after=10s | deadline
//	lose key=agent/A
//	hello conn=1 [boot=B] [agent=A] [resources="cpus:4;mem:1024"] [epoch=N] [start=N] [nth=N] [registered=N]
//	      [held=(t1=RUNNING,...) each="cpus:1" f=F [knows] [head=STARTING]]
//	gone conn=1 | pong conn=1 | update conn=1 f=F t=T state=RUNNING [latest=FINISHED] [repeated] uuid=u
//	allocator up|down | grant f=F a=A [role=*] [epoch=1] [mode=shared] resources="cpus:1"
//	subscribe stream=s [id=F] [timeout=60] [roles=a,b] [aware] [plugin=P]
//	drop stream=s
//	accept|decline stream=s f=F offers=O1,O2 [refuse=10] [a=A launch=(t1=cpus:1;mem:10,t2=...)]
//	revive|suppress|teardown|kill|ack|reconcile stream=s f=F ...
//	accept ... launch=(t1=cpus:1) exec=e [each="cpus:0.5;mem:32"] [command=other]
//	hello ... execs=(e) [executor="cpus:0.5;mem:32"] | executor-ended|executor-says conn=1 f=F exec=e
//	shutdown|message stream=s f=F exec=e
//	operator-kill f=F t=T | update_framework stream=s f=F roles=a,b [suppressed=a] | see operate for more
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		c := newCluster(t)
		grants := uint64(0)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			c.t = t
			s := script{c: c, d: d, grants: &grants}
			return s.play()
		})
	})
}

type script struct {
	c      *cluster
	d      *datadriven.TestData
	grants *uint64
}

func (s script) arg(key, otherwise string) string {
	for _, a := range s.d.CmdArgs {
		if a.Key == key && len(a.Vals) > 0 {
			return strings.Trim(strings.Join(a.Vals, ","), `"`)
		}
	}
	return otherwise
}

func (s script) number(key string, otherwise uint64) uint64 {
	n, err := strconv.ParseUint(s.arg(key, strconv.FormatUint(otherwise, 10)), 10, 64)
	if err != nil {
		s.d.Fatalf(s.c.t, "%v", err)
	}
	return n
}

func (s script) play() string {
	c, d := s.c, s.d
	switch d.Cmd {
	case "restart":
		after, err := time.ParseDuration(s.arg("after", "0s"))
		if err != nil {
			d.Fatalf(c.t, "%v", err)
		}
		c.now = c.now.Add(after)
		c.restart()
	case "tick":
		after, err := time.ParseDuration(s.arg("after", "0s"))
		if err != nil {
			d.Fatalf(c.t, "%v", err)
		}
		c.now = c.now.Add(after)
		c.step(core.Tick{})
	case "lose":
		delete(c.registry, s.arg("key", ""))
	case "deadline":
		at, some := c.m.NextDeadline()
		if !some {
			return "never\n"
		}
		return fmt.Sprintf("in %s\n", at.Sub(c.now))
	case "hello":
		s.hello()
	case "gone":
		c.step(core.AgentGone{Conn: s.number("conn", 1)})
	case "pong":
		c.step(core.AgentMessage{Conn: s.number("conn", 1), Message: &linkpb.ToMaster{Body: &linkpb.ToMaster_Pong{Pong: &linkpb.Pong{}}}})
	case "update":
		state := s.state("state")
		latest := state
		if d.HasArg("latest") {
			latest = s.state("latest")
		}
		m := update(s.arg("f", ""), status(s.arg("t", ""), s.arg("a", "M1-S0"), state, s.arg("uuid", "u")), latest)
		m.GetUpdate().Repeated = d.HasArg("repeated")
		c.step(core.AgentMessage{Conn: s.number("conn", 1), Message: m})
	case "allocator":
		if d.HasArg("down") {
			c.step(core.AllocatorDown{})
		} else {
			c.step(core.AllocatorUp{})
		}
	case "grant":
		s.grant()
	case "drop":
		c.step(core.StreamGone{Stream: id.Stream(s.arg("stream", ""))})
	case "operator-kill":
		c.step(core.KillTask{Task: id.TaskKey{Framework: id.Framework(s.arg("f", "")), Task: id.Task(s.arg("t", ""))}})
	default:
		if !s.operate() && !s.executor() {
			s.call()
		}
	}
	return c.String()
}

func (s script) state(key string) mesos.TaskState {
	n, ok := mesos.TaskState_value["TASK_"+s.arg(key, "")]
	if !ok {
		s.d.Fatalf(s.c.t, "unknown state %q", s.arg(key, ""))
	}
	return mesos.TaskState(n)
}

func (s script) hello() {
	agent := s.arg("agent", "")
	h := hello("host", agent, s.arg("resources", "cpus:4;mem:1024"), s.number("epoch", 0))
	h.Incarnation, h.Stream, h.Registered, h.Home = s.number("start", 0), s.number("nth", 0), s.number("registered", 0), "here"
	h.BootId = s.arg("boot", "")
	for _, held := range s.list("held") {
		name, state, _ := strings.Cut(held, "=")
		n := mesos.TaskState(mesos.TaskState_value["TASK_"+state])
		info := taskInfo(name, agent, s.arg("each", "cpus:1;mem:100"))
		h.Tasks = append(h.Tasks, &linkpb.HeldTask{FrameworkId: frameworkID(s.arg("f", "")), Info: info, Status: status(name, agent, n, "held")})
		if s.d.HasArg("head") {
			h.Tasks[len(h.Tasks)-1].Unacknowledged = status(name, agent, s.state("head"), "head")
		}
	}
	if s.d.HasArg("knows") {
		h.Frameworks = append(h.Frameworks, frameworkInfo(s.arg("f", ""), 60, nil))
	}
	h.Executors = s.heldExecutors()
	s.c.step(core.AgentHello{Conn: s.number("conn", 1), Hello: h})
}

func (s script) grant() {
	*s.grants++
	r, err := ledger.Parse(s.arg("resources", "cpus:1;mem:100"))
	if err != nil {
		s.d.Fatalf(s.c.t, "%v", err)
	}
	g := &allocatorpb.Grant{Id: *s.grants, AgentId: s.arg("a", "M1-S0"), FrameworkId: s.arg("f", ""), Role: s.arg("role", "*"), Resources: r.Contract()}
	if s.arg("mode", "") == "shared" {
		g.Mode = allocatorpb.ClaimMode_SHARED
	}
	s.c.step(core.Proposal{Proposal: &allocatorpb.FromAllocator{Epoch: s.number("epoch", 1), Grants: []*allocatorpb.Grant{g}}})
}

func (s script) list(key string) []string {
	text := s.arg(key, "")
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

func (s script) call() {
	name := strings.ToUpper(s.d.Cmd)
	if s.d.Cmd == "ack" {
		name = "ACKNOWLEDGE"
	}
	n, ok := schedulerpb.Call_Type_value[name]
	if !ok {
		s.d.Fatalf(s.c.t, "unknown command %s", s.d.Cmd)
	}
	call := &schedulerpb.Call{Type: schedulerpb.Call_Type(n).Enum()}
	task, agent := taskID(s.arg("t", "")), agentID(s.arg("a", "M1-S0"))
	filters := &mesos.Filters{RefuseSeconds: proto.Float64(float64(s.number("refuse", 5)))}
	switch call.GetType() {
	case schedulerpb.Call_SUBSCRIBE:
		s.subscribe()
		return
	case schedulerpb.Call_UPDATE_FRAMEWORK:
		call.UpdateFramework = s.frameworkUpdate()
	case schedulerpb.Call_ACCEPT:
		call = acceptCall(s.list("offers"), filters.RefuseSeconds, s.launches()...)
	case schedulerpb.Call_DECLINE:
		call.Decline = &schedulerpb.Call_Decline{OfferIds: offerIDs(s.list("offers")...), Filters: filters}
	case schedulerpb.Call_REVIVE:
		call.Revive = &schedulerpb.Call_Revive{Roles: s.list("roles")}
	case schedulerpb.Call_SUPPRESS:
		call.Suppress = &schedulerpb.Call_Suppress{Roles: s.list("roles")}
	case schedulerpb.Call_KILL:
		call.Kill = &schedulerpb.Call_Kill{TaskId: task, AgentId: agent}
	case schedulerpb.Call_ACKNOWLEDGE:
		call.Acknowledge = &schedulerpb.Call_Acknowledge{TaskId: task, AgentId: agent, Uuid: []byte(s.arg("uuid", "u"))}
	case schedulerpb.Call_MESSAGE:
		call.Message = &schedulerpb.Call_Message{AgentId: agent, ExecutorId: executorID(s.arg("exec", "e")), Data: []byte("hi")}
	case schedulerpb.Call_SHUTDOWN:
		call.Shutdown = &schedulerpb.Call_Shutdown{AgentId: agent, ExecutorId: executorID(s.arg("exec", "e"))}
	case schedulerpb.Call_RECONCILE:
		call.Reconcile = &schedulerpb.Call_Reconcile{}
		for _, name := range s.list("t") {
			asked := &schedulerpb.Call_Reconcile_Task{TaskId: taskID(name)}
			if s.d.HasArg("a") {
				asked.AgentId = agent
			}
			call.Reconcile.Tasks = append(call.Reconcile.Tasks, asked)
		}
	}
	s.c.call(s.arg("stream", ""), s.arg("f", ""), call)
}

func (s script) subscribe() {
	var capabilities []mesos.FrameworkInfo_Capability_Type
	if s.d.HasArg("aware") {
		capabilities = append(capabilities, mesos.FrameworkInfo_Capability_PARTITION_AWARE)
	}
	for _, name := range s.list("can") {
		capabilities = append(capabilities, mesos.FrameworkInfo_Capability_Type(mesos.FrameworkInfo_Capability_Type_value[name]))
	}
	info := frameworkInfo(s.arg("id", ""), float64(s.number("timeout", 0)), s.list("roles"), capabilities...)
	s.c.step(core.Call{
		Request: 1, Stream: id.Stream(s.arg("stream", "")), Plugin: s.arg("plugin", ""),
		Call: &schedulerpb.Call{
			Type: schedulerpb.Call_SUBSCRIBE.Enum(), FrameworkId: info.Id,
			Subscribe: &schedulerpb.Call_Subscribe{FrameworkInfo: info, SuppressedRoles: s.list("suppressed")},
		},
	})
}

// launches reads launch=(t1=cpus:1;mem:10,t2=cpus:1).
func (s script) launches() (tasks []*mesos.TaskInfo) {
	for _, l := range s.list("launch") {
		name, resources, _ := strings.Cut(l, "=")
		tasks = append(tasks, s.custom(taskInfo(name, s.arg("a", "M1-S0"), resources)))
	}
	return tasks
}
