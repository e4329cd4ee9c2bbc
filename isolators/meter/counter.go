package meter

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
)

const (
	kernelTypes = "/sys/kernel/btf/vmlinux"
	lockdown    = "/sys/kernel/security/lockdown"
	maxLevels   = 32 // as in the programs
	onCPU       = 1  // BPF_F_TEST_RUN_ON_CPU
)

// counter is the eBPF programs, loaded and attached. Its user calls one method at a time.
type counter struct {
	objects countObjects
	links   []io.Closer
	cpus    int
	// rootLevel is where the mounted hierarchy begins in the kernel's, which is not at
	// zero in a cgroup namespace.
	rootLevel int
	tracked   [maxLevels]int // by level, how many groups
}

// counted identifies a group to the programs.
type counted struct {
	id    uint64
	depth int // below the root of the hierarchy
}

// count is what the programs counted for one group.
type count struct {
	countUsage
	cpu time.Duration
}

// newCounter begins to count in the version 2 hierarchy that is mounted at root.
func newCounter(root string) (*counter, error) {
	if _, err := os.Stat(kernelTypes); err != nil {
		return nil, fmt.Errorf("the kernel does not describe its types (BTF), which takes CONFIG_DEBUG_INFO_BTF: %w", err)
	}
	if err := rlimit.RemoveMemlock(); err != nil {
		return nil, fmt.Errorf("lift the limit of locked memory, which some kernels charge maps to: %w", err)
	}
	cpus, err := ebpf.PossibleCPU()
	if err != nil {
		return nil, fmt.Errorf("count the CPUs: %w", err)
	}
	c := &counter{cpus: cpus}
	if err := loadCountObjects(&c.objects, nil); err != nil {
		return nil, loadError(err)
	}
	if err := c.start(root); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// loadError adds what refusals by the kernel mean.
func loadError(err error) error {
	if !errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("load the programs, which takes Linux 5.11 or newer: %w", err)
	}
	if mode, failed := os.ReadFile(lockdown); failed == nil && strings.Contains(string(mode), "[confidentiality]") {
		return fmt.Errorf("load the programs: the kernel is locked down (see %s): %w", lockdown, err)
	}
	return fmt.Errorf("load the programs, which takes root or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN: %w", err)
}

func (c *counter) start(root string) error {
	if err := c.findRoot(root); err != nil {
		return err
	}
	onSwitch, err := link.AttachTracing(link.TracingOptions{Program: c.objects.OnSwitch})
	if err != nil {
		return fmt.Errorf("attach to the scheduler: %w", err)
	}
	c.links = append(c.links, onSwitch)
	for _, hook := range []struct {
		way     string
		attach  ebpf.AttachType
		program *ebpf.Program
	}{
		{"ingress", ebpf.AttachCGroupInetIngress, c.objects.OnIngress},
		{"egress", ebpf.AttachCGroupInetEgress, c.objects.OnEgress},
	} {
		l, err := link.AttachCgroup(link.CgroupOptions{Path: root, Attach: hook.attach, Program: hook.program})
		if err != nil {
			return fmt.Errorf("attach to the network %s of %s: %w", hook.way, root, err)
		}
		c.links = append(c.links, l)
	}
	if err := c.settle(); err != nil {
		return fmt.Errorf("this takes Linux 5.11 or newer: %w", err)
	}
	return nil
}

// findRoot sets rootLevel.
func (c *counter) findRoot(root string) error {
	g, err := groupOf(root, "/")
	if err != nil {
		return err
	}
	level, err := c.objects.LevelOf.Run(&ebpf.RunOptions{Context: [1]uint64{g.id}})
	if err != nil {
		return fmt.Errorf("find the level of %s, which takes Linux 5.11 or newer: %w", root, err)
	}
	if level >= maxLevels {
		return fmt.Errorf("this process is not below the cgroup that is mounted at %s: mount the hierarchy of its own cgroup namespace there", root)
	}
	c.rootLevel = int(level)
	return nil
}

func (c *counter) track(g counted) error {
	level := c.rootLevel + g.depth
	if level >= maxLevels {
		return fmt.Errorf("the cgroup is %d levels deep, which is more than %d", level, maxLevels-1)
	}
	if err := c.objects.Groups.Put(g.id, make([]countUsage, c.cpus)); err != nil {
		return fmt.Errorf("count it: %w", err)
	}
	c.tracked[level]++
	return c.setLevels()
}

func (c *counter) untrack(g counted) error {
	if err := c.objects.Groups.Delete(g.id); err != nil {
		return fmt.Errorf("count it no more: %w", err)
	}
	c.tracked[c.rootLevel+g.depth]--
	return c.setLevels()
}

// setLevels tells the programs where groups may be.
func (c *counter) setLevels() error {
	var levels uint32
	for level, n := range c.tracked {
		if n > 0 {
			levels |= 1 << level
		}
	}
	return c.objects.Levels.Set(levels)
}

// read tells what the group used since it was tracked.
func (c *counter) read(id uint64) (count, error) {
	if err := c.settle(); err != nil {
		return count{}, err
	}
	perCPU := make([]countUsage, 0, c.cpus)
	if err := c.objects.Groups.Lookup(id, &perCPU); err != nil {
		return count{}, fmt.Errorf("read what was counted: %w", err)
	}
	var sum count
	for _, u := range perCPU {
		sum.cpu += time.Duration(u.CpuNanos)
		sum.RxBytes += u.RxBytes
		sum.RxPackets += u.RxPackets
		sum.TxBytes += u.TxBytes
		sum.TxPackets += u.TxPackets
	}
	return sum, nil
}

// settle charges the processes that have a CPU for what they used. Each CPU does that
// itself, between its own switches, so no time counts twice or is lost.
func (c *counter) settle() error {
	for cpu := range c.cpus {
		_, err := c.objects.Settle.Run(&ebpf.RunOptions{CPU: uint32(cpu), Flags: onCPU})
		if err != nil && !errors.Is(err, syscall.ENXIO) { // a CPU that is off runs nothing
			return fmt.Errorf("charge CPU %d: %w", cpu, err)
		}
	}
	return nil
}

func (c *counter) close() error {
	var failed error
	for _, l := range slices.Backward(c.links) {
		failed = errors.Join(failed, l.Close())
	}
	return errors.Join(failed, c.objects.Close())
}
