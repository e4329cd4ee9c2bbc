package cgroup

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	"google.golang.org/protobuf/proto"
)

func TestNameIsOfTheAbsolutePath(t *testing.T) {
	if Name("/var/lib/a") == Name("/var/lib/b") {
		t.Error("two directories share a name")
	}
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	if Name("x/../y") != Name(filepath.Join(wd, "y")) {
		t.Error("two ways to write a path have two names")
	}
	if err := Check(Name("x")); err != nil {
		t.Error(err)
	}
}

func TestLimits(t *testing.T) {
	for _, tc := range []struct {
		cpu, mem int64
		want     *containerpb.Limits
	}{
		{500, 64 << 20, &containerpb.Limits{CpuMilli: 500, CpuQuotaMilli: 500, MemoryBytes: 64 << 20, Pids: MaxProcesses}},
		{10, 1, &containerpb.Limits{CpuMilli: 10, CpuQuotaMilli: MinCPUMilli, MemoryBytes: MinMemoryBytes, Pids: MaxProcesses}},
		{0, 0, &containerpb.Limits{Pids: MaxProcesses}},
		{-1, -1, &containerpb.Limits{Pids: MaxProcesses}},
	} {
		if got := Limits(tc.cpu, tc.mem); !proto.Equal(got, tc.want) {
			t.Errorf("Limits(%d, %d) = %v, want %v", tc.cpu, tc.mem, got, tc.want)
		}
	}
}

func TestCheck(t *testing.T) {
	parent := Name("/x")
	for _, good := range []string{parent, Keeper(parent), Plugin(parent, "drf"), Container(parent, "c-1.2_3")} {
		if err := Check(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{
		"", "/", "/gantry-", "/gantry-1234567", "/gantry-123456789", "/gantry-1234567g", "gantry-12345678",
		"/gantry-12345678/", "/gantry-12345678//x", "/gantry-12345678/..", "/gantry-12345678/../x",
		"/gantry-12345678/.x", "/system.slice", "/x/gantry-12345678", "/gantry-12345678\n", "/gantry-12345678/tasks/c",
	} {
		if Check(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
		if err := Remove(context.Background(), bad); err == nil {
			t.Errorf("%q can be removed", bad)
		}
	}
}

func TestParseMounts(t *testing.T) {
	for name, tc := range map[string]struct {
		mountinfo string
		want      []Hierarchy
	}{
		"unified": {
			"31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n",
			[]Hierarchy{{Mount: "/sys/fs/cgroup", V2: true}},
		},
		"hybrid": {
			`24 23 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs rw,mode=755
25 24 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup rw
26 24 0:24 / /sys/fs/cgroup/cpu,cpuacct rw shared:4 - cgroup cgroup rw,cpu,cpuacct
27 24 0:25 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/lib/systemd/agent,name=systemd
28 24 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
29 50 0:26 / /var/elsewhere/memory rw - cgroup cgroup rw,memory
30 24 0:26 / /sys/fs/cgroup/twice rw - cgroup cgroup rw,memory
`,
			[]Hierarchy{
				{Mount: "/sys/fs/cgroup/unified", V2: true},
				{Mount: "/sys/fs/cgroup/cpu,cpuacct", Controllers: []string{"cpu", "cpuacct"}},
				{Mount: "/sys/fs/cgroup/systemd", Controllers: []string{"name=systemd"}},
				{Mount: "/sys/fs/cgroup/memory", Controllers: []string{"memory"}},
			},
		},
		"none": {"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n", nil},
	} {
		got, err := parseMounts(strings.NewReader(tc.mountinfo))
		if err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	if _, err := parseMounts(strings.NewReader("nonsense\n")); err == nil {
		t.Error("nonsense is accepted")
	}
}

func TestRemoveKillsWhatIsInside(t *testing.T) {
	requireRoot(t)
	f, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	parent := Name(t.TempDir())
	group := Container(parent, "c")
	defer Remove(context.Background(), parent)
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	place(t, f, group, cmd.Process.Pid)
	if pids, err := f.Members(parent); err != nil || len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("members: %v, %v", pids, err)
	}
	if usage, err := f.Usage(group); err != nil || usage.OOMKills != 0 {
		t.Errorf("usage: %+v, %v", usage, err)
	}
	if err := f.CapCPU(group, 250); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := Remove(context.Background(), parent); err != nil {
			t.Error(err)
		}
	}
	if err := <-ended; err == nil {
		t.Error("the process ended by itself")
	}
	for _, h := range f.Hierarchies {
		if _, err := os.Stat(filepath.Join(h.Mount, parent)); err == nil {
			t.Errorf("%s is left in %s", parent, h.Mount)
		}
	}
	if pids, err := f.Members(parent); err != nil || len(pids) != 0 {
		t.Errorf("members of a group that is gone: %v, %v", pids, err)
	}
}

// place puts a process into group, in every hierarchy where that needs no more than a
// write.
func place(t *testing.T, f Features, group string, pid int) {
	t.Helper()
	if f.Unified {
		delegate(t, f.Hierarchies[0].Mount, group)
	}
	for _, h := range f.Hierarchies {
		dir := filepath.Join(h.Mount, group)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if f.Unified || len(h.Controllers) == 0 || h.Controllers[0] != "cpuset" {
			if err := write(dir, "cgroup.procs", strconv.Itoa(pid)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// delegate makes the groups down to group, which on version 2 have a controller only
// where those above let them.
func delegate(t *testing.T, dir, group string) {
	t.Helper()
	for name := range strings.SplitSeq(strings.TrimPrefix(group, "/"), "/") {
		if err := write(dir, "cgroup.subtree_control", "+cpu +memory"); err != nil {
			t.Fatal(err)
		}
		dir = filepath.Join(dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func requireRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("GANTRY_REQUIRE_ROOT") == "1" {
		t.Fatal("making control groups needs root")
	}
	t.Skip("making control groups needs root")
}

// Limits go up and down, and memory's with those of memory and swap together.
func TestResize(t *testing.T) {
	requireRoot(t)
	f, err := Probe()
	if err != nil {
		t.Fatal(err)
	}
	group := Name(t.TempDir())
	for _, controller := range []string{"cpu", "memory"} {
		dir, ok := f.dir(controller, group)
		if !ok {
			t.Fatalf("no %s controller", controller)
		}
		if f.Unified {
			delegate(t, filepath.Dir(dir), group)
		}
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := f.Remove(context.Background(), group); err != nil {
			t.Error(err)
		}
	})
	file := "memory.limit_in_bytes"
	if f.Unified {
		file = "memory.max"
	}
	dir, _ := f.dir("memory", group)
	for _, mebibytes := range []int64{64, 256, 128} {
		if err := f.Resize(group, Limits(500, mebibytes<<20)); err != nil {
			t.Fatal(err)
		}
		if got, err := readInt(filepath.Join(dir, file)); err != nil || got != mebibytes<<20 {
			t.Errorf("%s has %d, %v; want %d MiB", file, got, err, mebibytes)
		}
	}
	if err := f.Resize(group+"/none", Limits(500, 0)); err == nil {
		t.Error("no error for a group that is not there")
	}
}
