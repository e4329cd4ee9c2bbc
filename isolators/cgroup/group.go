package cgroup

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

	"github.com/gantry-project/gantry/isolators/internal/sys"
)

// quotaPeriodMicros is the time over which CPU time is capped.
const quotaPeriodMicros = 100_000

// Join moves the calling process into group, which is made where it is missing.
func (f Features) Join(group string) error {
	if err := Check(group); err != nil {
		return err
	}
	joined := false
	for _, h := range f.Hierarchies {
		// A new cpuset has no CPUs, and membership in it would serve nothing.
		if slices.Contains(h.Controllers, "cpuset") && !h.V2 {
			continue
		}
		dir := filepath.Join(h.Mount, group)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make cgroup: %w", err)
		}
		if err := write(dir, "cgroup.procs", "0"); err != nil {
			return fmt.Errorf("join cgroup: %w", err)
		}
		joined = true
	}
	if !joined {
		return ErrNone
	}
	return nil
}

// Children are the names of the groups in group, in any hierarchy; a missing group has
// none.
func (f Features) Children(group string) ([]string, error) {
	if err := Check(group); err != nil {
		return nil, err
	}
	var names []string
	for _, h := range f.Hierarchies {
		entries, err := os.ReadDir(filepath.Join(h.Mount, group))
		if err != nil && !vanished(err) {
			return nil, fmt.Errorf("list cgroups: %w", err)
		}
		for _, e := range entries {
			if e.IsDir() && !slices.Contains(names, e.Name()) {
				names = append(names, e.Name())
			}
		}
	}
	return names, nil
}

// Members are the processes in group and below it.
func (f Features) Members(group string) ([]int, error) {
	if err := Check(group); err != nil {
		return nil, err
	}
	dir, err := f.members(group)
	if err != nil {
		return nil, err
	}
	return members(dir)
}

// Signal sends sig to every process in group and below it, each once, and returns
// references to those it reached, which the caller closes.
func (f Features) Signal(group string, sig syscall.Signal) ([]*sys.Process, error) {
	if err := Check(group); err != nil {
		return nil, err
	}
	dir, err := f.members(group)
	if err != nil {
		return nil, err
	}
	return signalAll(dir, sig)
}

// Usage is what a group's own files tell of its past.
type Usage struct {
	// OOMKills counts the processes that the kernel killed for want of memory.
	OOMKills int64
	// PeakBytes is the most memory that was in use; zero if the kernel does not say.
	PeakBytes int64
}

// Usage reads group's files; what the kernel does not offer stays zero.
func (f Features) Usage(group string) (Usage, error) {
	dir, ok := f.dir("memory", group)
	if !ok {
		return Usage{}, nil
	}
	events, peak := "memory.oom_control", "memory.max_usage_in_bytes"
	if f.Unified {
		events, peak = "memory.events", "memory.peak"
	}
	var u Usage
	data, err := os.ReadFile(filepath.Join(dir, events))
	if err != nil {
		return Usage{}, fmt.Errorf("read cgroup: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if count, ok := strings.CutPrefix(line, "oom_kill "); ok {
			u.OOMKills, err = strconv.ParseInt(strings.TrimSpace(count), 10, 64)
		}
	}
	if err != nil {
		return Usage{}, fmt.Errorf("read cgroup: %s: %w", events, err)
	}
	u.PeakBytes, err = readInt(filepath.Join(dir, peak))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Usage{}, fmt.Errorf("read cgroup: %w", err)
	}
	return u, nil
}

// CapCPU limits group to milli thousandths of a CPU; zero or less lifts the limit.
func (f Features) CapCPU(group string, milli int64) error {
	dir, ok := f.dir("cpu", group)
	if !ok {
		return errors.New("cap CPU time: the cpu cgroup controller is not available")
	}
	quota := milli * quotaPeriodMicros / 1000
	period := strconv.Itoa(quotaPeriodMicros)
	var err error
	switch {
	case f.Unified && milli <= 0:
		err = write(dir, "cpu.max", "max "+period)
	case f.Unified:
		err = write(dir, "cpu.max", strconv.FormatInt(quota, 10)+" "+period)
	case milli <= 0:
		err = write(dir, "cpu.cfs_quota_us", "-1")
	default:
		err = errors.Join(write(dir, "cpu.cfs_period_us", period),
			write(dir, "cpu.cfs_quota_us", strconv.FormatInt(quota, 10)))
	}
	if err != nil {
		return fmt.Errorf("cap CPU time: %w", err)
	}
	return nil
}

// write never creates a file: one that is missing tells that the kernel lacks something.
func write(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func readInt(file string) (int64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64)
}

// members reads the processes in the tree at dir; a missing tree has none.
func members(dir string) ([]int, error) {
	var pids []int
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if vanished(err) {
			return nil
		}
		if err != nil || !d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(p, "cgroup.procs"))
		if vanished(err) {
			return nil
		}
		if err != nil {
			return err
		}
		for field := range strings.FieldsSeq(string(data)) {
			// Zero stands for a process that cannot be seen from here.
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list processes of cgroup: %w", err)
	}
	return pids, nil
}

// vanished says whether err means that a group was removed meanwhile.
func vanished(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENODEV)
}

// signalAll lists the members of dir twice, so that a number that came to name another
// process between listing and referring is not signalled.
func signalAll(dir string, sig syscall.Signal) ([]*sys.Process, error) {
	pids, err := members(dir)
	if err != nil {
		return nil, err
	}
	var opened, reached []*sys.Process
	for _, pid := range pids {
		p, err := sys.OpenProcess(pid, 0)
		if errors.Is(err, sys.ErrNoProcess) {
			continue
		}
		if err != nil {
			return nil, errors.Join(err, closeAll(opened))
		}
		opened = append(opened, p)
	}
	still, err := members(dir)
	if err != nil {
		return nil, errors.Join(err, closeAll(opened))
	}
	var failed error
	for _, p := range opened {
		if slices.Contains(still, p.Pid()) {
			err := p.Signal(sig)
			if err == nil {
				reached = append(reached, p)
				continue
			}
			if !errors.Is(err, sys.ErrNoProcess) {
				failed = errors.Join(failed, err)
			}
		}
		failed = errors.Join(failed, p.Close())
	}
	return reached, failed
}

func closeAll(ps []*sys.Process) error {
	var err error
	for _, p := range ps {
		err = errors.Join(err, p.Close())
	}
	return err
}

// retryPause grows from one try to the next: the kernel gives groups free a moment
// after their last process, and does not say when.
func retryPause(try int) time.Duration {
	return min(time.Millisecond<<min(try, 10), 100*time.Millisecond)
}
