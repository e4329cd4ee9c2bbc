package jobs

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
	"github.com/gantry-project/gantry/plugins/framework/internal/offer"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// basket is one offer while it is being used.
type basket struct {
	offer *mesos.Offer
	pool  *offer.Pool
	place offer.Place
	tasks []*mesos.TaskInfo
}

// offers uses what it can of a round of offers and declines the rest.
func (m *Machine) offers(t turn, offers []*mesos.Offer) {
	m.counts.offers += uint64(len(offers))
	baskets := make([]*basket, len(offers))
	for i, o := range offers {
		baskets[i] = &basket{offer: o, pool: offer.NewPool(o.GetResources()), place: offer.PlaceOf(o)}
	}
	refuse := refuseSated
	for _, r := range m.queue(t.now) {
		j := m.jobs[r.Job]
		if !m.place(t, j, r, baskets) {
			refuse = refuseHungry
		}
		// whoever has least of this round is next, so that runs spread
		slices.SortStableFunc(baskets, func(a, b *basket) int { return cmp.Compare(len(a.tasks), len(b.tasks)) })
	}
	m.answer(t, baskets, refuse)
}

// queue is what may be launched now: high priority first, then what was due first.
func (m *Machine) queue(now time.Time) []*Run {
	var list []*Run
	for _, name := range sortedKeys(m.jobs) {
		for _, r := range m.jobs[name].Runs {
			if r.ready(now) {
				list = append(list, r)
			}
		}
	}
	slices.SortStableFunc(list, func(a, b *Run) int {
		high := func(r *Run) int {
			if m.jobs[r.Job].spec.HighPriority {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(high(a), high(b)), a.Due.Compare(b.Due))
	})
	return list
}

// place launches r on the first offer that does; false when none does.
func (m *Machine) place(t turn, j *job, r *Run, baskets []*basket) bool {
	j.refusal = ""
	for _, b := range baskets {
		why := refusalOf(t.now, j.spec, b)
		if why == "" {
			m.launch(t, j, r, b)
			return true
		}
		j.refusal = why
	}
	return false
}

// refusalOf is why an offer does not do for one run; empty when it does.
func refusalOf(now time.Time, spec *definition.Job, b *basket) string {
	host := b.offer.GetHostname()
	for _, c := range spec.Constraints {
		if !allows(c, b.place) {
			return fmt.Sprintf("%s does not meet the constraint [%s]", host, strings.Join(c[:], " "))
		}
	}
	if start := b.offer.GetUnavailability().GetStart(); start != nil && start.GetNanoseconds() <= now.UnixNano() {
		return host + " is under maintenance"
	}
	for _, q := range quantities(spec) {
		if left := b.pool.Left(q.name); left < q.milli {
			return fmt.Sprintf("%s offers %v %s, a run asks for %v", host, float64(left)/1000, q.name, float64(q.milli)/1000)
		}
	}
	return ""
}

// quantity is how much of a scalar a run takes.
type quantity struct {
	name  string
	milli int64
}

func quantities(spec *definition.Job) []quantity {
	return []quantity{{"cpus", offer.Milli(spec.CPUs)}, {"mem", offer.Milli(spec.Mem)}, {"disk", offer.Milli(spec.Disk)}}
}

// allows says whether a run may be at p under a valid constraint.
func allows(c definition.Constraint, p offer.Place) bool {
	here, ok := p.Field(c[0])
	if !ok {
		return c[1] == "UNLIKE"
	}
	if c[1] == "EQUALS" {
		return here == c[2]
	}
	pattern, err := regexp.Compile("^(?:" + c[2] + ")$")
	return err == nil && pattern.MatchString(here) == (c[1] == "LIKE")
}

// launch cuts a task from b and records it; the call follows when all are cut.
func (m *Machine) launch(t turn, j *job, r *Run, b *basket) {
	var resources []*mesos.Resource
	for _, q := range quantities(j.spec) {
		resources = append(resources, b.pool.Take(q.name, q.milli)...)
	}
	r.State, r.Launched, r.NotBefore = mesos.TaskState_TASK_STAGING.String(), t.now, never
	r.Agent, r.Host = b.offer.GetAgentId().GetValue(), b.offer.GetHostname()
	r.askWait = askLaunched
	r.askAt = t.now.Add(r.askWait)
	b.tasks = append(b.tasks, taskInfo(j.spec, r, resources))
	m.tasks[r.Task] = r
	m.counts.launched++
	if r.Cause == ByClock {
		j.skipPast(t.now) // what was missed while it waited is this late run
	}
	m.touch(j)
}

// answer accepts the used offers and declines the others.
func (m *Machine) answer(t turn, baskets []*basket, refuse time.Duration) {
	filters := &mesos.Filters{RefuseSeconds: new(refuse.Seconds())}
	decline := m.config.Call(schedulerpb.Call_DECLINE)
	decline.Decline = &schedulerpb.Call_Decline{Filters: filters}
	slices.SortFunc(baskets, func(a, b *basket) int {
		return cmp.Compare(a.offer.GetId().GetValue(), b.offer.GetId().GetValue())
	})
	for _, b := range baskets {
		if len(b.tasks) == 0 {
			decline.Decline.OfferIds = append(decline.Decline.OfferIds, b.offer.GetId())
			continue
		}
		c := m.config.Call(schedulerpb.Call_ACCEPT)
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
	demand     int  // runs that may be launched now, at the last look
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
	demand := 0
	for _, j := range m.jobs { // any order: a sum
		for _, r := range j.Runs {
			if r.ready(t.now) {
				demand++
			}
		}
	}
	p := &m.appetite
	p.wanted = demand > 0 && (p.wanted || demand > p.demand)
	p.demand = demand
	switch {
	case p.wanted && (!t.now.Before(p.deadline()) || t.now.Before(p.revived)):
		p.wanted, p.suppressed, p.revived = false, false, t.now
		c := m.config.Call(schedulerpb.Call_REVIVE)
		c.Revive = &schedulerpb.Call_Revive{}
		t.call(c)
	case demand == 0 && !p.suppressed:
		p.suppressed = true
		c := m.config.Call(schedulerpb.Call_SUPPRESS)
		c.Suppress = &schedulerpb.Call_Suppress{}
		t.call(c)
	}
}
