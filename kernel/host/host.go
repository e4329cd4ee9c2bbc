package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
)

// AllocatorStream is the kernel's end of the conversation with an allocator. One
// goroutine may send while another receives.
type AllocatorStream interface {
	Send(*allocatorpb.ToAllocator) error
	Recv() (*allocatorpb.FromAllocator, error)
}

// AllocatorSink talks with allocators.
type AllocatorSink interface {
	// ServeAllocator has the whole conversation with the allocator name; it returns when
	// ctx or the stream ends. configJSON goes into the snapshots.
	ServeAllocator(ctx context.Context, name string, configJSON []byte, s AllocatorStream) error
}

// FrameworkStream is the kernel's end of the conversation with a framework. One
// goroutine may send while another receives.
type FrameworkStream interface {
	Send(*frameworkpb.ToFramework) error
	Recv() (*frameworkpb.FromFramework, error)
}

// FrameworkSink talks with frameworks.
type FrameworkSink interface {
	// ServeFramework has the whole conversation with a framework; it returns when ctx or
	// the stream ends. start is complete but for the framework id: the sink fills that in
	// and sends it first.
	ServeFramework(ctx context.Context, start *frameworkpb.Start, s FrameworkStream) error
}

// ContainerizerSink asks containerizers.
type ContainerizerSink interface {
	// ServeContainerizer opens the containerizer and asks it whatever it likes to; it
	// returns when ctx ends, or with an error if the plugin can't be opened.
	ServeContainerizer(ctx context.Context, e Entry, c containerizerpb.ContainerizerClient) error
}

// Config is what a host needs. A sink that the manifest's entries do not need may be nil.
type Config struct {
	Manifest Manifest
	// BinDir is the folder that relative paths of the manifest start from.
	BinDir string
	// Dir is the host's own folder; what is in it is lost. It is made with mode 0700.
	Dir string
	// Cgroup is the parent of the plugins' cgroups, like /gantry-1f2e3d4c/plugins; empty
	// means that they stay in the host's own. It is removed at the end.
	Cgroup string
	// MasterAddress is host:port of the master's API; it is asked at each start of a framework.
	MasterAddress  func() string
	Allocators     AllocatorSink
	Frameworks     FrameworkSink
	Containerizers ContainerizerSink
	// Secure guards every listener: Host, origin, size and time of what comes in.
	Secure func(http.Handler) http.Handler
	// Ephemeral makes every listener's port a free one; see Listeners.
	Ephemeral bool
	// Listen opens the listener of a plugin's HTTP; nil means a TCP listener of the host's own.
	Listen func(plugin, address string) (net.Listener, error)
	Log    *slog.Logger
}

// pace is how patient the host is.
type pace struct {
	start       time.Duration // from exec to a healthy answer
	stop        time.Duration // from asking a plugin to end to killing it
	health      time.Duration // between health checks, and for each answer
	minPause    time.Duration // after the first failure; it doubles
	maxPause    time.Duration
	settled     time.Duration // a run of this length ends a row of failures
	maxFailures int           // in a row, before the host gives up
	missed      int           // health checks in a row, before the plugin is killed
}

func defaultPace() pace {
	return pace{
		start: 10 * time.Second, stop: 2 * time.Second, health: 5 * time.Second,
		minPause: 100 * time.Millisecond, maxPause: 30 * time.Second,
		settled: 30 * time.Second, maxFailures: 10, missed: 3,
	}
}

// Host runs the plugins of one manifest.
type Host struct {
	cfg      Config
	sockets  string
	pace     pace
	plugins  []*plugin
	problems []Problem
}

// New prepares everything but the processes: it copies the binaries and opens the
// listeners, so that addresses are known. A plugin that can't run becomes a problem,
// not an error.
func New(cfg Config) (*Host, error) {
	h := &Host{cfg: cfg, pace: defaultPace(), problems: cfg.Manifest.Problems}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("prepare plugins: %w", err)
	}
	h.cfg.Dir, h.sockets = dir, socketDir(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("prepare plugins: %w", err)
	}
	binaries := filepath.Join(dir, "bin")
	for _, d := range []string{dir, binaries, h.cache(), h.sockets} {
		if err := emptyDir(d); err != nil {
			return nil, fmt.Errorf("prepare plugins: %w", err)
		}
	}
	cgroups, err := cgroup.Probe()
	if err != nil && cfg.Cgroup != "" {
		cfg.Log.Warn("plugins run without limits", "error", err)
		h.cfg.Cgroup = ""
	}
	for i, e := range cfg.Manifest.Plugins {
		p, err := h.prepare(i, e, binaries, cgroups)
		if err != nil {
			h.close()
			return nil, fmt.Errorf("%s:%d: %w", cfg.Manifest.Path, e.Line, err)
		}
		h.plugins = append(h.plugins, p)
	}
	return h, nil
}

// prepare makes the plugin of one entry; without a binary it is one that never runs.
func (h *Host) prepare(index int, e Entry, binaries string, cgroups cgroup.Features) (*plugin, error) {
	p := &plugin{
		entry: e, host: h,
		dir:     filepath.Join(h.sockets, fmt.Sprint(index)),
		journal: newJournal(h.cfg.Log.With("plugin", e.Name), time.Now),
	}
	p.set(Starting, "")
	var err error
	if p.files, err = h.pin(e, binaries); err != nil {
		problem := Problem{fmt.Sprintf("%s:%d", h.cfg.Manifest.Path, e.Line), e.Name, err.Error()}
		h.problems = append(h.problems, problem)
		p.set(Missing, err.Error())
		return p, nil
	}
	if h.cfg.Cgroup != "" {
		p.group, err = newGroup(cgroups, h.cfg.Cgroup+"/"+e.Name, e.MemoryMB)
		if err != nil {
			h.cfg.Log.Warn("a plugin runs without limits", "plugin", e.Name, "error", err)
		}
	}
	if e.Listen != "" || e.Kind == Service {
		p.door = newDoor(e.Name, p.socket())
	}
	if e.Listen == "" {
		return p, nil
	}
	listen := h.cfg.Listen
	if listen == nil {
		listen = func(_, address string) (net.Listener, error) { return net.Listen("tcp", address) }
	}
	l, err := listen(e.Name, e.Address(h.cfg.Ephemeral))
	if err != nil {
		return nil, fmt.Errorf("listen for plugin %s: %w", e.Name, err)
	}
	p.front = newFront(l, p.door, h.cfg.Secure)
	return p, nil
}

// Address is where the plugin's HTTP is to be heard: Listen, or any port beside it.
func (e Entry) Address(ephemeral bool) string {
	if !ephemeral {
		return e.Listen
	}
	name, _, _ := net.SplitHostPort(e.Listen) // Load has checked it
	return net.JoinHostPort(name, "0")
}

// cache is the folder for the machine code of modules, which a restart of their plugin
// finds again.
func (h *Host) cache() string { return filepath.Join(h.cfg.Dir, "code") }

// pin copies what the entry names into dir: the binary, then the module or the runner.
func (h *Host) pin(e Entry, dir string) ([]pinned, error) {
	find := func(path string) string {
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(h.cfg.BinDir, path)
	}
	binary, err := pinBinary(find(e.Path), dir)
	if err != nil {
		return nil, err
	}
	if e.Runner != "" {
		runner, err := pinBinary(find(e.Runner), dir)
		if err != nil {
			return nil, err
		}
		return []pinned{binary, runner}, nil
	}
	if e.Module == nil {
		return []pinned{binary}, nil
	}
	module, err := pinModule(find(e.Module.Path), dir)
	if err != nil {
		return nil, err
	}
	return []pinned{binary, module}, nil
}

// Problems are the plugins that the cluster runs without, with the reasons.
func (h *Host) Problems() []Problem { return h.problems }

// Listeners are the actual addresses, host:port, of the plugins that serve HTTP, by
// name; that of the service that is home is the master's.
func (h *Host) Listeners() map[string]string {
	addresses := make(map[string]string)
	for _, p := range h.plugins {
		switch {
		case p.front != nil:
			addresses[p.entry.Name] = p.front.listener.Addr().String()
		case p.entry.Home && len(p.files) > 0:
			addresses[p.entry.Name] = h.cfg.MasterAddress()
		}
	}
	return addresses
}

// Status tells how each plugin fares, in the order of the manifest.
func (h *Host) Status() []Status {
	list := make([]Status, 0, len(h.plugins))
	for _, p := range h.plugins {
		list = append(list, p.status())
	}
	return list
}

// Run runs the plugins until ctx ends. Then it ends their processes, closes listeners
// and removes folders and cgroups; call it once. The error is about that cleaning up.
func (h *Host) Run(ctx context.Context) error {
	var work sync.WaitGroup
	for _, p := range h.plugins {
		if p.front != nil {
			work.Go(func() {
				if err := p.front.serve(); err != nil {
					h.cfg.Log.Error("a plugin's listener failed", "plugin", p.entry.Name, "error", err)
				}
			})
		}
		if len(p.files) > 0 {
			work.Go(func() { p.supervise(ctx) })
		}
	}
	<-ctx.Done()
	for _, p := range h.plugins {
		if p.front != nil {
			p.front.close()
		}
	}
	work.Wait()
	return h.close()
}

// close gives back what New took.
func (h *Host) close() error {
	for _, p := range h.plugins {
		if p.front != nil {
			p.front.close()
		}
	}
	err := errors.Join(os.RemoveAll(h.sockets), os.RemoveAll(h.cfg.Dir))
	if h.cfg.Cgroup != "" {
		err = errors.Join(err, cgroup.Remove(context.Background(), h.cfg.Cgroup))
	}
	return err
}
