package node_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// situation is a state that something can be in, and how it gets there from another.
type situation struct {
	name, from string
	do         func(*host)
}

// happening is something that can happen in any situation.
type happening struct {
	name string
	do   func(*host)
}

// situations are the states that task f/t can be in.
var situations = []situation{
	{"absent", "", func(*host) {}},
	{"starting", "absent", func(h *host) { h.master(run("f", "t", 0, true)) }},
	{"starting, killed", "starting", func(h *host) { h.master(kill("f", "t", 0)) }},
	{"starting, removed", "starting", func(h *host) { h.master(simple("end-framework", "f")) }},
	{"running", "starting", func(h *host) { h.step(node.ContainerStarted{Container: "c1-1", Pid: 7}) }},
	{"running, acknowledged", "running", func(h *host) { h.master(h.ack("f", "t")); h.master(h.ack("f", "t")) }},
	{"killing", "running", func(h *host) { h.master(kill("f", "t", 0)) }},
	{"running, removed", "running", func(h *host) { h.master(simple("end-framework", "f")) }},
	{"ended", "running", func(h *host) { h.step(exited(&containerpb.Exit{})) }},
	{"running, no keeper", "running", func(h *host) { h.step(node.KeeperDown{}) }},
	{"running, no master", "running", func(h *host) { h.step(node.Unlinked{Conn: 1}); h.conn = 0 }},
}

// happenings are all that can happen to a task, and to its agent.
var happenings = []happening{
	{"run", func(h *host) { h.master(run("f", "t", 0, true)) }},
	{"kill", func(h *host) { h.master(kill("f", "t", time.Second)) }},
	{"acknowledge", func(h *host) { h.master(h.ack("f", "t")) }},
	{"acknowledge another", func(h *host) {
		h.master(&linkpb.Acknowledge{FrameworkId: frameworkID("f"), TaskId: taskID("t"), Uuid: make([]byte, 16)})
	}},
	{"end framework", func(h *host) { h.master(simple("end-framework", "f")) }},
	{"ping", func(h *host) { h.master(&linkpb.Ping{}) }},
	{"started", func(h *host) { h.step(node.ContainerStarted{Container: "c1-1", Pid: 7}) }},
	{"failed", func(h *host) { h.step(node.ContainerFailed{Container: "c1-1", Message: "no such program"}) }},
	{"exited", func(h *host) { h.step(exited(&containerpb.Exit{})) }},
	{"exited badly", func(h *host) { h.step(exited(&containerpb.Exit{Status: 3})) }},
	{"signalled", func(h *host) { h.step(exited(&containerpb.Exit{Signal: 15})) }},
	{"out of memory", func(h *host) { h.step(exited(&containerpb.Exit{Signal: 9, OomKilled: true})) }},
	{"exited unseen", func(h *host) { h.step(exited(&containerpb.Exit{Unknown: true})) }},
	{"keeper down", func(h *host) { h.step(node.KeeperDown{}) }},
	{"keeper, empty", func(h *host) { h.step(node.KeeperUp{}) }},
	{"keeper, starting", func(h *host) { h.step(node.KeeperUp{Starting: []string{"c1-1"}}) }},
	{"keeper, running", func(h *host) {
		h.step(node.KeeperUp{Running: []node.ContainerStarted{{Container: "c1-1", Pid: 7}}})
	}},
	{"keeper, exited", func(h *host) { h.step(node.KeeperUp{Exits: []*containerpb.Exit{{ContainerId: "c1-1"}}}) }},
	{"unlinked", func(h *host) { h.step(node.Unlinked{Conn: h.conn}) }},
	{"linked", func(h *host) { h.link(2) }},
	{"deadline", func(h *host) {
		if at, some := h.m.NextDeadline(); some {
			h.now = at
		}
		h.step(node.Tick{})
	}},
	{"stop", func(h *host) { h.step(node.Stop{}) }},
	{"stop, kill", func(h *host) { h.step(node.Stop{KillTasks: true}) }},
	{"restart", func(h *host) { h.restart() }},
	{"reboot", func(h *host) { h.boot = "b2"; h.restart(); h.step(node.KeeperUp{}) }},
}

func exited(exit *containerpb.Exit) node.ContainerExited {
	exit.ContainerId = "c1-1"
	return node.ContainerExited{Exit: exit}
}

// reach leads a fresh host to a situation, and says whether there is one of this name.
func reach(h *host, all []situation, name string) bool {
	for _, s := range all {
		if s.name == name {
			if s.from != "" {
				reach(h, all, s.from)
			}
			s.do(h)
			return true
		}
	}
	return false
}

// TestMatrix has everything happen in every situation, and compares what follows with
// testdata/matrix.txt.
func TestMatrix(t *testing.T) {
	matrix{situations, happenings, standing}.run(t, "testdata/matrix.txt")
}

// matrix is every situation and everything that may happen in it.
type matrix struct {
	situations []situation
	happenings []happening
	standing   func(*host) string // where it leads to
}

func (m matrix) run(t *testing.T, file string) {
	seen := map[string]bool{}
	datadriven.RunTest(t, file, func(t *testing.T, d *datadriven.TestData) string {
		situation := strings.TrimSpace(d.Input)
		seen[situation] = true
		var b strings.Builder
		for _, happening := range m.happenings {
			h := newHost(t)
			h.restart()
			h.link(1)
			h.master(welcome("A1"))
			h.step(node.KeeperUp{})
			if !reach(h, m.situations, situation) {
				d.Fatalf(t, "no situation is called %q", situation)
			}
			happening.do(h)
			fmt.Fprintf(&b, "%s\n    %s", happening.name, strings.ReplaceAll(strings.TrimSuffix(h.effects(), "\n"), "\n", "\n    "))
			fmt.Fprintf(&b, "\n    -> %s\n", m.standing(h))
		}
		return b.String()
	})
	for _, s := range m.situations {
		if !seen[s.name] {
			t.Errorf("%s lacks the situation %q", file, s.name)
		}
	}
}

// standing is the state of task f/t, if there is one.
func standing(h *host) string {
	tasks := h.m.Tasks()
	i := slices.IndexFunc(tasks, func(t node.Task) bool { return t.Info.TaskId.GetValue() == "t" })
	if i < 0 {
		return "absent"
	}
	return short(tasks[i].Latest.GetState())
}
