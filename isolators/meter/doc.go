// Package meter tells what containers use. CPU time and network traffic are counted by
// eBPF programs for the control groups that are tracked, and for no others; memory,
// limits and the rest are read from the groups' files, and so is CPU time where the
// host does not let eBPF in.
//
//	m, err := meter.Open(features)
//	if errors.Is(err, meter.ErrUnavailable) {
//		log.Warn("tasks' network traffic is not counted", "reason", err)
//		m = meter.Files(features)
//	}
//	defer m.Close()
//	err = m.Track(group) // before the container starts, and when the agent does
//	stats, err := m.Sample(group, time.Now())
//	err = m.Untrack(group)
//
// # What is counted
//
// CPU time is what the scheduler has given to each process when that leaves a CPU, and
// for those that stay on theirs, up to that CPU's last tick. It is what getrusage(2)
// tells: without interrupts, and without what a hypervisor took, where the kernel knows
// of these. Which part of it was the system's is not counted: that is the proportion
// that the files tell, which the kernel samples.
//
// Traffic is that of the IPv4 and IPv6 sockets that were made in the group, also over
// loopback: a process that talks to itself sends and receives. Bytes are those of IP
// packets, headers included. What the kernel answers without a socket (resets, pings)
// is nobody's.
//
// Groups nest: what a process uses counts for its group and for each one above. Two
// meters on a host count by themselves and do not disturb each other.
//
// # Across restarts
//
// The programs live as long as the process that opened the meter, so that nothing is
// left of a cluster that was killed. What was last told of a group is written on the
// group itself, as an extended attribute that goes with it, before it is told; whoever
// tracks it next continues from there. So no number ever goes backwards, by whichever
// source. CPU time used while nobody counts comes from the group's files; traffic of
// that time is lost.
package meter

// The flags name both of Debian's folders of asm/types.h, of which a host has one.
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -target bpfel,bpfeb count count.bpf.c -- -O2 -Wall -Werror -I/usr/include/x86_64-linux-gnu -I/usr/include/aarch64-linux-gnu
