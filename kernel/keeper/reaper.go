package keeper

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/gantry-project/gantry/kernel/failpoint"
)

const (
	// A keeper that dies before it lived for settled is started again after a pause, which
	// doubles from the first such time to the next.
	settled                  = 5 * time.Second
	restartPause, restartMax = 50 * time.Millisecond, 2 * time.Second
	// writePause is for the disk to have room again.
	writePause = time.Second
)

// Children are the child processes of this one, among them those whose parents died.
type Children interface {
	// Ended is how the child pid ended, or if that is zero any that has: the same until
	// Reap. False if it has not.
	Ended(pid int) (End, bool, error)
	// Reap lets the kernel forget one.
	Reap(pid int) error
}

// ReaperConfig says what a reaper stands above.
type ReaperConfig struct {
	// Dir is the keeper's directory.
	Dir string
	// Args are the keeper's, from the program's name on; the program is this one. It is
	// to Inherit the seat and to call Ready.
	Args []string
	// Seat is what a keeper bequeathed; nil: Dir is taken.
	Seat *Seat
	// Children are this process's, which must be their subreaper.
	Children Children
	// Log gets what no agent can be told.
	Log *slog.Logger
	// Ready is called once: when agents can connect, or with the reason why they never
	// will.
	Ready func(error)
}

// Reap runs the process above a keeper. It starts the keeper, and again whenever that
// dies; containers whose keeper died come to it, and it writes down how they end for the
// next keeper. It returns nil when a keeper has ended because its agent asked for that,
// and an error if there cannot be a keeper: ErrRunning if the directory has one.
func Reap(c ReaperConfig) error {
	r, err := newReaper(c)
	if err == nil {
		err = r.run()
	}
	if err != nil {
		err = fmt.Errorf("keeper in %s: %w", c.Dir, err)
		r.ready(err)
	}
	return err
}

type reaper struct {
	ReaperConfig
	ends ends
	// lives is open for reading in the keeper, and alive for writing nowhere but here.
	lives, alive *os.File
	// answers has what the keeper last started says through its Ready; nil when that was
	// heard.
	answers chan string
	answer  string
	told    bool

	keeper *os.Process // nil while there is none
	since  time.Time
	pause  time.Duration
	// again is when to start a keeper, and retry to look for ends; nil for not at all.
	again, retry <-chan time.Time
}

func newReaper(c ReaperConfig) (*reaper, error) {
	// Who bequeathed the seat had been ready.
	r := &reaper{ReaperConfig: c, told: c.Seat != nil}
	if r.Seat == nil {
		seat, err := take(c.Dir)
		if err != nil {
			return r, err
		}
		r.Seat = seat
	}
	boot, err := bootID()
	if err != nil {
		return r, err
	}
	if r.ends, err = openEnds(c.Dir, boot); err != nil {
		return r, err
	}
	r.lives, r.alive, err = os.Pipe()
	return r, err
}

func (r *reaper) ready(err error) {
	if !r.told {
		r.told = true
		r.Ready(err)
	}
}

func (r *reaper) run() error {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGCHLD)
	defer signal.Stop(changed)
	if err := r.start(); err != nil {
		return err
	}
	// Little happens from here on, and this process is one more for each agent.
	debug.SetGCPercent(10)
	debug.FreeOSMemory()
	for {
		ended, err := r.collect()
		if ended || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-r.retry:
			r.retry = nil
		case answer := <-r.answers:
			r.heard(answer)
		case <-r.again:
			r.again = nil
			if err := r.start(); err != nil {
				r.Log.Error("the keeper cannot be started", "err", err)
				r.again = time.After(restartMax)
			}
		}
	}
}

// start starts a keeper.
func (r *reaper) start() error {
	failpoint.Hit("reaper.start")
	if err := r.Seat.restore(r.Dir); err != nil {
		return err
	}
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer theirs.Close()
	cmd := exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       r.Args,
		Dir:        "/",
		Stdout:     os.Stdout,
		Stderr:     os.Stderr,
		ExtraFiles: []*os.File{readyFD - 3: theirs, lockFD - 3: r.Seat.lock, socketFD - 3: r.Seat.socket, lifeFD - 3: r.lives},
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, ours.Close())
	}
	r.keeper, r.since = cmd.Process, time.Now()
	answers := make(chan string, 1)
	r.answers = answers
	go func() {
		answer, _ := io.ReadAll(io.LimitReader(ours, maxReady)) // what came before an error counts
		ours.Close()
		answers <- string(answer)
	}()
	failpoint.Hit("reaper.started")
	return nil
}

// heard takes what a keeper says: that it is ready, why it never will be, or nothing.
func (r *reaper) heard(answer string) {
	r.answers, r.answer = nil, answer
	if answer == ready {
		r.ready(nil)
	}
}

// collect notes the ends of all children that have ended, and says whether that was the
// last keeper. The keeper's comes first: nothing may be in its way.
func (r *reaper) collect() (bool, error) {
	if r.keeper != nil {
		end, found, err := r.Children.Ended(r.keeper.Pid)
		if err != nil {
			return false, err
		}
		if found {
			if done, err := r.keeperEnded(end); done || err != nil {
				return done, err
			}
		}
	}
	for r.retry == nil {
		end, found, err := r.Children.Ended(0)
		if err != nil || !found {
			return false, err
		}
		if r.keeper != nil && end.Pid == r.keeper.Pid {
			return r.collect()
		}
		if err := r.note(end); err != nil {
			return false, err
		}
	}
	return false, nil
}

// note writes an end down and lets the kernel forget it, or puts both off.
func (r *reaper) note(end End) error {
	if err := r.ends.put(end, time.Now()); err != nil {
		// It stays a zombie, which keeps the status and is not in anyone's way.
		r.Log.Error("the end of a container is left to the kernel until there is a place for it", "err", err)
		r.retry = time.After(writePause)
		return nil
	}
	failpoint.Hit("reaper.recorded")
	if err := r.Children.Reap(end.Pid); err != nil {
		return err
	}
	failpoint.Hit("reaper.reaped")
	return nil
}

// keeperEnded says whether all is done, or has the keeper started again.
func (r *reaper) keeperEnded(end End) (bool, error) {
	if err := errors.Join(r.Children.Reap(end.Pid), r.keeper.Release()); err != nil {
		return false, err
	}
	r.keeper = nil
	if r.answers != nil {
		r.heard(<-r.answers)
	}
	if end.Status.Exited() && end.Status.ExitStatus() == 0 {
		return true, nil
	}
	if !r.told && end.Status.Exited() {
		return false, refused(r.answer)
	}
	if time.Since(r.since) >= settled {
		r.pause = 0
	}
	r.Log.Error("the keeper died; starting another", "how", describe(end.Status), "in", r.pause)
	r.again = time.After(r.pause)
	r.pause = min(max(2*r.pause, restartPause), restartMax)
	return false, nil
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}
