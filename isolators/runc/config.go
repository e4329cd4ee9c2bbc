//go:build cgo

package runc

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	devices "github.com/opencontainers/cgroups/devices/config"
	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/overlay"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// openFiles is the limit of open files where a spec has none.
const openFiles = 1024

var (
	// maskedPaths tell more of the host than a container should know.
	maskedPaths = []string{
		"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats",
		"/sys/devices/virtual/powercap", "/sys/firmware",
	}
	// readonlyPaths change the host when they are written to, or (the last: on version
	// 1 libcontainer mounts the controllers in a directory in memory) would be a place
	// to write without bounds.
	readonlyPaths = []string{
		"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger", "/sys/fs/cgroup",
	}
	namespaces = []specs.LinuxNamespaceType{
		specs.MountNamespace, specs.PIDNamespace, specs.IPCNamespace, specs.UTSNamespace, specs.CgroupNamespace,
	}
)

// translate makes libcontainer's configuration of spec, but for the seccomp filter.
func (r *Runtime) translate(spec *containerpb.Spec) (*configs.Config, *libcontainer.Process, error) {
	if err := validate(spec); err != nil {
		return nil, nil, err
	}
	linux := &specs.Linux{
		CgroupsPath:   spec.GetCgroup(),
		Resources:     resources(spec.GetLimits(), r.cgroups.Swap),
		MaskedPaths:   maskedPaths,
		ReadonlyPaths: readonlyPaths,
	}
	for _, ns := range namespaces {
		linux.Namespaces = append(linux.Namespaces, specs.LinuxNamespace{Type: ns})
	}
	config, err := specconv.CreateLibcontainerConfig(&specconv.CreateOpts{CgroupName: spec.GetId(), Spec: &specs.Spec{
		Version:  specs.Version,
		Process:  process(spec),
		Root:     &specs.Root{Path: spec.GetRootfs(), Readonly: !spec.GetWritableRootfs()},
		Hostname: hostname(spec.GetHostname()),
		Mounts:   mounts(spec.GetMounts()),
		Linux:    linux,
	}})
	if err != nil {
		return nil, nil, err
	}
	if r.cgroups.Unified {
		config.Cgroups.CpuWeight = weight(spec.GetLimits().GetCpuMilli())
	}
	config.Cgroups.Devices = slices.DeleteFunc(config.Cgroups.Devices, tooMuch)
	config.Rlimits, err = rlimits(spec.GetRlimits())
	if err != nil {
		return nil, nil, err
	}
	p := &libcontainer.Process{
		Args: spec.GetArgv(),
		Env:  spec.GetEnv(),
		Cwd:  spec.GetCwd(),
		UID:  int(spec.GetUid()),
		GID:  int(spec.GetGid()),
		Init: true,
	}
	for _, gid := range spec.GetAdditionalGids() {
		p.AdditionalGroups = append(p.AdditionalGroups, int(gid))
	}
	return config, p, nil
}

// validate refuses what libcontainer would read otherwise than the spec means it.
func validate(spec *containerpb.Spec) error {
	if len(spec.GetArgv()) == 0 {
		return fmt.Errorf("there is no program to run: argv is empty")
	}
	for _, path := range []string{spec.GetCwd(), spec.GetRootfs(), spec.GetStdoutPath(), spec.GetStderrPath()} {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("%q is not an absolute path", path)
		}
	}
	for _, m := range spec.GetMounts() {
		if !filepath.IsAbs(m.GetTarget()) || m.GetType() == "bind" && !filepath.IsAbs(m.GetSource()) {
			return fmt.Errorf("mount of %q at %q: paths must be absolute", m.GetSource(), m.GetTarget())
		}
	}
	for _, s := range slices.Concat(spec.GetArgv(), spec.GetEnv()) {
		if strings.ContainsRune(s, 0) {
			return fmt.Errorf("arguments and environment cannot hold a zero byte: %q", s)
		}
	}
	for _, v := range spec.GetEnv() {
		if strings.Index(v, "=") < 1 {
			return fmt.Errorf("environment variable %q is not like NAME=value", v)
		}
	}
	if spec.GetOverlay() != nil {
		if err := overlay.Check(spec.GetOverlay()); err != nil {
			return err
		}
	}
	return cgroup.Check(spec.GetCgroup())
}

// process has what libcontainer takes from the configuration rather than the Process.
func process(spec *containerpb.Spec) *specs.Process {
	caps := spec.GetCapabilities()
	return &specs.Process{
		NoNewPrivileges: true,
		User:            specs.User{UID: spec.GetUid(), GID: spec.GetGid()},
		Capabilities:    &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps},
	}
}

func mounts(ms []*containerpb.Mount) []specs.Mount {
	var out []specs.Mount
	for _, m := range ms {
		options := m.GetOptions()
		if m.GetType() == "bind" && !slices.Contains(options, "bind") && !slices.Contains(options, "rbind") {
			options = append([]string{"bind"}, options...)
		}
		out = append(out, specs.Mount{
			Source: m.GetSource(), Destination: m.GetTarget(), Type: m.GetType(), Options: options,
		})
	}
	return out
}

// resources leaves out the limit of CPU time, which is set after the start.
func resources(l *containerpb.Limits, swap bool) *specs.LinuxResources {
	r := &specs.LinuxResources{
		CPU:     &specs.LinuxCPU{},
		Memory:  &specs.LinuxMemory{},
		Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}},
	}
	if milli := l.GetCpuMilli(); milli > 0 {
		// The kernel's least weight is 2.
		shares := uint64(max(milli*1024/1000, 2))
		r.CPU.Shares = &shares
	}
	if bytes := l.GetMemoryBytes(); bytes > 0 {
		r.Memory.Limit = &bytes
		if swap {
			// Memory and swap together: none of it is swap.
			r.Memory.Swap = &bytes
		}
	}
	if pids := l.GetPids(); pids > 0 {
		r.Pids = &specs.LinuxPids{Limit: &pids}
	}
	return r
}

// weight is the share of CPU time on version 2: in proportion to milli, which
// libcontainer's own conversion of version 1's shares is not, and the kernel's default
// for one CPU. Zero leaves it.
func weight(milli int64) uint64 {
	const most = 10_000
	if milli <= 0 {
		return 0
	}
	return uint64(min(max(milli/10, 1), most))
}

// hostname cuts name to what every kernel takes, and programs that look it up do.
func hostname(name string) string {
	const most = 63
	return name[:min(len(name), most)]
}

// tooMuch finds what libcontainer allows every container beyond the usual devices:
// making nodes of any device, and tunnels.
func tooMuch(rule *devices.Rule) bool {
	return rule.Allow && (rule.Permissions == "m" || rule.Major == 10 && rule.Minor == 200)
}

// numbers of the resource limits (setrlimit(2)), which are the same on all of Linux's
// architectures that Go runs on but MIPS.
var rlimitNumbers = map[string]int{
	"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4,
	"RLIMIT_RSS": 5, "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9,
	"RLIMIT_LOCKS": 10, "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13,
	"RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15,
}

func rlimits(asked []*containerpb.Rlimit) ([]configs.Rlimit, error) {
	out := []configs.Rlimit{}
	files := false
	for _, l := range asked {
		number, ok := rlimitNumbers[l.GetName()]
		if !ok {
			return nil, fmt.Errorf("unknown resource limit %q", l.GetName())
		}
		files = files || l.GetName() == "RLIMIT_NOFILE"
		out = append(out, configs.Rlimit{Type: number, Soft: l.GetSoft(), Hard: l.GetHard()})
	}
	if !files {
		out = append(out, configs.Rlimit{Type: rlimitNumbers["RLIMIT_NOFILE"], Soft: openFiles, Hard: openFiles})
	}
	return out, nil
}
