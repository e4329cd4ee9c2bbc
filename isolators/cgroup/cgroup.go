package cgroup

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

const (
	// MinCPUMilli is the least CPU time that a container is capped at: with less, its
	// start alone would take seconds.
	MinCPUMilli = 100
	// MinMemoryBytes is the least memory that a container is limited to: starting it
	// takes about a third of that.
	MinMemoryBytes = 32 << 20
	// MaxProcesses bounds the processes and threads of one container.
	MaxProcesses = 1024
)

var ours = regexp.MustCompile(`^/gantry-[0-9a-f]{8}(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$`)

// Name is the parent of all groups of the cluster whose work directory is workDir: a
// hash of the absolute path.
func Name(workDir string) string {
	abs, err := filepath.Abs(workDir)
	if err != nil {
		abs = filepath.Clean(workDir)
	}
	sum := sha256.Sum256([]byte(abs))
	return "/gantry-" + hex.EncodeToString(sum[:4])
}

// Container is the group of the container id of the cluster at parent. (It is not
// below "tasks": on version 1 each group has a file of that name.)
func Container(parent, id string) string { return parent + "/containers/" + id }

// Keeper is the group of the keeper of the cluster at parent.
func Keeper(parent string) string { return parent + "/keeper" }

// Plugin is the group of the plugin name of the cluster at parent.
func Plugin(parent, name string) string { return parent + "/plugins/" + name }

// Limits bounds a container that was given cpuMilli thousandths of a CPU and memBytes
// of memory: the CPU share and cap are cpuMilli, with the cap at least MinCPUMilli;
// memory is memBytes but at least MinMemoryBytes; and there are at most MaxProcesses.
// Zero or less means that there is no bound.
func Limits(cpuMilli, memBytes int64) *containerpb.Limits {
	l := &containerpb.Limits{Pids: MaxProcesses}
	if cpuMilli > 0 {
		l.CpuMilli = cpuMilli
		l.CpuQuotaMilli = max(cpuMilli, MinCPUMilli)
	}
	if memBytes > 0 {
		l.MemoryBytes = max(memBytes, MinMemoryBytes)
	}
	return l
}

// Check refuses every group that is not below a parent as Name makes it.
func Check(group string) error {
	if !ours.MatchString(group) || path.Clean(group) != group {
		return fmt.Errorf("cgroup %q is not below /gantry-XXXXXXXX", group)
	}
	if slices.Contains(strings.Split(group, "/"), "tasks") {
		return fmt.Errorf("cgroup %q: version 1 has files named tasks, so no group can be", group)
	}
	return nil
}
