package node_test

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/node/nodepb"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// host is what surrounds a machine in tests: a clock, a disk and the promises that a
// shell may rely on, checked after every step.
type host struct {
	t     testing.TB
	m     *node.Machine
	now   step.Time
	disk  map[string][]byte
	conn  uint64
	epoch uint64
	boot  string
	last  node.Effects
}

func newHost(t testing.TB) *host {
	return &host{t: t, disk: map[string][]byte{}, now: step.At(time.Unix(1000, 0)), epoch: 1, boot: "b1"}
}

// restart replaces the machine by one that knows what the disk has.
func (h *host) restart() {
	h.t.Helper()
	var records []step.Write
	for _, key := range slices.Sorted(maps.Keys(h.disk)) {
		records = append(records, step.Write{Key: key, Value: h.disk[key]})
	}
	saved, err := node.Decode(records)
	if err != nil {
		h.t.Fatal(err)
	}
	info := &mesos.AgentInfo{Hostname: proto.String("host"), Id: &mesos.AgentID{Value: proto.String("ignored")}}
	h.m = node.New(node.Config{Info: info, Version: "test"})
	h.conn = 0
	h.step(node.Recovered{Checkpoint: saved, Boot: h.boot})
}

// step does what a shell does, and checks what a shell relies on.
func (h *host) step(ev node.Event) {
	h.t.Helper()
	h.last = node.Effects{}
	h.m.Step(h.now, ev, &h.last)
	for i, w := range h.last.Persist {
		if slices.ContainsFunc(h.last.Persist[:i], func(o step.Write) bool { return o.Key == w.Key }) {
			h.t.Fatalf("%T wrote %s twice", ev, w.Key)
		}
		if w.Value == nil {
			delete(h.disk, w.Key)
		} else {
			h.disk[w.Key] = w.Value
		}
	}
	for _, s := range h.last.Send {
		if s.Conn != h.conn || h.conn == 0 {
			h.t.Fatalf("%T sent to connection %d while %d is open: %v", ev, s.Conn, h.conn, s.Message)
		}
		if u := s.Message.GetUpdate(); u != nil && len(u.Status.Uuid) > 0 {
			h.mustBeOnRecord(u)
		}
	}
	if err := h.m.Check(); err != nil {
		h.t.Fatalf("after %T: %v", ev, err)
	}
}

// mustBeOnRecord says that a status may leave only if a restart could not forget it.
func (h *host) mustBeOnRecord(u *linkpb.Update) {
	h.t.Helper()
	record := &nodepb.Task{}
	value, there := h.disk["task/"+u.FrameworkId.GetValue()+"/"+u.Status.TaskId.GetValue()]
	if !there {
		return // Ended for a framework that has gone: sent once, and forgotten.
	}
	if err := proto.Unmarshal(value, record); err != nil {
		h.t.Fatal(err)
	}
	for _, s := range append(record.Pending, record.Latest) {
		if bytes.Equal(s.Uuid, u.Status.Uuid) {
			return
		}
	}
	h.t.Fatalf("status %v left before it was on record", u.Status)
}

// link opens a new connection; welcome has the master take the agent.
func (h *host) link(conn uint64) {
	h.conn = conn
	h.step(node.Linked{Conn: conn})
}

func (h *host) master(body any) {
	h.step(node.FromMaster{Principal: "master", Conn: h.conn, Message: toAgent(h.epoch, body)})
}

func toAgent(epoch uint64, body any) *linkpb.ToAgent {
	msg := &linkpb.ToAgent{Epoch: epoch}
	switch b := body.(type) {
	case *linkpb.Welcome:
		msg.Body = &linkpb.ToAgent_Welcome{Welcome: b}
	case *linkpb.Refused:
		msg.Body = &linkpb.ToAgent_Refused{Refused: b}
	case *linkpb.Run:
		msg.Body = &linkpb.ToAgent_Run{Run: b}
	case *linkpb.Kill:
		msg.Body = &linkpb.ToAgent_Kill{Kill: b}
	case *linkpb.Acknowledge:
		msg.Body = &linkpb.ToAgent_Acknowledge{Acknowledge: b}
	case *linkpb.Ping:
		msg.Body = &linkpb.ToAgent_Ping{Ping: b}
	case *linkpb.ShutdownExecutor:
		msg.Body = &linkpb.ToAgent_ShutdownExecutor{ShutdownExecutor: b}
	case *linkpb.ExecutorMessage:
		msg.Body = &linkpb.ToAgent_ExecutorMessage{ExecutorMessage: b}
	case *linkpb.EndFramework:
		msg.Body = &linkpb.ToAgent_EndFramework{EndFramework: b}
	}
	return msg
}

func frameworkID(f string) *mesos.FrameworkID { return &mesos.FrameworkID{Value: proto.String(f)} }
func taskID(t string) *mesos.TaskID           { return &mesos.TaskID{Value: proto.String(t)} }

func welcome(agent string) *linkpb.Welcome {
	return &linkpb.Welcome{AgentId: &mesos.AgentID{Value: proto.String(agent)}, PingSeconds: 15}
}

func run(framework, task string, grace time.Duration, killing bool) *linkpb.Run {
	f := &mesos.FrameworkInfo{User: proto.String("root"), Name: proto.String(framework), Id: frameworkID(framework)}
	if killing {
		f.Capabilities = []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_TASK_KILLING_STATE.Enum()}}
	}
	info := &mesos.TaskInfo{
		Name: proto.String(task), TaskId: taskID(task), AgentId: &mesos.AgentID{Value: proto.String("A1")},
		Resources: []*mesos.Resource{{
			Name: proto.String("mem"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(64)},
		}},
	}
	if grace > 0 {
		info.KillPolicy = policy(grace)
	}
	return &linkpb.Run{Framework: f, Task: info}
}

func policy(grace time.Duration) *mesos.KillPolicy {
	return &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: proto.Int64(int64(grace))}}
}

func kill(framework, task string, grace time.Duration) *linkpb.Kill {
	k := &linkpb.Kill{FrameworkId: frameworkID(framework), TaskId: taskID(task)}
	if grace > 0 {
		k.KillPolicy = policy(grace)
	}
	return k
}

// ack acknowledges the oldest pending status that is on the disk, or one that is not.
func (h *host) ack(framework, task string) *linkpb.Acknowledge {
	a := &linkpb.Acknowledge{FrameworkId: frameworkID(framework), TaskId: taskID(task), Uuid: []byte("of nothing")}
	record := &nodepb.Task{}
	if err := proto.Unmarshal(h.disk["task/"+framework+"/"+task], record); err == nil && len(record.Pending) > 0 {
		a.Uuid = record.Pending[0].Uuid
	}
	return a
}

// container is that of a task on the disk.
func (h *host) container(framework, task string) string {
	record := &nodepb.Task{}
	if err := proto.Unmarshal(h.disk["task/"+framework+"/"+task], record); err != nil || record.ContainerId == "" {
		return "stray"
	}
	return record.ContainerId
}

// effects renders what the last step asked for, a line each.
func (h *host) effects() string {
	var b strings.Builder
	for _, w := range h.last.Persist {
		fmt.Fprintln(&b, "persist", w.Key+describe(h.t, w))
	}
	for _, s := range h.last.Send {
		fmt.Fprintln(&b, "send", message(s.Message))
	}
	for _, a := range h.last.Ask {
		switch a := a.(type) {
		case node.Launch:
			fmt.Fprintln(&b, "launch", a.Container, "in", a.Sandbox+amount(a.Resources))
		case node.Resize:
			fmt.Fprintln(&b, "resize", a.Container+amount(a.Resources))
		case node.Signal:
			fmt.Fprintln(&b, "signal", a.Container, a.Number)
		case node.Forget:
			fmt.Fprintln(&b, "forget", a.Container)
		}
	}
	for _, r := range h.last.Replies {
		fmt.Fprintln(&b, strings.TrimSpace(fmt.Sprintln("reply", r.Status, r.Message)))
	}
	for _, t := range h.last.Tell {
		fmt.Fprintf(&b, "tell %d %s\n", t.Stream, told(t))
	}
	for _, d := range h.last.Drop {
		fmt.Fprintf(&b, "drop connection %d, permanent %t: %s\n", d.Conn, d.Permanent, d.Reason)
	}
	if b.Len() == 0 {
		return "nothing\n"
	}
	return b.String()
}

func describe(t testing.TB, w step.Write) string {
	decode := func(into proto.Message) {
		if err := proto.Unmarshal(w.Value, into); err != nil {
			t.Fatal(err)
		}
	}
	switch {
	case w.Value == nil:
		return ": deleted"
	case w.Key == "agent":
		a := &nodepb.Agent{}
		decode(a)
		return fmt.Sprintf(": id %q, epoch %d, incarnation %d", a.AgentId, a.Epoch, a.Incarnation)
	case strings.HasPrefix(w.Key, "executor/"):
		e := &nodepb.Executor{}
		decode(e)
		text := fmt.Sprintf(": %s, started %t, registered %t", e.ContainerId, e.Started, e.Registered)
		if e.Shutdown != nil {
			text += fmt.Sprintf(", to end since %d s with grace %s", e.Shutdown.SinceUnixNanos/1e9, time.Duration(e.Shutdown.GraceNanos))
		}
		return text
	case strings.HasPrefix(w.Key, "task/"):
		r := &nodepb.Task{}
		decode(r)
		var pending []string
		for _, s := range r.Pending {
			pending = append(pending, short(s.GetState()))
		}
		text := fmt.Sprintf(": %s, pending %v", short(r.Latest.GetState()), pending)
		if r.Kill != nil {
			text += fmt.Sprintf(", killed since %d s with grace %s", r.Kill.SinceUnixNanos/1e9, time.Duration(r.Kill.GraceNanos))
		}
		if r.Discard {
			text += ", nobody waits"
		}
		return text
	}
	return ""
}

func short(s mesos.TaskState) string { return strings.TrimPrefix(s.String(), "TASK_") }

func message(m *linkpb.ToMaster) string {
	switch body := m.Body.(type) {
	case *linkpb.ToMaster_Hello:
		h := body.Hello
		text := fmt.Sprintf("hello of %q on %s, epoch %d", h.Info.GetId().GetValue(), h.BootId, h.Epoch)
		for _, t := range h.Tasks {
			text += fmt.Sprintf("; %s/%s %s", t.FrameworkId.GetValue(), t.Info.TaskId.GetValue(), short(t.Status.GetState()))
			if t.Unacknowledged != nil {
				text += " (unacknowledged " + short(t.Unacknowledged.GetState()) + ")"
			}
		}
		for _, e := range h.Executors {
			text += fmt.Sprintf("; executor %s/%s", e.FrameworkId.GetValue(), e.Info.ExecutorId.GetValue())
		}
		for _, f := range h.Frameworks {
			text += "; framework " + f.Id.GetValue()
		}
		return text
	case *linkpb.ToMaster_Update:
		u := body.Update
		text := fmt.Sprintf("update %s/%s %s", u.FrameworkId.GetValue(), u.Status.TaskId.GetValue(), short(u.Status.GetState()))
		if latest := mesos.TaskState(u.Latest); latest != u.Status.GetState() {
			text += " (now " + short(latest) + ")"
		}
		if u.Status.Reason != nil {
			text += " " + u.Status.GetReason().String()
		}
		if u.Status.Message != nil {
			text += ": " + u.Status.GetMessage()
		}
		for _, l := range u.Status.GetLabels().GetLabels() {
			text += fmt.Sprintf(" [%s=%s]", l.GetKey(), l.GetValue())
		}
		for _, r := range u.Status.GetLimitation().GetResources() {
			text += fmt.Sprintf(" [limit %s %v]", r.GetName(), r.GetScalar().GetValue())
		}
		return text
	case *linkpb.ToMaster_ExecutorEnded:
		e := body.ExecutorEnded
		return fmt.Sprintf("executor %s/%s ended with %d", e.FrameworkId.GetValue(), e.ExecutorId.GetValue(), e.Status)
	case *linkpb.ToMaster_ExecutorMessage:
		e := body.ExecutorMessage
		return fmt.Sprintf("message of executor %s/%s: %q", e.FrameworkId.GetValue(), e.ExecutorId.GetValue(), e.Data)
	case *linkpb.ToMaster_Pong:
		return "pong"
	}
	return "?"
}

func simple(name, framework string) any {
	if name == "ping" {
		return &linkpb.Ping{}
	}
	return &linkpb.EndFramework{FrameworkId: frameworkID(framework)}
}
