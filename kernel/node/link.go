package node

import (
	"maps"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/rules"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// link is the current stream to a master, if conn is not zero.
type link struct {
	conn uint64
	// welcome says that the master has taken the agent; before, nothing but Hello is sent.
	welcome bool
	// silentAt is when the master is given up, unless it says something.
	silentAt step.Time
	ping     time.Duration
	// introduced are the executors that Hello named: one that ends before the welcome is
	// told of after it.
	introduced []executorKey
	// dropped says that the shell was asked to close it already.
	dropped bool
}

func (l *link) deadline() (step.Time, bool) {
	return l.silentAt, l.conn != 0 && !l.dropped
}

// linked introduces the agent; an older stream is history from here on.
func (m *Machine) linked(conn uint64) {
	m.link = link{conn: conn, silentAt: m.now.Add(welcomeWithin)}
	m.streams++
	m.send(&linkpb.ToMaster{Body: &linkpb.ToMaster_Hello{Hello: m.hello()}})
}

func (m *Machine) hello() *linkpb.Hello {
	info := proto.CloneOf(m.cfg.Info)
	info.Id = nil
	if m.agentID != "" {
		info.Id = &mesos.AgentID{Value: proto.String(m.agentID)}
	}
	h := &linkpb.Hello{
		Info: info, Version: m.cfg.Version, BootId: m.boot, Epoch: m.epoch,
		Incarnation: m.incarnation, Stream: m.streams, Registered: m.registered, Home: m.home,
	}
	for _, t := range m.ordered() {
		held := &linkpb.HeldTask{FrameworkId: t.frameworkID(), Info: t.info, Status: t.latest}
		if len(t.pending) > 0 {
			held.Unacknowledged = t.pending[0]
		}
		h.Tasks = append(h.Tasks, held)
	}
	for _, e := range m.orderedExecutors() {
		m.link.introduced = append(m.link.introduced, e.key)
		h.Executors = append(h.Executors, &linkpb.HeldExecutor{
			FrameworkId: &mesos.FrameworkID{Value: proto.String(string(e.key.Framework))}, Info: e.info,
		})
	}
	for _, fid := range slices.Sorted(maps.Keys(m.frameworks)) {
		h.Frameworks = append(h.Frameworks, m.frameworks[fid].info)
	}
	return h
}

func (m *Machine) unlinked(conn uint64) {
	if conn == m.link.conn {
		m.link = link{}
	}
}

func (m *Machine) drop(reason string, permanent bool) {
	m.out.Drop = append(m.out.Drop, Drop{Conn: m.link.conn, Reason: reason, Permanent: permanent})
	m.link.welcome, m.link.dropped = false, true
}

// linkDue gives up a master that has not answered, or not pinged, for too long.
func (m *Machine) linkDue() {
	at, open := m.link.deadline()
	if !open || m.now < at {
		return
	}
	if m.link.welcome {
		m.drop("the master has not pinged for five periods", false)
	} else {
		m.drop("the master did not answer the agent's introduction", false)
	}
}

func (m *Machine) fromMaster(ev FromMaster) {
	msg := ev.Message
	switch {
	case ev.Conn == 0 || ev.Conn != m.link.conn || m.link.dropped:
		m.stats.StaleConns++
		return
	case msg.GetEpoch() < m.epoch:
		m.stats.StaleEpochs++
		if r := msg.GetRefused(); r != nil && !m.link.welcome {
			m.drop("the master refused the agent: "+r.GetMessage(), false)
		}
		return
	case msg.GetEpoch() > m.epoch:
		m.epoch = msg.Epoch
		m.dirtyAgent = true
	}
	switch body := msg.GetBody().(type) {
	case *linkpb.ToAgent_Welcome:
		m.welcomed(body.Welcome)
		return
	case *linkpb.ToAgent_Refused:
		m.drop("the master refused the agent: "+body.Refused.GetMessage(), body.Refused.GetPermanent())
		return
	}
	if !m.link.welcome {
		m.stats.Unwelcome++
		return
	}
	switch body := msg.GetBody().(type) {
	case *linkpb.ToAgent_Run:
		m.run(body.Run)
	case *linkpb.ToAgent_Kill:
		m.kill(body.Kill)
	case *linkpb.ToAgent_Acknowledge:
		m.acknowledge(body.Acknowledge)
	case *linkpb.ToAgent_Ping:
		m.link.silentAt = m.now.Add(missedPings * m.link.ping)
		m.send(&linkpb.ToMaster{Body: &linkpb.ToMaster_Pong{Pong: &linkpb.Pong{}}})
	case *linkpb.ToAgent_EndFramework:
		m.endFramework(id.Framework(body.EndFramework.GetFrameworkId().GetValue()))
	case *linkpb.ToAgent_ShutdownExecutor:
		m.masterShutdown(body.ShutdownExecutor)
	case *linkpb.ToAgent_ExecutorMessage:
		m.masterMessage(body.ExecutorMessage)
	}
}

// welcomed takes the id that the master knows the agent by, confirms it, and says again
// whatever is not acknowledged.
func (m *Machine) welcomed(w *linkpb.Welcome) {
	if given := w.GetAgentId().GetValue(); rules.ID(given) == nil && given != m.agentID {
		m.agentID = given
		m.dirtyAgent = true
	}
	if m.agentID == "" {
		m.drop("the master welcomed the agent and gave it no id", false)
		return
	}
	if m.registered != m.incarnation {
		m.registered = m.incarnation
		m.dirtyAgent = true
	}
	m.link.welcome = true
	m.send(&linkpb.ToMaster{Body: &linkpb.ToMaster_Pong{Pong: &linkpb.Pong{}}})
	m.link.ping = pingPeriod(w.GetPingSeconds())
	m.link.silentAt = m.now.Add(missedPings * m.link.ping)
	for _, t := range m.ordered() {
		t.resendAfter = resendMin
		m.sendHead(t)
	}
	for _, k := range m.link.introduced {
		if m.executors[k] == nil {
			m.missing(k, unseen)
		}
	}
	m.link.introduced = nil
	for _, container := range slices.Sorted(maps.Keys(m.strays)) {
		m.stray(container, m.strays[container])
	}
	clear(m.strays)
}

func pingPeriod(seconds float64) time.Duration {
	if math.IsNaN(seconds) || seconds <= 0 || seconds > time.Hour.Seconds() {
		return defaultPing
	}
	return time.Duration(seconds * float64(time.Second))
}
