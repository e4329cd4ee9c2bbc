//go:build cgo

package runc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/gantry-project/gantry/isolators/internal/sys"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

const (
	// termPause is how often a container that was sent SIGTERM is looked at.
	termPause = 20 * time.Millisecond
	// reapWithin is how long the parent of an adopted container's first process may
	// take to note its end.
	reapWithin = 2 * time.Second
)

// Container is one that runs or has run.
type Container struct {
	runtime *Runtime
	id      string
	group   string
	pid     int
	ticks   uint64
	// first is the first process, until it is reaped; nil if it had been when the
	// container was adopted.
	first *sys.Process
	// child is the first process where it is this one's child, until it is reaped.
	child *libcontainer.Process
	// fifo is what an adopted one's first process may still wait at; nil for none.
	fifo *os.File
	// ended is closed by Wait.
	ended chan struct{}

	mu sync.Mutex
	// terminating says that a goroutine watches the effect of SIGTERM.
	terminating bool
}

// Pid is the host's number of the container's first process.
func (c *Container) Pid() int { return c.pid }

// StartTicks is when the first process started, as in /proc/PID/stat.
func (c *Container) StartTicks() uint64 { return c.ticks }

// Wait blocks until the first process has ended (all others of its PID namespace have
// then, too) and returns how. It is called once, before Destroy, until which the kernel
// goes on knowing the status. That of another's child may be unknown.
func (c *Container) Wait() *containerpb.Exit {
	status, known := c.await()
	close(c.ended)
	exit := new(containerpb.Exit)
	switch {
	case !known:
		exit.Unknown = true
	case status.Signaled():
		exit.Signal = int32(status.Signal())
	default:
		exit.Status = int32(status.ExitStatus())
	}
	usage, err := c.runtime.cgroups.Usage(c.group)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.runtime.log.Warn("memory use of container is not known", "container", c.id, "err", err)
	}
	exit.OomKilled = usage.OOMKills > 0
	exit.MemoryBytes = usage.PeakBytes
	return exit
}

func (c *Container) await() (syscall.WaitStatus, bool) {
	if c.first == nil {
		return 0, false
	}
	err := c.first.Await()
	if err == nil && c.child != nil {
		var status syscall.WaitStatus
		if _, status, err = sys.EndedChild(c.pid); err == nil {
			return status, true
		}
	}
	if err != nil {
		c.runtime.log.Error("wait for container", "container", c.id, "err", err)
		return 0, false
	}
	if !c.runtime.tellsExits {
		return 0, false
	}
	c.first.AwaitReaped(reapWithin)
	return c.first.ExitStatus()
}

// Signal sends sig to every process of the container.
//
// The kernel drops signals for the first process of a PID namespace that it does not
// handle. So after SIGTERM, once all the other processes that were sent it have ended,
// a first process that leaves SIGTERM to the kernel is killed, as it would have been
// outside of a container.
func (c *Container) Signal(sig syscall.Signal) error {
	reached, err := c.runtime.cgroups.Signal(c.group, sig)
	if err != nil {
		closeAll(reached)
		return fmt.Errorf("signal container %s: %w", c.id, err)
	}
	if sig != syscall.SIGTERM || !c.beginTermination() {
		closeAll(reached)
		return nil
	}
	go func() {
		defer closeAll(reached)
		c.terminate(reached)
	}()
	return nil
}

// beginTermination says whether it is the first.
func (c *Container) beginTermination() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first := !c.terminating
	c.terminating = true
	return first
}

// terminate looks after SIGTERM until the container ends.
func (c *Container) terminate(signalled []*sys.Process) {
	ticker := time.NewTicker(termPause)
	defer ticker.Stop()
	for {
		killed, err := c.killIfAlone(signalled)
		if err != nil && !errors.Is(err, sys.ErrNoProcess) {
			c.runtime.log.Warn("terminate container", "container", c.id, "err", err)
		}
		if killed {
			return
		}
		select {
		case <-c.ended:
			return
		case <-ticker.C:
		}
	}
}

func (c *Container) killIfAlone(signalled []*sys.Process) (bool, error) {
	for _, p := range signalled {
		if p.Pid() == c.pid {
			continue
		}
		if ended, err := p.Ended(); !ended || err != nil {
			return false, err
		}
	}
	defaults, err := sys.DefaultsTo(c.pid, syscall.SIGTERM)
	if !defaults || err != nil {
		return false, err
	}
	first, err := sys.OpenProcess(c.pid, c.ticks)
	if err != nil {
		return false, err
	}
	defer first.Close()
	return true, first.Signal(syscall.SIGKILL)
}

// Destroy lets go of the first process, kills whatever is left in the container's cgroup,
// and removes that and the runtime's state. The mounts went with the first process.
func (c *Container) Destroy(ctx context.Context) error {
	if err := errors.Join(c.reap(), c.runtime.clear(ctx, c.id, c.group)); err != nil {
		return fmt.Errorf("destroy container %s: %w", c.id, err)
	}
	return nil
}

// reap is for when the end is known, and need not be known to the kernel any more.
func (c *Container) reap() error {
	if c.fifo != nil {
		c.fifo.Close() // read only
		c.fifo = nil
	}
	if c.first == nil {
		return nil
	}
	err := c.first.Close()
	c.first = nil
	if c.child == nil {
		return err
	}
	_, waitErr := c.child.Wait()
	c.child = nil
	var ended *exec.ExitError
	if errors.As(waitErr, &ended) {
		waitErr = nil // that is what was told
	}
	return errors.Join(err, waitErr)
}

func closeAll(ps []*sys.Process) {
	for _, p := range ps {
		_ = p.Close()
	}
}
