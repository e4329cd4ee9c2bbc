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
	"github.com/opencontainers/runc/libcontainer/seccomp"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/internal/sys"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

var (
	// ErrGone says that the container to adopt does not live.
	ErrGone = errors.New("container is gone")
	// ErrNoSeccomp says that the program was built without the tag seccomp.
	ErrNoSeccomp = errors.New("this program was built without seccomp: build it with -tags seccomp")
)

// Init is the first process of a container before it becomes the container's program.
// It does not return.
func Init() { libcontainer.Init() }

// Runtime starts containers and finds those of its predecessors.
type Runtime struct {
	dir     string
	cgroups cgroup.Features
	log     *slog.Logger
}

// New makes a runtime that keeps its state in dir. It refuses to work where containers
// could not be confined: without seccomp, or without the cgroup controllers that limit
// them. Libcontainer's own log goes to log.
func New(dir string, log *slog.Logger) (*Runtime, error) {
	if !seccomp.Enabled {
		return nil, ErrNoSeccomp
	}
	features, err := cgroup.Probe()
	if err != nil {
		return nil, err
	}
	if missing := features.Missing(); len(missing) > 0 {
		return nil, fmt.Errorf("this host does not offer the cgroup controllers %v, and containers cannot be limited without", missing)
	}
	redirectLog(log)
	return &Runtime{dir: dir, cgroups: features, log: log}, nil
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
	lc, err := libcontainer.Create(r.dir, spec.GetId(), config)
	if err != nil {
		return nil, err
	}
	c, err := r.run(lc, process, spec)
	if err != nil {
		return nil, errors.Join(err, r.clear(ctx, lc, spec))
	}
	return c, nil
}

// run sets CPU time's limit only when libcontainer has done its part: under a low limit
// that part would take seconds.
func (r *Runtime) run(lc *libcontainer.Container, process *libcontainer.Process, spec *containerpb.Spec) (*Container, error) {
	if err := lc.Start(process); err != nil {
		return nil, err
	}
	pid, err := process.Pid()
	if err != nil {
		return nil, err
	}
	ticks, err := sys.StartTicks(pid)
	if err != nil {
		return nil, err
	}
	if quota := spec.GetLimits().GetCpuQuotaMilli(); quota > 0 {
		if err := r.cgroups.CapCPU(spec.GetCgroup(), quota); err != nil {
			return nil, err
		}
	}
	if err := lc.Exec(); err != nil {
		return nil, err
	}
	return r.container(lc, spec.GetCgroup(), pid, ticks, func() (*os.ProcessState, error) { return process.Wait() }), nil
}

// Adopt finds the container of spec that another process started. If it does not live,
// or its program had not begun, what is left of it is removed and the error is ErrGone.
func (r *Runtime) Adopt(ctx context.Context, spec *containerpb.Spec) (*Container, error) {
	lc, err := libcontainer.Load(r.dir, spec.GetId())
	if errors.Is(err, libcontainer.ErrNotExist) {
		return nil, errors.Join(ErrGone, r.clear(ctx, nil, spec))
	}
	if err != nil {
		return nil, fmt.Errorf("adopt container %s: %w", spec.GetId(), errors.Join(err, r.clear(ctx, nil, spec)))
	}
	c, err := r.adopt(lc, spec)
	if err != nil {
		return nil, errors.Join(ErrGone, r.clear(ctx, lc, spec))
	}
	return c, nil
}

func (r *Runtime) adopt(lc *libcontainer.Container, spec *containerpb.Spec) (*Container, error) {
	status, err := lc.Status()
	if err != nil {
		return nil, err
	}
	state, err := lc.State()
	if err != nil {
		return nil, err
	}
	if status != libcontainer.Running {
		return nil, ErrGone
	}
	first, err := sys.OpenProcess(state.InitProcessPid, state.InitProcessStartTime)
	if err != nil {
		return nil, err
	}
	await := func() (*os.ProcessState, error) {
		return nil, errors.Join(first.Await(), first.Close())
	}
	return r.container(lc, spec.GetCgroup(), state.InitProcessPid, state.InitProcessStartTime, await), nil
}

func (r *Runtime) container(lc *libcontainer.Container, group string, pid int, ticks uint64, await func() (*os.ProcessState, error)) *Container {
	return &Container{runtime: r, lc: lc, group: group, pid: pid, ticks: ticks, await: await, ended: make(chan struct{})}
}

// clear kills and removes what there may be of a container; lc may be nil.
func (r *Runtime) clear(ctx context.Context, lc *libcontainer.Container, spec *containerpb.Spec) error {
	var failed error
	if lc != nil {
		if err := lc.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, libcontainer.ErrNotRunning) {
			failed = err
		}
	}
	// A spec that was damaged has no cgroup; libcontainer knows where it was.
	if spec.GetCgroup() != "" {
		failed = errors.Join(failed, r.cgroups.Remove(ctx, spec.GetCgroup()))
	}
	if lc != nil {
		failed = errors.Join(failed, lc.Destroy())
	}
	return errors.Join(failed, os.RemoveAll(filepath.Join(r.dir, spec.GetId())))
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
