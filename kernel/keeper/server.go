package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

const (
	// MaxContainers bounds what a keeper holds: containers that live and exits that
	// are not forgotten. More starts are refused.
	MaxContainers = 4096
	// maxLabelBytes bounds the labels of one container, so that a Welcome fits a frame.
	maxLabelBytes = 8 << 10
	// destroyTimeout bounds the cleaning up after one container; it is then given up
	// with a line in the log, and done when the agent removes the whole cgroup.
	destroyTimeout = 30 * time.Second
	// lookEvery is how often the keeper looks whether it can still be dialled.
	lookEvery = 5 * time.Second
)

// Config says what a keeper serves.
type Config struct {
	// Dir is the keeper's directory.
	Dir string
	// Seat is what the keeper's reaper shares with it; nil: Dir is taken, and there is no
	// reaper.
	Seat *Seat
	// Runtime starts its containers.
	Runtime Runtime
	// Log gets what no agent can be told.
	Log *slog.Logger
	// Ready is called once, when agents can connect.
	Ready func()
}

// Serve runs a keeper until its agent asks for Shutdown (nil is returned: no container
// is left), or ctx ends, or its reaper dies (ErrOrphaned), or it cannot serve: containers
// go on then, and the next keeper of the directory adopts them. ErrRunning if the
// directory has one.
func Serve(ctx context.Context, c Config) error {
	if err := serve(ctx, c); err != nil {
		return fmt.Errorf("keeper in %s: %w", c.Dir, err)
	}
	return nil
}

func serve(ctx context.Context, c Config) error {
	if c.Seat == nil {
		seat, err := take(c.Dir)
		if err != nil {
			return err
		}
		defer seat.close()
		c.Seat = seat
	}
	s, err := open(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := s.recover(ctx); err != nil {
		return err
	}
	listener, err := c.Seat.listener()
	if err != nil {
		return err
	}
	defer listener.Close()
	go s.accept(ctx, listener)
	c.Ready()
	return s.run(ctx)
}

// server is the keeper's state, owned by the goroutine in run; the others send it
// messages.
type server struct {
	Config
	started records
	exits   records
	ends    ends
	bootID  string

	inbox chan message
	// slots bounds how many containers are being started at once.
	slots chan struct{}

	// held has every container from the acceptance of its start to its Forget.
	held map[string]*container
	// agent is the connection that is served; nil if there is none.
	agent *agent
	// closing is the request for Shutdown, and closer who asked; nil until there is one.
	closing *keeperpb.ToKeeper
	closer  *agent
}

// message is applied by the owner of the state.
type message func(*server)

// container is one that the keeper holds. It is being started while running and exit
// are nil, and alive while only running is not.
type container struct {
	spec    *containerpb.Spec
	since   time.Time
	running Container
	exit    *containerpb.Exit
	// adopted says that another keeper started it.
	adopted bool
	// removed says that the runtime has nothing left of it.
	removed bool
	// settled is closed when it does not matter any more that exit is on disk.
	settled chan struct{}
	// forgotten says that the agent knows of the exit.
	forgotten bool
	// pending is a signal that came during the start.
	pending syscall.Signal
}

func newContainer(spec *containerpb.Spec, since time.Time) *container {
	return &container{spec: spec, since: since, settled: make(chan struct{})}
}

// settle may be called again.
func (c *container) settle() {
	select {
	case <-c.settled:
	default:
		close(c.settled)
	}
}

func open(c Config) (*server, error) {
	s := &server{
		Config: c,
		inbox:  make(chan message),
		slots:  make(chan struct{}, 2*runtime.NumCPU()),
		held:   make(map[string]*container),
	}
	var err error
	if s.bootID, err = bootID(); err != nil {
		return nil, err
	}
	if s.started, err = openRecords(filepath.Join(s.Dir, "started")); err != nil {
		return nil, err
	}
	if s.exits, err = openRecords(filepath.Join(s.Dir, "exits")); err != nil {
		return nil, err
	}
	s.ends, err = openEnds(s.Dir, s.bootID)
	return s, err
}

// run is the only user of the server's state from here on.
func (s *server) run(ctx context.Context) error {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if s.Seat.orphaned != nil && !reachable(s.Dir) {
				return errors.New("the socket's file has gone; the next keeper makes it again")
			}
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Seat.orphaned:
			failpoint.Hit("keeper.orphaned")
			return ErrOrphaned
		case m := <-s.inbox:
			m(s)
		}
		if s.closing != nil && s.alive() == 0 {
			s.farewell()
			return nil
		}
	}
}

// farewell leaves, and tells the agent that all is done.
func (s *server) farewell() {
	if err := s.Seat.leave(); err != nil {
		s.Log.Error("the directory stays taken until this process has ended", "err", err)
	}
	if s.agent == nil {
		return
	}
	if s.agent == s.closer {
		s.agent.answer(s.closing, nil)
	}
	s.agent.finish()
}

// post hands m to the owner of the state.
func (s *server) post(ctx context.Context, m message) {
	select {
	case s.inbox <- m:
	case <-ctx.Done():
	}
}

// alive counts the containers that there is something left of.
func (s *server) alive() int {
	n := 0
	for _, c := range s.held {
		if !c.removed {
			n++
		}
	}
	return n
}

// tell sends an event to the agent, if there is one: who connects later is welcomed with
// all there is.
func (s *server) tell(event *keeperpb.FromKeeper) {
	if s.agent != nil {
		s.agent.send(event)
	}
}

func (s *server) welcome() *keeperpb.Welcome {
	w := &keeperpb.Welcome{Version: Version, Pid: int32(os.Getpid())}
	for _, id := range slices.Sorted(maps.Keys(s.held)) {
		switch c := s.held[id]; {
		case c.exit != nil:
			w.Exits = append(w.Exits, c.exit)
		case c.running != nil:
			w.Running = append(w.Running, c.startedEvent())
		default:
			w.Starting = append(w.Starting, id)
		}
	}
	return w
}

func (c *container) startedEvent() *keeperpb.Started {
	return &keeperpb.Started{
		ContainerId: c.spec.GetId(),
		Pid:         int32(c.running.Pid()),
		StartTicks:  c.running.StartTicks(),
		Labels:      c.spec.GetLabels(),
	}
}
