package meter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/gantry-project/gantry/isolators/cgroup"
)

var (
	// ErrUnavailable says that this host does not let the meter use eBPF; the error
	// around it says what is missing.
	ErrUnavailable = errors.New("metering by eBPF is not available")
	// ErrUntracked says that a group was not given to Track.
	ErrUntracked = errors.New("the cgroup is not tracked")
	// ErrFull says that MaxGroups are tracked.
	ErrFull = fmt.Errorf("the meter tracks %d cgroups, and no more", MaxGroups)
)

// MaxGroups is how many groups one meter tracks at most.
const MaxGroups = 16384

// Meter measures groups. Its methods may be called from several goroutines.
type Meter struct {
	files   files
	counter *counter // nil: files only

	mu     sync.Mutex
	groups map[string]*account
}

// Files makes a meter that reads files only: it knows nothing of the network.
func Files(f cgroup.Features) *Meter {
	return &Meter{files: files{f}, groups: make(map[string]*account)}
}

// Open loads and attaches the eBPF programs, which run until Close or the end of the
// process. Every error wraps ErrUnavailable.
func Open(f cgroup.Features) (*Meter, error) {
	m := Files(f)
	dir, ok := m.files.unified()
	if !ok {
		return nil, fmt.Errorf("%w: no cgroup hierarchy of version 2 is mounted at or directly below /sys/fs/cgroup", ErrUnavailable)
	}
	c, err := newCounter(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	m.counter = c
	return m, nil
}

// Close ends the counting, and the use of the meter; the groups stay as they are.
func (m *Meter) Close() error {
	if m.counter == nil {
		return nil
	}
	return m.counter.close()
}

// Track begins to measure group, and makes it where it is missing so that nothing of a
// container escapes: on a host with both versions in the hierarchy of version 2, where
// a container joins it. A group that was tracked before, by whichever process,
// continues from what was told last; one that is tracked stays so.
func (m *Meter) Track(group string) error {
	if err := cgroup.Check(group); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.groups[group] != nil {
		return nil
	}
	if len(m.groups) == MaxGroups {
		return fmt.Errorf("track %s: %w", group, ErrFull)
	}
	a, err := m.open(group)
	if err != nil {
		return fmt.Errorf("track %s: %w", group, err)
	}
	m.groups[group] = a
	return nil
}

// open makes the group's account and has it counted.
func (m *Meter) open(group string) (*account, error) {
	dir, err := m.files.anchor(group)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	told, err := recall(dir)
	if err != nil {
		return nil, err
	}
	a := &account{dir: dir, told: told, base: told}
	// It may not be able to write what it tells; that is better known now.
	if err := record(dir, told); err != nil {
		return nil, err
	}
	if m.counter == nil {
		return a, nil
	}
	if a.counted, err = groupOf(dir, group); err != nil {
		return nil, err
	}
	// Time until here is charged before the files are read, lest it counts twice.
	if err := m.counter.settle(); err != nil {
		return nil, err
	}
	past, err := m.files.times(group)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	a.baseCPU = max(past.total, told.CPU())
	return a, m.counter.track(a.counted)
}

// groupOf identifies the group whose directory is dir.
func groupOf(dir, group string) (counted, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return counted{}, err
	}
	return counted{id: info.Sys().(*syscall.Stat_t).Ino, depth: depth(group)}, nil
}

// Untrack ends the measuring of group, and removes what Track made where no container
// came to be; one that is not tracked is no error.
func (m *Meter) Untrack(group string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.groups[group]
	if a == nil {
		return nil
	}
	delete(m.groups, group)
	var err error
	if m.counter != nil {
		err = m.counter.untrack(a.counted)
	}
	// The kernel keeps a group that has processes or groups in it.
	if gone := syscall.Rmdir(a.dir); gone != nil && !errors.Is(gone, syscall.ENOENT) && !errors.Is(gone, syscall.EBUSY) {
		err = errors.Join(err, &fs.PathError{Op: "rmdir", Path: a.dir, Err: gone})
	}
	if err != nil {
		return fmt.Errorf("untrack %s: %w", group, err)
	}
	return nil
}

// Read tells what group has used since it was made. Errors wrap ErrUntracked, and
// fs.ErrNotExist where the container has not started or is gone.
func (m *Meter) Read(group string) (Usage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.groups[group]
	if a == nil {
		return Usage{}, fmt.Errorf("meter %s: %w", group, ErrUntracked)
	}
	u, err := m.read(group, a)
	if err != nil {
		return Usage{}, fmt.Errorf("meter %s: %w", group, err)
	}
	return u, nil
}

func (m *Meter) read(group string, a *account) (Usage, error) {
	now, err := m.files.times(group)
	if err != nil {
		return Usage{}, err
	}
	next := Usage{Source: FromFiles}
	total := now.total
	if m.counter != nil {
		c, err := m.counter.read(a.counted.id)
		if err != nil {
			return Usage{}, err
		}
		total = a.baseCPU + c.cpu
		next = a.base.plus(c)
	}
	next.User, next.System = now.split(total, a.told)
	if err := record(a.dir, next.keeping(a.told)); err != nil {
		return Usage{}, err
	}
	a.told = next.keeping(a.told)
	return next, nil
}

// depth is how many names a group's path has.
func depth(group string) int {
	n := 0
	for ; group != "/"; group = filepath.Dir(group) {
		n++
	}
	return n
}
