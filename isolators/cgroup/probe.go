package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ErrNone says that the host mounts no cgroup hierarchy.
var ErrNone = errors.New("no cgroup hierarchy is mounted at /sys/fs/cgroup")

const root = "/sys/fs/cgroup"

// Features is what the host's cgroups offer.
type Features struct {
	// Hierarchies are those mounted below /sys/fs/cgroup, in order of mounting.
	Hierarchies []Hierarchy
	// Unified says that version 2 is the only one.
	Unified bool
	// Swap says that swap can be limited.
	Swap bool
}

// Hierarchy is one tree of groups.
type Hierarchy struct {
	// Mount is the directory of its root.
	Mount string
	// Controllers are those that can be used in it, like "memory"; a named version 1
	// hierarchy has "name=NAME".
	Controllers []string
	// V2 says that it is the hierarchy of version 2.
	V2 bool
}

// Probe reads what the host offers.
func Probe() (Features, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return Features{}, fmt.Errorf("probe cgroups: %w", err)
	}
	defer f.Close()
	hs, err := parseMounts(f)
	if err != nil {
		return Features{}, fmt.Errorf("probe cgroups: %w", err)
	}
	if len(hs) == 0 {
		return Features{}, ErrNone
	}
	features := Features{Hierarchies: hs}
	for i := range hs {
		if !hs[i].V2 {
			continue
		}
		data, err := os.ReadFile(filepath.Join(hs[i].Mount, "cgroup.controllers"))
		if err != nil {
			return Features{}, fmt.Errorf("probe cgroups: %w", err)
		}
		hs[i].Controllers = strings.Fields(string(data))
		features.Unified = hs[i].Mount == root
	}
	features.Swap = features.Unified
	if dir, ok := features.dir("memory", "/"); ok && !features.Unified {
		_, err := os.Stat(filepath.Join(dir, "memory.memsw.limit_in_bytes"))
		features.Swap = err == nil
	}
	return features, nil
}

// Missing names the controllers among those that Gantry limits containers with that the
// host does not offer.
func (f Features) Missing() []string {
	var missing []string
	for _, c := range []string{"cpu", "memory", "pids"} {
		if _, ok := f.dir(c, "/"); !ok {
			missing = append(missing, c)
		}
	}
	return missing
}

// dir is the directory of group in the hierarchy that has controller.
func (f Features) dir(controller, group string) (string, bool) {
	for _, h := range f.Hierarchies {
		if slices.Contains(h.Controllers, controller) {
			return filepath.Join(h.Mount, group), true
		}
	}
	return "", false
}

// members is the directory that tells which processes are in group. On version 1 that
// is the devices controller's: no container starts without it.
func (f Features) members(group string) (string, error) {
	for _, h := range f.Hierarchies {
		if h.V2 == f.Unified && (h.V2 || slices.Contains(h.Controllers, "devices")) {
			return filepath.Join(h.Mount, group), nil
		}
	}
	return "", errors.New("the devices cgroup controller is not mounted")
}

// parseMounts reads mountinfo (proc_pid_mountinfo(5)). A hierarchy that is mounted
// twice counts once.
func parseMounts(r io.Reader) ([]Hierarchy, error) {
	var hs []Hierarchy
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		mount, source := strings.Fields(before), strings.Fields(after)
		if !ok || len(mount) < 5 || len(source) < 3 {
			return nil, fmt.Errorf("mountinfo: unexpected line %q", lines.Text())
		}
		dir := mount[4]
		if dir != root && filepath.Dir(dir) != root {
			continue
		}
		h := Hierarchy{Mount: dir, V2: source[0] == "cgroup2"}
		if source[0] == "cgroup" {
			h.Controllers = controllers(source[2])
		}
		if !h.V2 && len(h.Controllers) == 0 {
			continue
		}
		if !slices.ContainsFunc(hs, h.same) {
			hs = append(hs, h)
		}
	}
	return hs, lines.Err()
}

func (h Hierarchy) same(o Hierarchy) bool {
	return h.V2 == o.V2 && slices.Equal(h.Controllers, o.Controllers)
}

// controllers picks a version 1 hierarchy's controllers out of its super block options.
func controllers(options string) []string {
	var cs []string
	for o := range strings.SplitSeq(options, ",") {
		switch o {
		case "rw", "ro", "xattr", "noprefix", "clone_children", "cpuset_v2_mode", "none", "favordynmods":
		default:
			if !strings.HasPrefix(o, "release_agent=") {
				cs = append(cs, o)
			}
		}
	}
	return cs
}
