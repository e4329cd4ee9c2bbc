// Gantry-sim plays seeds of the simulation of a whole cluster, many at once, and says
// which break a promise:
//
//	gantry-sim -seeds 1000              seeds 0 to 999
//	gantry-sim -seed 42 -trace          all that happens in one
//	gantry-sim -seeds 100 -hours 5      longer ones
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/gantry-project/gantry/kernel/sim"
)

func main() {
	var o options
	flag.Uint64Var(&o.first, "seed", 0, "the first `seed`")
	flag.Uint64Var(&o.seeds, "seeds", 1, "how many seeds")
	flag.Float64Var(&o.hours, "hours", 0.5, "simulated hours of faults in each seed")
	flag.IntVar(&o.parallel, "parallel", runtime.GOMAXPROCS(0), "how many at once")
	flag.IntVar(&o.tail, "tail", 40, "how many events of a failing seed to show")
	flag.BoolVar(&o.trace, "trace", false, "print everything that happens, seed after seed")
	flag.BoolVar(&o.keepGoing, "keep-going", false, "play all seeds even if some fail")
	flag.Parse()
	if flag.NArg() > 0 || o.parallel < 1 || o.hours <= 0 {
		fmt.Fprintln(os.Stderr, "gantry-sim takes no arguments, a positive -parallel and positive -hours; see gantry-sim -help")
		os.Exit(2)
	}
	if failed := o.run(os.Stdout); failed > 0 {
		os.Exit(1)
	}
}

type options struct {
	first, seeds     uint64
	hours            float64
	parallel, tail   int
	trace, keepGoing bool
}

func (o options) config(seed uint64) sim.Config {
	return sim.Config{Seed: seed, Length: time.Duration(o.hours * float64(time.Hour))}
}

// run plays the seeds and returns how many failed.
func (o options) run(out io.Writer) int {
	if o.trace {
		return o.runTraced(out)
	}
	var (
		mu            sync.Mutex
		next          = o.first
		played        uint64
		failed, tasks int
		simulated     time.Duration
		group         sync.WaitGroup
		start         = time.Now()
	)
	for range o.parallel {
		group.Go(func() {
			for {
				mu.Lock()
				seed := next
				done := seed >= o.first+o.seeds || failed > 0 && !o.keepGoing
				next++
				mu.Unlock()
				if done {
					return
				}
				r, err := sim.Run(o.config(seed))
				mu.Lock()
				played++
				tasks += r.Tasks
				simulated += r.Simulated
				if err != nil {
					failed++
					o.report(out, seed, err)
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	took := time.Since(start)
	fmt.Fprintf(out, "%d seeds, %d failed; %.0f simulated hours with %d tasks in %s: %.0f seeds a minute\n",
		played, failed, simulated.Hours(), tasks, took.Round(time.Millisecond), float64(played)/took.Minutes())
	return failed
}

// report plays a failing seed once more, for its last events.
func (o options) report(out io.Writer, seed uint64, err error) {
	last := &tail{lines: make([]string, 0, o.tail)}
	cfg := o.config(seed)
	cfg.Trace = last
	_, again := sim.Run(cfg)
	for _, line := range last.lines {
		fmt.Fprint(out, line)
	}
	fmt.Fprintf(out, "FAIL %v\n", err)
	if again == nil || firstLine(again) != firstLine(err) {
		fmt.Fprintf(out, "and when played again: %v\n", again)
	}
	fmt.Fprintf(out, "to see all of it: go run ./cmd/gantry-sim -seed %d -hours %g -trace\n", seed, o.hours)
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func (o options) runTraced(out io.Writer) int {
	failed := 0
	for seed := o.first; seed < o.first+o.seeds; seed++ {
		cfg := o.config(seed)
		cfg.Trace = out
		r, err := sim.Run(cfg)
		if err != nil {
			failed++
			fmt.Fprintf(out, "FAIL %v\n", err)
		}
		fmt.Fprintf(out, "seed %d: %d events in %s, %d tasks, trace %016x\n", seed, r.Events, r.Simulated, r.Tasks, r.Hash)
	}
	return failed
}

// tail keeps the last lines that are written, each with one Write.
type tail struct{ lines []string }

func (t *tail) Write(line []byte) (int, error) {
	if len(t.lines) == cap(t.lines) && len(t.lines) > 0 {
		t.lines = append(t.lines[:0], t.lines[1:]...)
	}
	if cap(t.lines) > 0 {
		t.lines = append(t.lines, string(line))
	}
	return len(line), nil
}
