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
	"strings"
	"syscall"
	"time"

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
)

// Config says what a keeper serves.
type Config struct {
	// Dir is the keeper's directory.
	Dir string
	// Runtime starts its containers.
	Runtime Runtime
	// Log gets what no agent can be told.
	Log *slog.Logger
	// Ready is called once, when agents can connect.
	Ready func()
}

// Serve runs a keeper until its agent asks for Shutdown (nil is returned: no container
// is left), or ctx ends, or it cannot serve: containers go on then, and the next keeper
// of the directory adopts them. ErrRunning if the directory has one.
func Serve(ctx context.Context, c Config) error {
	s, err := open(c)
	if err != nil {
		return fmt.Errorf("keeper in %s: %w", c.Dir, err)
	}
	defer s.lock.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	listener, err := s.listen(ctx)
	if err != nil {
		return fmt.Errorf("keeper in %s: %w", c.Dir, err)
	}
	defer listener.Close()
	s.recover(ctx)
	c.Ready()
	return s.run(ctx)
}

// server is the keeper's state, owned by the goroutine in run; the others send it
// messages.
type server struct {
	Config
	lock    *os.File
	started records
	exits   records
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
	// pending is a signal that came during the start.
	pending syscall.Signal
}

func open(c Config) (*server, error) {
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, err
	}
	held, err := lock(c.Dir)
	if err != nil {
		return nil, err
	}
	s := &server{
		Config: c,
		lock:   held,
		inbox:  make(chan message),
		slots:  make(chan struct{}, 2*runtime.NumCPU()),
		held:   make(map[string]*container),
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, held.Close())
	}
	return s, nil
}

// load reads what the directory tells of containers that ended.
func (s *server) load() error {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return err
	}
	s.bootID = strings.TrimSpace(string(boot))
	if s.started, err = openRecords(filepath.Join(s.Dir, "started")); err != nil {
		return err
	}
	if s.exits, err = openRecords(filepath.Join(s.Dir, "exits")); err != nil {
		return err
	}
	ids, err := s.exits.ids()
	if err != nil {
		return err
	}
	for _, id := range ids {
		exit := new(containerpb.Exit)
		if err := s.exits.get(id, exit); err != nil {
			s.Log.Error("exit record cannot be read, reporting its status as unknown", "container", id, "err", err)
			exit = &containerpb.Exit{Unknown: true, BootId: s.bootID, ExitedUnixNanos: time.Now().UnixNano()}
		}
		exit.ContainerId = id
		s.held[id] = &container{exit: exit}
	}
	return nil
}

// recover adopts the containers of a keeper that died, and notes the end of those that
// did not outlive it.
func (s *server) recover(ctx context.Context) {
	ids, err := s.started.ids()
	if err != nil {
		s.Log.Error("containers of an earlier keeper cannot be found", "err", err)
		return
	}
	for _, id := range ids {
		spec := new(containerpb.Spec)
		if err := s.started.get(id, spec); err != nil {
			s.Log.Error("container of an earlier keeper cannot be adopted", "container", id, "err", err)
			spec = &containerpb.Spec{}
		}
		spec.Id = id
		s.adopt(ctx, spec)
	}
}

func (s *server) adopt(ctx context.Context, spec *containerpb.Spec) {
	c := &container{spec: spec, since: s.started.since(spec.Id)}
	running, err := s.Runtime.Adopt(ctx, spec)
	if known := s.held[spec.Id]; known != nil {
		// It ended, and only the cleaning up was missing.
		c = known
	}
	switch {
	case err == nil && c.exit == nil:
		c.running = running
		go s.watch(ctx, c)
	case err == nil:
		go s.destroy(ctx, spec.Id, running)
	default:
		if !errors.Is(err, ErrGone) {
			s.Log.Error("what is left of a container cannot be removed", "container", spec.Id, "err", err)
		}
		if c.exit == nil {
			c.exit = s.record(c, &containerpb.Exit{Unknown: true})
		}
		s.forgetStart(spec.Id)
	}
	s.held[spec.Id] = c
}

// run is the only user of the server's state from here on.
func (s *server) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case m := <-s.inbox:
			m(s)
		}
		if s.closing != nil && s.alive() == 0 {
			s.farewell()
			return nil
		}
	}
}

// farewell tells the agent that all is done.
func (s *server) farewell() {
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

func (s *server) alive() int {
	n := 0
	for _, c := range s.held {
		if c.exit == nil {
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
