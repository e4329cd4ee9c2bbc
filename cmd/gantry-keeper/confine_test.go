package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The program is reached through a step of ours, of which it must not see anything but the filter.
func TestNothingIsLeftOfTheWay(t *testing.T) {
	h := newHost(t)
	spec := h.spec(t, "way", "sh", "-c", "ls /proc/$$/fd; tr '\\0' '\\n' </proc/$$/environ; cat /proc/$$/comm")
	spec.Env = []string{"PATH=/nowhere:relative:/usr/bin:/bin", "A=1", "A=2", ".DOT=x", "GLIBC_TUNABLES=glibc.malloc.check=1"}
	h.run(t, spec)
	want := "0\n1\n2\nPATH=/nowhere:relative:/usr/bin:/bin\nA=2\n.DOT=x\nGLIBC_TUNABLES=glibc.malloc.check=1\nHOME=/root\nsh\n"
	if out := h.output(t, "way", "stdout"); out != want {
		t.Errorf("got %q, want %q; stderr %q", out, want, h.output(t, "way", "stderr"))
	}
}

func TestHome(t *testing.T) {
	h := newHost(t)
	for id, tc := range map[string]struct{ env, want string }{
		"given": {"HOME=/tmp", "HOME=/tmp\n"},
		"empty": {"HOME=", "HOME=/root\n"},
	} {
		spec := h.spec(t, id, "sh", "-c", "env | grep ^HOME=")
		spec.Env = append(spec.Env, tc.env)
		h.run(t, spec)
		if out := h.output(t, id, "stdout"); out != tc.want {
			t.Errorf("%s: %q, want %q", id, out, tc.want)
		}
	}
}

func TestUserWithoutRights(t *testing.T) {
	h := newHost(t)
	spec := h.spec(t, "user", "/bin/sh", "-c", "id -u; grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; head -c1 /proc/1/exe >/dev/null && echo readable")
	spec.Uid, spec.Gid = 65534, 65534
	h.run(t, spec)
	if out := h.output(t, "user", "stdout"); out != "65534\nNoNewPrivs:\t1\nSeccomp:\t2\nreadable\n" {
		t.Errorf("got %q; stderr %q", out, h.output(t, "user", "stderr"))
	}
}

func TestFilter(t *testing.T) {
	if _, err := exec.LookPath("perl"); err != nil {
		t.Skip("it takes perl to make system calls by number")
	}
	h := newHost(t)
	// By number, on x86-64 and arm64 alike: what no kernel has, and what no container may (add_key, bpf).
	spec := h.spec(t, "filter", "perl", "-e", `
		my ($key, $bpf) = (`+"`uname -m`"+` =~ /x86_64/) ? (248, 321) : (217, 280);
		for (5000, $key, $bpf) { syscall($_, 0, 0, 0, 0, 0); print 0 + $!, "\n" }`)
	h.run(t, spec)
	if out := h.output(t, "filter", "stdout"); out != "38\n1\n1\n" {
		t.Errorf("got %q, want ENOSYS and EPERM twice; stderr %q", out, h.output(t, "filter", "stderr"))
	}
}

func TestProgramsThatCannotRun(t *testing.T) {
	h := newHost(t)
	for id, tc := range map[string]struct{ program, says string }{
		"nowhere":   {"no-such-program", "no directory of the container's PATH"},
		"path":      {"/usr/bin/no-such-program", "there is no such program"},
		"directory": {"/usr/bin", "permission denied"},
		"file":      {"/etc/passwd", "permission denied"},
		"relative":  {"./nothing", "there is no such program"},
	} {
		spec := h.spec(t, id, tc.program)
		if err := h.client.Start(within(t), spec); err != nil {
			t.Fatal(err)
		}
		event := h.next(t)
		if !strings.Contains(event.GetStartFailed().GetMessage(), tc.says) {
			t.Errorf("%s: %v, want a failure that says %q", id, event, tc.says)
		}
		if left := groups(t, spec.GetCgroup()); len(left) > 0 {
			t.Errorf("%s: cgroups are left: %v", id, left)
		}
	}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		data, err := os.ReadFile(stat)
		if err == nil && strings.Contains(string(data), ") Z "+strconv.Itoa(h.pid)+" ") {
			t.Errorf("a process is not waited for: %s", data)
		}
	}
}
