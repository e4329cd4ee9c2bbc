package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// TestScripts plays testdata/scripts; -rewrite writes what happens into them. A command
// is an event, with f and t as framework and task unless named:
//
//	restart [boot=b2]                        a new process on the same disk
//	link conn=1 | unlink [conn=1]            a stream opens or ends
//	welcome [agent=A1] | refuse [permanent]  the master answers; epoch=N sticks
//	run [grace=1s] [killing] | kill [grace=1s] | ack | ping | end-framework
//	started [pid=7] | failed | exited [status=3] [signal=9] [oom=BYTES] [unknown]
//	keeper [running] [starting] [exits] | keeper-down
//	run exec=e [launch]                      a task for an executor
//	subscribe exec=e stream=N [tasks=(t,...)] [said=(t,...) state=RUNNING] | gone stream=N
//	say exec=e t=t state=RUNNING [uuid=x] | note exec=e | from container=c1-1
//	shutdown exec=e | message exec=e         the master says
//	lose framework/f                        a record of the checkpoint
//	stop [kill] | tick after=10s | deadline | stats
func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata/scripts", func(t *testing.T, path string) {
		h := newHost(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			h.t = t
			return h.command(d)
		})
	})
}

func (h *host) command(d *datadriven.TestData) string {
	arg := func(key, otherwise string) string {
		d.MaybeScanArgs(h.t, key, &otherwise)
		return otherwise
	}
	f, task := arg("f", "f"), arg("t", "t")
	grace, err := time.ParseDuration(arg("grace", "0s"))
	if err != nil {
		d.Fatalf(h.t, "%v", err)
	}
	d.MaybeScanArgs(h.t, "epoch", &h.epoch)
	switch d.Cmd {
	case "lose":
		delete(h.disk, d.CmdArgs[0].Key)
		return ""
	case "restart":
		h.boot = arg("boot", h.boot)
		h.restart()
	case "link":
		var conn uint64
		d.ScanArgs(h.t, "conn", &conn)
		h.link(conn)
	case "unlink":
		gone := h.conn
		d.MaybeScanArgs(h.t, "conn", &gone)
		h.step(node.Unlinked{Conn: gone})
	case "deadline":
		at, some := h.m.NextDeadline()
		if !some {
			return "never\n"
		}
		return fmt.Sprintf("in %s\n", at.Sub(h.now))
	case "stats":
		return fmt.Sprintf("%+v\n", h.m.Stats())
	case "tick":
		after, err := time.ParseDuration(arg("after", "0s"))
		if err != nil {
			d.Fatalf(h.t, "%v", err)
		}
		h.now = h.now.Add(after)
		h.step(node.Tick{})
	default:
		ev := h.event(d, f, task, grace)
		if ev == nil {
			d.Fatalf(h.t, "unknown command %s", d.Cmd)
		}
		h.step(ev)
	}
	return h.effects()
}

func (h *host) event(d *datadriven.TestData, f, task string, grace time.Duration) node.Event {
	container := h.container(f, task)
	d.MaybeScanArgs(h.t, "container", &container)
	exit := h.exit(d, container)
	var body any
	switch d.Cmd {
	case "welcome":
		agent := "A1"
		d.MaybeScanArgs(h.t, "agent", &agent)
		body = welcome(strings.Trim(agent, `"`))
	case "refuse":
		body = &linkpb.Refused{Message: "no room", Permanent: d.HasArg("permanent")}
	case "run":
		r := run(f, task, grace, d.HasArg("killing"))
		body = r
		if d.HasArg("exec") {
			forExecutor(r, arg(h.t, d, "exec", "e"), d.HasArg("launch"))
		}
	case "subscribe", "say", "note":
		return h.executorCall(d, f, task)
	case "gone":
		var stream uint64
		d.ScanArgs(h.t, "stream", &stream)
		return node.ExecutorGone{Stream: stream}
	case "shutdown":
		body = &linkpb.ShutdownExecutor{FrameworkId: frameworkID(f), ExecutorId: executorID(arg(h.t, d, "exec", "e"))}
	case "message":
		body = &linkpb.ExecutorMessage{FrameworkId: frameworkID(f), ExecutorId: executorID(arg(h.t, d, "exec", "e")), Data: []byte("hi")}
	case "kill":
		body = kill(f, task, grace)
	case "ack":
		body = h.ack(f, task)
	case "ping", "end-framework":
		body = simple(d.Cmd, f)
	case "started":
		pid := int32(7)
		d.MaybeScanArgs(h.t, "pid", &pid)
		return node.ContainerStarted{Container: container, Pid: pid}
	case "failed":
		return node.ContainerFailed{Container: container, Message: "no such program"}
	case "exited":
		return node.ContainerExited{Exit: exit}
	case "keeper":
		return keeperUp(d, container, exit)
	case "keeper-down":
		return node.KeeperDown{}
	case "stop":
		return node.Stop{KillTasks: d.HasArg("kill")}
	default:
		return nil
	}
	conn := h.conn
	d.MaybeScanArgs(h.t, "conn", &conn)
	return node.FromMaster{Principal: "master", Conn: conn, Message: toAgent(h.epoch, body)}
}

func (h *host) exit(d *datadriven.TestData, container string) *containerpb.Exit {
	exit := &containerpb.Exit{ContainerId: container, Unknown: d.HasArg("unknown"), OomKilled: d.HasArg("oom")}
	d.MaybeScanArgs(h.t, "status", &exit.Status)
	d.MaybeScanArgs(h.t, "signal", &exit.Signal)
	d.MaybeScanArgs(h.t, "oom", &exit.MemoryBytes)
	return exit
}

func keeperUp(d *datadriven.TestData, container string, exit *containerpb.Exit) node.KeeperUp {
	var up node.KeeperUp
	if d.HasArg("running") {
		up.Running = []node.ContainerStarted{{Container: container, Pid: 7}}
	}
	if d.HasArg("starting") {
		up.Starting = []string{container}
	}
	if d.HasArg("exits") {
		up.Exits = []*containerpb.Exit{exit}
	}
	return up
}
