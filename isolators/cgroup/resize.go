package cgroup

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"

	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// Resize gives a group that a container runs in other limits of CPU and memory; one that
// is zero in l stays as it is. Memory that is in use can't be taken away: the error says so.
func (f Features) Resize(group string, l *containerpb.Limits) error {
	if err := Check(group); err != nil {
		return err
	}
	var err error
	if milli := l.GetCpuMilli(); milli > 0 {
		err = f.weigh(group, milli)
	}
	if quota := l.GetCpuQuotaMilli(); quota > 0 {
		err = errors.Join(err, f.CapCPU(group, quota))
	}
	if bytes := l.GetMemoryBytes(); bytes > 0 {
		err = errors.Join(err, f.boundMemory(group, bytes))
	}
	if err != nil {
		return fmt.Errorf("resize cgroup %s: %w", group, err)
	}
	return nil
}

// weigh sets what a group gets of a CPU that is contended.
func (f Features) weigh(group string, milli int64) error {
	dir, ok := f.dir("cpu", group)
	if !ok {
		return errors.New("the cpu cgroup controller is not available")
	}
	if f.Unified {
		return write(dir, "cpu.weight", strconv.FormatInt(min(max(milli/10, 1), 10_000), 10))
	}
	return write(dir, "cpu.shares", strconv.FormatInt(max(milli*1024/1000, 2), 10))
}

// boundMemory sets the limit of memory and, where swap is limited, of both together: that
// is never the lower one, so it goes first on the way up.
func (f Features) boundMemory(group string, bytes int64) error {
	dir, ok := f.dir("memory", group)
	if !ok {
		return errors.New("the memory cgroup controller is not available")
	}
	value := strconv.FormatInt(bytes, 10)
	if f.Unified {
		return write(dir, "memory.max", value)
	}
	const memory, both = "memory.limit_in_bytes", "memory.memsw.limit_in_bytes"
	if !f.Swap {
		return write(dir, memory, value)
	}
	now, err := readInt(filepath.Join(dir, memory))
	if err != nil {
		return err
	}
	order := []string{memory, both}
	if bytes > now {
		order = []string{both, memory}
	}
	for _, file := range order {
		if err := write(dir, file, value); err != nil {
			return err
		}
	}
	return nil
}
