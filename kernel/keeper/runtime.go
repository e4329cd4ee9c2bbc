package keeper

import (
	"context"
	"syscall"

	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// Runtime starts containers. Its methods are called by several goroutines at once, but
// for different containers.
type Runtime interface {
	// Start returns when the container's program runs. The error is a sentence for
	// the framework's user; after it nothing of the container is left.
	Start(ctx context.Context, spec *containerpb.Spec) (Container, error)
	// Adopt finds a container that another keeper started, or was starting, when it
	// died; of the spec of one whose record was damaged only the id is known. One that has
	// ended since may be found, too. If nothing tells how it ended, or if it never
	// ran, Adopt removes what is left of it and returns ErrGone or ErrNeverRan.
	Adopt(ctx context.Context, spec *containerpb.Spec) (Container, error)
}

// Finder is a Runtime that finds containers which no record names.
type Finder interface {
	// Lost lists the ids of containers that are not on record, have processes, and can be
	// found by Adopt.
	Lost(recorded func(id string) bool) ([]string, error)
}

// Sweeper is a Runtime that finds what others left.
type Sweeper interface {
	// Sweep removes what is left of containers that are not in keep, by id.
	Sweep(ctx context.Context, keep map[string]bool) error
}

// Container is one that was started or adopted.
type Container interface {
	// Pid and StartTicks name its first process, as in keeperpb.Started.
	Pid() int
	StartTicks() uint64
	// Wait blocks until the first process has ended and returns how: Status, Signal,
	// OomKilled, MemoryBytes and Unknown; the other fields are the caller's. It is
	// called once. Signal with SIGKILL makes it return. Until Destroy the kernel knows
	// the end, too, so that this process may die before it has written it down.
	Wait() *containerpb.Exit
	// Signal sends sig to all its processes, as keeperpb.Signal says.
	Signal(sig syscall.Signal) error
	// Destroy kills what the first process left behind and removes everything that
	// the container had on the host but its root filesystem. It is called after
	// Wait, and may be called again after an error.
	Destroy(ctx context.Context) error
}
