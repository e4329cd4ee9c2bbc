package torture

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Kind is what becomes of a job.
type Kind string

const (
	Runs   Kind = "runs"   // for its time, and exits
	Killed Kind = "killed" // by the framework, with KILL
	Struck Kind = "struck" // by a SIGKILL from outside
	Stays  Kind = "stays"  // for as long as the cluster
)

// Job is a task and what is known about it beforehand.
type Job struct {
	ID   string
	Kind Kind
	// For is how long its command runs, unless it is ended, and Exit its exit status then.
	For  time.Duration
	Exit int
	// Custom is run by an executor of the framework, which has all of its agent's.
	Custom bool
	// After is how long after RUNNING it is ended, if it is.
	After time.Duration
}

const (
	forever  = 24 * time.Hour
	longest  = 3 * time.Second // of what ends by itself
	maxAfter = 2 * time.Second
)

// NewJob returns the nth job of a seed.
func NewJob(seed uint64, n int) Job {
	r := rand.New(rand.NewPCG(seed, 1<<48+uint64(n)))
	j := Job{ID: fmt.Sprintf("job-%d", n), Kind: Runs}
	switch r.IntN(10) {
	case 0:
		j.Kind = Killed
	case 1:
		j.Kind = Struck
	}
	j.Custom = j.Kind != Struck && r.IntN(6) == 0
	if j.Kind != Runs {
		j.For, j.After = forever, within(r, maxAfter)
		return j
	}
	j.For = within(r, longest)
	if r.IntN(3) > 0 {
		j.For = within(r, longest/3)
	}
	if r.IntN(2) == 0 {
		j.Exit = 1 + r.IntN(255)
	}
	return j
}

// Names of the files in its sandbox to which a job's command adds a line when it begins, and before it exits by itself.
const (
	began = "began"
	ended = "ended"
)

// Command is what the job's shell runs. The sandbox is its current folder.
func (j Job) Command() string {
	return fmt.Sprintf("echo %s >> %s; sleep %.3f; echo %s >> %s; exit %d", j.ID, began, j.For.Seconds(), j.ID, ended, j.Exit)
}
