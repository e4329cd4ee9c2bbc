package core

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core/wire"
	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/lifecycle"
	"github.com/gantry-project/gantry/kernel/rules"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

func newFramework(fid id.Framework, plugin string) *framework {
	return &framework{
		id: fid, plugin: plugin,
		suppressed: map[string]bool{},
		tasks:      map[id.Task]*task{},
		offers:     map[id.Offer]*offer{},
	}
}

// setInfo takes the framework's word about itself, with its id filled in.
func (f *framework) setInfo(info *mesos.FrameworkInfo) {
	info = proto.CloneOf(info)
	info.Id = &mesos.FrameworkID{Value: proto.String(string(f.id))}
	f.info, f.infoBytes = info, proto.Size(info)
	f.roles = []string{info.GetRole()}
	if f.can(mesos.FrameworkInfo_Capability_MULTI_ROLE) {
		f.roles = slices.Sorted(slices.Values(info.GetRoles()))
	}
}

func (f *framework) can(c mesos.FrameworkInfo_Capability_Type) bool { return wire.Can(f.info, c) }

func (f *framework) partitionAware() bool {
	return f.can(mesos.FrameworkInfo_Capability_PARTITION_AWARE)
}

// in says whether the framework is subscribed in a role.
func (f *framework) in(role string) bool {
	_, subscribed := slices.BinarySearch(f.roles, role)
	return subscribed
}

// hears says whether the framework is to be offered resources in a role.
func (f *framework) hears(role string) bool { return f.in(role) && !f.suppressed[role] }

// fits says whether what a framework tells of itself is of a size that is kept.
func fits(info *mesos.FrameworkInfo) error {
	if n := proto.Size(info); n > maxInfo {
		return sentencef("FrameworkInfo has %d bytes; at most %d are taken", n, maxInfo)
	}
	return nil
}

// failoverTimeout is bounded to a century, beyond which durations overflow.
func failoverTimeout(info *mesos.FrameworkInfo) time.Duration {
	const century = 100 * 365 * 24 * time.Hour
	return time.Duration(math.Min(math.Max(info.GetFailoverTimeout(), 0)*1e9, float64(century)))
}

// subscribe opens a subscription: of a new framework, of a known one that comes back, or
// of one that fails over from another connection. What is wrong with it is said on the
// stream, as the reference does.
func (m *Machine) subscribe(ev Call, out *Effects) {
	if known := m.frameworks[id.Framework(ev.Call.GetFrameworkId().GetValue())]; ev.Plugin == "" && len(m.streams) >= maxStreams && (known == nil || known.stream == "") {
		m.reply(ev, statusUnavailable, fmt.Sprintf("%d frameworks are subscribed, and no more can be: end one, or come again later", maxStreams), out)
		return
	}
	m.reply(ev, statusOK, "", out)
	f, err := m.subscriber(ev, out)
	if err != nil {
		out.Notify = append(out.Notify, Notice{Stream: ev.Stream, Close: true, Event: wire.Error(err.Error())})
		return
	}
	if f.stream != "" {
		out.Notify = append(out.Notify, Notice{Stream: f.stream, Close: true, Event: wire.Error("Framework failed over")})
		delete(m.streams, f.stream)
		m.withdrawOffers(f, out)
	}
	tell := m.tellFrameworkUpdated
	if f.info == nil {
		tell = m.tellFrameworkAdded
	}
	f.take(ev.Call.GetSubscribe())
	f.stream, f.recovered, f.deadline, f.subscribed = ev.Stream, false, 0, m.now
	m.streams[ev.Stream] = f
	m.persistFramework(f, out)
	m.notify(f, &schedulerpb.Event{Type: schedulerpb.Event_SUBSCRIBED.Enum(), Subscribed: &schedulerpb.Event_Subscribed{
		FrameworkId:              f.info.Id,
		HeartbeatIntervalSeconds: proto.Float64(m.cfg.Heartbeat.Seconds()),
		MasterInfo:               m.cfg.Info,
	}}, out)
	tell(f, out)
	m.askFramework(f, out)
	m.askRevived(f, f.roles, out)
	m.redeliver(f, out)
}

// take updates a subscriber from its SUBSCRIBE: user and checkpoint stay what they were.
func (f *framework) take(sub *schedulerpb.Call_Subscribe) {
	info := sub.GetFrameworkInfo()
	if f.info != nil {
		info = proto.CloneOf(info)
		info.User, info.Checkpoint = f.info.User, f.info.Checkpoint
	}
	f.setInfo(info)
	f.principal = info.GetPrincipal()
	f.suppress(sub.GetSuppressedRoles())
}

// subscriber finds or makes the framework of a SUBSCRIBE, or says why it may not.
func (m *Machine) subscriber(ev Call, out *Effects) (*framework, error) {
	sub := ev.Call.GetSubscribe()
	info := sub.GetFrameworkInfo()
	if err := fits(info); err != nil { // before anything walks over it
		return nil, err
	}
	if err := rules.FrameworkInfo(info); err != nil {
		return nil, err
	}
	if err := rules.SuppressedRoles(info, sub.GetSuppressedRoles()); err != nil {
		return nil, err
	}
	if err := rules.Principal(info, ev.Principal); err != nil {
		return nil, err
	}
	fid := id.Framework(info.GetId().GetValue())
	if fid == "" && ev.Plugin != "" {
		fid = m.plugins[ev.Plugin]
	}
	if fid == "" {
		fid = m.newFrameworkID()
	}
	f := m.frameworks[fid]
	if m.wasRemoved(fid) || f != nil && f.removed {
		return nil, sentencef("Framework has been removed")
	}
	if f != nil && f.plugin != ev.Plugin {
		return nil, sentencef("Framework %s belongs to the plugin '%s': subscribe without its id", fid, f.plugin)
	}
	if f != nil {
		if err := rules.Resubscribe(f.info, info); err != nil {
			return nil, err
		}
	}
	if err := m.makeRoom(f, info, out); err != nil {
		return nil, err
	}
	if f == nil {
		f = newFramework(fid, ev.Plugin)
		f.registered = m.now
		m.frameworks[fid] = f
		if ev.Plugin != "" {
			m.plugins[ev.Plugin] = fid
		}
	}
	return f, nil
}

// makeRoom tells whether a framework, new if nil, may have this info. For a new or a larger
// one those have to go that are away and have nothing to lose, the longest away first.
func (m *Machine) makeRoom(f *framework, info *mesos.FrameworkInfo, out *Effects) error {
	n := proto.Size(info)
	if f != nil && n <= f.infoBytes {
		return nil
	}
	for {
		known, bytes := 1, n
		var idle *framework
		for _, other := range m.frameworks { // any order: sums, and the first of all
			if other == f {
				continue
			}
			known, bytes = known+1, bytes+other.infoBytes
			if other.idle() && (idle == nil || cmp.Or(cmp.Compare(other.subscribed, idle.subscribed), cmp.Compare(other.id, idle.id)) < 0) {
				idle = other
			}
		}
		switch {
		case known <= maxFrameworks && bytes <= maxInfos:
			return nil
		case idle == nil:
			return sentencef("There would be %d frameworks with %d bytes of FrameworkInfo; at most %d with %d are kept: tear down one that is not needed", known, bytes, maxFrameworks, maxInfos)
		}
		m.removeFramework(idle, out)
	}
}

// idle says whether a framework is away and has, as far as is known, nothing but its id.
func (f *framework) idle() bool {
	return f.stream == "" && !f.removed && !f.recovered && len(f.tasks) == 0 && f.executors == 0
}

// newFrameworkID skips ids that somebody else has taken already.
func (m *Machine) newFrameworkID() id.Framework {
	for {
		fid := id.Framework(fmt.Sprintf("%s-%04d", m.cfg.ID, m.nextFramework))
		m.nextFramework++
		if m.frameworks[fid] == nil && !m.wasRemoved(fid) {
			return fid
		}
	}
}

func (m *Machine) wasRemoved(fid id.Framework) bool {
	return slices.ContainsFunc(m.completed, func(f *framework) bool { return f.id == fid })
}

// redeliver tells a returning framework the oldest unacknowledged status of each task.
func (m *Machine) redeliver(f *framework, out *Effects) {
	for _, tid := range sorted(f.tasks) {
		if t := f.tasks[tid]; t.pending != nil {
			m.notifyUpdate(f, t.pending, out)
		}
	}
}

// streamGone gives a framework its failover timeout to return.
func (m *Machine) streamGone(stream id.Stream, out *Effects) {
	f := m.streams[stream]
	if f == nil {
		return
	}
	delete(m.streams, stream)
	f.stream = ""
	timeout := failoverTimeout(f.info)
	if timeout == 0 {
		m.removeFramework(f, out)
		return
	}
	m.withdrawOffers(f, out)
	m.askFramework(f, out)
	m.frameworkDeadline(f, timeout)
	m.persistFramework(f, out)
	m.tellFrameworkUpdated(f, out)
}

// removeFramework ends a framework for good: its tasks are killed, and it stays known
// until the last of them has ended.
func (m *Machine) removeFramework(f *framework, out *Effects) {
	m.withdrawOffers(f, out)
	if f.stream != "" {
		out.Notify = append(out.Notify, Notice{Stream: f.stream, Close: true})
		delete(m.streams, f.stream)
		f.stream = ""
	}
	f.removed, f.deadline, f.ended = true, 0, m.now
	if f.plugin != "" {
		delete(m.plugins, f.plugin)
	}
	m.forgetFramework(f, out)
	m.askFramework(f, out)
	m.tellFrameworkUpdated(f, out)
	told := map[id.Agent]bool{}
	for _, tid := range sorted(f.tasks) {
		t := f.tasks[tid]
		a := m.agents[t.agent]
		if a.unreachable || lifecycle.Terminal(t.state) && a.conn != 0 {
			if !lifecycle.Terminal(t.state) {
				m.masterUpdate(f, t, removal(f), out)
			}
			m.acknowledgeUnheard(a, t, out)
			m.dropTask(t, out)
			continue
		}
		if !told[a.id] {
			told[a.id] = true
			m.send(a, wire.EndFramework(f.info), out)
		}
	}
	m.endExecutors(f, told, out)
	m.settle(f, out)
}

// settle lets go of a removed framework whose last task and executor have ended.
func (m *Machine) settle(f *framework, out *Effects) {
	if !f.removed || len(f.tasks) > 0 || f.executors > 0 || m.frameworks[f.id] != f {
		return
	}
	delete(m.frameworks, f.id)
	m.tellFrameworkRemoved(f, out)
	m.ask(&allocatorpb.Delta{Body: &allocatorpb.Delta_FrameworkRemoved{FrameworkRemoved: string(f.id)}}, out)
	m.completed = append(m.completed, f)
	if len(m.completed) > maxCompletedFrameworks {
		m.completed = slices.Delete(m.completed, 0, 1)
	}
}

func (m *Machine) askFramework(f *framework, out *Effects) {
	m.ask(&allocatorpb.Delta{Body: &allocatorpb.Delta_Framework{Framework: f.contract()}}, out)
}

func (m *Machine) askRevived(f *framework, roles []string, out *Effects) {
	if len(roles) > 0 {
		m.ask(&allocatorpb.Delta{Body: &allocatorpb.Delta_Revived{Revived: &allocatorpb.Revived{
			FrameworkId: string(f.id), Roles: roles,
		}}}, out)
	}
}

// contract is the framework as allocators know it.
func (f *framework) contract() *allocatorpb.Framework {
	return &allocatorpb.Framework{
		Id: string(f.id), Roles: f.roles, Suppressed: sorted(f.suppressed),
		Active: f.stream != "" && !f.removed, Capabilities: f.info.GetCapabilities(),
		OfferFilters: f.info.GetOfferFilters(),
	}
}
