package ledger

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/gantry-project/gantry/kernel/id"
)

// Mode tells what an outstanding offer means for others.
type Mode uint8

const (
	// Exclusive resources are offered to nobody else.
	Exclusive Mode = iota
	// Shared resources are offered optimistically: to several at once, to be used by
	// whoever comes first.
	Shared
)

func (m Mode) String() string {
	if m == Shared {
		return "shared"
	}
	return "exclusive"
}

// Claim is what an outstanding offer holds.
type Claim struct {
	Offer     id.Offer
	Agent     id.Agent
	Framework id.Framework
	Role      string // that the offer is allocated to
	Resources Resources
	Mode      Mode
}

// Use is what a task holds, from its launch until it is known to have ended.
type Use struct {
	Task      id.TaskKey
	Agent     id.Agent
	Role      string // that its resources are allocated to
	Resources Resources
}

// Holding is everything that a framework has on an agent for a role, offered and used.
type Holding struct {
	Agent     id.Agent
	Framework id.Framework
	Role      string
	Resources Resources
}

// What Admit, Resize, Claim and Use refuse; the errors that they return wrap one of these.
var (
	ErrUnknownAgent = errors.New("unknown agent")
	ErrUnavailable  = errors.New("resources are not available")
	ErrDuplicate    = errors.New("already in the ledger")
)

// account is what the ledger knows of one agent.
// free = total - every use - every exclusive claim.
type account struct {
	total  Resources
	free   Resources
	claims []id.Offer // ascending, both modes
	shared []id.Offer // ascending, the part of claims that is shared
	tasks  []id.TaskKey
}

// Ledger holds one account per agent. It has one owner and no lock.
type Ledger struct {
	agents map[id.Agent]*account
	claims map[id.Offer]Claim
	uses   map[id.TaskKey]Use
}

// New returns a ledger without agents.
func New() *Ledger {
	return &Ledger{
		agents: map[id.Agent]*account{},
		claims: map[id.Offer]Claim{},
		uses:   map[id.TaskKey]Use{},
	}
}

// Admit opens the account of an agent; all of total is free.
func (l *Ledger) Admit(agent id.Agent, total Resources) error {
	if _, ok := l.agents[agent]; ok {
		return fmt.Errorf("admit agent %s: %w", agent, ErrDuplicate)
	}
	l.agents[agent] = &account{total: total, free: total}
	return nil
}

// Resize gives an agent a new total. It is refused with ErrUnavailable, and changes
// nothing, if what is in use or claimed exclusively would not fit. Shared claims that
// fit no longer are Overdrawn.
func (l *Ledger) Resize(agent id.Agent, total Resources) error {
	a, ok := l.agents[agent]
	if !ok {
		return fmt.Errorf("resize agent %s: %w", agent, ErrUnknownAgent)
	}
	held := mustMinus(a.total, a.free)
	free, ok := total.Minus(held)
	if !ok {
		return fmt.Errorf("resize agent %s to %s: %w: %s of it are held", agent, total, ErrUnavailable, held)
	}
	a.total, a.free = total, free
	return nil
}

// Remove closes the account of an agent with all of its claims and uses. An unknown
// agent is no error.
func (l *Ledger) Remove(agent id.Agent) {
	a, ok := l.agents[agent]
	if !ok {
		return
	}
	for _, offer := range a.claims {
		delete(l.claims, offer)
	}
	for _, task := range a.tasks {
		delete(l.uses, task)
	}
	delete(l.agents, agent)
}

// Total returns what an agent has, and whether it is known.
func (l *Ledger) Total(agent id.Agent) (Resources, bool) {
	a, ok := l.agents[agent]
	if !ok {
		return Resources{}, false
	}
	return a.total, true
}

// Free returns what nobody uses or has claimed exclusively; nothing for an unknown
// agent. Shared claims do not reduce it.
func (l *Ledger) Free(agent id.Agent) Resources {
	if a, ok := l.agents[agent]; ok {
		return a.free
	}
	return Resources{}
}

// Claim sets resources aside for an offer. They must be free, and offerable to the
// role. Shared claims may overlap each other: each must fit what is free by itself. An
// exclusive claim must leave every shared claim fitting by itself, so that it takes
// nothing that was offered to someone; while a shared claim is overdrawn, there is
// therefore no exclusive one.
func (l *Ledger) Claim(c Claim) error {
	a, ok := l.agents[c.Agent]
	if !ok {
		return fmt.Errorf("claim for offer %s on agent %s: %w", c.Offer, c.Agent, ErrUnknownAgent)
	}
	if _, ok := l.claims[c.Offer]; ok {
		return fmt.Errorf("claim for offer %s: %w", c.Offer, ErrDuplicate)
	}
	if !c.Resources.OfferableTo(c.Role) {
		return fmt.Errorf("claim for offer %s: %w: %s are not all offerable to role %q", c.Offer, ErrUnavailable, c.Resources, c.Role)
	}
	free, ok := a.free.Minus(c.Resources)
	if !ok {
		return fmt.Errorf("claim for offer %s on agent %s: %w: %s are wanted, %s are free", c.Offer, c.Agent, ErrUnavailable, c.Resources, a.free)
	}
	if c.Mode == Exclusive {
		if other, ok := l.overdrawnIn(a, free); ok {
			return fmt.Errorf("claim for offer %s on agent %s: %w: offer %s shares them", c.Offer, c.Agent, ErrUnavailable, other)
		}
		a.free = free
	} else {
		a.shared = insert(a.shared, c.Offer)
	}
	a.claims = insert(a.claims, c.Offer)
	l.claims[c.Offer] = c
	return nil
}

// overdrawnIn returns a shared claim that would not fit if free were free.
func (l *Ledger) overdrawnIn(a *account, free Resources) (id.Offer, bool) {
	for _, offer := range a.shared {
		if !free.Contains(l.claims[offer].Resources) {
			return offer, true
		}
	}
	return "", false
}

// ClaimOf returns the claim of an outstanding offer.
func (l *Ledger) ClaimOf(offer id.Offer) (Claim, bool) {
	c, ok := l.claims[offer]
	return c, ok
}

// Release ends a claim and returns it, and whether there was one.
func (l *Ledger) Release(offer id.Offer) (Claim, bool) {
	c, ok := l.claims[offer]
	if !ok {
		return Claim{}, false
	}
	a := l.agents[c.Agent]
	a.claims = remove(a.claims, offer)
	if c.Mode == Shared {
		a.shared = remove(a.shared, offer)
	} else {
		a.free = a.free.Plus(c.Resources)
	}
	delete(l.claims, offer)
	return c, true
}

// Use charges a task. What it wants must be free: release the claim of the offer first.
// A use may overdraw shared claims; see Overdrawn.
func (l *Ledger) Use(u Use) error {
	a, ok := l.agents[u.Agent]
	if !ok {
		return fmt.Errorf("use by task %s on agent %s: %w", u.Task, u.Agent, ErrUnknownAgent)
	}
	if _, ok := l.uses[u.Task]; ok {
		return fmt.Errorf("use by task %s: %w", u.Task, ErrDuplicate)
	}
	free, ok := a.free.Minus(u.Resources)
	if !ok {
		return fmt.Errorf("use by task %s on agent %s: %w: %s are wanted, %s are free", u.Task, u.Agent, ErrUnavailable, u.Resources, a.free)
	}
	a.free = free
	at, _ := slices.BinarySearchFunc(a.tasks, u.Task, compareTasks)
	a.tasks = slices.Insert(a.tasks, at, u.Task)
	l.uses[u.Task] = u
	return nil
}

// Unuse ends what a task holds and returns it, and whether there was anything.
func (l *Ledger) Unuse(task id.TaskKey) (Use, bool) {
	u, ok := l.uses[task]
	if !ok {
		return Use{}, false
	}
	a := l.agents[u.Agent]
	at, _ := slices.BinarySearchFunc(a.tasks, task, compareTasks)
	a.tasks = slices.Delete(a.tasks, at, at+1)
	a.free = a.free.Plus(u.Resources)
	delete(l.uses, task)
	return u, true
}

// Overdrawn returns the shared claims on an agent that what is free no longer covers,
// ascending: somebody else was first, and the offers must be rescinded.
func (l *Ledger) Overdrawn(agent id.Agent) []id.Offer {
	a, ok := l.agents[agent]
	if !ok {
		return nil
	}
	var over []id.Offer
	for _, offer := range a.shared {
		if !a.free.Contains(l.claims[offer].Resources) {
			over = append(over, offer)
		}
	}
	return over
}

// Claims returns the outstanding offers on an agent, ascending.
func (l *Ledger) Claims(agent id.Agent) []id.Offer {
	if a, ok := l.agents[agent]; ok {
		return slices.Clone(a.claims)
	}
	return nil
}

// Holdings returns what every framework has on an agent, by framework and role. Several
// shared claims of one framework add up, even where they overlap.
func (l *Ledger) Holdings(agent id.Agent) []Holding {
	a, ok := l.agents[agent]
	if !ok {
		return nil
	}
	var all []Holding
	for _, offer := range a.claims {
		c := l.claims[offer]
		all = append(all, Holding{agent, c.Framework, c.Role, c.Resources})
	}
	for _, task := range a.tasks {
		all = append(all, Holding{agent, task.Framework, l.uses[task].Role, l.uses[task].Resources})
	}
	slices.SortStableFunc(all, func(x, y Holding) int {
		if c := strings.Compare(string(x.Framework), string(y.Framework)); c != 0 {
			return c
		}
		return strings.Compare(x.Role, y.Role)
	})
	merged := all[:0]
	for _, h := range all {
		if last := len(merged) - 1; last >= 0 && merged[last].Framework == h.Framework && merged[last].Role == h.Role {
			merged[last].Resources = merged[last].Resources.Plus(h.Resources)
			continue
		}
		merged = append(merged, h)
	}
	return merged
}

// Agents returns every agent, ascending.
func (l *Ledger) Agents() []id.Agent {
	return slices.Sorted(maps.Keys(l.agents))
}

func compareTasks(a, b id.TaskKey) int {
	if c := strings.Compare(string(a.Framework), string(b.Framework)); c != 0 {
		return c
	}
	return strings.Compare(string(a.Task), string(b.Task))
}

func insert(sorted []id.Offer, offer id.Offer) []id.Offer {
	at, _ := slices.BinarySearch(sorted, offer)
	return slices.Insert(sorted, at, offer)
}

func remove(sorted []id.Offer, offer id.Offer) []id.Offer {
	at, found := slices.BinarySearch(sorted, offer)
	if !found {
		panic(fmt.Sprintf("ledger: offer %s is not in its agent's account", offer))
	}
	return slices.Delete(sorted, at, at+1)
}

// mustMinus is for differences that the invariants promise.
func mustMinus(a, b Resources) Resources {
	rest, ok := a.Minus(b)
	if !ok {
		panic(fmt.Sprintf("ledger: %s do not contain %s", a, b))
	}
	return rest
}
