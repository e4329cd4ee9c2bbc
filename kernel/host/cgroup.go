package host

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/gantry-project/gantry/isolators/cgroup"
)

// maxProcesses bounds the processes and threads of one plugin.
const maxProcesses = 512

// group is a plugin's cgroup. The process is born in it: on version 2 the kernel clones
// into it, on version 1 the thread that forks is in it meanwhile.
type group struct {
	unified string // directory on version 2, or empty
	v1      []hierarchy
}

// hierarchy is a group in one hierarchy of version 1.
type hierarchy struct {
	dir   string
	mount string
	// controller is one of the hierarchy's: by it /proc names the hierarchy.
	controller string
}

// newGroup makes the cgroup name with its limits.
func newGroup(f cgroup.Features, name string, memoryMB int64) (*group, error) {
	if err := cgroup.Check(name); err != nil {
		return nil, err
	}
	g := &group{}
	for _, h := range f.Hierarchies {
		dir := filepath.Join(h.Mount, name)
		limits := map[string]string{}
		memory := strconv.FormatInt(memoryMB<<20, 10)
		switch {
		case h.V2 && f.Unified:
			g.unified = dir
			limits["memory.max"], limits["pids.max"] = memory, strconv.Itoa(maxProcesses)
			if err := delegate(h.Mount, name); err != nil {
				return nil, err
			}
		case slices.Contains(h.Controllers, "memory"):
			limits["memory.limit_in_bytes"] = memory
		case slices.Contains(h.Controllers, "pids"):
			limits["pids.max"] = strconv.Itoa(maxProcesses)
		case slices.Contains(h.Controllers, "cpu"), slices.Contains(h.Controllers, "cpuacct"):
		default:
			continue
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("make cgroup: %w", err)
		}
		for file, value := range limits {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(value), 0); err != nil {
				return nil, fmt.Errorf("limit cgroup: %w", err)
			}
		}
		if !h.V2 {
			g.v1 = append(g.v1, hierarchy{dir, h.Mount, h.Controllers[0]})
		}
	}
	return g, nil
}

// delegate lets the groups on the way down to name limit memory and processes.
func delegate(mount, name string) error {
	dir := mount
	for part := range strings.SplitSeq(strings.TrimPrefix(name, "/"), "/") {
		err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+memory +pids"), 0)
		if err != nil {
			return fmt.Errorf("limit cgroup: %w", err)
		}
		dir = filepath.Join(dir, part)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("make cgroup: %w", err)
		}
	}
	return nil
}

// around starts cmd in the group, nil being the caller's own. The caller has locked its
// thread.
func (g *group) around(cmd *exec.Cmd) error {
	if g == nil {
		return cmd.Start()
	}
	if g.unified != "" {
		dir, err := os.Open(g.unified)
		if err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
		defer dir.Close()
		cmd.SysProcAttr.UseCgroupFD, cmd.SysProcAttr.CgroupFD = true, int(dir.Fd())
		return cmd.Start()
	}
	home, err := homes()
	if err != nil {
		return err
	}
	for _, h := range g.v1 {
		back := filepath.Join(h.mount, home[h.controller])
		if err := join(h.dir); err != nil {
			return err
		}
		defer func() { _ = join(back) }() // it came from there
	}
	return cmd.Start()
}

// join moves the calling thread: 0 in tasks, unlike in cgroup.procs, is one thread.
func join(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, "tasks"), []byte("0"), 0); err != nil {
		return fmt.Errorf("join cgroup: %w", err)
	}
	return nil
}

// homes are the calling thread's groups by controller.
func homes() (map[string]string, error) {
	text, err := os.ReadFile("/proc/thread-self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("find the thread's cgroups: %w", err)
	}
	byController := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, _ := strings.Cut(rest, ":")
		for c := range strings.SplitSeq(controllers, ",") {
			byController[c] = path
		}
	}
	return byController, nil
}
