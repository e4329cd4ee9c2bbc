package torture

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Victim is what a blow falls on.
type Victim string

const (
	Supervisor Victim = "supervisor" // master, agent and plugins end with it; it is started anew
	Master     Victim = "master"
	Agent      Victim = "agent"
	Keeper     Victim = "keeper"
	Reaper     Victim = "reaper" // the keeper's parent
	Allocator  Victim = "allocator"
	Marathon   Victim = "marathon"
	Chronos    Victim = "chronos"
	Page       Victim = "page"
	Images     Victim = "containerizer-oci"  // an agent's
	Modules    Victim = "containerizer-wasm" // an agent's
	Scheduler  Victim = "load scheduler"     // its connection breaks
	Instance   Victim = "instance"           // of the demo; it is asked to leave
	Everything Victim = "all but the tasks"  // and then started anew
	Absent     Victim = "absent agent"       // an agent is stopped until one of its tasks has ended
)

// leads are the victims of which each has its turn before any has a second one.
var leads = []Victim{
	Supervisor, Master, Agent, Keeper, Reaper, Allocator, Marathon, Chronos, Page, Images, Modules, Scheduler, Instance, Everything, Absent,
}

// seconds are those that may be struck beside another, or once more.
var seconds = []Victim{Master, Agent, Keeper, Reaper, Allocator, Marathon, Chronos, Page, Images, Modules, Scheduler}

// partners are second victims that a first one has more often than others, as they do each other's work: those of the
// same agent.
var partners = map[Victim]Victim{Master: Agent, Agent: Keeper, Keeper: Reaper, Reaper: Keeper}

// Blow is what happens to one victim.
type Blow struct {
	Victim Victim
	// Nth picks one where there are several: that modulo their number.
	Nth int
	// At is since the beginning of the round.
	At time.Duration
	// Freeze is how long the victim is stopped; zero kills it.
	Freeze time.Duration
}

func (b Blow) String() string {
	what := "killed"
	switch {
	case b.Freeze > 0:
		what = "stopped for " + b.Freeze.String()
	case b.Victim == Scheduler:
		what = "cut off"
	case b.Victim == Instance:
		what = "asked to leave"
	case b.Victim == Absent:
		what = "stopped"
	}
	return fmt.Sprintf("%s %s after %s", b.Victim, what, b.At)
}

const (
	firstBlow  = 1200 * time.Millisecond // the latest
	laterBlow  = 800 * time.Millisecond  // the latest, after the first
	minFreeze  = 500 * time.Millisecond
	moreFreeze = 2500 * time.Millisecond
)

// Plan returns the blows of a round, counted from zero, in order. A victim leads every len(leads) rounds, in an order that
// the seed gives; half of the rounds have a second blow, at the same moment or while the first victim recovers.
func Plan(seed uint64, round int) []Blow {
	turn := round / len(leads)
	order := rand.New(rand.NewPCG(seed, uint64(turn))).Perm(len(leads))
	lead := leads[order[round%len(leads)]]
	r := rand.New(rand.NewPCG(seed, 1<<32+uint64(round)))
	blows := []Blow{strike(r, lead, within(r, firstBlow))}
	if r.IntN(2) == 0 {
		return blows
	}
	at := blows[0].At
	if r.IntN(3) > 0 {
		at += within(r, laterBlow)
	}
	second, found := partners[lead]
	if !found || r.IntN(3) > 0 {
		return append(blows, strike(r, seconds[r.IntN(len(seconds))], at))
	}
	beside := strike(r, second, at)
	beside.Nth = blows[0].Nth
	return append(blows, beside)
}

func strike(r *rand.Rand, v Victim, at time.Duration) Blow {
	b := Blow{Victim: v, Nth: r.IntN(1 << 16), At: at}
	mayFreeze := v != Scheduler && v != Instance && v != Everything && v != Absent
	if mayFreeze && r.IntN(4) == 0 {
		b.Freeze = minFreeze + within(r, moreFreeze)
	}
	return b
}

// within is some milliseconds less than most.
func within(r *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(r.Int64N(most.Milliseconds())) * time.Millisecond
}
