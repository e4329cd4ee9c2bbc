package meter

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
)

// Files of a group, and what they tell, as a message in text. A line is a path and what
// the file has, with slashes between lines.
var samples = map[string]struct {
	features cgroup.Features
	files    string
	want     string
	times    times
}{
	"version 1": {
		cgroup.Features{Hierarchies: []cgroup.Hierarchy{
			{Mount: "cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"}},
			{Mount: "memory", Controllers: []string{"memory"}},
			{Mount: "devices", Controllers: []string{"devices"}},
			{Mount: "pids", Controllers: []string{"pids"}},
		}},
		`cpu,cpuacct/cpuacct.usage 2500000000
cpu,cpuacct/cpuacct.stat user 150/system 100
cpu,cpuacct/cpu.stat nr_periods 20/nr_throttled 4/throttled_time 1500000000/nr_bursts 0
cpu,cpuacct/cpu.cfs_quota_us 50000
cpu,cpuacct/cpu.cfs_period_us 100000
memory/memory.usage_in_bytes 1000
memory/memory.memsw.usage_in_bytes 1100
memory/memory.kmem.usage_in_bytes 100
memory/memory.kmem.tcp.usage_in_bytes 10
memory/memory.limit_in_bytes 33554432
memory/memory.soft_limit_in_bytes 9223372036854771712
memory/memory.stat cache 1/rss 2/total_cache 600/total_rss 300/total_mapped_file 50/total_swap 100/total_unevictable 7
devices/cgroup.procs 10/11
devices/below/cgroup.procs 12
pids/pids.current 9`,
		`cpus_nr_periods: 20 cpus_nr_throttled: 4 cpus_throttled_time_secs: 1.5 cpus_limit: 0.5
mem_total_bytes: 1000 mem_total_memsw_bytes: 1100 mem_kmem_usage_bytes: 100 mem_kmem_tcp_usage_bytes: 10
mem_limit_bytes: 33554432 mem_rss_bytes: 300 mem_anon_bytes: 300 mem_cache_bytes: 600 mem_file_bytes: 600
mem_mapped_file_bytes: 50 mem_swap_bytes: 100 mem_unevictable_bytes: 7 processes: 3 threads: 9`,
		times{total: 2500 * time.Millisecond, user: 150, system: 100},
	},
	"version 2": {
		cgroup.Features{Unified: true, Hierarchies: []cgroup.Hierarchy{
			{Mount: ".", Controllers: []string{"cpu", "memory", "pids"}, V2: true},
		}},
		`cpu.stat usage_usec 2500000/user_usec 1500000/system_usec 1000000/nr_periods 20/nr_throttled 4/throttled_usec 1500000
cpu.max 150000 100000
memory.current 1000
memory.swap.current 100
memory.max 33554432
memory.stat anon 300/file 600/kernel 90/file_mapped 50/unevictable 7
cgroup.procs 10
pids.current 2`,
		`cpus_nr_periods: 20 cpus_nr_throttled: 4 cpus_throttled_time_secs: 1.5 cpus_limit: 1.5
mem_total_bytes: 1000 mem_kmem_usage_bytes: 90 mem_limit_bytes: 33554432 mem_rss_bytes: 300 mem_anon_bytes: 300
mem_cache_bytes: 600 mem_file_bytes: 600 mem_mapped_file_bytes: 50 mem_swap_bytes: 100 mem_unevictable_bytes: 7
processes: 1 threads: 2`,
		times{total: 2500 * time.Millisecond, user: 1500000, system: 1000000},
	},
	"version 2 without limits": {
		cgroup.Features{Unified: true, Hierarchies: []cgroup.Hierarchy{
			{Mount: ".", Controllers: []string{"cpu", "memory"}, V2: true},
		}},
		`cpu.stat usage_usec 1/user_usec 1/system_usec 0
cpu.max max 100000
memory.current 1000
memory.max max
memory.stat anon 300
cgroup.procs 10`,
		`mem_total_bytes: 1000 mem_rss_bytes: 300 mem_anon_bytes: 300 processes: 1`,
		times{total: time.Microsecond, user: 1},
	},
}

func TestFilesAreUnderstood(t *testing.T) {
	for name, tc := range samples {
		f := lay(t, tc.features, tc.files)
		got, want := new(mesos.ResourceStatistics), new(mesos.ResourceStatistics)
		if err := f.sample(laid, got); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := (prototext.UnmarshalOptions{AllowPartial: true}).Unmarshal([]byte(tc.want), want); err != nil {
			t.Fatal(err)
		}
		if !proto.Equal(got, want) {
			t.Errorf("%s: got\n%v\nwant\n%v", name, got, want)
		}
		if got, err := f.times(laid); got != tc.times || err != nil {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, tc.times)
		}
	}
}

// laid is the group that lay makes.
const laid = "/gantry-00000000/c"

// lay writes the files of a group, each in its hierarchy, below a folder.
func lay(t *testing.T, features cgroup.Features, text string) files {
	t.Helper()
	top := t.TempDir()
	hierarchies := append([]cgroup.Hierarchy(nil), features.Hierarchies...)
	for i := range hierarchies {
		hierarchies[i].Mount = filepath.Join(top, hierarchies[i].Mount)
	}
	features.Hierarchies = hierarchies
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		mount, file := "", name
		if before, after, ok := strings.Cut(name, "/"); ok {
			mount, file = before, after
		}
		path := filepath.Join(top, mount, laid, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(value, "/", "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return files{features}
}

func TestFilesThatAreNotUnderstood(t *testing.T) {
	v2 := samples["version 2"]
	for _, bad := range []string{
		"cpu.stat nr_periods", "cpu.stat nr_periods -1", "cpu.max", "cpu.max x 100000", "memory.current many",
		"memory.max unlimited", "memory.stat anon 1 2", "pids.current 1.5",
	} {
		f := lay(t, v2.features, v2.files+"\n"+bad)
		if err := f.sample(laid, new(mesos.ResourceStatistics)); err == nil {
			t.Errorf("%s: accepted", bad)
		}
	}
}

func TestSampleOfALivingGroup(t *testing.T) {
	h := newHost(t)
	m, group := h.open(t), h.group("c")
	track(t, m, group)
	h.script(t, group, "while :; do :; done").runFor(t, 10*time.Millisecond)
	s, err := m.Sample(group, time.Unix(1000, 500_000_000))
	if err != nil {
		t.Fatal(err)
	}
	if s.GetTimestamp() != 1000.5 || s.GetProcesses() != 1 || s.GetCpusUserTimeSecs()+s.GetCpusSystemTimeSecs() == 0 ||
		s.NetRxBytes == nil || s.NetTxPackets == nil {
		t.Errorf("got %v", s)
	}
	if s.CpusLimit != nil || s.MemLimitBytes != nil {
		t.Errorf("limits of a group that has none: %v", s)
	}
	if h.features.Unified {
		return // nobody has delegated controllers to the group
	}
	if s.MemTotalBytes == nil || s.MemRssBytes == nil || s.GetThreads() != 1 {
		t.Errorf("got %v", s)
	}
	if err := h.features.CapCPU(group, 250); err != nil {
		t.Fatal(err)
	}
	if s, err = m.Sample(group, time.Unix(1001, 0)); err != nil || s.GetCpusLimit() != 0.25 {
		t.Errorf("got %v, %v", s, err)
	}
}
