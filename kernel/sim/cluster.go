package sim

import (
	"fmt"
	"slices"
	"time"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/node"
)

// cluster is everything that a seed makes.
type cluster struct {
	*world
	master     *master
	hosts      []*host
	frameworks []*framework
	byID       map[id.Framework]*framework
	witness    *witness
	streams    int
	// names is how many agents the master may know: hosts, and what became of one.
	names int

	// What the seed says of the surroundings: bounds of delays, and who is how bad.
	latency, fsync, outage, blindness time.Duration
	offerTimeout                      time.Duration
	faultEvery                        time.Duration
	clocks                            bool
}

func newCluster(w *world) *cluster {
	c := &cluster{world: w, byID: map[id.Framework]*framework{}}
	c.witness = &witness{c: c, tasks: map[id.TaskKey]*sighting{}}
	c.latency = w.between(time.Millisecond, 500*time.Millisecond)
	c.fsync = w.between(time.Millisecond, 200*time.Millisecond)
	c.outage = w.between(time.Second, 3*time.Minute)
	c.blindness = w.between(10*time.Millisecond, 90*time.Second)
	c.faultEvery = w.between(5*time.Second, 90*time.Second)
	c.clocks = w.chance(4)
	c.hostile = w.chance(8)
	if w.chance(3) {
		c.offerTimeout = w.between(5*time.Second, time.Minute)
	}
	c.master = newMaster(c)
	for i := range 1 + w.IntN(5) {
		c.hosts = append(c.hosts, newHost(c, fmt.Sprint("host", i)))
	}
	c.names = len(c.hosts)
	for range 1 + w.IntN(3) {
		c.addFramework()
	}
	if w.chance(4) {
		c.frameworks[0].hostile = true
	}
	return c
}

func (c *cluster) addFramework() *framework {
	f := newFramework(c, len(c.frameworks))
	c.frameworks = append(c.frameworks, f)
	return f
}

// frameworkOf is the framework that a master knows by this id, if any heard of it.
func (c *cluster) frameworkOf(fid id.Framework) *framework {
	if f := c.byID[fid]; f != nil {
		return f
	}
	for _, f := range c.frameworks {
		if f.id != "" && f.id == string(fid) {
			c.byID[fid] = f
			return f
		}
	}
	return nil
}

// skew is how far the clock of a new process is from the world's.
func (c *cluster) skew() time.Duration {
	if !c.clocks {
		return 0
	}
	d := c.between(-2*time.Second, 2*time.Second)
	if c.chance(4) {
		d *= 3600
	}
	return d
}

func (c *cluster) begin() {
	c.master.start()
	for _, h := range c.hosts {
		c.after(c.between(0, 5*time.Second), h.start)
	}
	for _, f := range c.frameworks {
		c.after(c.between(0, 10*time.Second), f.act)
	}
	c.fault()
}

// fault is one thing after another that goes wrong, until there is calm.
func (c *cluster) fault() {
	if c.calm {
		return
	}
	c.after(c.between(0, 2*c.faultEvery), c.fault)
	h := c.hosts[c.IntN(len(c.hosts))]
	f := c.frameworks[c.IntN(len(c.frameworks))]
	faults := []func(){
		func() { c.master.crash("killed") },
		func() { c.master.trap = trap(1 + c.IntN(3)) },
		func() { c.chanceOf(2, c.master.lose) },
		func() { c.master.pause(c.between(time.Second, 4*time.Minute)) },
		func() { h.crash("killed") },
		func() { h.crash("killed") },
		func() { h.trap = trap(1 + c.IntN(3)) },
		func() { h.trap = trap(1 + c.IntN(3)) },
		func() { h.pause(c.between(time.Second, 4*time.Minute)) },
		func() { h.keeper.crash("killed") },
		func() { h.crash("killed"); h.keeper.crash("killed") },
		func() { h.keeper.pause(c.between(time.Second, time.Minute)) },
		func() { h.breakLink() },
		func() { h.breakLink() },
		func() { h.partition() },
		func() { h.partition() },
		func() { c.chanceOf(3, func() { h.reboot(c.chance(2)) }) },
		func() { h.copyDisk() },
		func() { h.copyDisk() },
		func() { c.chanceOf(2, h.restoreOld) },
		func() { c.chanceOf(2, h.leave) },
		func() { c.master.later(0, c.master.allocator.takeOffice) },
		func() { c.disturb(f) },
		func() { c.disturb(f) },
		func() { c.disturb(f) },
	}
	faults[c.IntN(len(faults))]()
}

func (c *cluster) chanceOf(in int, do func()) {
	if c.chance(in) {
		do()
	}
}

// disturb has a scheduler do what schedulers do.
func (c *cluster) disturb(f *framework) {
	sub := f.current()
	switch n := c.IntN(12); {
	case n < 3 && sub != nil:
		f.note("%s leaves %s", f.name, sub.id)
		sub.leave()
	case n < 5 && sub != nil:
		f.note("%s %s breaks", f.name, sub.id)
		sub.sever()
	case n < 7 && f.id != "":
		f.note("%s subscribes once more", f.name)
		f.subscribe()
	case n < 9:
		f.note("%s is deaf: %t", f.name, !f.deaf)
		f.deaf = !f.deaf
	case n == 9 && len(c.frameworks) < 8:
		f.note("%s goes away for ever", f.name)
		f.away = true
		if sub != nil {
			sub.leave()
		}
		c.addFramework().act()
	case n == 10 && len(c.frameworks) < 8 && f.id != "":
		f.note("%s tears itself down", f.name)
		f.teardown()
		c.addFramework().act()
	}
}

// lose has the master mended: its store has lost what it knew of an agent, or everything.
func (m *master) lose() {
	if !m.up || slices.ContainsFunc(m.c.hosts, func(h *host) bool { return h.newest != nil }) {
		return // an old copy of a checkpoint would be welcome
	}
	m.crash("its store is lost")
	h := m.c.hosts[m.IntN(len(m.c.hosts))]
	lost := []string{"agent/" + agentRecord(h.disk).GetAgentId()}
	if m.chance(3) {
		lost = sorted(m.store)
	}
	for _, key := range lost {
		m.note("the record %s is lost", key)
		delete(m.store, key)
	}
	for _, h := range m.c.hosts {
		h.unlisted = h.unlisted || m.store["agent/"+agentRecord(h.disk).GetAgentId()] == nil
	}
}

// givenUp says that an agent whose record was lost did not come back in time.
func (c *cluster) givenUp(h *host) bool {
	return h.unlisted && c.now.Sub(c.master.since) >= 10*time.Minute
}

// breakLink ends the agent's stream.
func (h *host) breakLink() {
	if h.stream != nil {
		h.note("%s: stream %d breaks", h.name, h.stream.agentConn)
		h.stream.sever(h.between(0, h.c.blindness), h.between(0, h.c.blindness))
	}
}

// partition cuts the host off, one way or both, for a while.
func (h *host) partition() {
	ways := 1 + h.IntN(3)
	d := h.between(time.Second, 4*time.Minute)
	h.note("%s: cut %d for %s", h.name, ways, d)
	h.cutUp, h.cutDown = ways&1 != 0, ways&2 != 0
	h.after(d, h.heal)
}

func (h *host) heal() {
	h.cutUp, h.cutDown = false, false
	if h.stream != nil {
		h.stream.up.pump()
		h.stream.down.pump()
	}
}

// leave is an ordinary end of the agent, which takes its tasks with it or not.
func (h *host) leave() {
	if !h.up || h.paused {
		return
	}
	kill := h.chance(3)
	h.note("%s is stopped, tasks end: %t", h.name, kill)
	if !kill {
		h.step(node.Stop{})
		h.crash("stopped")
		return
	}
	h.witness().stopped(h)
	h.leaving = true
	h.step(node.Stop{KillTasks: true})
}

func (h *host) witness() *witness { return h.c.witness }

// forsaken says that nobody can tell any more what became of a container: its agent's
// checkpoint is gone.
func (h *host) forsaken(c *container) bool {
	return c.excused && (h.wiped || h.newest != nil)
}
