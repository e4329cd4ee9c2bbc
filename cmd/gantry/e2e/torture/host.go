package torture

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Host looks at one cluster on this machine, as its kernel shows it.
type Host struct {
	// WorkDir is the cluster's, absolute.
	WorkDir string
	// Group is the path of the cluster's cgroup below each hierarchy, with a leading slash.
	Group string
}

// Process is one process of the cluster.
type Process struct {
	PID, Parent int
	// Start is in ticks since boot: with PID it names a process for good.
	Start uint64
	// State is one letter, as in ps.
	State byte
	Args  []string
	// Container is the id of the container in which it is, or empty.
	Container string
	// Part is what it is of the kernel and the plugins; empty in a container, and for what should not be there.
	Part Victim
}

// Key names a process for good.
func (p Process) Key() string { return fmt.Sprintf("%d@%d", p.PID, p.Start) }

func (p Process) String() string {
	return fmt.Sprintf("process %d, a child of %d, state %c, started at %d, %q, container %q", p.PID, p.Parent, p.State, p.Start, p.Args, p.Container)
}

// Process returns a process by its id, of this cluster or not.
func (h Host) Process(pid int) (Process, error) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	stat, err := os.ReadFile(filepath.Join(dir, "stat"))
	if err != nil {
		return Process{}, err
	}
	_, rest, found := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
	fields := strings.Fields(string(rest))
	if !found || len(fields) < 20 {
		return Process{}, fmt.Errorf("%s/stat is %q", dir, stat)
	}
	p := Process{PID: pid, State: fields[0][0]}
	p.Parent, _ = strconv.Atoi(fields[1])
	p.Start, _ = strconv.ParseUint(fields[19], 10, 64)
	// A process that has just ended reads as empty.
	args, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
	groups, _ := os.ReadFile(filepath.Join(dir, "cgroup"))
	if p.Args = strings.Split(strings.TrimSuffix(string(args), "\x00"), "\x00"); len(args) == 0 {
		p.Args = nil
	}
	for line := range strings.Lines(string(groups)) {
		if _, below, in := strings.Cut(strings.TrimSpace(line), ":"+h.Group+"/containers/"); in {
			p.Container, _, _ = strings.Cut(below, "/")
		}
	}
	if p.Container == "" {
		p.Part = h.part(p.Args, bytes.Contains(groups, []byte(":"+h.Group+"/")))
	}
	return p, nil
}

// part says what a process outside all containers is, by its arguments and whether it is in the cluster's cgroup.
func (h Host) part(args []string, inGroup bool) Victim {
	if len(args) == 0 {
		return ""
	}
	ours := slices.ContainsFunc(args, func(arg string) bool { return arg == h.WorkDir || strings.HasPrefix(arg, h.WorkDir+"/") })
	switch name := filepath.Base(args[0]); {
	case name == "gantry" && ours && len(args) > 1:
		return map[string]Victim{"up": Supervisor, "master": Master, "agent": Agent}[args[1]]
	case name == "gantry-keeper" && ours:
		return map[string]Victim{"reaper": Reaper, "heir": Reaper, "keeper": Keeper}[after(args, "--part")]
	case name == "allocator-drf" && inGroup:
		return Allocator
	case name == "framework-marathon" && inGroup:
		return Marathon
	case name == "containerizer-oci" && inGroup:
		return Images
	}
	return ""
}

// after is the argument behind another one, or empty.
func after(args []string, name string) string {
	if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

// Processes returns all processes of the cluster by id: those in its cgroups, and those that have its work dir in their
// arguments. What has ended and waits for its parent is none.
func (h Host) Processes() ([]Process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		p, err := h.Process(pid)
		if err != nil || p.State == 'Z' || !h.has(p) {
			continue // an error says that it has just ended
		}
		all = append(all, p)
	}
	return all, nil
}

func (h Host) has(p Process) bool {
	if p.Container != "" || p.Part != "" {
		return true
	}
	groups, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", p.PID))
	return bytes.Contains(groups, []byte(":"+h.Group+"/")) ||
		slices.ContainsFunc(p.Args, func(arg string) bool { return strings.Contains(arg, h.WorkDir) })
}

// Zombies returns the children of the cluster's kernel processes that have ended and were not waited for.
func (h Host) Zombies() ([]Process, error) {
	all, err := h.Processes()
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var zombies []Process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		p, err := h.Process(pid)
		if err == nil && p.State == 'Z' && slices.ContainsFunc(all, func(parent Process) bool { return parent.Part != "" && parent.PID == p.Parent }) {
			zombies = append(zombies, p)
		}
	}
	return zombies, nil
}

// Sandbox returns what a task of a framework has left in its sandboxes, on whatever agent.
func (h Host) Sandbox(framework, task string) (Sandbox, error) {
	runs := filepath.Join(h.WorkDir, "agent*", "slaves", "*", "frameworks", framework, "executors", task, "runs", "*")
	dirs, err := filepath.Glob(runs)
	if err != nil {
		return Sandbox{}, err
	}
	var left Sandbox
	for _, dir := range dirs {
		info, err := os.Lstat(dir)
		if err != nil || !info.IsDir() {
			continue // a link to the latest
		}
		for file, count := range map[string]*int{began: &left.Began, ended: &left.Ended} {
			text, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return left, err
			}
			*count += bytes.Count(text, []byte(task+"\n"))
		}
	}
	return left, nil
}

// Remains returns what is there of containers other than those that live: cgroups, roots, records and runtime state of the
// keeper, and mounts in any process of the cluster.
func (h Host) Remains(live map[string]bool) ([]string, error) {
	var remains []string
	for _, pattern := range []string{
		"/sys/fs/cgroup" + h.Group + "/containers/*/", "/sys/fs/cgroup/*" + h.Group + "/containers/*/",
		h.WorkDir + "/agent*/containers/*", h.WorkDir + "/agent*/keeper/started/*", h.WorkDir + "/agent*/keeper/exits/*",
		h.WorkDir + "/agent*/keeper/containers/*",
	} {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if !live[filepath.Base(name)] {
				remains = append(remains, name)
			}
		}
	}
	mounts, err := h.mounts(live)
	return append(remains, mounts...), err
}

// mounts returns the mounts that name a container which does not live, in the host's namespace and in those of the
// cluster's own processes.
func (h Host) mounts(live map[string]bool) ([]string, error) {
	all, err := h.Processes()
	if err != nil {
		return nil, err
	}
	tables := map[string]string{} // by namespace
	for _, p := range append(all, Process{PID: os.Getpid(), Part: Supervisor}) {
		namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", p.PID))
		if err == nil && p.Part != "" {
			tables[namespace] = fmt.Sprintf("/proc/%d/mounts", p.PID)
		}
	}
	var remains []string
	for _, table := range tables {
		text, _ := os.ReadFile(table) // an error says that the process has ended
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, h.WorkDir) && !slices.ContainsFunc(strings.FieldsFunc(line, func(r rune) bool { return r == '/' || r == ' ' }), func(part string) bool { return live[part] }) {
				remains = append(remains, "mount "+strings.TrimSpace(line))
			}
		}
	}
	return remains, nil
}

// Size is what one process uses.
type Size struct{ Files, Threads, RSSKiB int }

// Size returns what a process uses.
func (p Process) Size() (Size, error) {
	dir := filepath.Join("/proc", strconv.Itoa(p.PID))
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return Size{}, err
	}
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		return Size{}, err
	}
	s := Size{Files: len(files)}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		number, _, _ := strings.Cut(strings.TrimSpace(value), " ")
		switch name {
		case "Threads":
			s.Threads, err = strconv.Atoi(number)
		case "VmRSS":
			s.RSSKiB, err = strconv.Atoi(number)
		}
		if err != nil {
			return s, fmt.Errorf("%s/status: %w", dir, err)
		}
	}
	return s, nil
}

// Entries counts the files and folders that the cluster has on disk, but for sandboxes, which stay for a while.
func (h Host) Entries() (int, error) {
	n := 0
	err := filepath.WalkDir(h.WorkDir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "slaves" || entry.Name() == "rootfs"):
			return fs.SkipDir
		}
		n++
		return nil
	})
	return n, err
}
