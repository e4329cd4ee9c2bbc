package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

const (
	// reaperWithin is how long a reaper may take to note an end that a keeper waits for,
	// which looks each reaperPause.
	reaperWithin, reaperPause = 2 * time.Second, 10 * time.Millisecond
)

// start accepts or refuses a container.
func (s *server) start(ctx context.Context, spec *containerpb.Spec) error {
	if err := s.admit(spec); err != nil {
		return err
	}
	c := newContainer(spec, time.Now())
	failpoint.Hit("keeper.accept")
	if err := s.note(c); err != nil {
		return fmt.Errorf("a container must be on record before it runs, and cannot be: %w", err)
	}
	failpoint.Hit("keeper.accepted")
	s.held[spec.GetId()] = c
	go s.launch(ctx, c)
	return nil
}

// note puts a container on record. A crash of the host would take the container with
// the record, so it need not be durable.
func (s *server) note(c *container) error {
	return s.started.put(c.spec.GetId(), &keeperpb.Accepted{
		Spec: c.spec, BootId: s.bootID, AcceptedUnixNanos: c.since.UnixNano(),
	}, false)
}

// admit checks what the keeper itself depends on; the rest is the runtime's.
func (s *server) admit(spec *containerpb.Spec) error {
	id := spec.GetId()
	if !validID.MatchString(id) {
		return fmt.Errorf("%q is not a container id: 1 to 128 letters, digits, _ . and -, not starting with a dot", id)
	}
	if s.held[id] != nil {
		return fmt.Errorf("container %s exists already", id)
	}
	if s.closing != nil {
		return errors.New("the keeper is shutting down")
	}
	if len(s.held) >= MaxContainers {
		return fmt.Errorf("the keeper holds %d containers and exit records, and that is the most it can", len(s.held))
	}
	labels := 0
	for k, v := range spec.GetLabels() {
		labels += len(k) + len(v)
	}
	if labels > maxLabelBytes {
		return fmt.Errorf("labels of %d bytes are too large: at most %d", labels, maxLabelBytes)
	}
	return nil
}

// launch is a goroutine per container, from the acceptance of its start to its end.
func (s *server) launch(ctx context.Context, c *container) {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return
	}
	failpoint.Hit("keeper.start")
	running, err := s.Runtime.Start(ctx, c.spec)
	failpoint.Hit("keeper.started")
	<-s.slots
	id := c.spec.GetId()
	if err != nil {
		s.post(ctx, func(s *server) {
			delete(s.held, id)
			s.forgetStart(id)
			failpoint.Hit("keeper.start-dropped")
			s.tell(&keeperpb.FromKeeper{Body: &keeperpb.FromKeeper_StartFailed{
				StartFailed: &keeperpb.StartFailed{ContainerId: id, Message: err.Error()}}})
		})
		return
	}
	s.post(ctx, func(s *server) {
		c.running = running
		s.tell(&keeperpb.FromKeeper{Body: &keeperpb.FromKeeper_Started{Started: c.startedEvent()}})
		if c.pending != 0 {
			s.deliver(c, c.pending)
		}
		go s.watch(ctx, c)
	})
}

// watch waits for a running container, records its end, and only then tells.
func (s *server) watch(ctx context.Context, c *container) {
	running := c.running
	exit := running.Wait()
	if c.adopted {
		s.completeByReaper(ctx, exit, running)
	}
	if ctx.Err() != nil {
		// It belongs to the next keeper.
		return
	}
	failpoint.Hit("keeper.ended")
	s.complete(c, exit)
	if err := s.record(exit); err != nil {
		// It is told all the same. Until it is recorded the kernel knows it.
		s.Log.Error("exit record cannot be written; trying again", "err", err)
		s.post(ctx, func(s *server) { s.ended(c, exit) })
		s.recordAgain(ctx, c, exit)
	}
	failpoint.Hit("keeper.recorded")
	s.destroy(ctx, c.spec.GetId(), running)
	s.post(ctx, func(s *server) {
		if c.exit == nil {
			s.ended(c, exit)
		}
		s.gone(c)
	})
}

// gone notes that the runtime has nothing left of a container that ended.
func (s *server) gone(c *container) {
	c.removed = true
	s.forgetEnds()
	if c.forgotten {
		if err := s.drop(c); err != nil {
			s.Log.Error("the next keeper will tell again what is known", "err", err)
		}
	}
}

// ended makes exit a container's, and tells it.
func (s *server) ended(c *container, exit *containerpb.Exit) {
	c.running, c.exit = nil, exit
	s.tell(&keeperpb.FromKeeper{Body: &keeperpb.FromKeeper_Exited{Exited: exit}})
}

// complete adds to exit what the runtime does not know.
func (s *server) complete(c *container, exit *containerpb.Exit) {
	exit.ContainerId = c.spec.GetId()
	exit.Labels = c.spec.GetLabels()
	exit.StartedUnixNanos = c.since.UnixNano()
	exit.ExitedUnixNanos = time.Now().UnixNano()
	exit.BootId = s.bootID
}

// completeByReaper takes the status from the reaper, if that saw the end. Where the kernel
// told nothing, the reaper may not have got to it yet.
func (s *server) completeByReaper(ctx context.Context, exit *containerpb.Exit, running Container) {
	for giveUp := time.Now().Add(reaperWithin); ; {
		// The reaper writes it down before it lets the process go.
		_, gone := os.Stat(fmt.Sprintf("/proc/%d", running.Pid()))
		end, found := s.ends.find(running.Pid(), running.StartTicks())
		switch {
		case found && end.Status.Signaled():
			exit.Unknown, exit.Status, exit.Signal = false, 0, int32(end.Status.Signal())
		case found:
			exit.Unknown, exit.Status, exit.Signal = false, int32(end.Status.ExitStatus()), 0
		}
		exit.NeverRan = end.NeverRan
		if !exit.Unknown || gone != nil || time.Now().After(giveUp) || !sleep(ctx, reaperPause) {
			return
		}
	}
}

// record makes exit durable.
func (s *server) record(exit *containerpb.Exit) error {
	return s.exits.put(exit.GetContainerId(), exit, true)
}

// recordAgain tries until exit is recorded or need not be.
func (s *server) recordAgain(ctx context.Context, c *container, exit *containerpb.Exit) {
	for {
		select {
		case <-time.After(writePause):
		case <-c.settled:
			return
		case <-ctx.Done():
			return
		}
		if s.record(exit) == nil {
			s.Log.Info("exit record is written at last", "container", exit.GetContainerId())
			return
		}
	}
}

func (s *server) destroy(ctx context.Context, id string, c Container) {
	if ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	if err := c.Destroy(ctx); err != nil {
		s.Log.Error("container is not removed", "container", id, "err", err)
	}
	failpoint.Hit("keeper.destroyed")
	s.forgetStart(id)
	failpoint.Hit("keeper.start-forgotten")
}

func (s *server) forgetStart(id string) {
	if err := s.started.remove(id); err != nil {
		s.Log.Error("a container that ended may look alive to the next keeper", "err", err)
	}
}

// forgetEnds drops what the reaper saw when nobody will ask for it.
func (s *server) forgetEnds() {
	for _, c := range s.held {
		if c.adopted && !c.removed {
			return
		}
	}
	if err := s.ends.clear(); err != nil {
		s.Log.Error("the reaper's notes stay", "err", err)
	}
}

// sleep says whether ctx is still on after the time.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// signal sends sig to a container, or notes it for one that is being started: SIGKILL
// is never replaced by less.
func (s *server) signal(id string, sig syscall.Signal) error {
	if sig < 1 || sig > 64 {
		return fmt.Errorf("%d is not a signal: 1 to 64 are", int(sig))
	}
	c := s.held[id]
	switch {
	case c == nil:
		return fmt.Errorf("no container %s", id)
	case c.exit != nil:
		return fmt.Errorf("container %s has ended", id)
	case c.running == nil:
		if c.pending != syscall.SIGKILL {
			c.pending = sig
		}
		return nil
	}
	return c.running.Signal(sig)
}

func (s *server) deliver(c *container, sig syscall.Signal) {
	if err := c.running.Signal(sig); err != nil {
		s.Log.Error("signal not delivered", "container", c.spec.GetId(), "signal", int(sig), "err", err)
	}
}

// forget drops an exit record. Forgetting what is not there is no error: the agent may
// have asked before.
func (s *server) forget(id string) error {
	c := s.held[id]
	if c == nil {
		return nil
	}
	if c.exit == nil {
		return fmt.Errorf("container %s has not ended", id)
	}
	c.forgotten = true
	c.settle()
	if !c.removed {
		return nil // it is dropped when it is
	}
	return s.drop(c)
}

func (s *server) drop(c *container) error {
	id := c.exit.GetContainerId()
	failpoint.Hit("keeper.forget")
	if err := s.exits.remove(id); err != nil {
		return err
	}
	failpoint.Hit("keeper.forgotten")
	delete(s.held, id)
	return nil
}

// shutdown begins the end: run finishes it when no container is alive.
func (s *server) shutdown(a *agent, request *keeperpb.ToKeeper) {
	s.closing, s.closer = request, a
	for _, c := range s.held {
		switch {
		case c.exit != nil:
			c.settle()
		case c.running == nil:
			c.pending = syscall.SIGKILL
		default:
			s.deliver(c, syscall.SIGKILL)
		}
	}
}
