package sim

import (
	"fmt"
	"io"
	"runtime/debug"
	"time"
)

// Config says which run it is.
type Config struct {
	// Seed decides everything.
	Seed uint64
	// Length is how long faults go on, in the simulation's time; zero means 30 minutes.
	Length time.Duration
	// Trace, if any, gets a line for each thing that happens.
	Trace io.Writer
}

// Result is what a run was like.
type Result struct {
	// Hash is that of the trace: equal for equal seeds and lengths.
	Hash uint64
	// Events is how many there were, Simulated how long they took in the simulation's time.
	Events    int
	Simulated time.Duration
	// Tasks is how many of them ran.
	Tasks int
}

// Run plays one seed to its end. The error says which promise was broken, and when.
func Run(cfg Config) (r Result, err error) {
	if cfg.Length == 0 {
		cfg.Length = 30 * time.Minute
	}
	w := newWorld(cfg.Seed, cfg.Trace)
	start := w.now
	defer func() {
		broken := recover()
		r = Result{Hash: w.hash.Sum64(), Events: w.events, Simulated: w.now.Sub(start), Tasks: w.containers}
		switch broken := broken.(type) {
		case nil:
		case failure:
			err = fmt.Errorf("seed %d after %s: %s", cfg.Seed, r.Simulated, string(broken))
		default:
			err = fmt.Errorf("seed %d after %s: panic: %v\n%s", cfg.Seed, r.Simulated, broken, debug.Stack())
		}
	}()
	c := newCluster(w)
	c.begin()
	c.runFor(cfg.Length)
	c.settle()
	return r, nil
}
