//go:build cgo

package runc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/internal/sys"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

const (
	// Libcontainer's files in a container's directory: what it knows of the container,
	// and what its first process waits at before it becomes the program.
	stateFile, fifoFile = "state.json", "exec.fifo"
	// begunFile is ours: it is made before the program can begin, so that one of a
	// container without it has surely not.
	begunFile = "begun"
	// FirstName is that of a container's first process until it becomes the program.
	FirstName = "runc:[2:INIT]"
)

// state is what matters here of libcontainer's file.
type state struct {
	Pid        int    `json:"init_process_pid"`
	StartTicks uint64 `json:"init_process_start"`
}

func (r *Runtime) begin(id string) error {
	f, err := os.OpenFile(filepath.Join(r.dir, id, begunFile), os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("note that the program begins: %w", err)
	}
	return f.Close()
}

// Adopt finds the container of spec that another process started. One whose program has
// ended is found, too: its Wait returns at once, and knows no status unless the process is
// still a zombie. If nothing tells that there ever was one, the error is ErrGone; if its
// program had not begun, ErrNeverRan; what is left of it is removed in both cases. Of a
// spec only the id is needed.
func (r *Runtime) Adopt(ctx context.Context, spec *containerpb.Spec) (*Container, error) {
	id, group := spec.GetId(), r.groupOf(spec)
	c, err := r.adopt(id, group)
	if err != nil {
		return nil, fmt.Errorf("adopt container %s: %w", id, errors.Join(err, r.clear(ctx, id, group)))
	}
	return c, nil
}

// groupOf is the container's cgroup, which a spec that was damaged does not tell.
func (r *Runtime) groupOf(spec *containerpb.Spec) string {
	if spec.GetCgroup() == "" && r.parent != "" {
		return cgroup.Container(r.parent, spec.GetId())
	}
	return spec.GetCgroup()
}

func (r *Runtime) adopt(id, group string) (*Container, error) {
	if _, err := os.Lstat(filepath.Join(r.dir, id, begunFile)); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNeverRan
	} else if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(filepath.Join(r.dir, id, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil || s.Pid < 1 || s.StartTicks == 0 {
		return nil, fmt.Errorf("%w: libcontainer's %s is damaged", ErrGone, stateFile)
	}
	first, err := r.first(s, group)
	if err != nil {
		return nil, err
	}
	c := r.container(id, group, s.Pid, s.StartTicks, first)
	if first != nil {
		if err := c.release(); err != nil {
			return nil, errors.Join(err, first.Close())
		}
	}
	return c, nil
}

// first is the container's first process, or nil if there is none any more. That is the
// one that has the number, started at the time, and is in the container's cgroup: nobody
// else's process, whatever the file says.
func (r *Runtime) first(s state, group string) (*sys.Process, error) {
	p, err := sys.OpenProcess(s.Pid, s.StartTicks)
	if errors.Is(err, sys.ErrNoProcess) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	ended, err := p.Ended()
	if err != nil || ended {
		// A zombie is in no cgroup, and not to be signalled.
		return p, err
	}
	members, err := r.cgroups.Members(group)
	if err == nil && !slices.Contains(members, s.Pid) {
		// It may have left by ending.
		if ended, err = p.Ended(); ended {
			return p, nil
		}
	}
	if err != nil || !slices.Contains(members, s.Pid) {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// release lets the program begin if it was to begin and the runtime that started it died
// at that moment.
func (c *Container) release() error {
	path := filepath.Join(c.runtime.dir, c.id, fifoFile)
	fifo, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("let the program begin: %w", err)
	}
	if err := os.Remove(path); err != nil {
		return errors.Join(fmt.Errorf("let the program begin: %w", err), fifo.Close())
	}
	// Nobody reads it, but it must stay open until the first process has written.
	c.fifo = fifo
	return nil
}

// Sweep removes every container that is not in keep, by id: processes, cgroup and state.
func (r *Runtime) Sweep(ctx context.Context, keep map[string]bool) error {
	found := make(map[string]bool)
	entries, err := os.ReadDir(r.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find what containers left: %w", err)
	}
	for _, e := range entries {
		found[e.Name()] = true
	}
	if r.parent != "" {
		groups, err := r.cgroups.Children(r.parent + "/containers")
		if err != nil {
			return err
		}
		for _, name := range groups {
			found[name] = true
		}
	}
	var failed error
	for id := range found {
		if keep[id] || ctx.Err() != nil {
			continue
		}
		r.log.Warn("removing what a container left that nobody knows", "container", id)
		failed = errors.Join(failed, r.clear(ctx, id, r.groupOf(&containerpb.Spec{Id: id})))
	}
	return errors.Join(failed, ctx.Err())
}
