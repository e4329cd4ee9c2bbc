package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
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
	// Agents is how many the cluster has.
	Agents int
}

// sole is the folder of an agent that is alone.
const sole = "agent"

// Folders are the names of the agents' folders in the work dir, in the order of the agents.
func (h Host) Folders() []string {
	if h.Agents == 1 {
		return []string{sole}
	}
	var names []string
	for n := range h.Agents {
		names = append(names, fmt.Sprintf("%s-%d", sole, n+1))
	}
	return names
}

// Folder is the name of the folder of an agent that has had a task, by the agent's id, or empty.
func (h Host) Folder(agent string) string {
	for _, folder := range h.Folders() {
		if _, err := os.Lstat(filepath.Join(h.WorkDir, folder, "slaves", agent)); err == nil {
			return folder
		}
	}
	return ""
}

// Executor is where the load's executor has to be: this program again, which calls ExecutorMain.
func (h Host) Executor() string { return filepath.Join(h.WorkDir, "artifacts", "executor") }

// MasterPlugins are the plugins that end with their master, by the names of their programs.
var MasterPlugins = map[string]Victim{
	"allocator-drf": Allocator, "framework-marathon": Marathon, "framework-chronos": Chronos, "service-webui": Page,
}

// AgentPlugins are those that end with their agent.
var AgentPlugins = map[string]Victim{"containerizer-oci": Images, "containerizer-wasm": Modules}

// Role is what a process is for.
type Role struct {
	// Part is what it is of the kernel and the plugins; empty in a container, and for what should not be there.
	Part Victim
	// Agent is the folder of the agent to which it belongs, or empty.
	Agent string
}

func (r Role) String() string {
	if r.Agent == "" {
		return string(r.Part)
	}
	return string(r.Part) + " of " + r.Agent
}

// Roles are those of which there has to be exactly one process each.
func (h Host) Roles() []Role {
	roles := []Role{{Part: Supervisor}, {Part: Master}}
	for _, part := range MasterPlugins {
		roles = append(roles, Role{Part: part})
	}
	for _, folder := range h.Folders() {
		roles = append(roles, Role{Agent, folder}, Role{Keeper, folder}, Role{Reaper, folder})
		for _, part := range AgentPlugins {
			roles = append(roles, Role{part, folder})
		}
	}
	return roles
}

// Process is one process of the cluster.
type Process struct {
	PID, Parent int
	// Start is in ticks since boot: with PID it names a process for good.
	Start uint64
	// State is one letter, as in ps.
	State byte
	Args  []string
	// Container is the one in which it is: AGENT'S FOLDER/ID, as ids are unique for one agent only. Empty outside.
	Container string
	Role
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
		for _, folder := range h.Folders() {
			_, below, in := strings.Cut(strings.TrimSpace(line), ":"+h.group(folder)+"/")
			if id, found := strings.CutPrefix(below, "containers/"); in && found {
				id, _, _ = strings.Cut(id, "/")
				p.Container, p.Agent = folder+"/"+id, folder
			} else if len(p.Args) > 0 && in && AgentPlugins[filepath.Base(p.Args[0])] != "" {
				p.Role = Role{AgentPlugins[filepath.Base(p.Args[0])], folder}
			}
		}
	}
	if p.Container == "" && p.Part == "" {
		p.Role = h.role(p.Args, bytes.Contains(groups, []byte(":"+h.Group+"/")))
	}
	return p, nil
}

// group is the cgroup of one agent.
func (h Host) group(folder string) string {
	if h.Agents == 1 {
		return h.Group
	}
	return h.Group + "/" + folder
}

// role says what a process outside all containers is, by its arguments and whether it is in the cluster's cgroup.
func (h Host) role(args []string, inGroup bool) Role {
	if len(args) == 0 {
		return Role{}
	}
	ours := slices.ContainsFunc(args, func(arg string) bool { return arg == h.WorkDir || strings.HasPrefix(arg, h.WorkDir+"/") })
	folder := func(flag string) string {
		name, _, _ := strings.Cut(strings.TrimPrefix(after(args, flag), h.WorkDir+"/"), "/")
		return name
	}
	switch name := filepath.Base(args[0]); {
	case name == "gantry" && ours && len(args) > 1:
		return map[string]Role{"up": {Part: Supervisor}, "master": {Part: Master}, "agent": {Agent, folder("--work-dir")}}[args[1]]
	case name == "gantry-keeper" && ours:
		return Role{map[string]Victim{"reaper": Reaper, "heir": Reaper, "keeper": Keeper}[after(args, "--part")], folder("--dir")}
	case inGroup:
		return Role{Part: MasterPlugins[name]}
	}
	return Role{}
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
	var dirs []string
	for _, executor := range []string{task, executorID} {
		some, err := filepath.Glob(filepath.Join(h.WorkDir, sole+"*", "slaves", "*", "frameworks", framework, "executors", executor, "runs", "*"))
		if err != nil {
			return Sandbox{}, err
		}
		dirs = append(dirs, some...)
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
// keepers, and mounts in any process of the cluster. A container is named as in Process.
func (h Host) Remains(live map[string]bool) ([]string, error) {
	var remains []string
	for _, folder := range h.Folders() {
		dir := filepath.Join(h.WorkDir, folder)
		for _, pattern := range []string{
			"/sys/fs/cgroup" + h.group(folder) + "/containers/*/", "/sys/fs/cgroup/*" + h.group(folder) + "/containers/*/",
			dir + "/containers/*", dir + "/keeper/started/*", dir + "/keeper/exits/*", dir + "/keeper/containers/*",
		} {
			names, err := filepath.Glob(pattern)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				if !live[folder+"/"+filepath.Base(name)] {
					remains = append(remains, name)
				}
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
	for _, p := range append(all, Process{PID: os.Getpid(), Role: Role{Part: Supervisor}}) {
		namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", p.PID))
		if err == nil && p.Part != "" {
			tables[namespace] = fmt.Sprintf("/proc/%d/mounts", p.PID)
		}
	}
	var remains []string
	for _, table := range tables {
		text, _ := os.ReadFile(table) // an error says that the process has ended
		for line := range strings.Lines(string(text)) {
			_, below, ours := strings.Cut(line, h.WorkDir+"/")
			path := strings.FieldsFunc(below, func(r rune) bool { return r == '/' || r == ' ' })
			if ours && !slices.ContainsFunc(path, func(part string) bool { return live[path[0]+"/"+part] }) {
				remains = append(remains, "mount "+strings.TrimSpace(line))
			}
		}
	}
	return remains, nil
}

// Size is what one process uses.
type Size struct {
	Files, Threads, RSSKiB int
	// Goroutines is 0 for a process that does not tell.
	Goroutines int
}

// Max is the most of each.
func (s Size) Max(other Size) Size {
	return Size{max(s.Files, other.Files), max(s.Threads, other.Threads), max(s.RSSKiB, other.RSSKiB), max(s.Goroutines, other.Goroutines)}
}

// Exceeds reports whether a process uses so much more than usual that something must have been left behind: connections
// come and go, and the runtime keeps threads and memory for a while.
func (s Size) Exceeds(usual Size) bool {
	return s.Files > usual.Files+16 || s.Threads > usual.Threads+12 || s.RSSKiB > 2*usual.RSSKiB+32<<10 || s.Goroutines > usual.Goroutines+4
}

// asking has no connections left when an answer has been read: they would count as what is asked for.
var asking = http.Client{Timeout: callWithin, Transport: &http.Transport{DisableKeepAlives: true}}

// Goroutines asks a master or an agent at HOST:PORT how many it has.
func Goroutines(ctx context.Context, address string) (int, error) {
	var metrics map[string]float64
	if err := get(ctx, "http://"+address+"/metrics/snapshot", &metrics); err != nil {
		return 0, err
	}
	n, told := metrics["process/goroutines"]
	if !told {
		return 0, fmt.Errorf("%s does not tell its goroutines", address)
	}
	return int(n), nil
}

// Executors asks an agent at HOST:PORT for the ids of the containers in which the load's executor is.
func Executors(ctx context.Context, address string) (containers []string, err error) {
	var all []struct {
		Container string `json:"container_id"`
		Executor  string `json:"executor_id"`
	}
	err = get(ctx, "http://"+address+"/containers", &all)
	for _, c := range all {
		if c.Executor == executorID {
			containers = append(containers, c.Container)
		}
	}
	return containers, err
}

func get(ctx context.Context, url string, answer any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := asking.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	if err := json.NewDecoder(resp.Body).Decode(answer); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

// Size returns what can be seen from outside of what a process uses.
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
