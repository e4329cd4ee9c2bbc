package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/rootfs"
	"github.com/gantry-project/gantry/isolators/seccomp"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// peer is the runc command with a bundle that is the equal of a container of ours: the same root filesystem and mounts,
// namespaces, seccomp profile, and limits of memory, processes and devices; and more than equal in that the root is prepared
// once, and that CPU time has a share but no cap: runc sets that before its own work, which then takes ten times as long.
type peer struct {
	command, version string
	dir, parent      string
	config           *specs.Spec
	next             int
}

// newPeer finds runc, and keeps what it needs in dir. An error that wraps exec.ErrNotFound says that there is no runc.
func newPeer(ctx context.Context, dir string, l load) (*peer, error) {
	command, err := exec.LookPath("runc")
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, command, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask runc for its version: %w", err)
	}
	version, _, _ := strings.Cut(string(out), "\n")
	p := &peer{command: command, version: version, dir: filepath.Join(dir, "runc")}
	p.parent = cgroup.Name(p.dir)
	return p, p.bundle(l)
}

// bundle prepares what is the same for all its containers.
func (p *peer) bundle(l load) error {
	box := filepath.Join(p.dir, "sandbox")
	if err := os.MkdirAll(box, 0o755); err != nil {
		return err
	}
	spec := &containerpb.Spec{Id: "runc", Limits: cgroup.Limits(int64(l.cpus*1000), int64(l.memMB*(1<<20)))}
	if err := rootfs.Compose(spec, filepath.Join(p.dir, "roots"), box); err != nil {
		return err
	}
	var err error
	p.config, err = translate(spec, l)
	return err
}

// translate makes runc's configuration of a container like those of the agent.
func translate(spec *containerpb.Spec, l load) (*specs.Spec, error) {
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
		"CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID",
	}
	profile, err := seccomp.Default(caps)
	if err != nil {
		return nil, err
	}
	shares, memory, pids := uint64(max(spec.Limits.CpuMilli*1024/1000, 2)), spec.Limits.MemoryBytes, spec.Limits.Pids
	config := &specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: spec.Rootfs, Readonly: true},
		Process: &specs.Process{
			Args: l.argv, Cwd: rootfs.Sandbox, NoNewPrivileges: true,
			Env:          []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps},
			Rlimits:      []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1024, Hard: 1024}},
		},
		Hostname: "bench",
		Linux: &specs.Linux{
			Seccomp: profile,
			Resources: &specs.LinuxResources{
				CPU: &specs.LinuxCPU{Shares: &shares}, Memory: &specs.LinuxMemory{Limit: &memory},
				Pids: &specs.LinuxPids{Limit: &pids}, Devices: []specs.LinuxDeviceCgroup{{Access: "rwm"}},
			},
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
				"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware"},
			ReadonlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
		},
	}
	for _, ns := range []specs.LinuxNamespaceType{
		specs.MountNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace,
	} {
		config.Linux.Namespaces = append(config.Linux.Namespaces, specs.LinuxNamespace{Type: ns})
	}
	for _, m := range spec.Mounts {
		config.Mounts = append(config.Mounts, specs.Mount{Source: m.Source, Destination: m.Target, Type: m.Type, Options: m.Options})
	}
	return config, nil
}

// loop runs n containers, at most parallel at once, and says how long that took.
func (p *peer) loop(ctx context.Context, n, parallel int) (time.Duration, error) {
	ids := make(chan string)
	failed := make(chan error, parallel)
	begun := time.Now()
	for range parallel {
		go func() {
			var err error
			for id := range ids {
				if err == nil {
					err = p.run(ctx, id)
				}
			}
			failed <- err
		}()
	}
	for range n {
		p.next++
		ids <- "run-" + strconv.Itoa(p.next)
	}
	close(ids)
	var err error
	for range parallel {
		err = errors.Join(err, <-failed)
	}
	return time.Since(begun), err
}

func (p *peer) run(ctx context.Context, id string) error {
	bundle := filepath.Join(p.dir, id)
	if err := p.write(bundle, id); err != nil {
		return err
	}
	defer os.RemoveAll(bundle)
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, p.command, "--root", filepath.Join(p.dir, "state"), "run", "--bundle", bundle, id)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("runc run: %w: %s", err, said.Bytes())
	}
	return nil
}

// write writes the bundle of one container, which has a cgroup of its own.
func (p *peer) write(bundle, id string) error {
	linux := *p.config.Linux
	linux.CgroupsPath = cgroup.Container(p.parent, id)
	config := *p.config
	config.Linux = &linux
	data, err := json.Marshal(config)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(bundle, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bundle, "config.json"), data, 0o644)
}

// remove removes what is left.
func (p *peer) remove(ctx context.Context) error { return cgroup.Remove(ctx, p.parent) }
