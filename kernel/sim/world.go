package sim

import (
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/gantry-project/gantry/kernel/sim/queue"
	"github.com/gantry-project/gantry/kernel/step"
)

// world is the one clock, the one source of chance and the one queue of everything.
type world struct {
	*rand.Rand
	now    step.Time
	queue  queue.Queue
	events int
	// atOnce is how many there were at this moment.
	atOnce int
	// containers is how many began to run.
	containers int
	trace      io.Writer
	hash       interface {
		io.Writer
		Sum64() uint64
	}
	line []byte
	// calm says that faults have ended.
	calm bool
	// hostile makes the network duplicate and reorder inside a stream, which no stream does.
	hostile bool
}

// maxAtOnce is far more than happens at one moment unless something goes in circles.
const maxAtOnce = 100_000

func newWorld(seed uint64, trace io.Writer) *world {
	return &world{
		Rand: rand.New(rand.NewPCG(seed, 0x6a77)), now: step.At(time.Unix(1_000_000, 0)), trace: trace, hash: fnv.New64a(),
	}
}

// after has do happen later.
func (w *world) after(d time.Duration, do func()) { w.queue.Add(w.now.Add(max(0, d)), do) }

// runFor plays the queue for so long.
func (w *world) runFor(d time.Duration) {
	end := w.now.Add(d)
	for at, some := w.queue.Next(); some && at <= end; at, some = w.queue.Next() {
		if at > w.now {
			w.now, w.atOnce = at, 0
		}
		w.events++
		if w.atOnce++; w.atOnce > maxAtOnce {
			fail("%d events at one moment, and no end", w.atOnce)
		}
		w.queue.Pop()()
	}
	w.now = end
}

// note adds a line to the trace, which the hash is of.
func (w *world) note(format string, args ...any) {
	w.line = fmt.Appendf(w.line[:0], "%11.4f ", float64(w.now-step.At(time.Unix(1_000_000, 0)))/1e9)
	w.line = fmt.Appendf(w.line, format, args...)
	w.line = append(w.line, '\n')
	w.hash.Write(w.line)
	if w.trace != nil {
		w.trace.Write(w.line)
	}
}

// failure is what a broken promise panics with; Run makes it an error.
type failure string

func fail(format string, args ...any) { panic(failure(fmt.Sprintf(format, args...))) }

// sorted lists the keys of a map in order: the only way that maps are walked here, or the
// same seed would not give the same run.
func sorted[K ~string, V any](all map[K]V) []K { return slices.Sorted(maps.Keys(all)) }

// chance is true once in so many times.
func (w *world) chance(in int) bool { return w.IntN(in) == 0 }

// between is a duration from the first to the second.
func (w *world) between(from, to time.Duration) time.Duration {
	return from + time.Duration(w.Int64N(int64(to-from)+1))
}

// process is something that can crash and be stopped for a while. Lives tell apart what
// was meant for an earlier one.
type process struct {
	*world
	name   string
	up     bool
	life   int
	paused bool
	inbox  []func()
}

// later gives the process something to do, unless it has died by then. A paused process
// does it when it goes on, in order.
func (p *process) later(d time.Duration, do func()) {
	life := p.life
	p.after(d, func() { p.accept(life, do) })
}

func (p *process) accept(life int, do func()) {
	switch {
	case !p.up || p.life != life:
	case p.paused:
		p.inbox = append(p.inbox, do)
	default:
		do()
	}
}

func (p *process) begin() {
	p.up, p.paused, p.inbox = true, false, nil
	p.life++
	p.note("%s starts, life %d", p.name, p.life)
}

func (p *process) die(why string) {
	p.up, p.paused, p.inbox = false, false, nil
	p.life++
	p.note("%s dies: %s", p.name, why)
}

func (p *process) pause(d time.Duration) {
	if !p.up || p.paused {
		return
	}
	p.note("%s pauses for %s", p.name, d)
	p.paused = true
	life := p.life
	p.after(d, func() {
		if p.up && p.life == life {
			p.resume()
		}
	})
}

func (p *process) resume() {
	p.paused = false
	waiting := p.inbox
	p.inbox = nil
	life := p.life
	for _, do := range waiting {
		p.accept(life, do)
	}
}

// lane carries things one way, in order, each after a while. A cut lane holds them; a
// dead one has lost them.
type lane struct {
	*world
	slowest time.Duration
	queue   []parcel
	last    step.Time
	sent    int
	cut     func() bool
	dead    bool
	// loose lanes suffer the hostile network.
	loose bool
}

type parcel struct {
	at step.Time
	do func()
}

func (l *lane) send(do func()) {
	if l.dead {
		return
	}
	l.last = max(l.last, l.now.Add(l.between(0, l.slowest)))
	l.queue = append(l.queue, parcel{l.last, do})
	l.after(l.last.Sub(l.now), l.pump)
	l.sent++
	if n := len(l.queue); l.loose && l.hostile && !l.calm && l.sent > 1 {
		if l.chance(12) && n > 2 {
			l.queue[n-1].do, l.queue[n-2].do = l.queue[n-2].do, l.queue[n-1].do
		}
		if l.chance(12) {
			l.queue = append(l.queue, parcel{l.last, do})
			l.after(l.last.Sub(l.now), l.pump)
		}
	}
}

func (l *lane) pump() {
	for len(l.queue) > 0 && l.queue[0].at <= l.now && !l.dead && (l.cut == nil || !l.cut()) {
		first := l.queue[0]
		l.queue = l.queue[1:]
		first.do()
	}
}

// trap is where a process dies at its next write.
type trap int

const (
	noTrap trap = iota
	beforeWrite
	afterWrite
	amidEffects
)
