//go:build ignore

// SPDX-License-Identifier: Apache-2.0 OR BSD-2-Clause OR GPL-2.0-only
//
// The kernel shows its structures to programs under the GPL only, among others; so this
// file may be used under that, too, and the objects say so in words that it knows.

// Counts the CPU time and the network traffic of the control groups that the user of
// these programs has put into the map groups, and of no others.
//
// Groups nest: what a process uses is counted for its group and each one above. Those
// that may be in the map are at a few levels of the tree only, so a bit for each level
// spares the others a lookup.

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define MAX_GROUPS 16384
#define MAX_LEVELS 32

// What is read of the kernel's structures; where it stands in them is found when the
// programs are loaded.
struct sched_entity {
	__u64 sum_exec_runtime; // nanoseconds
	__u64 prev_sum_exec_runtime; // the same when it was given the CPU
} __attribute__((preserve_access_index));

struct task_struct {
	struct sched_entity se;
} __attribute__((preserve_access_index));

// usage is what one group used on one CPU.
struct usage {
	__u64 cpu_nanos;
	__u64 rx_bytes;
	__u64 rx_packets;
	__u64 tx_bytes;
	__u64 tx_packets;
};

// Programs never insert, so memory is taken for the groups that there are.
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MAX_GROUPS);
	__type(key, __u64); // id of a group
	__type(value, struct usage);
} groups SEC(".maps");

// running is the process that has a CPU, and how much of its CPU time was charged.
struct running {
	__u64 task;
	__u64 charged_nanos;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct running);
} cpu SEC(".maps");

// Bit n says that there may be groups of level n; the root, which is never counted, has 0.
volatile __u32 levels;

// charge gives to the groups of the current process, which is task, what it used since
// that was charged last, and returns what there is to know of who has this CPU.
static __always_inline struct running *charge(struct task_struct *task)
{
	__u32 zero = 0, in = levels;
	struct running *r = bpf_map_lookup_elem(&cpu, &zero);
	if (!r)
		return 0;
	// Read once: another CPU may bring it up to date meanwhile.
	__u64 total = task->se.sum_exec_runtime;
	__u64 began = task->se.prev_sum_exec_runtime;
	barrier_var(began); // the verifier wants one load for each kind of pointer
	// A switch that was missed leaves another process here.
	__u64 used = total - (r->task == (__u64)task ? r->charged_nanos : began);
	r->task = (__u64)task;
	r->charged_nanos = total;
	for (int level = 1; level < MAX_LEVELS; level++) {
		if (!(in >> level))
			break;
		if (!(in >> level & 1))
			continue;
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);
		if (!id)
			break;
		struct usage *u = bpf_map_lookup_elem(&groups, &id);
		if (u)
			u->cpu_nanos += used;
	}
	return r;
}

// The arguments are whether it was forced, who leaves the CPU and who gets it. Who
// leaves is still the current process, and its time is up to date.
SEC("tp_btf/sched_switch")
int on_switch(__u64 *args)
{
	struct task_struct *next = (struct task_struct *)args[2];
	struct running *r = charge((struct task_struct *)args[1]);
	if (r) {
		r->task = (__u64)next;
		r->charged_nanos = next->se.sum_exec_runtime;
	}
	return 0;
}

// settle is run on a CPU, from outside, to charge the process that has it. No switch can
// come between.
SEC("raw_tp")
int settle(void *ctx)
{
	charge(bpf_get_current_task_btf());
	return 0;
}

// level_of tells the level at which the group args[0] is above the caller or the
// caller's own; MAX_LEVELS if it is not.
SEC("raw_tp")
int level_of(struct bpf_raw_tracepoint_args *ctx)
{
	__u64 want = ctx->args[0];
	for (int level = 0; level < MAX_LEVELS; level++) {
		__u64 id = bpf_get_current_ancestor_cgroup_id(level);
		if (id == want)
			return level;
		if (!id)
			break;
	}
	return MAX_LEVELS;
}

// A large packet that hardware splits, or that was merged, counts as what it is on the
// wire. Traffic is counted where it may be interrupted by more of it on the same CPU.
static __always_inline void count(struct __sk_buff *skb, int outward)
{
	__u32 in = levels, packets = skb->gso_segs;
	if (!packets)
		packets = 1;
	for (int level = 1; level < MAX_LEVELS; level++) {
		if (!(in >> level))
			return;
		if (!(in >> level & 1))
			continue;
		__u64 id = bpf_skb_ancestor_cgroup_id(skb, level);
		if (!id)
			return;
		struct usage *u = bpf_map_lookup_elem(&groups, &id);
		if (!u)
			continue;
		__sync_fetch_and_add(outward ? &u->tx_bytes : &u->rx_bytes, skb->len);
		__sync_fetch_and_add(outward ? &u->tx_packets : &u->rx_packets, packets);
	}
}

SEC("cgroup_skb/ingress")
int on_ingress(struct __sk_buff *skb)
{
	count(skb, 0);
	return 1; // let it pass
}

SEC("cgroup_skb/egress")
int on_egress(struct __sk_buff *skb)
{
	count(skb, 1);
	return 1;
}

char __license[] SEC("license") = "Dual BSD/GPL";
