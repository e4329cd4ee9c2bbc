package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/node/nodepb"
	"github.com/gantry-project/gantry/kernel/sim/disk"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// host is a machine with an agent, its disk, a keeper and containers. The process is the
// agent's: a node with its shell.
type host struct {
	process
	c         *cluster
	disk      disk.Disk
	copies    []disk.Disk // of the disk, older and older
	boot      int
	resources ledger.Resources
	skew      time.Duration

	m       *node.Machine
	stream  *stream
	conns   uint64
	dialled bool // in this life
	trap    trap
	wake    step.Time
	leaving bool
	// starting are containers from their Launch until the keeper tells of them; true
	// when they are prepared.
	starting map[string]bool
	launches map[string]node.Launch

	keeper *keeper
	// kept is the connection to the keeper; nil while there is none.
	kept *keeperLink

	// calls counts those of executors to this life of the agent; callers made them.
	calls   uint64
	callers map[uint64]caller

	cutUp, cutDown bool
	// newest is the disk that an older copy replaced; nil when the disk is what it should be.
	newest disk.Disk
	// wiped says that a checkpoint was given up at some time.
	wiped bool
	// unlisted says that the master has lost its record of the agent, and not met it since.
	unlisted bool
	// nameless is the last Hello without an id that the master heard.
	nameless *linkpb.Hello
}

func newHost(c *cluster, name string) *host {
	text := fmt.Sprintf("cpus:%d;mem:%d;ports:[31000-31099]", 2+c.IntN(7), 1024*(1+c.IntN(8)))
	r, err := ledger.Parse(text)
	if err != nil {
		fail("%s: %v", text, err)
	}
	h := &host{process: process{world: c.world, name: name}, c: c, disk: disk.Disk{}, resources: r, boot: 1}
	h.keeper = newKeeper(h)
	return h
}

func (h *host) home() string { return "/work/" + h.name }

func (h *host) start() {
	h.begin()
	records := h.disk.Records()
	saved, err := node.Decode(records)
	if err != nil {
		fail("%s can't read its own checkpoint: %v", h.name, err)
	}
	if err := saved.CheckHome(h.home()); err != nil {
		fail("%s: %v", h.name, err)
	}
	h.skew = h.c.skew()
	h.m = node.New(node.Config{Info: &mesos.AgentInfo{
		Hostname: proto.String(h.name), Port: proto.Int32(5051), Resources: h.resources.Mesos(""),
	}, Version: "sim"})
	h.stream, h.conns, h.dialled, h.trap, h.wake, h.leaving = nil, 0, false, noTrap, 0, false
	h.starting, h.launches, h.kept = map[string]bool{}, map[string]node.Launch{}, nil
	h.calls, h.callers = 0, map[uint64]caller{}
	h.step(node.Recovered{Checkpoint: saved, Boot: fmt.Sprint(h.name, "-boot-", h.boot), Home: h.home()})
	h.later(h.between(10*time.Millisecond, 200*time.Millisecond), h.connectKeeper)
}

// crash is kill -9 of the agent alone.
func (h *host) crash(why string) {
	if !h.up {
		return
	}
	h.die(why)
	if h.stream != nil {
		h.stream.sever(0, h.between(0, time.Second))
	}
	h.hangUp()
	h.silence(func(caller) bool { return true })
	h.after(h.between(100*time.Millisecond, h.c.outage), func() {
		if !h.up {
			h.start()
		}
	})
}

// reboot kills everything on the host. Wiped says that the keeper's folder went, too.
func (h *host) reboot(wiped bool) {
	h.note("%s reboots, wiped %t", h.name, wiped)
	h.boot++
	h.crash("reboot")
	h.keeper.crash("reboot")
	for _, name := range sorted(h.keeper.containers) {
		c := h.keeper.containers[name]
		c.rebooted = true
		h.keeper.end(c, 0, 9)
	}
	if wiped {
		clear(h.keeper.started)
		clear(h.keeper.exits)
		h.c.witness.excuse(h)
	}
}

func (h *host) step(ev node.Event) {
	var out node.Effects
	h.m.Step(h.now.Add(h.skew), ev, &out)
	if err := h.m.Check(); err != nil {
		fail("%s, after %T: %v", h.name, ev, err)
	}
	trap := h.trap
	if len(out.Persist) > 0 {
		h.trap = noTrap
		if trap == beforeWrite {
			h.crash("before its write")
			return
		}
		h.disk.Apply(out.Persist)
		if trap == afterWrite {
			h.crash("after its write")
			return
		}
	}
	h.deliver(out, trap == amidEffects && len(out.Persist) > 0)
	if h.up {
		h.arm()
		if h.leaving && h.m.Live() == 0 {
			h.crash("told to leave, and everything has ended")
		}
	}
}

// deliver does what the machine asked for, or a part of it.
func (h *host) deliver(out node.Effects, crash bool) {
	life := h.life
	todo := make([]func(), 0, len(out.Send)+len(out.Ask)+len(out.Replies)+len(out.Tell)+len(out.Drop))
	for _, s := range out.Send {
		todo = append(todo, func() {
			if h.stream != nil && h.stream.agentConn == s.Conn {
				h.stream.toMaster(s.Message)
			}
		})
	}
	for _, a := range out.Ask {
		todo = append(todo, func() { h.ask(a) })
	}
	for _, r := range out.Replies {
		todo = append(todo, func() { h.reply(r) })
	}
	for _, t := range out.Tell {
		todo = append(todo, func() { h.tell(t) })
	}
	for _, d := range out.Drop {
		todo = append(todo, func() { h.drop(d) })
	}
	if crash {
		todo = append(todo[:h.IntN(len(todo)+1)], func() { h.crash("amid its effects") })
	}
	for _, do := range todo {
		if h.life == life {
			do()
		}
	}
}

func (h *host) ask(a node.Ask) {
	switch a := a.(type) {
	case node.Launch:
		h.launch(a)
	case node.Signal:
		if ready, preparing := h.starting[a.Container]; preparing && !ready {
			delete(h.starting, a.Container)
			h.later(h.between(0, 10*time.Millisecond), func() {
				h.step(node.ContainerFailed{Container: a.Container, Message: "given up"})
			})
			return
		}
		h.request(func(k *keeper) { k.signal(a.Container, a.Number) })
	case node.Forget:
		delete(h.starting, a.Container)
		h.later(h.between(0, 50*time.Millisecond), func() {
			h.request(func(k *keeper) { k.forget(a.Container) })
		})
	}
}

func (h *host) launch(l node.Launch) {
	h.note("%s launches %s in %s", h.name, l.Task.GetTaskId().GetValue(), l.Container)
	h.starting[l.Container], h.launches[l.Container] = false, l
	h.later(h.between(time.Millisecond, 500*time.Millisecond), func() {
		if _, wanted := h.starting[l.Container]; !wanted {
			return
		}
		if !h.calm && h.chance(40) {
			delete(h.starting, l.Container)
			h.step(node.ContainerFailed{Container: l.Container, Message: "no such file"})
			return
		}
		h.starting[l.Container] = true
		h.startContainer(l)
	})
}

func (h *host) startContainer(l node.Launch) {
	h.request(func(k *keeper) {
		err := k.start(l)
		if err == nil {
			return
		}
		k.tell(func() {
			delete(h.starting, l.Container)
			h.step(node.ContainerFailed{Container: l.Container, Message: err.Error()})
		})
	})
}

func (h *host) drop(d node.Drop) {
	h.note("%s leaves connection %d: %s", h.name, d.Conn, d.Reason)
	if h.stream != nil && h.stream.agentConn == d.Conn {
		h.stream.sever(0, h.between(0, time.Second))
	}
	if d.Permanent {
		h.refused(d.Reason)
	}
}

// refused says that a master does not want this agent ever again. Its supervisor tries a
// few times more; then somebody does what the message says.
func (h *host) refused(reason string) {
	if h.newest == nil {
		fail("%s was refused for good, and its checkpoint is the newest: %s", h.name, reason)
	}
	h.crash("refused for good")
	if !h.calm && h.chance(2) {
		return // once more
	}
	h.repair()
}

// repair puts the newest checkpoint back, or none.
func (h *host) repair() {
	if h.newest == nil {
		return
	}
	if h.up {
		h.crash("repaired")
	}
	if h.chance(2) {
		h.note("%s gets its newest checkpoint back", h.name)
		h.disk, h.newest = h.newest, nil
		return
	}
	h.note("%s starts from nothing", h.name)
	h.disk, h.newest, h.copies, h.wiped = disk.Disk{}, nil, nil, true
	h.c.names++
	h.reboot(true)
}

// restoreOld replaces the checkpoint by an older copy, if there is one that a master can
// tell from the newest.
func (h *host) restoreOld() {
	now := agentRecord(h.disk)
	if h.newest != nil || now.GetAgentId() == "" || !h.c.master.up || h.c.master.store["agent/"+now.GetAgentId()] == nil {
		return
	}
	for _, old := range h.copies {
		if was := agentRecord(old); was.GetAgentId() == now.GetAgentId() && was.GetRegistered() < h.c.master.confirmed(now.GetAgentId()) {
			h.note("%s gets an old checkpoint, of start %d", h.name, was.GetIncarnation())
			h.crash("its checkpoint is replaced")
			h.newest, h.disk = h.disk, maps.Clone(old)
			h.c.witness.excuse(h)
			return
		}
	}
}

func (h *host) copyDisk() {
	if h.newest == nil && h.up {
		h.copies = append(h.copies, maps.Clone(h.disk))
		if len(h.copies) > 4 {
			h.copies = slices.Delete(h.copies, 0, 1)
		}
	}
}

func agentRecord(d disk.Disk) *nodepb.Agent {
	a := &nodepb.Agent{}
	if err := proto.Unmarshal(d["agent"], a); err != nil {
		fail("agent record: %v", err)
	}
	return a
}

// dial tries for a stream to the master, again and again.
func (h *host) dial() {
	h.later(h.between(100*time.Millisecond, 5*time.Second), func() {
		m := h.c.master
		if !m.up || h.cutUp || h.cutDown || !h.calm && h.chance(10) {
			h.dial()
			return
		}
		h.conns++
		h.stream = newStream(h, m)
		if slow := h.stream.up.slowest > h.c.latency; !h.calm && (h.chance(8) || slow && h.chance(2)) {
			h.later(h.between(0, 5*time.Second), h.breakLink)
		}
		h.step(node.Linked{Conn: h.conns})
	})
}

// introduces sees a Hello. One without an id may be that of another agent: after a reboot, or
// where a later one has come before it.
func (h *host) introduces(hello *linkpb.Hello) {
	if hello.Info.Id != nil {
		return
	}
	if was := h.nameless; was != nil && (was.BootId != hello.BootId || was.Incarnation > hello.Incarnation || was.Stream > hello.Stream) {
		h.c.names++
	}
	h.nameless = hello
}

func (h *host) unlinked(s *stream) {
	if h.stream != s {
		return
	}
	h.stream = nil
	h.step(node.Unlinked{Conn: s.agentConn})
	if h.up {
		h.dial()
	}
}

func (h *host) arm() {
	at, some := h.m.NextDeadline()
	if !some || h.wake != 0 && h.wake <= at {
		return
	}
	h.wake = at
	h.later(at.Add(-h.skew).Sub(h.now), func() {
		if h.wake == at {
			h.wake = 0
			h.step(node.Tick{})
		}
	})
}
