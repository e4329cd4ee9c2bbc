package keeper

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// start accepts or refuses a container.
func (s *server) start(ctx context.Context, spec *containerpb.Spec) error {
	if err := s.admit(spec); err != nil {
		return err
	}
	if err := s.started.put(spec.GetId(), spec, false); err != nil {
		return err
	}
	c := &container{spec: spec, since: time.Now()}
	s.held[spec.GetId()] = c
	go s.launch(ctx, c)
	return nil
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
	running, err := s.Runtime.Start(ctx, c.spec)
	<-s.slots
	id := c.spec.GetId()
	if err != nil {
		s.post(ctx, func(s *server) {
			delete(s.held, id)
			s.forgetStart(id)
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
	if ctx.Err() != nil {
		// It belongs to the next keeper.
		return
	}
	exit = s.record(c, exit)
	s.destroy(ctx, c.spec.GetId(), running)
	s.post(ctx, func(s *server) {
		c.running, c.exit = nil, exit
		s.tell(&keeperpb.FromKeeper{Body: &keeperpb.FromKeeper_Exited{Exited: exit}})
	})
}

// record completes exit and makes it durable.
func (s *server) record(c *container, exit *containerpb.Exit) *containerpb.Exit {
	exit.ContainerId = c.spec.GetId()
	exit.Labels = c.spec.GetLabels()
	exit.StartedUnixNanos = c.since.UnixNano()
	exit.ExitedUnixNanos = time.Now().UnixNano()
	exit.BootId = s.bootID
	if err := s.exits.put(exit.ContainerId, exit, true); err != nil {
		// It is told all the same: only an agent that is away now, and a keeper that
		// dies before it is back, would make it unknown.
		s.Log.Error("exit record cannot be written", "err", err)
	}
	return exit
}

func (s *server) destroy(ctx context.Context, id string, c Container) {
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	if err := c.Destroy(ctx); err != nil {
		s.Log.Error("container is not removed", "container", id, "err", err)
	}
	s.forgetStart(id)
}

func (s *server) forgetStart(id string) {
	if err := s.started.remove(id); err != nil {
		s.Log.Error("a container that ended may look alive to the next keeper", "err", err)
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
	if err := s.exits.remove(id); err != nil {
		return err
	}
	delete(s.held, id)
	return nil
}

// shutdown begins the end: run finishes it when no container is alive.
func (s *server) shutdown(a *agent, request *keeperpb.ToKeeper) {
	s.closing, s.closer = request, a
	for _, c := range s.held {
		switch {
		case c.exit != nil:
		case c.running == nil:
			c.pending = syscall.SIGKILL
		default:
			s.deliver(c, syscall.SIGKILL)
		}
	}
}
