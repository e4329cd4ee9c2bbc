package main_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/gantry-project/gantry/isolators/cgroup"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

func TestExitStatus(t *testing.T) {
	h := newHost(t)
	for _, tc := range []struct {
		id           string
		argv         []string
		status, term int32
		stdout       string
	}{
		{"true", []string{"true"}, 0, 0, ""},
		{"three", []string{"sh", "-c", "echo hi; exit 3"}, 3, 0, "hi\n"},
		{"self-kill", []string{"sh", "-c", `sh -c 'kill -SEGV $$'; exit $?`}, 139, 0, ""},
		{"sandbox", []string{"sh", "-c", "pwd; id -u; hostname"}, 0, 0, "/mnt/mesos/sandbox\n0\nbox\n"},
	} {
		exit := h.run(t, h.spec(t, tc.id, tc.argv...))
		if exit.GetStatus() != tc.status || exit.GetSignal() != tc.term || exit.GetUnknown() || exit.GetOomKilled() {
			t.Errorf("%s: %v", tc.id, exit)
		}
		if out := h.output(t, tc.id, "stdout"); out != tc.stdout {
			t.Errorf("%s wrote %q, want %q; stderr %q", tc.id, out, tc.stdout, h.output(t, tc.id, "stderr"))
		}
		if exit.GetLabels()["task"] != tc.id || exit.GetBootId() == "" || exit.GetStartedUnixNanos() > exit.GetExitedUnixNanos() {
			t.Errorf("%s: incomplete record: %v", tc.id, exit)
		}
	}
}

func TestStartFails(t *testing.T) {
	h := newHost(t)
	noProgram := h.spec(t, "no-program", "no-such-program")
	noMount := h.spec(t, "no-mount", "true")
	noMount.Mounts = append(noMount.Mounts, &containerpb.Mount{
		Source: filepath.Join(h.work, "missing"), Target: "/mnt/x", Type: "bind"})
	foreign := h.spec(t, "foreign", "true")
	foreign.Cgroup = "/system.slice/x"
	output := h.spec(t, "output", "true")
	if err := os.Symlink("/etc/shadow", output.GetStdoutPath()); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		spec *containerpb.Spec
		says string
	}{
		{noProgram, "no-such-program"},
		{noMount, "missing"},
		{foreign, "/system.slice/x"},
		{output, "open standard output"},
	} {
		if err := h.client.Start(within(t), tc.spec); err != nil {
			t.Fatal(err)
		}
		failed := h.next(t).GetStartFailed()
		if failed.GetContainerId() != tc.spec.GetId() || !strings.Contains(failed.GetMessage(), tc.says) {
			t.Errorf("%s: got %v, want a failure that says %q", tc.spec.GetId(), failed, tc.says)
		}
		if left := groups(t, tc.spec.GetCgroup()); len(left) > 0 && tc.spec != foreign {
			t.Errorf("%s: cgroups are left: %v", tc.spec.GetId(), left)
		}
	}
	again := h.spec(t, "again", "true")
	again.Id = "no-program"
	again.StdoutPath = filepath.Join(h.sandbox("again"), "out")
	if exit := h.run(t, again); exit.GetStatus() != 0 {
		t.Errorf("an id is not free after a failed start: %v", exit)
	}
}

func TestConfinement(t *testing.T) {
	h := newHost(t)
	spec := h.spec(t, "status", "sh", "-c", "cat /proc/self/status; cat /proc/self/limits")
	spec.Capabilities = []string{"CAP_NET_BIND_SERVICE"}
	h.run(t, spec)
	status := h.output(t, "status", "stdout")
	for _, want := range []string{
		"Seccomp:\t2", "NoNewPrivs:\t1",
		"CapInh:\t0000000000000000", "CapAmb:\t0000000000000000",
		"CapPrm:\t0000000000000400", "CapEff:\t0000000000000400", "CapBnd:\t0000000000000400",
		"Max open files            1024                 1024",
	} {
		if !strings.Contains(status, want) {
			t.Errorf("%q is missing in:\n%s", want, status)
		}
	}
}

func TestRootFilesystem(t *testing.T) {
	h := newHost(t)
	for i, tc := range []struct {
		script, stdout string
	}{
		{"touch /x /usr/x /etc/x /bin/x /var/x 2>/dev/null || ls -d /x /usr/x /etc/x /bin/x /var/x 2>/dev/null", ""},
		{"ls -d /root /home /opt /srv /boot /work /etc/shadow /etc/ssl/private 2>/dev/null", ""},
		{"for d in /tmp /run /var/tmp /dev/shm .; do touch $d/x && echo ok; done", "ok\nok\nok\nok\nok\n"},
		{"for f in /dev/null /dev/zero /dev/urandom; do head -c1 $f >/dev/null && echo ok; done", "ok\nok\nok\n"},
		{"mknod /tmp/sda b 8 0 2>/dev/null || echo refused", "refused\n"},
		{"mount -t tmpfs x /tmp 2>/dev/null || echo refused", "refused\n"},
		{"echo 1 2>/dev/null >/proc/sys/vm/overcommit_memory || echo refused", "refused\n"},
		{"ls /proc/1/root/ >/dev/null && cat /proc/1/comm", "sh\n"},
		{"ls /sys/firmware /sys/devices/virtual/powercap 2>/dev/null | grep -v :", "\n"},
		{"grep -v ':/$' /proc/self/cgroup; cd /sys/fs/cgroup && mkdir x */x 2>/dev/null; ls -d x */x 2>/dev/null", ""},
		{"getent hosts localhost >/dev/null && cat /etc/os-release | grep -c '^ID='", "1\n"},
	} {
		id := "fs-" + string(rune('a'+i))
		spec := h.spec(t, id, "sh", "-c", tc.script)
		spec.Capabilities = []string{"CAP_MKNOD", "CAP_DAC_OVERRIDE"}
		h.run(t, spec)
		if out := h.output(t, id, "stdout"); strings.TrimSpace(out) != strings.TrimSpace(tc.stdout) {
			t.Errorf("%s\nwrote %q, want %q; stderr %q", tc.script, out, tc.stdout, h.output(t, id, "stderr"))
		}
	}
}

func TestDevices(t *testing.T) {
	h := newHost(t)
	dir := filepath.Join(h.work, "nodes")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, minor := range map[string]int{"zero": 1<<8 | 5, "serial": 4<<8 | 64} {
		if err := syscall.Mknod(filepath.Join(dir, name), syscall.S_IFCHR|0o666, minor); err != nil {
			t.Fatal(err)
		}
	}
	spec := h.spec(t, "devices", "sh", "-c", "(: </mnt/nodes/serial) 2>&1 | grep -o 'not permitted'; head -c1 /mnt/nodes/zero >/dev/null && echo ok")
	spec.Mounts = append(spec.Mounts, &containerpb.Mount{Source: dir, Target: "/mnt/nodes", Type: "bind"})
	h.run(t, spec)
	if got, want := h.output(t, "devices", "stdout"), "not permitted\nok\n"; got != want {
		t.Errorf("got %q, want %q; stderr %q", got, want, h.output(t, "devices", "stderr"))
	}
}

func TestLongHostname(t *testing.T) {
	h := newHost(t)
	spec := h.spec(t, "long", "hostname")
	spec.Hostname = strings.Repeat("h", 70)
	h.run(t, spec)
	if got, want := h.output(t, "long", "stdout"), spec.Hostname[:63]+"\n"; got != want {
		t.Errorf("the hostname is %q, want %q", got, want)
	}
}

func TestOtherUser(t *testing.T) {
	h := newHost(t)
	spec := h.spec(t, "user", "sh", "-c", "id -u; id -g; id -G; grep CapEff /proc/self/status; cat /etc/gshadow")
	spec.Uid, spec.Gid, spec.AdditionalGids = 1234, 1235, []uint32{1236}
	spec.Capabilities = []string{"CAP_NET_BIND_SERVICE"}
	h.run(t, spec)
	if got, want := h.output(t, "user", "stdout"), "1234\n1235\n1235 1236\nCapEff:\t0000000000000000\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	info, err := os.Stat(spec.GetStdoutPath())
	if err != nil {
		t.Fatal(err)
	}
	if uid := info.Sys().(*syscall.Stat_t).Uid; uid != 1234 {
		t.Errorf("stdout belongs to user %d", uid)
	}
}

func TestLimits(t *testing.T) {
	h := newHost(t)
	h.start(t, h.spec(t, "limits", "sleep", "1000"))
	features, err := cgroup.Probe()
	if err != nil {
		t.Fatal(err)
	}
	limits := []struct{ controller, file, want string }{
		{"cpu", "cpu.shares", "512"},
		{"cpu", "cpu.cfs_quota_us", "50000"},
		{"memory", "memory.limit_in_bytes", "67108864"},
		{"pids", "pids.max", "1024"},
	}
	if features.Unified {
		limits = []struct{ controller, file, want string }{
			{"", "cpu.weight", "50"},
			{"", "cpu.max", "50000 100000"},
			{"", "memory.max", "67108864"},
			{"", "memory.swap.max", "0"},
			{"", "pids.max", "1024"},
		}
	}
	for _, l := range limits {
		data, err := os.ReadFile(filepath.Join("/sys/fs/cgroup", l.controller, cgroup.Container(h.parent, "limits"), l.file))
		if got := strings.TrimSpace(string(data)); got != l.want {
			t.Errorf("%s is %q, want %q: %v", l.file, got, l.want, err)
		}
	}
	if members, err := features.Members(cgroup.Container(h.parent, "limits")); err != nil || len(members) != 1 {
		t.Errorf("members of the cgroup: %v, %v", members, err)
	}
	if members, err := features.Members(cgroup.Keeper(h.parent)); err != nil || len(members) != 2 || !slices.Contains(members, h.pid) || !slices.Contains(members, h.reaper) {
		t.Errorf("members of the keeper's cgroup: %v, %v; the keeper is %d below %d", members, err, h.pid, h.reaper)
	}
	if err := h.client.Signal(within(t), "limits", int(syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if exit := h.exit(t, "limits"); exit.GetSignal() != int32(syscall.SIGKILL) {
		t.Errorf("killed, but: %v", exit)
	}
}

func TestOutOfMemory(t *testing.T) {
	h := newHost(t)
	spec := h.spec(t, "oom", "sh", "-c", "tail /dev/zero; exit 4")
	spec.Limits.MemoryBytes = 32 << 20
	exit := h.run(t, spec)
	if !exit.GetOomKilled() || exit.GetMemoryBytes() < 30<<20 || exit.GetMemoryBytes() > 32<<20 {
		t.Errorf("no trace of running out of memory: %v", exit)
	}
}

func TestProcessLimit(t *testing.T) {
	h := newHost(t)
	spec := h.spec(t, "fork", "sh", "-c", "for i in $(seq 30); do sleep 1000 & done; echo unlimited")
	spec.Limits.Pids = 16
	if exit := h.run(t, spec); exit.GetStatus() == 0 {
		t.Errorf("30 processes under a limit of 16: %v %q", exit, h.output(t, "fork", "stdout"))
	}
}

// A bomb goes off below its limit, and the keeper has time for others.
func TestForkBomb(t *testing.T) {
	h := newHost(t)
	spec := h.spec(t, "bomb", "sh", "-c", "mkfifo f; echo up; b() { b | b & }; b; read x <>f")
	spec.Limits.Pids = 100
	h.start(t, spec)
	h.outputs(t, "bomb", "up\n")
	for _, id := range []string{"one", "two"} {
		if exit := h.run(t, h.spec(t, id, "sh", "-c", "exit 3")); exit.GetStatus() != 3 {
			t.Errorf("beside the bomb: %v", exit)
		}
	}
	if err := h.client.Signal(within(t), "bomb", int(syscall.SIGKILL)); err != nil {
		t.Fatal(err)
	}
	if exit := h.exit(t, "bomb"); exit.GetSignal() != int32(syscall.SIGKILL) {
		t.Errorf("the bomb: %v", exit)
	}
}

func TestDaemonsEndWithTheirContainer(t *testing.T) {
	h := newHost(t)
	if exit := h.run(t, h.spec(t, "daemon", "bash", "-c", h.daemons("sleep 0.2; exit 5"))); exit.GetStatus() != 5 {
		t.Errorf("got %v; stderr %q", exit, h.output(t, "daemon", "stderr"))
	}
	h.noDaemons(t)
}

// daemons is a script that leaves processes behind in every way, and goes on with then.
func (h *host) daemons(then string) string {
	return `(setsid sh -c '(exec -a ` + h.mark() + ` sleep 1000) & sleep 1000' &) ; ` + then
}

// mark is in the command line of the daemons, which the host can see.
func (h *host) mark() string { return "31.4159" + strings.TrimPrefix(h.parent, "/gantry-") }

func (h *host) noDaemons(t *testing.T) {
	t.Helper()
	procs, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range procs {
		if line, _ := os.ReadFile(p); strings.HasPrefix(string(line), h.mark()) {
			t.Errorf("%s outlived its container", p)
		}
	}
}

func TestTerminate(t *testing.T) {
	h := newHost(t)
	for _, tc := range []struct {
		id, script     string
		status, signal int32
		stdout         string
	}{
		{"catches", "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done", 7, 0, "up\nbye\n"},
		{"defaults", "echo up; exec sleep 1000", 0, 9, "up\n"},
		{"child-catches", `sh -c 'trap "sleep 0.1; echo bye; exit" TERM; echo up; while :; do sleep 0.05; done'; sleep 1000`, 0, 9, "up\nbye\n"},
		{"loop", "echo up; while :; do sleep 0.05; done", 0, 9, "up\n"},
	} {
		h.start(t, h.spec(t, tc.id, "sh", "-c", tc.script))
		h.outputs(t, tc.id, "up\n")
		if err := h.client.Signal(within(t), tc.id, int(syscall.SIGTERM)); err != nil {
			t.Fatal(err)
		}
		if exit := h.exit(t, tc.id); exit.GetStatus() != tc.status || exit.GetSignal() != tc.signal {
			t.Errorf("%s: %v", tc.id, exit)
		}
		if out := h.output(t, tc.id, "stdout"); out != tc.stdout {
			t.Errorf("%s wrote %q, want %q", tc.id, out, tc.stdout)
		}
	}
	h.start(t, h.spec(t, "ignores", "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.05; done"))
	h.outputs(t, "ignores", "up\n")
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGKILL} {
		if err := h.client.Signal(within(t), "ignores", int(sig)); err != nil {
			t.Fatal(err)
		}
	}
	if exit := h.exit(t, "ignores"); exit.GetSignal() != int32(syscall.SIGKILL) {
		t.Errorf("ignores: %v", exit)
	}
}
