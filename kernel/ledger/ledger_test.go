package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/gantry-project/gantry/kernel/id"
)

func parsed(t testing.TB, text string) Resources {
	t.Helper()
	r, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func key(name string) id.TaskKey { return id.TaskKey{Framework: "F", Task: id.Task(name)} }

// books is a ledger with one agent, A.
func books(t testing.TB, total string) *Ledger {
	t.Helper()
	l := New()
	if err := l.Admit("A", parsed(t, total)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Check(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func wantFree(t *testing.T, l *Ledger, want string) {
	t.Helper()
	if got := l.Free("A"); !got.Equal(parsed(t, want)) {
		t.Errorf("free: %s, want %s", got, want)
	}
}

func claim(t testing.TB, offer id.Offer, resources string, mode Mode) Claim {
	return Claim{Offer: offer, Agent: "A", Framework: "F", Role: "web", Resources: parsed(t, resources), Mode: mode}
}

func use(t testing.TB, task, resources string) Use {
	return Use{Task: key(task), Agent: "A", Role: "web", Resources: parsed(t, resources)}
}

func want(t *testing.T, err, target error) {
	t.Helper()
	if !errors.Is(err, target) {
		t.Errorf("got %v, want %v", err, target)
	}
}

func TestOfferBecomesTask(t *testing.T) {
	l := books(t, "cpus:4;mem:100;ports:[1-10]")
	want(t, l.Claim(claim(t, "O1", "cpus:4;mem:100;ports:[1-10]", Exclusive)), nil)
	wantFree(t, l, "")
	want(t, l.Use(use(t, "t", "cpus:1")), ErrUnavailable)
	c, ok := l.Release("O1")
	if !ok || c.Framework != "F" {
		t.Fatalf("release: %+v, %t", c, ok)
	}
	want(t, l.Use(use(t, "t", "cpus:1.5;ports:[3-4]")), nil)
	wantFree(t, l, "cpus:2.5;mem:100;ports:[1-2,5-10]")
	if u, ok := l.Unuse(key("t")); !ok || u.Role != "web" {
		t.Errorf("unuse: %+v, %t", u, ok)
	}
	wantFree(t, l, "cpus:4;mem:100;ports:[1-10]")
}

func TestRefusalsChangeNothing(t *testing.T) {
	l := books(t, "cpus:4;cpus(eng):1")
	want(t, l.Admit("A", Resources{}), ErrDuplicate)
	want(t, l.Claim(claim(t, "O1", "cpus:3", Exclusive)), nil)
	want(t, l.Use(use(t, "t", "cpus:1")), nil)

	want(t, l.Resize("B", Resources{}), ErrUnknownAgent)
	want(t, l.Resize("A", parsed(t, "cpus:3.999;cpus(eng):1")), ErrUnavailable)
	want(t, l.Claim(claim(t, "O1", "cpus(eng):1", Exclusive)), ErrDuplicate)
	want(t, l.Claim(claim(t, "O2", "cpus:0.001", Exclusive)), ErrUnavailable)
	want(t, l.Claim(claim(t, "O2", "cpus:0.001", Shared)), ErrUnavailable)
	want(t, l.Claim(claim(t, "O2", "cpus(eng):1", Exclusive)), ErrUnavailable) // reserved for another role
	want(t, l.Claim(Claim{Offer: "O2", Agent: "B"}), ErrUnknownAgent)
	want(t, l.Use(use(t, "t", "cpus(eng):1")), ErrDuplicate)
	want(t, l.Use(use(t, "t2", "cpus:0.001")), ErrUnavailable)
	want(t, l.Use(Use{Task: key("t2"), Agent: "B"}), ErrUnknownAgent)
	if _, ok := l.Release("O2"); ok {
		t.Error("released what was refused")
	}
	if _, ok := l.Unuse(key("t2")); ok {
		t.Error("ended what was refused")
	}
	wantFree(t, l, "cpus(eng):1")
}

func TestResize(t *testing.T) {
	l := books(t, "cpus:4")
	want(t, l.Use(use(t, "t", "cpus:1")), nil)
	want(t, l.Claim(claim(t, "O1", "cpus:1", Exclusive)), nil)
	want(t, l.Resize("A", parsed(t, "cpus:2;mem:5")), nil)
	wantFree(t, l, "mem:5")
	want(t, l.Resize("A", parsed(t, "cpus:9")), nil)
	wantFree(t, l, "cpus:7")
}

func TestSharedClaimsOverlap(t *testing.T) {
	l := books(t, "cpus:4")
	want(t, l.Claim(claim(t, "O1", "cpus:4", Shared)), nil)
	want(t, l.Claim(claim(t, "O2", "cpus:3", Shared)), nil)
	want(t, l.Claim(claim(t, "O3", "cpus:1", Shared)), nil)
	wantFree(t, l, "cpus:4")
	if over := l.Overdrawn("A"); over != nil {
		t.Errorf("overdrawn: %v", over)
	}

	// Who comes first takes what others were offered too.
	l.Release("O3")
	want(t, l.Use(use(t, "t", "cpus:1")), nil)
	if over := l.Overdrawn("A"); !slices.Equal(over, []id.Offer{"O1"}) {
		t.Errorf("overdrawn: %v", over)
	}
	l.Unuse(key("t"))
	if over := l.Overdrawn("A"); over != nil {
		t.Errorf("overdrawn: %v", over)
	}
	if got := l.Claims("A"); !slices.Equal(got, []id.Offer{"O1", "O2"}) {
		t.Errorf("claims: %v", got)
	}
}

func TestExclusiveClaimsTakeNothingThatIsShared(t *testing.T) {
	l := books(t, "cpus:4;mem:10")
	want(t, l.Claim(claim(t, "O1", "cpus:3", Shared)), nil)
	want(t, l.Claim(claim(t, "O2", "cpus:2", Shared)), nil)
	want(t, l.Claim(claim(t, "O3", "cpus:1.001", Exclusive)), ErrUnavailable)
	want(t, l.Claim(claim(t, "O3", "cpus:1;mem:10", Exclusive)), nil)
	wantFree(t, l, "cpus:3")

	// An overdrawn claim stands in the way of exclusive ones until it is rescinded.
	want(t, l.Use(use(t, "t", "cpus:0.5")), nil)
	want(t, l.Claim(claim(t, "O4", "cpus:0.1", Exclusive)), ErrUnavailable)
	for _, offer := range l.Overdrawn("A") {
		l.Release(offer)
	}
	want(t, l.Claim(claim(t, "O4", "cpus:0.1", Exclusive)), nil)
}

func TestRemoveDropsEverything(t *testing.T) {
	l := books(t, "cpus:4")
	want(t, l.Admit("B", parsed(t, "cpus:1")), nil)
	want(t, l.Claim(claim(t, "O1", "cpus:1", Exclusive)), nil)
	want(t, l.Claim(claim(t, "O2", "cpus:1", Shared)), nil)
	want(t, l.Use(use(t, "t", "cpus:1")), nil)
	l.Remove("A")
	l.Remove("A")
	if got := l.Agents(); !slices.Equal(got, []id.Agent{"B"}) {
		t.Errorf("agents: %v", got)
	}
	if _, ok := l.ClaimOf("O1"); ok {
		t.Error("the claim is still there")
	}
	want(t, l.Admit("A", parsed(t, "cpus:4")), nil)
	want(t, l.Claim(claim(t, "O1", "cpus:4", Exclusive)), nil)
	if _, ok := l.Unuse(key("t")); ok {
		t.Error("the use is still there")
	}
}

func TestHoldings(t *testing.T) {
	l := books(t, "cpus:8")
	c := claim(t, "O1", "cpus:1", Exclusive)
	want(t, l.Claim(c), nil)
	c.Offer, c.Framework = "O2", "E"
	want(t, l.Claim(c), nil)
	want(t, l.Use(use(t, "t1", "cpus:2")), nil)
	u := use(t, "t2", "cpus:3")
	u.Role = "db"
	want(t, l.Use(u), nil)
	var got []string
	for _, h := range l.Holdings("A") {
		got = append(got, fmt.Sprint(h.Agent, h.Framework, h.Role, " ", h.Resources))
	}
	if want := []string{"AEweb cpus:1", "AFdb cpus:3", "AFweb cpus:3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if l.Holdings("B") != nil || l.Claims("B") != nil || !l.Free("B").Empty() || l.Overdrawn("B") != nil {
		t.Error("an unknown agent has something")
	}
}

func TestCheckFindsWhatIsBroken(t *testing.T) {
	breaks := map[string]func(l *Ledger){
		"free is too much":      func(l *Ledger) { l.agents["A"].free = l.agents["A"].total },
		"total is too little":   func(l *Ledger) { l.agents["A"].total = Resources{} },
		"claim without account": func(l *Ledger) { l.agents["A"].claims = nil },
		"claim forgotten":       func(l *Ledger) { delete(l.claims, "O1") },
		"shared list is short":  func(l *Ledger) { l.agents["A"].shared = nil },
		"use forgotten":         func(l *Ledger) { delete(l.uses, key("t")) },
		"use without account":   func(l *Ledger) { l.uses[key("x")] = Use{} },
		"out of order":          func(l *Ledger) { slices.Reverse(l.agents["A"].claims) },
	}
	for name, break_ := range breaks {
		t.Run(name, func(t *testing.T) {
			l := New()
			want(t, l.Admit("A", parsed(t, "cpus:4")), nil)
			want(t, l.Claim(claim(t, "O1", "cpus:1", Exclusive)), nil)
			want(t, l.Claim(claim(t, "O2", "cpus:1", Shared)), nil)
			want(t, l.Use(use(t, "t", "cpus:1")), nil)
			want(t, l.Check(), nil)
			break_(l)
			if l.Check() == nil {
				t.Error("the check is blind")
			}
		})
	}
}

// model is the naive ledger: it keeps no balance and adds up everything each time.
type model struct {
	totals map[id.Agent]Resources
	claims map[id.Offer]Claim
	uses   map[id.TaskKey]Use
}

// free returns what is left unit by unit, and false if more is held than there is.
func (m *model) free(agent id.Agent) (flat, bool) {
	rest, ok := flatten(m.totals[agent]), true
	charge := func(r Resources) {
		ok = ok && rest.contains(flatten(r))
		rest = rest.minus(flatten(r))
	}
	for _, c := range m.claims {
		if c.Agent == agent && c.Mode == Exclusive {
			charge(c.Resources)
		}
	}
	for _, u := range m.uses {
		if u.Agent == agent {
			charge(u.Resources)
		}
	}
	return rest, ok
}

// overdrawn returns the shared claims that don't fit what is free, ascending.
func (m *model) overdrawn(agent id.Agent) []id.Offer {
	free, _ := m.free(agent)
	var over []id.Offer
	for _, offer := range slices.Sorted(maps.Keys(m.claims)) {
		c := m.claims[offer]
		if c.Agent == agent && c.Mode == Shared && !free.contains(flatten(c.Resources)) {
			over = append(over, offer)
		}
	}
	return over
}

func (m *model) admit(agent id.Agent, total Resources) error {
	if _, ok := m.totals[agent]; ok {
		return ErrDuplicate
	}
	m.totals[agent] = total
	return nil
}

func (m *model) resize(agent id.Agent, total Resources) error {
	old, ok := m.totals[agent]
	if !ok {
		return ErrUnknownAgent
	}
	m.totals[agent] = total
	if _, ok := m.free(agent); !ok {
		m.totals[agent] = old
		return ErrUnavailable
	}
	return nil
}

func (m *model) claim(c Claim) error {
	if _, ok := m.totals[c.Agent]; !ok {
		return ErrUnknownAgent
	}
	if _, ok := m.claims[c.Offer]; ok {
		return ErrDuplicate
	}
	free, _ := m.free(c.Agent)
	if !c.Resources.OfferableTo(c.Role) || !free.contains(flatten(c.Resources)) {
		return ErrUnavailable
	}
	m.claims[c.Offer] = c
	if c.Mode == Exclusive && m.overdrawn(c.Agent) != nil {
		delete(m.claims, c.Offer)
		return ErrUnavailable
	}
	return nil
}

func (m *model) use(u Use) error {
	if _, ok := m.totals[u.Agent]; !ok {
		return ErrUnknownAgent
	}
	if _, ok := m.uses[u.Task]; ok {
		return ErrDuplicate
	}
	if free, _ := m.free(u.Agent); !free.contains(flatten(u.Resources)) {
		return ErrUnavailable
	}
	m.uses[u.Task] = u
	return nil
}

func (m *model) remove(agent id.Agent) {
	delete(m.totals, agent)
	maps.DeleteFunc(m.claims, func(_ id.Offer, c Claim) bool { return c.Agent == agent })
	maps.DeleteFunc(m.uses, func(_ id.TaskKey, u Use) bool { return u.Agent == agent })
}

// TestLedgerAgreesWithTheModel does anything in any order and compares every answer;
// after each step the books balance to the unit.
func TestLedgerAgreesWithTheModel(t *testing.T) {
	agents := rapid.SampledFrom([]id.Agent{"A", "B", "C"})
	offers := rapid.SampledFrom([]id.Offer{"O1", "O2", "O3", "O4", "O5"})
	tasks := rapid.SampledFrom([]id.TaskKey{{Framework: "F", Task: "1"}, {Framework: "F", Task: "2"}, {Framework: "G", Task: "1"}, {Framework: "G", Task: "3"}})
	roles := rapid.SampledFrom([]string{"*", "eng", "eng/web"})
	rapid.Check(t, func(t *rapid.T) {
		l := New()
		m := &model{map[id.Agent]Resources{}, map[id.Offer]Claim{}, map[id.TaskKey]Use{}}
		// wish is mostly a part of what is free, so that much succeeds.
		wish := func(t *rapid.T, agent id.Agent) Resources {
			if rapid.IntRange(0, 4).Draw(t, "modest") > 0 {
				return partOf(t, l.Free(agent))
			}
			return someResources.Draw(t, "wish")
		}
		t.Repeat(map[string]func(*rapid.T){
			"admit": func(t *rapid.T) {
				agent, total := agents.Draw(t, "agent"), someResources.Draw(t, "total")
				same(t, l.Admit(agent, total), m.admit(agent, total))
			},
			"resize": func(t *rapid.T) {
				agent, total := agents.Draw(t, "agent"), someResources.Draw(t, "total")
				if rapid.Bool().Draw(t, "grow") {
					total = total.Plus(m.totals[agent])
				}
				same(t, l.Resize(agent, total), m.resize(agent, total))
			},
			"claim": func(t *rapid.T) {
				agent := agents.Draw(t, "agent")
				c := Claim{offers.Draw(t, "offer"), agent, "F", roles.Draw(t, "role"), wish(t, agent), Mode(rapid.IntRange(0, 1).Draw(t, "mode"))}
				same(t, l.Claim(c), m.claim(c))
			},
			"release": func(t *rapid.T) {
				offer := offers.Draw(t, "offer")
				want, there := m.claims[offer]
				got, ok := l.Release(offer)
				if ok != there || got.Agent != want.Agent || !got.Resources.Equal(want.Resources) {
					t.Fatalf("released %+v, want %+v", got, want)
				}
				delete(m.claims, offer)
			},
			"use": func(t *rapid.T) {
				agent := agents.Draw(t, "agent")
				u := Use{tasks.Draw(t, "task"), agent, roles.Draw(t, "role"), wish(t, agent)}
				same(t, l.Use(u), m.use(u))
			},
			"unuse": func(t *rapid.T) {
				task := tasks.Draw(t, "task")
				want, there := m.uses[task]
				got, ok := l.Unuse(task)
				if ok != there || got.Agent != want.Agent || !got.Resources.Equal(want.Resources) {
					t.Fatalf("ended %+v, want %+v", got, want)
				}
				delete(m.uses, task)
			},
			"remove": func(t *rapid.T) {
				if rapid.IntRange(0, 3).Draw(t, "mercy") > 0 {
					return
				}
				agent := agents.Draw(t, "agent")
				l.Remove(agent)
				m.remove(agent)
			},
			"": func(t *rapid.T) { compare(t, l, m) },
		})
	})
}

func same(t *rapid.T, got, want error) {
	if !errors.Is(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func compare(t *rapid.T, l *Ledger, m *model) {
	if err := l.Check(); err != nil {
		t.Fatal(err)
	}
	if got := l.Agents(); !slices.Equal(got, slices.Sorted(maps.Keys(m.totals))) {
		t.Fatalf("agents: %v", got)
	}
	for _, agent := range l.Agents() {
		free, ok := m.free(agent)
		if !ok {
			t.Fatalf("agent %s is over-committed", agent)
		}
		if got := flatten(l.Free(agent)); !maps.Equal(got, free) {
			t.Fatalf("agent %s has %v free, want %v", agent, got, free)
		}
		if got, want := l.Overdrawn(agent), m.overdrawn(agent); !slices.Equal(got, want) {
			t.Fatalf("overdrawn on agent %s: %v, want %v", agent, got, want)
		}
	}
}
