package bench

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of CPU times in /proc, the same on all of Linux's usual configurations.
const tick = 10 * time.Millisecond

// process is one daemon at one moment.
type process struct {
	// Name is what it does: up, master, agent, reaper, keeper, or a plugin's name.
	Name string `json:"name"`

	// RSSKiB is its resident memory, and PeakKiB the most that it has been.
	RSSKiB  int `json:"rss_kib"`
	PeakKiB int `json:"peak_kib"`

	// cpu is the CPU time that it has had, and children that of the children it has waited for.
	cpu, children time.Duration

	pid, parent int
}

// daemons are the processes of the cluster whose supervisor is pid, without containers.
func daemons(pid int) ([]process, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	all := make(map[int]process)
	for _, dir := range dirs {
		p, err := look(dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNoDaemon) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all[p.pid] = p
	}
	var found []process
	for _, p := range all {
		for at, ok := p, true; ok; at, ok = all[at.parent] {
			if at.pid == pid {
				found = append(found, p)
				break
			}
		}
	}
	slices.SortFunc(found, func(a, b process) int { return a.pid - b.pid })
	return found, nil
}

var errNoDaemon = errors.New("no daemon")

// look reads what /proc has of one process; errNoDaemon for a container's, or one that is going.
func look(dir string) (process, error) {
	var p process
	texts := make(map[string]string)
	for _, name := range []string{"stat", "status", "cmdline", "cgroup"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p, errNoDaemon // it went while it was read
		}
		if err != nil {
			return p, err
		}
		texts[name] = string(data)
	}
	if strings.Contains(texts["cgroup"], "/containers/") || texts["cmdline"] == "" {
		return p, errNoDaemon
	}
	_, after, _ := strings.Cut(texts["stat"], ") ")
	fields := strings.Fields(after)
	if len(fields) < 15 {
		return p, fmt.Errorf("%s/stat: it has %d fields", dir, len(fields))
	}
	number := func(text string) int {
		n, _ := strconv.Atoi(text) // the kernel writes numbers
		return n
	}
	p.pid, p.parent = number(filepath.Base(dir)), number(fields[1])
	p.cpu = time.Duration(number(fields[11])+number(fields[12])) * tick
	p.children = time.Duration(number(fields[13])+number(fields[14])) * tick
	p.Name = name(strings.Split(texts["cmdline"], "\x00"), texts["cgroup"])
	for line := range strings.Lines(texts["status"]) {
		key, value, _ := strings.Cut(line, ":")
		kib := strings.TrimSuffix(strings.TrimSpace(value), " kB")
		switch key {
		case "VmRSS":
			p.RSSKiB = number(kib)
		case "VmHWM":
			p.PeakKiB = number(kib)
		}
	}
	return p, nil
}

// name tells a plugin by its cgroup and the others by what they were started as.
func name(args []string, cgroup string) string {
	for _, group := range []string{"/plugins/", "/containerizers/"} { // the master's, an agent's
		if _, plugin, ok := strings.Cut(cgroup, group); ok {
			plugin, _, _ = strings.Cut(plugin, "\n")
			return plugin
		}
	}
	if i := slices.Index(args, "--part"); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	if len(args) > 1 {
		return args[1]
	}
	return args[0]
}

// usage is what all daemons have together.
type usage struct {
	rssKiB        int
	cpu, children time.Duration
}

func sum(ps []process) usage {
	var u usage
	for _, p := range ps {
		u.rssKiB += p.RSSKiB
		u.cpu += p.cpu
		// Children of the supervisor are daemons themselves; those of the keeper are containers.
		if p.Name == "keeper" {
			u.children += p.children
		}
	}
	return u
}
