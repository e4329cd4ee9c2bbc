package meter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
)

// files reads what the kernel keeps of a group, as its documentation describes:
// admin-guide/cgroup-v1 and admin-guide/cgroup-v2.
type files struct{ cgroup.Features }

// unified is where the hierarchy of version 2 is mounted.
func (f files) unified() (dir string, ok bool) {
	for _, h := range f.Hierarchies {
		if h.V2 {
			return h.Mount, true
		}
	}
	return "", false
}

// dir is the directory of group in the hierarchy that has controller. Version 2
// accounts CPU time without one.
func (f files) dir(controller, group string) (dir string, v2, ok bool) {
	for _, h := range f.Hierarchies {
		if slices.Contains(h.Controllers, controller) {
			return filepath.Join(h.Mount, group), h.V2, true
		}
	}
	if mount, ok := f.unified(); ok && controller == "cpuacct" {
		return filepath.Join(mount, group), true, true
	}
	return "", false, false
}

// anchor is the directory that stands for group.
func (f files) anchor(group string) (string, error) {
	if mount, ok := f.unified(); ok {
		return filepath.Join(mount, group), nil
	}
	if dir, _, ok := f.dir("cpuacct", group); ok {
		return dir, nil
	}
	return "", errors.New("neither cgroup version 2 nor the cpuacct controller is mounted")
}

// times reads the CPU time that group used. Errors wrap fs.ErrNotExist where there is no
// such group.
func (f files) times(group string) (times, error) {
	dir, v2, ok := f.dir("cpuacct", group)
	if !ok {
		return times{}, errors.New("the cpuacct cgroup controller is not mounted")
	}
	if v2 {
		stat, err := table(dir, "cpu.stat")
		return times{
			total: time.Duration(stat["usage_usec"]) * time.Microsecond,
			user:  stat["user_usec"], system: stat["system_usec"],
		}, err
	}
	nanos, err := number(dir, "cpuacct.usage")
	if err != nil {
		return times{}, err
	}
	stat, err := table(dir, "cpuacct.stat")
	return times{total: time.Duration(nanos), user: stat["user"], system: stat["system"]}, err
}

// read reads a file of a group.
func read(dir, file string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, file))
	if errors.Is(err, syscall.ENODEV) { // it was removed after it was opened
		err = &fs.PathError{Op: "read", Path: filepath.Join(dir, file), Err: fs.ErrNotExist}
	}
	return strings.TrimSpace(string(data)), err
}

// table reads a file of lines that are a name and a number.
func table(dir, file string) (map[string]uint64, error) {
	text, err := read(dir, file)
	if err != nil {
		return nil, err
	}
	values := make(map[string]uint64)
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if values[name], err = strconv.ParseUint(value, 10, 64); err != nil {
			return nil, fmt.Errorf("%s: unexpected line %q", filepath.Join(dir, file), line)
		}
	}
	return values, nil
}

// number reads a file that is one number.
func number(dir, file string) (uint64, error) {
	text, err := read(dir, file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %q is not a number", filepath.Join(dir, file), text)
	}
	return n, nil
}
