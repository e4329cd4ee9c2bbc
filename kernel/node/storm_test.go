package node_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

// TestStorms throws events at a machine, sensible or not, in an order that only the seed
// knows. The host checks the invariants after each; in the end, with a master that
// acknowledges and a keeper that holds nothing, nothing must remain.
func TestStorms(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			s := storm{host: newHost(t), Rand: rand.New(rand.NewPCG(seed, 1))}
			s.restart()
			for range 300 {
				s.gust()
			}
			s.calm()
		})
	}
}

type storm struct {
	*host
	*rand.Rand
	conns, streams uint64
}

func (s *storm) pick(of ...string) string { return of[s.IntN(len(of))] }

// gust is one event of any kind.
func (s *storm) gust() {
	f, task := s.pick("f", "g", "h"), s.pick("t", "u", "v", "w")
	container := s.container(f, task)
	grace := time.Duration(s.IntN(8)) * time.Second
	s.now = s.now.Add(time.Duration(s.IntN(4000)-500) * time.Millisecond)
	switch s.IntN(30) {
	case 0:
		s.restart()
		s.step(s.keeper())
	case 1:
		s.boot = s.pick("b1", "b2")
	case 2:
		s.conns++
		s.link(s.conns)
	case 3:
		gone := s.conns - min(s.conns, s.Uint64N(2))
		s.step(node.Unlinked{Conn: gone})
		if gone == s.conn {
			s.conn = 0
		}
	case 4:
		s.epoch = 1 + s.Uint64N(4)
	case 5, 6:
		s.master(welcome(s.pick("A1", "A1", "A2")))
	case 7, 8, 9, 10:
		s.master(run(f, task, grace, s.IntN(2) == 0))
	case 11, 12:
		s.master(kill(f, task, grace))
	case 13, 14, 15:
		s.master(s.ack(f, task))
	case 16:
		s.master(simple(s.pick("ping", "ping", "end-framework"), f))
	case 17, 18:
		s.step(node.ContainerStarted{Container: container, Pid: 1 + s.Int32N(100)})
	case 19:
		s.step(node.ContainerFailed{Container: container, Message: "no"})
	case 20:
		s.step(node.ContainerExited{Exit: s.end(container)})
	case 21:
		s.step(node.KeeperDown{})
	case 22:
		s.step(s.keeper())
	case 23:
		s.step(node.Tick{})
	case 24, 25:
		s.master(custom(f, task, s.pick("e", "e2"), s.IntN(2) == 0))
	default:
		s.executorGust(f, task)
	}
}

// executorGust is a call of an executor, or about one.
func (s *storm) executorGust(f, task string) {
	e := s.pick("e", "e2")
	s.streams++
	ev := node.ExecutorCall{
		Principal: s.m.ExecutorContainer(f, e), Request: s.streams, Stream: s.streams,
		Call: &executorpb.Call{FrameworkId: frameworkID(f), ExecutorId: executorID(e)},
	}
	switch s.IntN(7) {
	case 0:
		ev.Call.Type, ev.Call.Subscribe = executorpb.Call_SUBSCRIBE.Enum(), &executorpb.Call_Subscribe{}
		if s.IntN(2) == 0 {
			ev.Call.Subscribe.UnacknowledgedTasks = []*mesos.TaskInfo{{TaskId: taskID(task)}}
			ev.Call.Subscribe.UnacknowledgedUpdates = []*executorpb.Call_Update{{Status: says(task, "RUNNING", task)}}
		}
	case 1, 2, 3:
		state := s.pick("STARTING", "RUNNING", "RUNNING", "KILLING", "FINISHED", "KILLED", "UNREACHABLE")
		ev.Call.Type = executorpb.Call_UPDATE.Enum()
		ev.Call.Update = &executorpb.Call_Update{Status: says(task, state, fmt.Sprint(s.streams))}
	case 4:
		s.step(node.ExecutorGone{Stream: s.streams - min(s.streams, s.Uint64N(20))})
		return
	case 5:
		s.master(&linkpb.ShutdownExecutor{FrameworkId: frameworkID(f), ExecutorId: executorID(e)})
		return
	case 6:
		if container := s.m.ExecutorContainer(f, e); container != "" {
			s.step(node.ContainerStarted{Container: container, Pid: 5})
		}
		return
	}
	s.step(ev)
}

func (s *storm) end(container string) *containerpb.Exit {
	return &containerpb.Exit{
		ContainerId: container, Status: s.Int32N(2), Signal: s.Int32N(16), OomKilled: s.IntN(5) == 0, Unknown: s.IntN(5) == 0,
	}
}

// keeper holds some of the containers and has lost others.
func (s *storm) keeper() node.KeeperUp {
	var up node.KeeperUp
	var all []string
	for _, t := range s.m.Tasks() {
		all = append(all, t.Container)
	}
	for _, e := range s.m.Executors() {
		all = append(all, e.Container)
	}
	slices.Sort(all)
	for _, container := range slices.Compact(all) {
		switch s.IntN(5) {
		case 0:
			up.Starting = append(up.Starting, container)
		case 1, 2:
			up.Running = append(up.Running, node.ContainerStarted{Container: container, Pid: 9})
		case 3:
			up.Exits = append(up.Exits, s.end(container))
		}
	}
	return up
}

// calm lets everything end and be acknowledged.
func (s *storm) calm() {
	s.epoch = 9
	s.restart()
	s.link(s.conns + 1)
	s.master(welcome("A1"))
	s.step(node.KeeperUp{})
	if live := s.m.Live(); live != 0 {
		s.t.Fatalf("%d tasks and executors live without a container", live)
	}
	for range 100 {
		for _, t := range s.m.Tasks() {
			s.master(s.ack(t.Framework.Id.GetValue(), t.Info.TaskId.GetValue()))
		}
	}
	if left := s.m.Tasks(); len(left) != 0 || len(s.disk) != 1 {
		s.t.Fatalf("remain after the last acknowledgement: %v, on disk %d records", left, len(s.disk))
	}
}

// TestSameEventsSameEffects is what recording and replay rest on.
func TestSameEventsSameEffects(t *testing.T) {
	play := func() (all string) {
		s := storm{host: newHost(t), Rand: rand.New(rand.NewPCG(7, 7))}
		s.restart()
		for range 500 {
			s.gust()
			all += s.effects()
		}
		return all
	}
	if once, again := play(), play(); once != again {
		t.Fatal("the same events had other effects the second time")
	}
}
