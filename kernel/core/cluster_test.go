package core_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/step"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// cluster drives a master and keeps its registry, so that it can be restarted.
type cluster struct {
	t        *testing.T
	m        *core.Machine
	cfg      core.Config
	now      step.Time
	out      core.Effects
	registry map[string][]byte
	request  uint64
	seen     string // of looks at the machine, to be printed
}

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, now: step.At(time.Unix(1000, 0)), registry: map[string][]byte{}}
	c.restart()
	return c
}

// restart is a new master on the same registry.
func (c *cluster) restart() {
	c.cfg.Epoch++
	c.cfg.ID = fmt.Sprintf("M%d", c.cfg.Epoch)
	c.m = core.New(c.cfg)
	var entries []step.Write
	for _, key := range sortedKeys(c.registry) {
		entries = append(entries, step.Write{Key: key, Value: c.registry[key]})
	}
	if err := core.CheckRegistry(entries); err != nil {
		c.t.Fatalf("restart: %v", err)
	}
	c.step(core.Recovered{Entries: entries})
}

// step takes one event, checks the invariants, and keeps what must be durable.
func (c *cluster) step(ev core.Event) {
	c.t.Helper()
	before := len(c.out.Persist)
	c.m.Step(c.now, ev, &c.out)
	if err := c.m.Check(); err != nil {
		c.t.Fatalf("after %T: %v", ev, err)
	}
	for _, w := range c.out.Persist[before:] {
		if w.Value == nil {
			delete(c.registry, w.Key)
		} else {
			c.registry[w.Key] = w.Value
		}
	}
}

// call steps a scheduler call on a stream.
func (c *cluster) call(stream, framework string, call *schedulerpb.Call) {
	c.t.Helper()
	c.request++
	if framework != "" {
		call.FrameworkId = frameworkID(framework)
	}
	c.step(core.Call{Request: c.request, Stream: id.Stream(stream), Call: call})
}

func hello(host, agent, resources string, epoch uint64, tasks ...*linkpb.HeldTask) *linkpb.Hello {
	total, err := ledger.Parse(resources)
	if err != nil {
		panic(err)
	}
	info := &mesos.AgentInfo{Hostname: proto.String(host), Resources: total.Mesos("")}
	if agent != "" {
		info.Id = agentID(agent)
	}
	return &linkpb.Hello{Info: info, Epoch: epoch, Tasks: tasks, Version: "test"}
}

func frameworkID(s string) *mesos.FrameworkID { return &mesos.FrameworkID{Value: proto.String(s)} }
func agentID(s string) *mesos.AgentID         { return &mesos.AgentID{Value: proto.String(s)} }
func taskID(s string) *mesos.TaskID           { return &mesos.TaskID{Value: proto.String(s)} }
func offerIDs(list ...string) (ids []*mesos.OfferID) {
	for _, s := range list {
		ids = append(ids, &mesos.OfferID{Value: proto.String(s)})
	}
	return ids
}

func frameworkInfo(fid string, timeout float64, roles []string, capabilities ...mesos.FrameworkInfo_Capability_Type) *mesos.FrameworkInfo {
	info := &mesos.FrameworkInfo{User: proto.String("root"), Name: proto.String("test")}
	if timeout > 0 {
		info.FailoverTimeout = proto.Float64(timeout)
	}
	if fid != "" {
		info.Id = frameworkID(fid)
	}
	if len(roles) > 0 {
		info.Roles = roles
		capabilities = append(capabilities, mesos.FrameworkInfo_Capability_MULTI_ROLE)
	}
	for _, c := range capabilities {
		info.Capabilities = append(info.Capabilities, &mesos.FrameworkInfo_Capability{Type: c.Enum()})
	}
	return info
}

func taskInfo(name, agent, resources string) *mesos.TaskInfo {
	r, err := ledger.Parse(resources)
	if err != nil {
		panic(err)
	}
	return &mesos.TaskInfo{
		Name: proto.String(name), TaskId: taskID(name), AgentId: agentID(agent), Resources: r.Mesos(""),
		Command: &mesos.CommandInfo{Value: proto.String("true")},
	}
}

func status(task, agent string, state mesos.TaskState, uuid string) *mesos.TaskStatus {
	return &mesos.TaskStatus{
		TaskId: taskID(task), AgentId: agentID(agent), State: state.Enum(), Uuid: []byte(uuid),
		Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(),
	}
}

func update(framework string, s *mesos.TaskStatus, latest mesos.TaskState) *linkpb.ToMaster {
	return &linkpb.ToMaster{Body: &linkpb.ToMaster_Update{Update: &linkpb.Update{
		FrameworkId: frameworkID(framework), Status: s, Latest: int32(latest),
	}}}
}

func acceptCall(offers []string, refuse *float64, tasks ...*mesos.TaskInfo) *schedulerpb.Call {
	c := &schedulerpb.Call{Type: schedulerpb.Call_ACCEPT.Enum(), Accept: &schedulerpb.Call_Accept{OfferIds: offerIDs(offers...)}}
	if refuse != nil {
		c.Accept.Filters = &mesos.Filters{RefuseSeconds: refuse}
	}
	if len(tasks) > 0 {
		c.Accept.Operations = []*mesos.Offer_Operation{{
			Type:   mesos.Offer_Operation_LAUNCH.Enum(),
			Launch: &mesos.Offer_Operation_Launch{TaskInfos: tasks},
		}}
	}
	return c
}

// String writes the effects since the last call, a line each, and forgets them.
func (c *cluster) String() string {
	var b strings.Builder
	for _, w := range c.out.Persist {
		fmt.Fprintf(&b, "persist %s%s\n", w.Key, map[bool]string{true: " (deleted)"}[w.Value == nil])
	}
	for _, s := range c.out.Send {
		fmt.Fprintf(&b, "send %d %s%s\n", s.Conn, agentText(s.Message), map[bool]string{true: " (close)"}[s.Close])
	}
	for _, a := range c.out.Ask {
		fmt.Fprintf(&b, "ask %s\n", askText(a))
	}
	for _, n := range c.out.Notify {
		fmt.Fprintf(&b, "notify %s %s%s\n", n.Stream, noticeText(n.Event), map[bool]string{true: " (close)"}[n.Close])
	}
	for _, n := range c.out.News {
		fmt.Fprintf(&b, "news %s%s%s\n", cmp.Or(string(n.Stream), "*"), newsText(n.Event), map[bool]string{true: " (close)"}[n.Close])
	}
	for _, r := range c.out.Replies {
		fmt.Fprintf(&b, "reply %d %s\n", r.Status, r.Message)
	}
	c.out.Reset()
	b.WriteString(c.seen)
	c.seen = ""
	return strings.ReplaceAll(b.String(), " \n", "\n")
}

func agentText(m *linkpb.ToAgent) string {
	switch b := m.Body.(type) {
	case *linkpb.ToAgent_Welcome:
		return "welcome " + b.Welcome.GetAgentId().GetValue()
	case *linkpb.ToAgent_Refused:
		return "refused: " + b.Refused.Message
	case *linkpb.ToAgent_Run:
		r, _ := ledger.FromMesos(b.Run.Task.Resources)
		role, _ := ledger.AllocationRole(b.Run.Task.Resources)
		return fmt.Sprintf("run %s (%s for %s)", b.Run.Task.TaskId.GetValue(), r, role) + executorText(b.Run)
	case *linkpb.ToAgent_ShutdownExecutor:
		return "shutdown executor " + b.ShutdownExecutor.ExecutorId.GetValue()
	case *linkpb.ToAgent_ExecutorMessage:
		return fmt.Sprintf("message for executor %s: %q", b.ExecutorMessage.ExecutorId.GetValue(), b.ExecutorMessage.Data)
	case *linkpb.ToAgent_Kill:
		return "kill " + b.Kill.TaskId.GetValue()
	case *linkpb.ToAgent_Acknowledge:
		return fmt.Sprintf("acknowledge %s %s", b.Acknowledge.TaskId.GetValue(), b.Acknowledge.Uuid)
	case *linkpb.ToAgent_EndFramework:
		return "end framework " + b.EndFramework.FrameworkId.GetValue()
	case *linkpb.ToAgent_Ping:
		return "ping"
	}
	return fmt.Sprintf("%T", m.Body)
}

func noticeText(e *schedulerpb.Event) string {
	if e == nil {
		return "nothing"
	}
	text := e.GetType().String()
	switch e.GetType() {
	case schedulerpb.Event_SUBSCRIBED:
		text += " " + e.Subscribed.FrameworkId.GetValue()
	case schedulerpb.Event_OFFERS:
		for _, o := range e.Offers.Offers {
			r, _ := ledger.FromMesos(o.Resources)
			text += fmt.Sprintf(" [%s of %s: %s %s]", o.Id.GetValue(), o.AgentId.GetValue(), r, o.AllocationInfo.GetRole())
		}
	case schedulerpb.Event_RESCIND:
		text += " " + e.Rescind.OfferId.GetValue()
	case schedulerpb.Event_UPDATE:
		s := e.Update.Status
		text += fmt.Sprintf(" %s %s %s", s.TaskId.GetValue(), s.GetState(), s.GetSource())
		if s.Reason != nil {
			text += " " + s.GetReason().String()
		}
		if s.Uuid != nil {
			text += " uuid=" + string(s.Uuid)
		}
		if s.Message != nil {
			text += ": " + s.GetMessage()
		}
	case schedulerpb.Event_FAILURE:
		text += " " + e.Failure.AgentId.GetValue() + failureText(e.Failure)
	case schedulerpb.Event_MESSAGE:
		text += fmt.Sprintf(" of executor %s: %q", e.Message.ExecutorId.GetValue(), e.Message.Data)
	case schedulerpb.Event_ERROR:
		text += ": " + e.Error.GetMessage()
	}
	return text
}

func askText(a core.AllocatorAsk) string {
	if a.Snapshot != nil {
		text := fmt.Sprintf("[%d] snapshot", a.Epoch)
		for _, g := range a.Snapshot.Agents {
			text += " agent:" + g.Id
		}
		for _, f := range a.Snapshot.Frameworks {
			text += fmt.Sprintf(" framework:%s%v", f.Id, f.Roles)
		}
		for _, r := range a.Snapshot.Roles {
			text += fmt.Sprintf(" role:%s=%d", r.Name, r.WeightMilli)
		}
		return text
	}
	d := a.Delta
	switch {
	case d.GetAgent() != nil:
		text := "agent " + d.GetAgent().Id
		for _, h := range d.GetAgent().Holdings {
			r, _ := ledger.FromContract(h.Resources)
			text += fmt.Sprintf(" [%s %s: %s]", h.FrameworkId, h.Role, r)
		}
		return text
	case d.GetAgentRemoved() != "":
		return "agent removed " + d.GetAgentRemoved()
	case d.GetFramework() != nil:
		f := d.GetFramework()
		return fmt.Sprintf("framework %s roles=%v suppressed=%v active=%t", f.Id, f.Roles, f.Suppressed, f.Active)
	case d.GetFrameworkRemoved() != "":
		return "framework removed " + d.GetFrameworkRemoved()
	case d.GetRecovered() != nil:
		h := d.GetRecovered().Holding
		r, _ := ledger.FromContract(h.Resources)
		text := fmt.Sprintf("recovered %s of %s from %s %s", r, h.AgentId, h.FrameworkId, h.Role)
		if n := d.GetRecovered().RefuseNanos; n > 0 {
			text += " refuse=" + time.Duration(n).String()
		}
		return text
	case d.GetRole() != nil:
		return fmt.Sprintf("role %s weight=%d", d.GetRole().Name, d.GetRole().WeightMilli)
	case d.GetRevived() != nil:
		return fmt.Sprintf("revived %s %v", d.GetRevived().FrameworkId, d.GetRevived().Roles)
	case d.GetVerdict() != nil:
		v := d.GetVerdict()
		return fmt.Sprintf("verdict %d %s %s", v.GrantId, v.Rejection, v.Message)
	}
	return fmt.Sprintf("%T", d.Body)
}
