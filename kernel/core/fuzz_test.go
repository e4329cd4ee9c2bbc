package core_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/core/corepb"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/kernel/step"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// fuzzScript is bytes read as events: a kind, a number, and a message with its length.
type fuzzScript []byte

func (f *fuzzScript) byte() byte {
	if len(*f) == 0 {
		return 0
	}
	b := (*f)[0]
	*f = (*f)[1:]
	return b
}

// message fills m with what the bytes say, or says that they are none. The shell takes
// only messages whose required fields are set.
func (f *fuzzScript) message(m proto.Message) bool {
	n := min(int(f.byte())<<8|int(f.byte()), len(*f))
	raw := (*f)[:n]
	*f = (*f)[n:]
	return proto.Unmarshal(raw, m) == nil
}

func (f *fuzzScript) add(kind, number byte, m proto.Message) {
	raw, err := proto.Marshal(m)
	if err != nil {
		panic(err)
	}
	*f = append(*f, kind, number, byte(len(raw)>>8), byte(len(raw)))
	*f = append(*f, raw...)
}

// event is the next one, or nil if the bytes are none.
func (f *fuzzScript) event() core.Event {
	kind, number := f.byte()%10, f.byte()%4
	conn, stream := uint64(number)+1, id.Stream([]string{"", "s1", "s2", "s3"}[number])
	switch kind {
	case 0:
		if h := new(linkpb.Hello); f.message(h) {
			return core.AgentHello{Conn: conn, Hello: h}
		}
	case 1:
		if m := new(linkpb.ToMaster); f.message(m) {
			return core.AgentMessage{Conn: conn, Message: m}
		}
	case 2:
		return core.AgentGone{Conn: conn}
	case 3, 4:
		if c := new(schedulerpb.Call); f.message(c) && rules.Call(c) == nil {
			return core.Call{Stream: stream, Call: c}
		}
	case 5:
		return core.StreamGone{Stream: stream}
	case 6:
		return core.AllocatorUp{}
	case 7:
		return core.AllocatorDown{}
	case 8:
		if p := new(allocatorpb.FromAllocator); f.message(p) {
			return core.Proposal{Proposal: p}
		}
	case 9:
		return core.KillTask{Task: id.TaskKey{Framework: "M1-0000", Task: id.Task(stream)}}
	}
	return nil
}

// FuzzEvents: whatever agents, frameworks and allocators say, the books balance. New
// connections and subscriptions may reuse the name of one that lives, which no shell does,
// so those events are preceded by its end.
func FuzzEvents(f *testing.F) {
	f.Add([]byte(storyForFuzz()))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := core.New(core.Config{ID: "M1", Epoch: 1, OfferTimeout: time.Minute})
		now := step.At(time.Unix(1000, 0))
		var out core.Effects
		apply := func(ev core.Event) {
			out.Reset()
			m.Step(now, ev, &out)
			if err := m.Check(); err != nil {
				t.Fatalf("after %T: %v", ev, err)
			}
		}
		apply(core.Recovered{})
		for script := fuzzScript(raw); len(script) > 0; {
			ev := script.event()
			now = now.Add(time.Duration(script.byte()) * time.Second)
			switch ev := ev.(type) {
			case nil:
				continue
			case core.AgentHello:
				apply(core.AgentGone{Conn: ev.Conn})
			case core.Call:
				if ev.Call.GetType() == schedulerpb.Call_SUBSCRIBE {
					apply(core.StreamGone{Stream: ev.Stream})
				}
				if ev.Stream == "" {
					continue
				}
			}
			apply(ev)
		}
	})
}

// storyForFuzz is a launch and its end, as bytes.
func storyForFuzz() fuzzScript {
	var s fuzzScript
	end := func() { s = append(s, 1) }
	s.add(0, 0, hello("host", "", "cpus:4;mem:1024", 0))
	end()
	s = append(s, 6, 0, 1)
	s.add(3, 1, &schedulerpb.Call{Type: schedulerpb.Call_SUBSCRIBE.Enum(), Subscribe: &schedulerpb.Call_Subscribe{FrameworkInfo: frameworkInfo("", 60, nil)}})
	end()
	s.add(8, 0, &allocatorpb.FromAllocator{Epoch: 1, Grants: []*allocatorpb.Grant{{
		Id: 1, AgentId: "M1-S0", FrameworkId: "M1-0000", Role: "*", Resources: parsed("cpus:2;mem:100").Contract(),
	}}})
	end()
	accept := acceptCall([]string{"M1-O0"}, nil, taskInfo("t1", "M1-S0", "cpus:1;mem:10"))
	accept.FrameworkId = frameworkID("M1-0000")
	s.add(3, 1, accept)
	end()
	s.add(1, 0, update("M1-0000", status("t1", "M1-S0", mesos.TaskState_TASK_RUNNING, "u"), mesos.TaskState_TASK_FINISHED))
	end()
	held := &linkpb.HeldTask{FrameworkId: frameworkID("M1-0000"), Info: taskInfo("t1", "M1-S0", "cpus:1;mem:10"), Status: status("t1", "M1-S0", mesos.TaskState_TASK_RUNNING, "u")}
	s.add(0, 1, hello("host", "M1-S0", "cpus:4;mem:1024", 0, held))
	end()
	return s
}

// FuzzRegistry: a registry that passes the check can be recovered.
func FuzzRegistry(f *testing.F) {
	agent, _ := proto.Marshal(&corepb.AgentRecord{Info: hello("host", "A", "cpus:1", 0).Info, UnreachableNanos: 1})
	framework, _ := proto.Marshal(&corepb.FrameworkRecord{Info: frameworkInfo("F", 60, nil), DeadlineNanos: -1})
	f.Add("A", agent, "F", framework)
	f.Fuzz(func(t *testing.T, aid string, agent []byte, fid string, framework []byte) {
		entries := []step.Write{{Key: "agent/" + aid, Value: agent}, {Key: "framework/" + fid, Value: framework}}
		if core.CheckRegistry(entries) != nil {
			return
		}
		m := core.New(core.Config{ID: "M1", Epoch: 1})
		var out core.Effects
		m.Step(step.At(time.Unix(1000, 0)), core.Recovered{Entries: entries}, &out)
		m.Step(step.At(time.Unix(1000, 0)), core.AllocatorUp{}, &out)
		if err := m.Check(); err != nil {
			t.Fatal(err)
		}
		m.State()
	})
}

func parsed(text string) ledger.Resources {
	r, err := ledger.Parse(text)
	if err != nil {
		panic(err)
	}
	return r
}
