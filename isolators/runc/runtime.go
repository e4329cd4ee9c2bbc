//go:build cgo

package runc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"

	// Without this, libcontainer can't limit access to devices.
	_ "github.com/opencontainers/cgroups/devices"
	"github.com/opencontainers/runc/libcontainer"
	// Makes re-executions of the program enter the container's namespaces.
	_ "github.com/opencontainers/runc/libcontainer/nsenter"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/internal/sys"
	"github.com/gantry-project/gantry/isolators/overlay"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

var (
	// ErrGone says that nothing is left that tells how the container to adopt ended.
	ErrGone = errors.New("container is gone")
	// ErrNeverRan says that the program of the container to adopt had not begun.
	ErrNeverRan = errors.New("container never ran")
)

// Init is the first process of a container before it becomes the container's program.
// It does not return.
func Init() { libcontainer.Init() }

// Runtime starts containers and finds those of its predecessors.
type Runtime struct {
	dir     string
	parent  string
	cgroups cgroup.Features
	filters *filters
	log     *slog.Logger
	// tellsExits says that the kernel tells how another's child ended.
	tellsExits bool
}

// New makes a runtime that keeps its state in dir. All cgroups of containers below parent
// (see cgroup.Container) are its own; where parent is empty it does not look for any. It
// refuses to work where containers could not be confined: without seccomp, or without the
// cgroup controllers that limit them. Libcontainer's own log goes to log.
func New(dir, parent string, log *slog.Logger) (*Runtime, error) {
	// Every container without capabilities has it; who cannot make it can confine none.
	confine := new(filters)
	if _, err := confine.of(nil); err != nil {
		return nil, err
	}
	features, err := cgroup.Probe()
	if err != nil {
		return nil, err
	}
	if missing := features.Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("this host does not offer the cgroup controllers %v, and containers cannot be limited without", missing)
	}
	redirectLog(log)
	r := &Runtime{dir: dir, parent: parent, cgroups: features, log: log, filters: confine, tellsExits: sys.TellsExits()}
	if !r.tellsExits {
		log.Info("this kernel does not tell how another's child ended (Linux 6.15 and later do): if keeper and reaper die together, the ends of their containers will not be known")
	}
	return r, nil
}

// Start starts a container and returns when its program is about to run. After an error
// nothing of it is left.
func (r *Runtime) Start(ctx context.Context, spec *containerpb.Spec) (*Container, error) {
	c, err := r.start(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("start container %s: %w", spec.GetId(), err)
	}
	return c, nil
}

func (r *Runtime) start(ctx context.Context, spec *containerpb.Spec) (*Container, error) {
	config, process, err := r.translate(spec)
	if err != nil {
		return nil, err
	}
	if err := link(spec.GetRootfs(), spec.GetLinks()); err != nil {
		return nil, err
	}
	stdout, stderr, err := openOutput(spec)
	if err != nil {
		return nil, err
	}
	defer stdout.Close()
	defer stderr.Close()
	process.Stdout, process.Stderr = stdout, stderr
	filter, err := r.filters.of(spec.GetCapabilities())
	if err != nil {
		return nil, err
	}
	way, err := confined(process, filter)
	if err != nil {
		return nil, err
	}
	defer way.close()
	lc, err := libcontainer.Create(r.dir, spec.GetId(), config)
	if err != nil {
		return nil, err
	}
	var c *Container
	err = overlay.Within(spec, func() error {
		c, err = r.run(lc, process, way, spec)
		return err
	})
	if err != nil {
		return nil, errors.Join(err, r.clear(ctx, spec.GetId(), spec.GetCgroup()))
	}
	return c, nil
}

// run starts the first process and has it become the program.
func (r *Runtime) run(lc *libcontainer.Container, process *libcontainer.Process, way *confinement, spec *containerpb.Spec) (*Container, error) {
	if err := errors.Join(lc.Start(process), way.started()); err != nil {
		return nil, err
	}
	c, err := r.created(process, spec)
	if err == nil {
		err = r.release(lc, way, c, spec)
	}
	if err != nil {
		// Nobody else waits for it.
		_ = process.Signal(syscall.SIGKILL)
		_, _ = process.Wait()
		return nil, err
	}
	return c, nil
}

// created is the container whose first process waits to become the program.
func (r *Runtime) created(process *libcontainer.Process, spec *containerpb.Spec) (*Container, error) {
	pid, err := process.Pid()
	if err != nil {
		return nil, err
	}
	ticks, err := sys.StartTicks(pid)
	if err != nil {
		return nil, err
	}
	first, err := sys.OpenProcess(pid, ticks)
	if err != nil {
		return nil, err
	}
	c := r.container(spec.GetId(), spec.GetCgroup(), pid, ticks, first)
	c.child = process
	return c, nil
}

// release lets the program begin. CPU time's limit is set only when libcontainer has done
// its part: under a low limit that would take seconds.
func (r *Runtime) release(lc *libcontainer.Container, way *confinement, c *Container, spec *containerpb.Spec) error {
	var err error
	if quota := spec.GetLimits().GetCpuQuotaMilli(); quota > 0 {
		err = r.cgroups.CapCPU(spec.GetCgroup(), quota)
	}
	if err == nil {
		err = findProgram(c.pid, spec)
	}
	if err == nil {
		err = r.begin(spec.GetId())
	}
	if err == nil {
		err = lc.Exec()
	}
	if err == nil {
		err = way.await()
	}
	if err != nil {
		return errors.Join(err, c.first.Close())
	}
	return nil
}

// container is one whose first process runs, or has run if first is nil.
func (r *Runtime) container(id, group string, pid int, ticks uint64, first *sys.Process) *Container {
	return &Container{runtime: r, id: id, group: group, pid: pid, ticks: ticks, first: first, ended: make(chan struct{})}
}

// clear kills and removes what there may be of a container. Its mounts are in a namespace
// that goes with its last process.
func (r *Runtime) clear(ctx context.Context, id, group string) error {
	var failed error
	if group != "" {
		failed = r.cgroups.Remove(ctx, group)
	}
	return errors.Join(failed, os.RemoveAll(filepath.Join(r.dir, id)))
}

func openOutput(spec *containerpb.Spec) (stdout, stderr *os.File, err error) {
	uid, gid := int(spec.GetUid()), int(spec.GetGid())
	if stdout, err = sys.OpenAppend(spec.GetStdoutPath(), uid, gid); err != nil {
		return nil, nil, fmt.Errorf("open standard output: %w", err)
	}
	if stderr, err = sys.OpenAppend(spec.GetStderrPath(), uid, gid); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("open standard error: %w", err), stdout.Close())
	}
	return stdout, stderr, nil
}

// link makes links in the root filesystem at dir, whose own links cannot lead out of it.
func link(dir string, links map[string]string) error {
	if len(links) == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("open root filesystem: %w", err)
	}
	defer root.Close()
	for path, target := range links {
		if err := linkOne(root, path, target); err != nil {
			return fmt.Errorf("link %s in the root filesystem: %w", path, err)
		}
	}
	return nil
}

func linkOne(root *os.Root, path, target string) error {
	local, err := filepath.Rel("/", path)
	if err != nil {
		return err
	}
	if err := root.MkdirAll(filepath.Dir(local), 0o755); err != nil {
		return err
	}
	err = root.Symlink(target, local)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	if there, readErr := root.Readlink(local); readErr == nil && there == target {
		return nil
	}
	return err
}
