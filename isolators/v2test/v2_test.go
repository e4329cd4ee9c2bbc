package v2test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// bootTimeout bounds the guest's life. It has one processor, which is emulated.
const bootTimeout = 14 * time.Minute

// packages are those whose tests the guest runs.
var packages = []struct {
	path string
	// pattern says which tests, as for go test -run.
	pattern string
	// skip says which of these not: as for go test -skip, or none.
	skip string
	// cgo says that the tests are linked with what the keeper is.
	cgo bool
}{
	{"isolators/internal/sys", ".", "^TestExitStatusOfAnothersChild$", false}, // Linux does not tell before 6.15
	{"isolators/cgroup", ".", none, false},
	{"isolators/rootfs", ".", none, false},
	{"isolators/meter", "^Test", "^TestO", false},
	// The guest's kernel has overlayfs as a module, and no modules; failpoints are found in the source and another keeper.
	{"cmd/gantry-keeper", "^Test", "^Test(Overlay|KilledAtEachFailpoint$|OtherBoot$)", true},
	{"cmd/gantry/e2e", "^TestADayOfACluster$", none, false},
}

const none = "^$"

func TestOnCgroupV2(t *testing.T) {
	kernel := os.Getenv("GANTRY_V2")
	if kernel == "" {
		t.Skip("this boots a virtual machine: make test-v2 gets what it takes, or set GANTRY_V2 to the path of a kernel")
	}
	dir := t.TempDir()
	initramfs := filepath.Join(dir, "initramfs")
	if err := pack(t, dir).write(initramfs); err != nil {
		t.Fatal(err)
	}
	results := boot(t, kernel, initramfs)
	for _, p := range packages {
		t.Run(p.path, func(t *testing.T) { results[path.Base(p.path)].report(t) })
	}
}

// pack builds the tests and makes the guest's root filesystem, in which /gantry is the
// repository so far as they need it.
func pack(t *testing.T, dir string) tree {
	t.Helper()
	root, err := newTree()
	if err != nil {
		t.Fatal(err)
	}
	var list strings.Builder
	for _, p := range packages {
		name, folder := path.Base(p.path), path.Join("/gantry", p.path)
		out := filepath.Join(dir, name)
		compile(t, p.path, out, p.cgo)
		root.file(path.Join(folder, name), out)
		fmt.Fprintln(&list, name, folder, p.pattern, p.skip)
	}
	tests := filepath.Join(dir, "tests")
	if err := os.WriteFile(tests, []byte(list.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	root.file("/tests", tests)
	root.file("/init", "testdata/init")
	for _, pattern := range []string{"bin/gantry*", "bin/plugins/*", "bin/examples/*", "plugins.toml"} {
		found, err := filepath.Glob("../../" + pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("there is no %s (%v): make build", pattern, err)
		}
		for _, file := range found {
			root.file(path.Join("/gantry", strings.TrimPrefix(file, "../../")), file)
		}
	}
	return root
}

// compile makes a test program that needs no library.
func compile(t *testing.T, pkg, out string, cgo bool) {
	t.Helper()
	build := exec.Command("go", "test", "-c", "-o", out, "-ldflags", "-s -w", "./"+pkg)
	env := "CGO_ENABLED=0"
	if cgo {
		build.Args = []string{"go", "test", "-c", "-o", out, "-tags", "seccomp netgo osusergo",
			"-ldflags", `-s -w -extldflags "-static"`, "./" + pkg}
		env = "CGO_ENABLED=1"
	}
	build.Dir, build.Env = "../..", append(os.Environ(), env)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
}

// boot runs the guest to its end and returns what came of its tests.
func boot(t *testing.T, kernel, initramfs string) map[string]*suite {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootTimeout)
	defer cancel()
	log := filepath.Join(filepath.Dir(initramfs), "kernel.log")
	// Others may need the processors more.
	emulator := exec.CommandContext(ctx, "nice", "-n", "10", "qemu-system-x86_64",
		"-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "1024",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "file:"+log, "-serial", "stdio",
		"-kernel", kernel, "-initrd", initramfs, "-append", "console=ttyS0 loglevel=4 panic=-1 mitigations=off")
	// The guest dies with the tests, however these end; who asks for that is a thread.
	runtime.LockOSThread()
	emulator.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	emulator.Stderr = os.Stderr
	out, err := emulator.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := emulator.Start(); err != nil {
		t.Fatal(err)
	}
	results, done := collect(t, out)
	if err := emulator.Wait(); err != nil || !done {
		messages, _ := os.ReadFile(log)
		t.Errorf("the guest did not come to its end: %v, %v; its kernel says:\n%s", err, ctx.Err(), messages)
	}
	return results
}

// suite is what became of one package's tests.
type suite struct {
	tests []*result
	// status is what the test program exited with; empty if it did not.
	status string
	// rest is what it wrote outside of tests.
	rest strings.Builder
}

// result is what became of one test.
type result struct {
	name string
	// verdict is PASS, FAIL or SKIP; empty if the test did not end.
	verdict string
	output  strings.Builder
}

// collect reads what the guest writes, and says whether it came to its end.
func collect(t *testing.T, out io.Reader) (suites map[string]*suite, done bool) {
	suites = make(map[string]*suite)
	current := new(suite)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSuffix(lines.Text(), "\r")
		words := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "guest: begin ") && len(words) == 3:
			current = new(suite)
			suites[words[2]] = current
		case strings.HasPrefix(line, "guest: end ") && len(words) == 4:
			current.status = words[3]
		case line == "guest: done":
			done = true
		default:
			current.line(line)
		}
		if testing.Verbose() {
			fmt.Printf("guest| %s\n", line)
		}
	}
	if err := lines.Err(); err != nil {
		t.Errorf("read what the guest writes: %v", err)
	}
	return suites, done
}

// line takes one line that go test would print.
func (s *suite) line(line string) {
	if name, ok := strings.CutPrefix(line, "=== RUN   "); ok && !strings.Contains(name, "/") {
		s.tests = append(s.tests, &result{name: name})
		return
	}
	if len(s.tests) == 0 {
		fmt.Fprintln(&s.rest, line)
		return
	}
	last := s.tests[len(s.tests)-1]
	if last.verdict != "" {
		fmt.Fprintln(&s.rest, line)
		return
	}
	fmt.Fprintln(&last.output, line)
	if verdict, after, ok := strings.Cut(strings.TrimPrefix(line, "--- "), ": "); ok && strings.HasPrefix(line, "--- ") &&
		strings.HasPrefix(after, last.name+" (") {
		last.verdict = verdict
	}
}

// report makes the guest's results the caller's. A skip is a failure: the guest has
// everything that a test could ask for.
func (s *suite) report(t *testing.T) {
	if s == nil {
		t.Fatal("the guest did not get to it")
	}
	for _, r := range s.tests {
		t.Run(r.name, func(t *testing.T) {
			if r.verdict != "PASS" || strings.Contains(r.output.String(), "--- SKIP: ") {
				t.Errorf("verdict %q in the guest:\n%s", r.verdict, r.output.String())
			}
		})
	}
	if s.status != "0" || len(s.tests) == 0 {
		t.Errorf("the test program exited with status %q after %d tests:\n%s", s.status, len(s.tests), s.rest.String())
	}
}
