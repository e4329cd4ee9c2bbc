package core_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

func subscribeAs(info *mesos.FrameworkInfo, suppressed ...string) *schedulerpb.Call {
	return &schedulerpb.Call{
		Type: schedulerpb.Call_SUBSCRIBE.Enum(), FrameworkId: info.Id,
		Subscribe: &schedulerpb.Call_Subscribe{FrameworkInfo: info, SuppressedRoles: suppressed},
	}
}

// launched is a cluster whose framework M1-0000 on stream s has one task, t, on the first of two agents.
func launched(t *testing.T) *cluster {
	c := newCluster(t)
	c.step(core.AllocatorUp{})
	for conn := range uint64(2) {
		c.step(core.AgentHello{Conn: conn + 1, Hello: hello(fmt.Sprint("h", conn), "", "cpus:4;mem:1024", 1)})
	}
	c.call("s", "", subscribeAs(frameworkInfo("", 60, nil, mesos.FrameworkInfo_Capability_PARTITION_AWARE)))
	c.offer("cpus:1")
	c.call("s", "M1-0000", acceptCall([]string{"M1-O0"}, nil, taskInfo("t", "M1-S0", "cpus:1")))
	c.out.Reset()
	return c
}

// offer offers something of the first agent to the framework.
func (c *cluster) offer(what string) {
	c.t.Helper()
	r, err := ledger.Parse(what)
	if err != nil {
		c.t.Fatal(err)
	}
	c.step(core.Proposal{Proposal: &allocatorpb.FromAllocator{Epoch: 1, Grants: []*allocatorpb.Grant{{
		Id: 1, AgentId: "M1-S0", FrameworkId: "M1-0000", Role: "*", Resources: r.Contract(),
	}}}})
}

// An acknowledgement that names an agent which does not have the task changes nothing, nor does a kill.
func TestOnlyTheAgentOfATaskIsMeant(t *testing.T) {
	c := launched(t)
	c.step(core.AgentMessage{Conn: 1, Message: update("M1-0000", status("t", "M1-S0", mesos.TaskState_TASK_RUNNING, "u1"), mesos.TaskState_TASK_RUNNING)})
	acknowledge := func(agent string) string {
		c.out.Reset()
		c.call("s", "M1-0000", &schedulerpb.Call{Type: schedulerpb.Call_ACKNOWLEDGE.Enum(), Acknowledge: &schedulerpb.Call_Acknowledge{
			AgentId: agentID(agent), TaskId: taskID("t"), Uuid: []byte("u1"),
		}})
		return c.String()
	}
	if got := acknowledge("M1-S1"); got != "reply 202\n" {
		t.Errorf("for another agent: %s", got)
	}
	if n := c.m.Tally().InvalidAcks; n != 1 {
		t.Errorf("%d are counted as invalid", n)
	}
	if got := acknowledge("M1-S0"); got != "send 1 acknowledge t u1\nreply 202\n" {
		t.Errorf("for its agent: %s", got)
	}
	kill := func(agent *mesos.AgentID) string {
		c.call("s", "M1-0000", &schedulerpb.Call{Type: schedulerpb.Call_KILL.Enum(), Kill: &schedulerpb.Call_Kill{TaskId: taskID("t"), AgentId: agent}})
		return c.String()
	}
	if got := kill(agentID("M1-S1")); got != "reply 202\n" {
		t.Errorf("a kill on another agent: %s", got)
	}
	for _, agent := range []*mesos.AgentID{nil, agentID("M1-S0")} {
		if got := kill(agent); got != "send 1 kill t\nreply 202\n" {
			t.Errorf("a kill on %s: %s", agent, got)
		}
	}
}

func TestTasksOfARemovedFrameworkSayWhyTheyEnded(t *testing.T) {
	for name, test := range map[string]struct {
		end  func(c *cluster)
		want string
	}{
		"killed by its agent": {func(c *cluster) {
			c.step(core.Teardown{Framework: "M1-0000"})
			c.step(core.AgentMessage{Conn: 1, Message: update("M1-0000", status("t", "M1-S0", mesos.TaskState_TASK_KILLED, "u"), mesos.TaskState_TASK_KILLED)})
		}, "TASK_KILLED SOURCE_MASTER REASON_FRAMEWORK_REMOVED Framework M1-0000 removed"},
		"ended by itself meanwhile": {func(c *cluster) {
			c.step(core.Teardown{Framework: "M1-0000"})
			c.step(core.AgentMessage{Conn: 1, Message: update("M1-0000", status("t", "M1-S0", mesos.TaskState_TASK_FINISHED, "u"), mesos.TaskState_TASK_FINISHED)})
		}, "TASK_FINISHED SOURCE_EXECUTOR REASON_COMMAND_EXECUTOR_FAILED "}, // the first of the enum: there is none
		"out of reach": {func(c *cluster) {
			c.step(core.AgentGone{Conn: 1})
			c.now = c.now.Add(10 * time.Minute)
			c.step(core.Tick{})
			c.step(core.Teardown{Framework: "M1-0000"})
		}, "TASK_KILLED SOURCE_MASTER REASON_FRAMEWORK_REMOVED Framework M1-0000 removed"},
	} {
		t.Run(name, func(t *testing.T) {
			c := launched(t)
			test.end(c)
			tasks := c.m.Tasks().CompletedTasks
			if len(tasks) != 1 {
				t.Fatalf("%d tasks are completed", len(tasks))
			}
			s := tasks[0].Statuses[len(tasks[0].Statuses)-1]
			if got := fmt.Sprint(s.GetState(), " ", s.GetSource(), " ", s.GetReason(), " ", s.GetMessage()); got != test.want || tasks[0].GetState() != s.GetState() {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestLaunchesWithInvalidOffersAreCounted(t *testing.T) {
	c := launched(t)
	c.call("s", "M1-0000", acceptCall([]string{"no such"}, nil, taskInfo("t1", "M1-S0", "cpus:1"), taskInfo("t2", "M1-S0", "cpus:1")))
	if n := c.m.Tally().Ended[mesos.TaskState_TASK_DROPPED]; n != 2 {
		t.Errorf("%d tasks are counted as dropped", n)
	}
}

// What is too large is not looked into: that may take long, and everybody waits for it.
func TestSizeIsJudgedFirst(t *testing.T) {
	c := launched(t)
	roles := make([]string, 100_000)
	for i := range roles {
		roles[i] = fmt.Sprintf("r%d", i/2) // each twice, which is told otherwise
	}
	c.call("s2", "", subscribeAs(frameworkInfo("", 0, roles), roles...))
	if got := c.String(); !strings.Contains(got, "bytes; at most 262144 are taken") || len(got) > 1000 {
		t.Errorf("SUBSCRIBE: %.300s", got)
	}
	c.call("s", "M1-0000", &schedulerpb.Call{Type: schedulerpb.Call_UPDATE_FRAMEWORK.Enum(), UpdateFramework: &schedulerpb.Call_UpdateFramework{
		FrameworkInfo: frameworkInfo("M1-0000", 0, roles), SuppressedRoles: roles,
	}})
	if got := c.String(); !strings.Contains(got, "bytes; at most 262144 are taken") || len(got) > 1000 {
		t.Errorf("UPDATE_FRAMEWORK: %.300s", got)
	}
	c.offer("cpus:1")
	task := taskInfo("large", "no such agent", "cpus:1")
	task.Data = make([]byte, 600<<10)
	c.call("s", "M1-0000", acceptCall([]string{"M1-O1"}, nil, task))
	var told string
	for _, n := range c.out.Notify {
		told += n.Event.GetUpdate().GetStatus().GetMessage()
	}
	if !strings.Contains(told, "bytes; at most 524288 are taken") {
		t.Errorf("ACCEPT: %s", told)
	}
}

// subscribeMany subscribes frameworks without the checks of the whole cluster at each step, and returns the status and
// the last words of the last answer.
func (c *cluster) subscribeMany(from, to int, info func() *mesos.FrameworkInfo) (status int, words string) {
	for i := from; i < to; i++ {
		c.out.Reset()
		c.m.Step(c.now, core.Call{Stream: id.Stream(fmt.Sprint("many-", i)), Call: subscribeAs(info())}, &c.out)
		c.now++
	}
	for _, n := range c.out.Notify {
		words += n.Event.GetError().GetMessage()
	}
	return c.out.Replies[0].Status, words
}

func TestStreamsAreBounded(t *testing.T) {
	c := newCluster(t)
	plain := func() *mesos.FrameworkInfo { return frameworkInfo("", 60, nil) }
	if status, words := c.subscribeMany(0, 2000, plain); status != 200 || words != "" {
		t.Fatalf("the last that may subscribe: %d %s", status, words)
	}
	if status, _ := c.subscribeMany(2000, 2001, plain); status != 503 {
		t.Errorf("one more: %d", status)
	}
	// One that comes back on another connection takes no more than it had.
	if status, words := c.subscribeMany(2001, 2002, func() *mesos.FrameworkInfo { return frameworkInfo("M1-0000", 60, nil) }); status != 200 || words != "Framework failed over" {
		t.Errorf("a failover: %d %s", status, words)
	}
	c.step(core.Call{Stream: "plugin", Plugin: "marathon", Call: subscribeAs(plain())})
	if c.m.PluginFramework("marathon") == "" {
		t.Error("the plugin's framework is locked out")
	}
	c.step(core.StreamGone{Stream: "many-1"})
	c.step(core.StreamGone{Stream: "many-2"})
	if status, _ := c.subscribeMany(2002, 2003, plain); status != 200 {
		t.Errorf("where two left, and one is a plugin's: %d", status)
	}
}

// Frameworks that are away, however long they may be, are kept while there is room. One that has tasks stays.
func TestIdleFrameworksMakeRoom(t *testing.T) {
	c := launched(t)
	c.step(core.StreamGone{Stream: "s"}) // away before all others, with a task
	large := func() *mesos.FrameworkInfo {
		info := frameworkInfo("", 1e8, nil)
		info.Hostname = proto.String(strings.Repeat("h", 250<<10))
		return info
	}
	for i := range 200 {
		if status, words := c.subscribeMany(i, i+1, large); status != 200 || words != "" {
			t.Fatalf("%d: %d %s", i, status, words)
		}
		c.m.Step(c.now, core.StreamGone{Stream: id.Stream(fmt.Sprint("many-", i))}, &c.out)
	}
	bytes, first := 0, ""
	for i, f := range c.m.Frameworks().Frameworks {
		bytes += proto.Size(f.FrameworkInfo)
		if i < 2 {
			first += f.FrameworkInfo.GetId().GetValue() + " "
		}
	}
	if bytes > 32<<20 || bytes < 31<<20 {
		t.Errorf("%d bytes of FrameworkInfo are kept", bytes)
	}
	if first != "M1-0000 M1-0070 " {
		t.Errorf("the oldest are %s", first)
	}
	if err := c.m.Check(); err != nil {
		t.Error(err)
	}
}

func TestConnectedFrameworksKeepTheirRoom(t *testing.T) {
	c := newCluster(t)
	large := func() *mesos.FrameworkInfo {
		info := frameworkInfo("", 0, nil)
		info.Hostname = proto.String(strings.Repeat("h", 250<<10))
		return info
	}
	if _, words := c.subscribeMany(0, 131, large); words != "" {
		t.Fatal(words)
	}
	if _, words := c.subscribeMany(131, 132, large); !strings.Contains(words, "tear down one that is not needed") {
		t.Errorf("one more was told %q", words)
	}
	if _, words := c.subscribeMany(132, 133, func() *mesos.FrameworkInfo { return frameworkInfo("", 0, nil) }); words != "" {
		t.Errorf("a small one was told %q", words)
	}
}

func TestAgentsTellTheirProcess(t *testing.T) {
	c := launched(t)
	if got := c.m.Agents().Agents[0].GetPid(); got != "slave(1)@h0:5051" {
		t.Errorf("pid %q", got)
	}
}
