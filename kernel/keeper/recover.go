package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// recover finds what earlier keepers left: it holds the exits that are on record, adopts
// the containers that may be alive, on record or not, and removes the rest. An error says
// which file is in the way.
func (s *server) recover(ctx context.Context) error {
	if err := s.loadExits(); err != nil {
		return err
	}
	ids, err := s.started.ids()
	if err != nil {
		return err
	}
	accepted, err := s.loadAccepted(ids)
	if err != nil {
		return err
	}
	lost, err := s.findLost(ids)
	if err != nil {
		return err
	}
	for _, c := range s.adoptAll(ctx, append(accepted, lost...)) {
		switch {
		case c.exit == nil:
			go s.watch(ctx, c)
		case c.running != nil:
			go s.removeEnded(ctx, c)
		}
		s.held[c.spec.GetId()] = c
	}
	s.noteLost()
	s.sweep(ctx)
	s.forgetEnds()
	failpoint.Hit("keeper.recovered")
	return nil
}

// loadExits holds the exits on record. Of a container whose record is damaged nothing is
// known for now: only its place is held.
func (s *server) loadExits() error {
	ids, err := s.exits.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		exit := new(containerpb.Exit)
		err := s.exits.get(id, exit)
		if err == nil && exit.GetContainerId() != id {
			err = fmt.Errorf("%w: it is that of container %q", errDamaged, exit.GetContainerId())
		}
		c := newContainer(&containerpb.Spec{Id: id}, time.Now())
		c.removed = true
		switch {
		case err == nil:
			c.exit = exit
		case !errors.Is(err, errDamaged):
			return fmt.Errorf("%w: use the keeper that wrote it or mend the disk; without the file nobody would know how container %s ended", err, id)
		default:
			s.Log.Error("exit record set aside", "container", id, "err", err)
			if err := s.exits.setAside(id); err != nil {
				return err
			}
		}
		s.held[id] = c
	}
	return nil
}

// loadAccepted are those of the containers on record that were started in this boot of
// the host and may be alive. Of one whose record is damaged only the id is known.
func (s *server) loadAccepted(ids []string) ([]*container, error) {
	var found []*container
	for _, id := range ids {
		record := new(keeperpb.Accepted)
		err := s.started.get(id, record)
		if err == nil && record.GetSpec().GetId() != id {
			err = fmt.Errorf("%w: it is that of container %q", errDamaged, record.GetSpec().GetId())
		}
		switch {
		case err == nil && record.GetBootId() != s.bootID:
			// It went with its boot, and whatever looks like it is something else.
			s.Log.Info("container ended with the host", "container", id)
			s.forgetStart(id)
			continue
		case err == nil:
			found = append(found, newContainer(record.GetSpec(), time.Unix(0, record.GetAcceptedUnixNanos())))
			continue
		case !errors.Is(err, errDamaged):
			return nil, fmt.Errorf("%w: use the keeper that wrote it or mend the disk; without the file container %s would be killed", err, id)
		}
		s.Log.Error("record of a container set aside; it is adopted if it lives", "container", id, "err", err)
		c := newContainer(&containerpb.Spec{Id: id}, time.Now())
		if err := errors.Join(s.started.setAside(id), s.note(c)); err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	return found, nil
}

// findLost are the containers that live although no record says so: somebody has removed
// it. They are not this keeper's to kill: it puts them on record again, and the agent ends
// what it does not know. Of each only the id is known. Those on record are sorted.
func (s *server) findLost(recorded []string) ([]*container, error) {
	finder, ok := s.Runtime.(Finder)
	if !ok {
		return nil, nil
	}
	ids, err := finder.Lost(func(id string) bool {
		_, found := slices.BinarySearch(recorded, id)
		return found
	})
	if err != nil {
		return nil, fmt.Errorf("find containers whose records are lost: %w", err)
	}
	var found []*container
	for _, id := range ids {
		if !validID.MatchString(id) {
			continue
		}
		s.Log.Error("a container lives and is on no record; it is adopted", "container", id)
		c := newContainer(&containerpb.Spec{Id: id}, time.Now())
		if err := s.note(c); err != nil {
			return nil, err
		}
		found = append(found, c)
	}
	return found, nil
}

// adoptAll returns those of the accepted containers that there is something left of.
func (s *server) adoptAll(ctx context.Context, accepted []*container) []*container {
	var wait sync.WaitGroup
	for _, c := range accepted {
		if known := s.held[c.spec.GetId()]; known != nil {
			c.exit = known.exit
		}
		s.slots <- struct{}{}
		wait.Go(func() {
			s.adopt(ctx, c)
			<-s.slots
		})
	}
	wait.Wait()
	var found []*container
	for _, c := range accepted {
		if c.running != nil || c.exit != nil {
			found = append(found, c)
		}
	}
	return found
}

func (s *server) adopt(ctx context.Context, c *container) {
	id := c.spec.GetId()
	running, err := s.Runtime.Adopt(ctx, c.spec)
	if err == nil {
		c.running, c.adopted = running, true
		return
	}
	c.removed = true
	switch {
	case errors.Is(err, ErrNeverRan):
		// The agent finds it nowhere, and may ask for it again.
		s.Log.Info("container never ran", "container", id)
	case c.exit == nil:
		c.exit = s.unknown(c)
	}
	if !errors.Is(err, ErrGone) && !errors.Is(err, ErrNeverRan) {
		s.Log.Error("what is left of a container cannot be removed", "container", id, "err", err)
	}
	failpoint.Hit("keeper.adopt-failed")
	s.forgetStart(id)
}

// unknown is the end of a container that nobody saw, on record.
func (s *server) unknown(c *container) *containerpb.Exit {
	exit := &containerpb.Exit{Unknown: true}
	s.complete(c, exit)
	if err := s.record(exit); err != nil {
		s.Log.Error("exit record cannot be written", "err", err)
	}
	return exit
}

// removeEnded cleans up after a container whose exit was on record already.
func (s *server) removeEnded(ctx context.Context, c *container) {
	s.destroy(ctx, c.spec.GetId(), c.running)
	s.post(ctx, func(s *server) {
		c.running = nil
		s.gone(c)
	})
}

// noteLost gives the containers of which there was only a damaged exit an unknown one.
func (s *server) noteLost() {
	for _, c := range s.held {
		if c.exit == nil && c.running == nil {
			c.exit = s.unknown(c)
		}
	}
}

// sweep removes what the runtime has of containers that are on no record.
func (s *server) sweep(ctx context.Context) {
	sweeper, ok := s.Runtime.(Sweeper)
	if !ok {
		return
	}
	keep := make(map[string]bool)
	for id, c := range s.held {
		keep[id] = !c.removed
	}
	ctx, cancel := context.WithTimeout(ctx, destroyTimeout)
	defer cancel()
	if err := sweeper.Sweep(ctx, keep); err != nil {
		s.Log.Error("what is left of containers cannot be removed", "err", err)
	}
}
