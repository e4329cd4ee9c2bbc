package apps

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/internal/offer"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// Reasons why an offer does not do, in the order in which they are looked at.
const (
	UnfulfilledConstraint = "UnfulfilledConstraint"
	AgentMaintenance      = "AgentMaintenance"
	InsufficientCpus      = "InsufficientCpus"
	InsufficientMemory    = "InsufficientMemory"
	InsufficientDisk      = "InsufficientDisk"
	InsufficientPorts     = "InsufficientPorts"
)

// Reasons are all reasons in the order of the funnel that clients know.
var Reasons = []string{
	"UnfulfilledRole", UnfulfilledConstraint, "NoCorrespondingReservationFound", AgentMaintenance,
	InsufficientCpus, InsufficientMemory, InsufficientDisk, "InsufficientGpus", InsufficientPorts, "DeclinedScarceResources",
}

// waiting is what happened to an app's launches since it began to need some.
type waiting struct {
	since            time.Time
	processed        int // offers looked at
	unused           int
	lastUnused       time.Time
	lastUsed         time.Time
	rejected         map[string]int // by reason, since then
	rejectedLast     map[string]int // in the last round of offers
	processedLast    int
	rejectedLastText string // the last refusal as a sentence
}

// basket is one offer while it is being used.
type basket struct {
	offer *mesos.Offer
	pool  *offer.Pool
	tasks []*mesos.TaskInfo
	place offer.Place
}

// offers uses what it can of a round of offers and declines the rest.
func (m *Machine) offers(t turn, offers []*mesos.Offer) {
	m.counts.offers += uint64(len(offers))
	baskets := make([]*basket, len(offers))
	for i, o := range offers {
		baskets[i] = &basket{offer: o, pool: offer.NewPool(o.GetResources()), place: offer.PlaceOf(o)}
	}
	hungry := m.hungry(t.now)
	for _, a := range hungry {
		m.serve(t, a, baskets)
	}
	refuse := refuseSated
	if slices.ContainsFunc(hungry, func(a *app) bool { return a.need > 0 }) || len(m.hungry(t.now)) < m.needy() {
		refuse = refuseHungry
	}
	m.answer(t, baskets, refuse)
}

// hungry are the apps that may launch now, the longest waiting first.
func (m *Machine) hungry(now time.Time) []*app {
	var list []*app
	for _, id := range sortedKeys(m.apps) {
		if a := m.apps[id]; a.need > 0 && !a.backoff.delays(now) {
			list = append(list, a)
		}
	}
	slices.SortStableFunc(list, func(a, b *app) int { return a.waiting.since.Compare(b.waiting.since) })
	return list
}

// needy is how many apps need instances, now or after a delay.
func (m *Machine) needy() int {
	n := 0
	for _, a := range m.apps { // any order: a count
		if a.need > 0 {
			n++
		}
	}
	return n
}

// serve launches what a needs, one instance per offer and round so that they spread.
func (m *Machine) serve(t turn, a *app, baskets []*basket) {
	w := &a.waiting
	w.rejectedLast, w.processedLast = map[string]int{}, len(baskets)
	if w.rejected == nil {
		w.rejected = map[string]int{}
	}
	w.processed += len(baskets)
	open := slices.Clone(baskets)
	used := map[*basket]bool{}
	for a.need > 0 && len(open) > 0 {
		next := open[:0:0]
		for _, b := range open {
			if a.need == 0 {
				break
			}
			ports, refusal := a.match(t.now, b, m.counter)
			if refusal != nil {
				if !used[b] {
					w.reject(t.now, refusal)
				}
				continue
			}
			m.launch(t, a, b, ports)
			used[b], w.lastUsed = true, t.now
			next = append(next, b)
		}
		open = next
	}
	if len(used) > 0 {
		a.backoff.advance(t.now)
		m.touched[a.id] = true
	}
}

// refusal is why an offer does not do.
type refusal struct{ reason, text string }

func (w *waiting) reject(now time.Time, r *refusal) {
	w.unused++
	w.lastUnused = now
	w.rejected[r.reason]++
	w.rejectedLast[r.reason]++
	w.rejectedLastText = r.text
}

// match finds the ports for one more instance in b, or why it can't be there.
func (a *app) match(now time.Time, b *basket, seed uint64) ([]int, *refusal) {
	spec, host := a.spec(), b.offer.GetHostname()
	for _, c := range spec.Constraints {
		if !a.allows(c, b.place) {
			return nil, &refusal{UnfulfilledConstraint, fmt.Sprintf("%s does not meet the constraint [%s]", host, strings.Join(c, " "))}
		}
	}
	if start := b.offer.GetUnavailability().GetStart(); start != nil && start.GetNanoseconds() <= now.UnixNano() {
		return nil, &refusal{AgentMaintenance, host + " is under maintenance"}
	}
	for _, q := range []struct {
		name, reason string
		amount       int64
	}{
		{"cpus", InsufficientCpus, offer.Milli(spec.CPUs)}, {"mem", InsufficientMemory, offer.Milli(spec.Mem)}, {"disk", InsufficientDisk, offer.Milli(spec.Disk)},
	} {
		if b.pool.Left(q.name) < q.amount {
			return nil, &refusal{q.reason, fmt.Sprintf("%s offers %v %s, one instance asks for %v",
				host, float64(b.pool.Left(q.name))/1000, q.name, float64(q.amount)/1000)}
		}
	}
	ports, ok := b.pool.ChoosePorts(spec.ServicePorts(), spec.RequirePorts, seed)
	if !ok {
		return nil, &refusal{InsufficientPorts, fmt.Sprintf("%s does not offer the %d ports of an instance", host, len(spec.PortDefinitions))}
	}
	return ports, nil
}

// launch cuts a task from b and records it; the call follows when all are cut.
func (m *Machine) launch(t turn, a *app, b *basket, ports []int) {
	spec := a.spec()
	i := &instance{spec: spec, life: life{
		Task: m.taskID(a.id), App: a.id, Version: spec.Version, Config: spec.VersionInfo.LastConfigChangeAt,
		Agent: b.offer.GetAgentId().GetValue(), Host: b.offer.GetHostname(),
		Region: b.place.Region, Zone: b.place.Zone, Attributes: b.place.Attributes,
		Ports: ports, Role: m.config.Role,
		State: mesos.TaskState_TASK_STAGING.String(), Staged: t.now,
	}}
	var resources []*mesos.Resource
	resources = append(resources, b.pool.Take("cpus", offer.Milli(spec.CPUs))...)
	resources = append(resources, b.pool.Take("mem", offer.Milli(spec.Mem))...)
	resources = append(resources, b.pool.Take("disk", offer.Milli(spec.Disk))...)
	resources = append(resources, b.pool.TakePorts(ports)...)
	b.tasks = append(b.tasks, i.taskInfo(resources))
	m.file(a, i)
	m.counts.launched++
	a.need--
	t.save(i)
}

// answer accepts the used offers and declines the others.
func (m *Machine) answer(t turn, baskets []*basket, refuse time.Duration) {
	filters := &mesos.Filters{RefuseSeconds: new(refuse.Seconds())}
	decline := m.newCall(schedulerpb.Call_DECLINE)
	decline.Decline = &schedulerpb.Call_Decline{Filters: filters}
	for _, b := range baskets {
		if len(b.tasks) == 0 {
			decline.Decline.OfferIds = append(decline.Decline.OfferIds, b.offer.GetId())
			continue
		}
		c := m.newCall(schedulerpb.Call_ACCEPT)
		c.Accept = &schedulerpb.Call_Accept{
			OfferIds: []*mesos.OfferID{b.offer.GetId()},
			Operations: []*mesos.Offer_Operation{{
				Type:   mesos.Offer_Operation_LAUNCH.Enum(),
				Launch: &mesos.Offer_Operation_Launch{TaskInfos: b.tasks},
			}},
			Filters: filters,
		}
		t.call(c)
	}
	if len(decline.Decline.OfferIds) > 0 {
		t.call(decline)
	}
}

// appetite is what the master was told about our wish for offers.
type appetite struct {
	demand     int  // instances that may launch now, at the last look
	wanted     bool // there is more demand than when the master was last told
	suppressed bool
	revived    time.Time
}

// deadline is when a REVIVE that was put off is due.
func (p *appetite) deadline() time.Time {
	if !p.wanted {
		return never
	}
	return p.revived.Add(reviveInterval)
}

// feed tells the master when the demand for offers rises, or ends.
func (m *Machine) feed(t turn) {
	if !m.subscribed {
		return
	}
	demand, later := 0, 0
	for _, a := range m.apps { // any order: sums
		a.backoff.settleDown(t.now)
		if a.backoff.delays(t.now) {
			later += a.need
		} else {
			demand += a.need
		}
	}
	p := &m.appetite
	p.wanted = demand > 0 && (p.wanted || demand > p.demand)
	p.demand = demand
	switch {
	case p.wanted && !t.now.Before(p.deadline()):
		p.wanted, p.suppressed, p.revived = false, false, t.now
		c := m.newCall(schedulerpb.Call_REVIVE)
		c.Revive = &schedulerpb.Call_Revive{}
		t.call(c)
	case demand+later == 0 && !p.suppressed:
		p.suppressed = true
		c := m.newCall(schedulerpb.Call_SUPPRESS)
		c.Suppress = &schedulerpb.Call_Suppress{}
		t.call(c)
	}
}
