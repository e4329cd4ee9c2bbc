//go:build cgo

package runc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/gantry-project/gantry/isolators/internal/sys"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// termPause is how often a container that was sent SIGTERM is looked at.
const termPause = 20 * time.Millisecond

// Container is one that runs or has run.
type Container struct {
	runtime *Runtime
	lc      *libcontainer.Container
	group   string
	pid     int
	ticks   uint64
	// await blocks until the first process has ended; it has no state to tell where
	// that process was another's child.
	await func() (*os.ProcessState, error)
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
// then, too) and returns how. It is called once, before Destroy.
func (c *Container) Wait() *containerpb.Exit {
	state, err := c.await()
	close(c.ended)
	exit := new(containerpb.Exit)
	var bad *exec.ExitError
	if err != nil && !errors.As(err, &bad) {
		c.runtime.log.Error("wait for container", "container", c.lc.ID(), "err", err)
	}
	status, known := syscall.WaitStatus(0), false
	if state != nil {
		status, known = state.Sys().(syscall.WaitStatus)
	}
	switch {
	case !known:
		exit.Unknown = true
	case status.Signaled():
		exit.Signal = int32(status.Signal())
	default:
		exit.Status = int32(status.ExitStatus())
	}
	usage, err := c.runtime.cgroups.Usage(c.group)
	if err != nil {
		c.runtime.log.Warn("memory use of container is not known", "container", c.lc.ID(), "err", err)
	}
	exit.OomKilled = usage.OOMKills > 0
	exit.MemoryBytes = usage.PeakBytes
	return exit
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
		return fmt.Errorf("signal container %s: %w", c.lc.ID(), err)
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
			c.runtime.log.Warn("terminate container", "container", c.lc.ID(), "err", err)
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

// Destroy kills whatever is left in the container's cgroup, and removes that and the
// runtime's state. The mounts went with the first process.
func (c *Container) Destroy(ctx context.Context) error {
	err := c.runtime.cgroups.Remove(ctx, c.group)
	if err == nil {
		err = c.lc.Destroy()
	}
	if err != nil {
		return fmt.Errorf("destroy container %s: %w", c.lc.ID(), err)
	}
	return os.RemoveAll(filepath.Join(c.runtime.dir, c.lc.ID()))
}

func closeAll(ps []*sys.Process) {
	for _, p := range ps {
		_ = p.Close()
	}
}
