package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	"github.com/gantry-project/gantry/kernel/node"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// keeper parents the containers of a host, and keeps records of their starts and ends
// that outlive it.
type keeper struct {
	process
	h *host
	// containers are the ones that run, whoever started them; ending those that have just
	// ended and have no record yet, of which the keeper does not know.
	containers, ending map[string]*container
	// pending are those being started, with the signal that came meanwhile.
	pending map[string]int32
	// started and exits are on the disk.
	started map[string]node.Launch
	exits   map[string]*containerpb.Exit
	link    *keeperLink
}

// container is what runs on a host, as a person with ps would see it.
type container struct {
	id        string
	key       id.TaskKey
	host      *host
	resources ledger.Resources
	pid       int32
	// parent is the life of the keeper that started it, the only one that can wait for it.
	parent         int
	ended          bool
	status, signal int32
	// executor is the program of a container that a framework brought. Its tasks are custom:
	// said is what it said of one last, kept that the agent has said that it has the end on
	// record.
	executor     *executor
	custom, kept bool
	said         mesos.TaskState
	// rebooted, orphaned and excused ends need not be known.
	rebooted, orphaned, excused bool
}

// keeperLink is a connection of an agent to its keeper.
type keeperLink struct {
	requests, events lane
	agentLife        int
}

func newKeeper(h *host) *keeper {
	return &keeper{
		process: process{world: h.world, name: h.name + "/keeper"}, h: h, containers: map[string]*container{},
		started: map[string]node.Launch{}, exits: map[string]*containerpb.Exit{},
	}
}

// start recovers what earlier keepers left.
func (k *keeper) serve() {
	k.begin()
	k.pending, k.ending, k.link = map[string]int32{}, map[string]*container{}, nil
	for _, name := range sorted(k.started) {
		if c := k.containers[name]; c != nil {
			c.orphaned = true
			continue
		}
		if k.exits[name] == nil {
			k.exits[name] = &containerpb.Exit{ContainerId: name, Unknown: true}
		}
		delete(k.started, name)
	}
}

func (k *keeper) crash(why string) {
	if !k.up {
		return
	}
	for _, name := range sorted(k.pending) {
		if k.chance(2) { // it came to life all the same
			k.begun(k.started[name])
		}
	}
	k.die(why)
	if k.link != nil {
		k.h.loseKeeper(k.link, k.between(0, 20*time.Millisecond))
	}
}

// start accepts a container, whose start or failure is an event.
func (k *keeper) start(l node.Launch) error {
	_, pending := k.pending[l.Container]
	switch {
	case pending || k.containers[l.Container] != nil || k.exits[l.Container] != nil:
		return fmt.Errorf("container %s exists already", l.Container)
	case !k.calm && k.chance(60):
		return errors.New("out of luck")
	}
	k.started[l.Container] = l
	k.pending[l.Container] = 0
	k.later(k.between(10*time.Millisecond, 300*time.Millisecond), func() {
		signal := k.pending[l.Container]
		delete(k.pending, l.Container)
		if !k.calm && k.chance(60) {
			delete(k.started, l.Container)
			k.tell(func() {
				delete(k.h.starting, l.Container)
				k.h.step(node.ContainerFailed{Container: l.Container, Message: "exec format error"})
			})
			return
		}
		c := k.begun(l)
		k.tell(func() {
			delete(k.h.starting, l.Container)
			k.h.step(node.ContainerStarted{Container: l.Container, Pid: c.pid})
		})
		if signal != 0 {
			k.signal(l.Container, signal)
		}
	})
	return nil
}

// begun is the moment from which a container runs.
func (k *keeper) begun(l node.Launch) *container {
	need, err := ledger.FromMesos(append(l.Task.GetResources(), l.Executor.GetResources()...))
	if err != nil {
		fail("resources of %s: %v", l.Container, err)
	}
	c := &container{
		id: l.Container, host: k.h, resources: need, pid: k.Int32N(30000) + 2, parent: k.life,
		key: id.TaskKey{Framework: id.Framework(l.Framework.GetId().GetValue()), Task: id.Task(l.Task.GetTaskId().GetValue())},
	}
	k.containers[c.id] = c
	k.world.containers++
	k.note("%s: container %s of %s runs", k.h.name, c.id, c.key)
	if l.Executor != nil {
		c.executor = newExecutor(c, l)
	}
	k.h.c.witness.began(c)
	lasts := k.between(0, time.Minute)
	if l.Executor != nil || !k.calm && k.chance(3) {
		lasts = k.between(0, 20*time.Minute)
	}
	status := int32(0)
	if k.chance(3) {
		status = k.Int32N(256)
	}
	k.after(lasts, func() { k.end(c, status, 0) })
	return c
}

// end is the end of a container; its parent records it if it lives, and anybody else can
// only see that it is gone.
func (k *keeper) end(c *container, status, signal int32) {
	if c.ended {
		return
	}
	c.ended, c.status, c.signal = true, status, signal
	k.note("%s: container %s of %s ends with %d, signal %d", k.h.name, c.id, c.key, status, signal)
	delete(k.containers, c.id)
	for _, t := range c.all()[1:] {
		t.ended = true
	}
	k.h.silence(func(by caller) bool { return by.c == c })
	if !k.up {
		c.orphaned = true
		return
	}
	exit := &containerpb.Exit{ContainerId: c.id, Status: status, Signal: signal}
	if c.parent != k.life {
		exit = &containerpb.Exit{ContainerId: c.id, Unknown: true}
	}
	life := k.life
	k.ending[c.id] = c
	k.after(k.between(0, 5*time.Millisecond), func() {
		if !k.up || k.life != life {
			c.orphaned = true
			return
		}
		delete(k.ending, c.id)
		k.exits[c.id] = exit
		delete(k.started, c.id)
		k.tell(func() {
			delete(k.h.starting, c.id)
			k.h.step(node.ContainerExited{Exit: exit})
		})
	})
}

func (k *keeper) signal(name string, number int32) {
	if before, pending := k.pending[name]; pending {
		if before != 9 {
			k.pending[name] = number
		}
		return
	}
	c := k.containers[name]
	switch {
	case c == nil:
	case number == 9:
		k.end(c, 0, 9)
	case k.IntN(5) > 0: // the others ignore it
		k.after(k.between(0, 4*time.Second), func() {
			if k.chance(2) {
				k.end(c, 0, number)
			} else {
				k.end(c, 143, 0)
			}
		})
	}
}

func (k *keeper) forget(name string) { delete(k.exits, name) }

// tell sends an event to the agent, if one is connected.
func (k *keeper) tell(do func()) {
	if l := k.link; l != nil {
		l.events.send(func() { k.h.accept(l.agentLife, do) })
	}
}

// connectKeeper connects the agent, starting the keeper if there is none.
func (h *host) connectKeeper() {
	k := h.keeper
	if !k.up {
		k.serve()
	}
	if k.paused {
		h.later(h.between(time.Second, 5*time.Second), h.connectKeeper)
		return
	}
	if k.link != nil {
		k.link.events.dead = true
	}
	l := &keeperLink{agentLife: h.life}
	l.requests = lane{world: h.world, slowest: 2 * time.Millisecond}
	l.events = lane{world: h.world, slowest: 2 * time.Millisecond}
	k.link, h.kept = l, l
	up := node.KeeperUp{}
	for _, name := range sorted(k.exits) {
		up.Exits = append(up.Exits, k.exits[name])
	}
	for _, name := range sorted(k.containers) {
		up.Running = append(up.Running, node.ContainerStarted{Container: name, Pid: k.containers[name].pid})
	}
	for _, name := range sorted(k.ending) {
		up.Running = append(up.Running, node.ContainerStarted{Container: name, Pid: k.ending[name].pid})
	}
	up.Starting = sorted(k.pending)
	k.tell(func() { h.welcomed(up) })
}

// welcomed is what the shell does with a new connection to the keeper.
func (h *host) welcomed(up node.KeeperUp) {
	held := map[string]bool{}
	for _, exit := range up.Exits {
		held[exit.ContainerId] = true
		delete(h.starting, exit.ContainerId)
	}
	for _, running := range up.Running {
		held[running.Container] = true
		delete(h.starting, running.Container)
	}
	for _, name := range up.Starting {
		held[name] = true
	}
	for _, name := range sorted(h.starting) {
		if held[name] {
			continue
		}
		up.Starting = append(up.Starting, name)
		if h.starting[name] {
			h.startContainer(h.launches[name])
		}
	}
	h.step(up)
	if h.up && !h.dialled {
		h.dialled = true
		h.dial()
	}
}

// request asks the keeper for something; without a connection it is not asked.
func (h *host) request(do func(*keeper)) {
	if l := h.kept; l != nil {
		life := h.keeper.life
		l.requests.send(func() { h.keeper.accept(life, func() { do(h.keeper) }) })
	}
}

// loseKeeper breaks the connection; the agent learns of it a little later, and connects anew.
func (h *host) loseKeeper(l *keeperLink, learns time.Duration) {
	l.requests.dead, l.events.dead = true, true
	if h.keeper.link == l {
		h.keeper.link = nil
	}
	h.after(learns, func() {
		h.accept(l.agentLife, func() {
			if h.kept != l {
				return
			}
			h.kept = nil
			h.step(node.KeeperDown{})
			if h.up {
				h.later(h.between(50*time.Millisecond, 2*time.Second), h.connectKeeper)
			}
		})
	})
}

// hangUp is the agent's death as the keeper sees it: what was asked already is still done.
func (h *host) hangUp() {
	if l := h.kept; l != nil {
		l.events.dead = true
		if h.keeper.link == l {
			h.keeper.link = nil
		}
		h.kept = nil
	}
}
