package node_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/node/nodepb"
	"github.com/gantry-project/gantry/kernel/step"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// FuzzEvents: whatever a master says, and whatever becomes of containers, the host's
// promises hold (host.step checks them). The bytes are events: a kind, a number, and for a
// message its length and what is in it.
func FuzzEvents(f *testing.F) {
	var story []byte
	add := func(body any) {
		raw, err := proto.Marshal(toAgent(1, body))
		if err != nil {
			f.Fatal(err)
		}
		story = append(story, 0, 0, byte(len(raw)>>8), byte(len(raw)))
		story = append(story, raw...)
	}
	add(welcome("A1"))
	add(run("f", "t", time.Second, true))
	story = append(story, 1, 1)
	add(kill("f", "t", time.Second))
	story = append(story, 6, 9, 3, 1, 7, 0)
	f.Add(story)
	f.Fuzz(func(t *testing.T, raw []byte) {
		h := newHost(t)
		h.restart()
		h.link(1)
		next := func() byte {
			if len(raw) == 0 {
				return 0
			}
			b := raw[0]
			raw = raw[1:]
			return b
		}
		for len(raw) > 0 {
			kind, n := next()%8, next()
			container := "c1-" + string('0'+rune(n%10))
			switch kind {
			case 0:
				size := min(int(next())<<8|int(next()), len(raw))
				msg := new(linkpb.ToAgent)
				bad := proto.Unmarshal(raw[:size], msg) != nil
				raw = raw[size:]
				if !bad {
					h.step(node.FromMaster{Conn: h.conn, Message: msg})
				}
			case 1:
				h.step(node.ContainerStarted{Container: container, Pid: int32(n)})
			case 2:
				h.step(node.ContainerFailed{Container: container, Message: "no"})
			case 3:
				h.step(node.ContainerExited{Exit: &containerpb.Exit{ContainerId: container, Status: int32(n % 3)}})
			case 4:
				h.step(node.KeeperUp{Running: []node.ContainerStarted{{Container: container, Pid: int32(n)}}})
			case 5:
				h.link(h.conn + 1)
			case 6:
				h.now = h.now.Add(time.Duration(n) * time.Second)
				h.step(node.Tick{})
			case 7:
				h.restart()
				h.link(uint64(n) + 1)
			}
		}
	})
}

// FuzzDecode: a checkpoint that can be read can be gone on with, and written again.
func FuzzDecode(f *testing.F) {
	agent, _ := proto.Marshal(&nodepb.Agent{AgentId: "A1", Epoch: 1, Incarnation: 3})
	framework, _ := proto.Marshal(&nodepb.Framework{Info: run("f", "t", 0, true).Framework})
	status := &mesos.TaskStatus{TaskId: taskID("t"), State: mesos.TaskState_TASK_RUNNING.Enum(), Uuid: []byte("u")}
	task, _ := proto.Marshal(&nodepb.Task{
		FrameworkId: "f", Info: run("f", "t", 0, true).Task, ContainerId: "c1-1", Started: true, Latest: status,
		Pending: []*mesos.TaskStatus{status}, Kill: &nodepb.Kill{GraceNanos: 1},
	})
	f.Add(agent, framework, task)
	f.Fuzz(func(t *testing.T, agent, framework, task []byte) {
		records := []step.Write{{Key: "agent", Value: agent}, {Key: "framework/f", Value: framework}, {Key: "task/f/t", Value: task}}
		saved, err := node.Decode(records)
		if err != nil {
			if !strings.Contains(err.Error(), "checkpoint") {
				t.Fatalf("%v does not say of what", err)
			}
			return
		}
		h := newHost(t)
		for _, r := range records {
			h.disk[r.Key] = r.Value
		}
		if saved.Agent.GetIncarnation() == 1<<64-1 {
			return
		}
		h.restart()
		h.link(1)
		h.step(node.KeeperUp{})
		h.restart()
	})
}

// TestHomeOfACheckpoint is about a work dir that was copied, or moved to another host.
func TestHomeOfACheckpoint(t *testing.T) {
	made := node.Checkpoint{Agent: &nodepb.Agent{AgentId: "A1", Home: "/work/a on host-1"}}
	for home, fine := range map[string]bool{"": true, "/work/a on host-1": true, "/work/b on host-1": false, "/work/a on host-2": false} {
		if err := made.CheckHome(home); (err == nil) != fine {
			t.Errorf("at %q: %v", home, err)
		} else if err != nil && !strings.Contains(err.Error(), "move it away") {
			t.Errorf("at %q: %v does not say what to do", home, err)
		}
	}
	if err := (node.Checkpoint{}).CheckHome("/work/a"); err != nil {
		t.Errorf("an agent that never ran: %v", err)
	}
	var out node.Effects
	m := node.New(node.Config{})
	m.Step(1, node.Recovered{Home: "/work/a"}, &out)
	saved, err := node.Decode(out.Persist)
	if err != nil || saved.Agent.GetHome() != "/work/a" {
		t.Errorf("the first start recorded %v, %v", saved.Agent, err)
	}
}
