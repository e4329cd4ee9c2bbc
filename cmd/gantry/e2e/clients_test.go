package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// mesosGo builds programs of mesos-go, as clients/go.mod pins them, and returns their folder. $GANTRY_MESOS_GO names one
// where they are already.
func mesosGo(t *testing.T, programs ...string) string {
	t.Helper()
	if dir := os.Getenv("GANTRY_MESOS_GO"); dir != "" {
		return dir
	}
	dir := t.TempDir()
	args := []string{"build", "-o", dir}
	for _, name := range programs {
		args = append(args, "github.com/mesos/mesos-go/api/v1/cmd/"+name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // with an empty build cache
	defer cancel()
	build := exec.CommandContext(ctx, "go", args...)
	build.Dir = "clients"
	build.Env = append(os.Environ(), "CGO_ENABLED=1") // msh is about terminals
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build %v of mesos-go: %v\n%s", programs, err, out)
	}
	return dir
}

// stranger is a client that nobody here wrote, while it runs.
type stranger struct {
	*screen
	cmd *exec.Cmd
}

func begin(t *testing.T, name string, args ...string) *stranger {
	t.Helper()
	s := &stranger{new(screen), exec.Command(name, args...)}
	s.cmd.Stdout, s.cmd.Stderr = s.screen, s.screen
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill() // it may have ended
		_ = s.cmd.Wait()
	})
	return s
}

// status waits until the client has ended by itself.
func (s *stranger) status(t *testing.T, c *cluster) int {
	t.Helper()
	late := time.AfterFunc(readyWithin, func() { s.cmd.Process.Kill() })
	defer late.Stop()
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || s.cmd.ProcessState.ExitCode() < 0 {
		t.Fatalf("%v: %v\n%s\n%s", s.cmd.Args, err, s, c.describe())
	}
	return s.cmd.ProcessState.ExitCode()
}

// sandboxFiles reads a file of every sandbox that the cluster has.
func (c *cluster) sandboxFiles(t *testing.T, name string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(c.workDir, "agent", "slaves", "*", "frameworks", "*", "executors", "*", "runs", "*", name))
	if err != nil {
		t.Fatal(err)
	}
	texts := make([]string, len(paths))
	for i, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		texts[i] = string(text)
	}
	return texts
}

// msh runs one command as a framework of its own, and ends as the task does; the demo is there at the same time.
func TestMesosGoShell(t *testing.T) {
	msh := filepath.Join(mesosGo(t, "msh"), "msh")
	c := up(t, newWorkDir(t))
	c.awaitInstances(2)
	run := func(command ...string) *stranger {
		return begin(t, msh, append([]string{"-master", c.at.Master, "--"}, command...)...)
	}

	for _, command := range []struct {
		argv   []string
		status int
		says   []string // by msh itself
	}{
		{[]string{"echo", "hello from msh"}, 0, []string{"TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"}},
		{[]string{"sh", "-c", "echo failing; exit 7"}, 3, []string{"TASK_FAILED", "Command exited with status 7"}},
		{[]string{"/no/such/program"}, 3, []string{"TASK_FAILED", "/no/such/program"}},
	} {
		s := run(command.argv...)
		if got := s.status(t, c); got != command.status {
			t.Errorf("msh %q ended with %d, want %d\n%s", command.argv, got, command.status, s)
		}
		for _, what := range command.says {
			if !strings.Contains(s.String(), what) {
				t.Errorf("msh %q does not say %q:\n%s", command.argv, what, s)
			}
		}
	}

	var many []*stranger // at once
	for i := range 5 {
		many = append(many, run("sh", "-c", fmt.Sprintf("sleep 1; echo one of many %d", i)))
	}
	for _, s := range many {
		if got := s.status(t, c); got != 0 {
			t.Errorf("one of many ended with %d\n%s", got, s)
		}
	}

	written := c.sandboxFiles(t, "stdout")
	for _, want := range []string{"hello from msh\n", "failing\n", "one of many 0\n", "one of many 4\n"} {
		if !slices.Contains(written, want) {
			t.Errorf("no sandbox has %q; there are %q", want, written)
		}
	}
	c.awaitInstances(2)
	c.end()
	c.checkNothingLeft()
}

// mwatch shows what happens in the cluster while it looks.
func TestMesosGoWatch(t *testing.T) {
	programs := mesosGo(t, "mwatch", "msh")
	c := up(t, newWorkDir(t), "--no-demo")
	host, port, _ := strings.Cut(c.at.Master, ":")
	watch := begin(t, filepath.Join(programs, "mwatch"), "-master", host, "-port", port)
	shows := func(what string, lines ...string) {
		t.Helper()
		await(t, soon, what, func() string { return watch.String() + "\n" + c.describe() }, func() bool {
			return !slices.ContainsFunc(lines, func(line string) bool { return !strings.Contains(watch.String(), line) })
		})
	}

	// The stream shows what comes after it began: until it has shown one framework, others come.
	await(t, soon, "framework that is shown", func() string { return watch.String() + "\n" + c.describe() }, func() bool {
		c.subscribe(t, forms[0], `"failover_timeout":0`).teardown()
		return strings.Contains(watch.String(), "FRAMEWORK_ADDED")
	})

	s := begin(t, filepath.Join(programs, "msh"), "-master", c.at.Master, "-framework_name", "watched", "--", "sleep", "1")
	if got := s.status(t, c); got != 0 {
		t.Fatalf("msh ended with %d\n%s", got, s)
	}
	shows("life of a task", "TASK_ADDED", "TASK_UPDATED", "TASK_RUNNING", "TASK_FINISHED", `watched`, "FRAMEWORK_REMOVED")

	second := begin(t, filepath.Join(bin, "gantry"), "agent", "--master", c.at.Master, "--work-dir", newWorkDir(t),
		"--listen", "127.0.0.1:0", "--token-file", filepath.Join(c.workDir, "agent.token"), "--resources", "cpus:1;mem:64",
		"--hostname", "second.example") // the first one may have been seen to join as well
	shows("second agent\n"+second.String(), "AGENT_ADDED", "second.example")
	if err := second.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	second.status(t, c)

	if strings.Contains(watch.String(), "panic") {
		t.Errorf("mwatch ended:\n%s", watch)
	}
	c.end()
	c.checkNothingLeft()
}

// A scheduler in JavaScript, by a library of npm: of its two tasks one ends and the other it kills.
func TestNodeScheduler(t *testing.T) {
	modules := nodeModules(t, filepath.Join("clients", "node"))
	c := up(t, newWorkDir(t), "--no-demo")
	host, port, _ := strings.Cut(c.at.Master, ":")
	script, err := filepath.Abs(filepath.Join("clients", "node", "framework.js"))
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("NODE_PATH", modules)
	s := begin(t, "node", script, host, port, t.TempDir())
	if got := s.status(t, c); got != 0 {
		t.Errorf("node ended with %d", got)
	}
	var steps []string
	for line := range strings.Lines(s.String()) {
		if step, ok := strings.CutPrefix(strings.TrimSpace(line), "step: "); ok {
			steps = append(steps, step)
		}
	}
	for _, want := range [][]string{
		{"subscribed", "update ends-1 TASK_STARTING", "update ends-1 TASK_RUNNING", "update ends-1 TASK_FINISHED", "done"},
		{"subscribed", "update lasts-1 TASK_STARTING", "update lasts-1 TASK_RUNNING", "update lasts-1 TASK_KILLED", "done"},
	} {
		rest := want
		for _, step := range steps {
			if len(rest) > 0 && strings.HasPrefix(step, rest[0]) {
				rest = rest[1:]
			}
		}
		if len(rest) > 0 {
			t.Errorf("want the steps %q, got %q", want, steps)
		}
	}
	if strings.Contains(s.String(), "step: error") {
		t.Errorf("the client met an error")
	}
	if t.Failed() {
		t.Logf("%s\n%s", s, c.describe())
	}
	c.checkNothingHeld(t)
	c.end()
	c.checkNothingLeft()
}

// nodeModules installs what the package.json of a folder asks for, exactly, into a cache of this user, and returns the folder.
func nodeModules(t *testing.T, of string) string {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("GANTRY_REQUIRE_ROOT") != "" {
		skip = t.Fatalf
	}
	for _, program := range []string{"node", "npm"} {
		if _, err := exec.LookPath(program); err != nil {
			skip("a client in JavaScript needs %s (Debian: nodejs and npm): %v", program, err)
		}
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	lock, err := os.ReadFile(filepath.Join(of, "package-lock.json"))
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "gantry-e2e", fmt.Sprintf("node-%x", sha256.Sum256(lock))[:13])
	modules := filepath.Join(dir, "node_modules")
	if _, err := os.Stat(modules); err == nil {
		return modules
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	fresh, err := os.MkdirTemp(filepath.Dir(dir), "node-new-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	if err := os.CopyFS(fresh, os.DirFS(of)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	install := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--fetch-retries=1", "--fetch-timeout=30000")
	install.Dir = fresh
	if out, err := install.CombinedOutput(); err != nil {
		skip("npm can't install the client: %v\n%s", err, bytes.TrimSpace(out))
	}
	if err := os.Rename(fresh, dir); err != nil && !errors.Is(err, os.ErrExist) { // another test was first
		t.Fatal(err)
	}
	return modules
}
