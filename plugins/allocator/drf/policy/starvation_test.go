package policy

import (
	"fmt"
	"testing"
	"time"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

// habit is what a framework does with what it is offered.
type habit int

const (
	works       habit = iota // runs a task on half of it for a second, and refuses the rest
	fills                    // runs a task on all of it for a second
	hoards                   // keeps it
	refusesLong              // for an hour
	refusesBit               // for a second
	refusesNot               // declines without a filter: for a nanosecond
	revives                  // refuses for an hour, and revives at once
	suppressed
)

// crowd is a cluster with frameworks of all habits, one of them a hoarder, in roles of
// several levels.
type crowd struct {
	*cluster
	habits map[string]habit
	last   map[string]int // cycle of the last grant, of those who want any
}

func newCrowd(t testing.TB, frameworks, agents int) (*crowd, []*allocatorpb.Grant) {
	c := &crowd{cluster: newCluster(t, Config{}), habits: map[string]habit{}, last: map[string]int{}}
	deltas := []*allocatorpb.Delta{weightIs("org-1", 5000), weightIs("org-2", 500), weightIs("org-0/team-1", 3000)}
	for i := range frameworks {
		f := &allocatorpb.Framework{Id: fmt.Sprintf("f%04d", i), Active: true}
		f.Roles = []string{fmt.Sprintf("org-%d/team-%d", i%3, i%7)}
		if i%10 == 0 {
			f.Roles = []string{fmt.Sprintf("org-%d", i%3)}
		}
		h := habit(i % 20)
		if h > suppressed || h == hoards && i > 20 {
			h = works
		}
		if h == hoards { // else what it keeps is of what its neighbours are due
			f.Roles = []string{"hoard"}
		}
		if h == suppressed {
			f.Suppressed = f.Roles
		}
		if h == works || h == fills {
			c.last[f.Id] = 0
		}
		c.habits[f.Id] = h
		deltas = append(deltas, frameworkDelta(f))
	}
	for i := range agents {
		deltas = append(deltas, agentIs(fmt.Sprintf("s%04d", i), scalars(4, 64)...))
	}
	return c, c.tell(deltas...)
}

// cycle answers grants as the frameworks' habits are, a second later, all in one message.
func (c *crowd) cycle(grants []*allocatorpb.Grant) []*allocatorpb.Grant {
	c.now += second
	var deltas []*allocatorpb.Delta
	for _, g := range grants {
		deltas = append(deltas, verdict(g.Id, allocatorpb.Rejection_NONE))
		switch c.habits[g.FrameworkId] {
		case works:
			used := scalars(2, 32)
			rest := read(g.Resources).minus(read(used))
			deltas = append(deltas, back(g, 5*time.Second, rest.write()...), back(g, 0, used...))
		case fills:
			deltas = append(deltas, back(g, 0, g.Resources...))
		case refusesLong:
			deltas = append(deltas, decline(g, time.Hour))
		case refusesBit:
			deltas = append(deltas, decline(g, time.Second))
		case refusesNot:
			deltas = append(deltas, decline(g, 1))
		case revives:
			deltas = append(deltas, decline(g, time.Hour), revive(g.FrameworkId, g.Role))
		case suppressed:
			c.t.Fatalf("%v granted to a framework that suppressed offers", g)
		}
	}
	return c.tell(deltas...)
}

// Whoever has demand is offered something again and again, whatever the others do.
func TestNobodyStarvesInACrowd(t *testing.T) {
	for _, test := range []struct{ frameworks, agents, cycles, within int }{
		{200, 60, 400, 40},
		{200, 20, 1000, 80},
		{1000, 100, 400, 100},
	} {
		t.Run(fmt.Sprintf("%d frameworks on %d agents", test.frameworks, test.agents), func(t *testing.T) {
			c, grants := newCrowd(t, test.frameworks, test.agents)
			longest := 0
			for now := 1; now <= test.cycles; now++ {
				for _, g := range grants {
					if last, wants := c.last[g.FrameworkId]; wants {
						longest = max(longest, now-last)
						c.last[g.FrameworkId] = now
					}
				}
				for id, last := range c.last {
					if now-last > test.within {
						t.Fatalf("%s (habit %d) was offered nothing from cycle %d to %d", id, c.habits[id], last, now)
					}
				}
				grants = c.cycle(grants)
			}
			t.Logf("the longest wait was %d cycles", longest)
		})
	}
}

// A refusal long ago is nothing that others, who take all they get, may profit from for
// ever: only who has had nothing since comes first.
func TestAnOldRefusalIsForgiven(t *testing.T) {
	c := newCluster(t, Config{})
	busy := func(agent, framework string) *allocatorpb.Delta { return holding(agent, framework, "*", 4, 64) }
	g := c.expect(c.tell(busy("h1", "greedy"), frameworkIs("once", "*"), agentIs("s", scalars(4, 64)...)), "once@s")
	g = c.expect(c.tell(decline(g[0], time.Second), frameworkIs("greedy", "*")), "greedy@s")
	t.Log("greedy has had its turn since the refusal, and now the smaller share counts")
	c.now += 2 * second
	c.expect(c.tell(decline(g[0], 0)), "once@s")
}

// A refusal lets in who would be next without it, not somebody further behind who has
// waited longer.
func TestARefusalLetsInTheNext(t *testing.T) {
	c := newCluster(t, Config{})
	g := c.expect(c.tell(
		holding("h1", "some", "*", 1, 64), holding("h2", "most", "*", 8, 64),
		frameworkIs("refuses", "*"), frameworkIs("some", "*"), frameworkIs("most", "*"),
		agentIs("s", scalars(4, 64)...),
	), "refuses@s")
	g = c.expect(c.tell(decline(g[0], 1)), "some@s")
	t.Log("most has had nothing since the refusal, but some is before it")
	c.now++
	g = c.expect(c.tell(decline(g[0], 0)), "refuses@s")
	c.expect(c.tell(decline(g[0], 1)), "some@s")
}

func BenchmarkCrowd(b *testing.B) {
	c, grants := newCrowd(b, manyFrameworks, 1_000)
	for b.Loop() {
		grants = c.cycle(grants)
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/1000, "µs/agent")
}
