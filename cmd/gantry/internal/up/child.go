package up

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

const (
	// A daemon that dies is started again at once, and if it dies again soon, after a pause that doubles.
	firstPause = 250 * time.Millisecond
	maxPause   = 30 * time.Second
	soundAfter = 10 * time.Second // a daemon that lived so long did not die soon

	// maxAttempts is how often a daemon that has never been ready is tried.
	maxAttempts = 3

	// stopGrace is how long a daemon may take to end before it is killed; an agent waits for its tasks.
	stopGrace = 45 * time.Second
)

// child is one daemon: how to start it, and what it has said.
type child struct {
	name    string
	publish string // where it publishes its addresses
	log     *logFile
	say     func(format string, args ...any)
	execute string

	mu        sync.Mutex
	args      []string
	pid       int
	addresses daemon.Addresses
	ready     bool // it has published at least once
}

// setArgs replaces the arguments, for the next start.
func (c *child) setArgs(args []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.args = args
}

// published returns what the daemon has published, and whether it has.
func (c *child) published() (daemon.Addresses, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, err := daemon.Read(c.publish)
	if err == nil && a.PID == c.pid {
		c.addresses, c.ready = a, true
	}
	return c.addresses, c.ready
}

// errRefused says that a daemon has met a file that a person has to see to first.
var errRefused = errors.New("can't start before that is done; what runs from an earlier start goes on")

// supervise starts the daemon, again whenever it ends, until ctx ends; then it asks it to end and waits. The end of force
// kills it. It returns an error if the daemon has never become ready.
func (c *child) supervise(ctx, force context.Context) error {
	// The kernel kills a child when the thread that started it ends: keep this one for as long as there is a child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var pause time.Duration
	for attempt := 1; ; attempt++ {
		begun := time.Now()
		err := c.once(ctx, force)
		if ctx.Err() != nil {
			return nil
		}
		_, ready := c.published()
		switch code := exitCode(err); {
		case ready:
		case code == daemon.ExitRefused:
			return fmt.Errorf("%s %w", c.name, errRefused) // look has shown why
		case code == 2:
			return fmt.Errorf("%s can't start so (all that it said: %s)", c.name, c.log.path)
		}
		if !ready && attempt == maxAttempts {
			return fmt.Errorf("%s: %w; its last words:\n  %s\n(all of them: %s)", c.name, err,
				strings.Join(c.lastWords(), "\n  "), c.log.path)
		}
		if time.Since(begun) > soundAfter {
			pause = 0
		}
		c.say("%s ended (%v): starting it again%s", c.name, err, after(pause))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause - rand.N(pause/4+1)): // not all at the same moment that died at the same moment
		}
		pause = min(max(2*pause, firstPause), maxPause)
	}
}

func after(pause time.Duration) string {
	if pause == 0 {
		return ""
	}
	return " in " + pause.String()
}

func (c *child) lastWords() []string {
	lines := c.log.tail(5)
	for i, line := range lines {
		lines[i] = printable(line)
	}
	return lines
}

// once runs the daemon until it ends, and says how it did.
func (c *child) once(ctx, force context.Context) error {
	c.mu.Lock()
	cmd := exec.CommandContext(ctx, c.execute, c.args...)
	c.mu.Unlock()
	cmd.Stdout, cmd.Stderr = c.log.f, c.log.f
	cmd.Cancel = func() error {
		if force.Err() != nil {
			return cmd.Process.Kill()
		}
		return cmd.Process.Signal(syscall.SIGTERM)
	}
	cmd.WaitDelay = stopGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:   true,            // Ctrl-C is the supervisor's; it decides in which order the daemons end
		Pdeathsig: syscall.SIGKILL, // as a power cut would end them: tasks belong to the keeper, and the next start finds them
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	c.mu.Lock()
	c.pid = cmd.Process.Pid
	c.mu.Unlock()
	stop := context.AfterFunc(force, func() { cmd.Process.Kill() }) // an error says that it is gone
	defer stop()
	if err := cmd.Wait(); err != nil {
		return err
	}
	return errors.New("exit status 0")
}

func exitCode(err error) int {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return 0
}

// newChild prepares a daemon named name, which publishes and logs under that name.
func (c *Config) newChild(name string, say func(string, ...any)) (*child, error) {
	log, err := openLog(c.path("logs", name+".log"))
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	publish := c.path("run", name+".json")
	if err := os.MkdirAll(c.path("run"), 0o755); err != nil {
		return nil, err
	}
	return &child{name: name, publish: publish, log: log, say: say, execute: c.Executable}, nil
}
