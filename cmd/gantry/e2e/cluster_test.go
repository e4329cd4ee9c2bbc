package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
	"github.com/gantry-project/gantry/isolators/cgroup"
)

const (
	readyWithin = 2 * time.Minute // on a loaded machine
	endWithin   = time.Minute
	soon        = time.Minute // for what takes seconds
)

// cluster is a running `gantry up`.
type cluster struct {
	t       *testing.T
	workDir string
	at      daemon.Cluster
	screen  *screen

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process has ended
	err   error         // how it ended
}

// screen is what a process has written so far.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// newWorkDir returns a folder with a short path, for the sockets in it, that goes with the test and takes its cgroups along.
func newWorkDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "gantry-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), endWithin)
		defer cancel()
		if err := errors.Join(cgroup.Remove(ctx, cgroup.Name(dir)), os.RemoveAll(dir)); err != nil {
			t.Errorf("remove what is left: %v", err)
		}
	})
	return dir
}

// up starts a cluster on ephemeral ports and waits until it is ready.
func up(t *testing.T, workDir string, flags ...string) *cluster {
	t.Helper()
	c := launch(t, workDir, flags...)
	await(t, readyWithin, "gantry: ready", c.describe, func() bool {
		select {
		case <-c.ended:
			t.Fatalf("gantry up ended early: %v\n%s", c.err, c.describe())
		default:
		}
		return strings.Contains(c.screen.String(), "gantry: ready\n")
	})
	var err error
	if c.at, err = daemon.ReadCluster(workDir); err != nil {
		t.Fatal(err)
	}
	return c
}

// launch starts `gantry up` and does not wait.
func launch(t *testing.T, workDir string, flags ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, workDir: workDir, screen: new(screen), ended: make(chan struct{})}
	c.cmd = exec.Command(filepath.Join(bin, "gantry"),
		append([]string{"up", "--check", "--listen", "127.0.0.1:0", "--work-dir", workDir}, flags...)...)
	c.cmd.Stdout, c.cmd.Stderr = c.screen, c.screen
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	t.Cleanup(func() { c.signal(syscall.SIGTERM) })
	return c
}

// describe is what a failed test should show.
func (c *cluster) describe() string {
	text := "the screen:\n" + c.screen.String()
	logs, _ := filepath.Glob(filepath.Join(c.workDir, "logs", "*.log")) // the pattern is good
	for _, name := range logs {
		if content, err := os.ReadFile(name); err == nil {
			text += "\n" + name + ":\n" + string(content[max(0, len(content)-4096):])
		}
	}
	return text
}

// signal ends the supervisor and waits for its end.
func (c *cluster) signal(s syscall.Signal) {
	c.t.Helper()
	select {
	case <-c.ended:
		return
	default:
	}
	if err := c.cmd.Process.Signal(s); err != nil {
		c.t.Error(err)
	}
	select {
	case <-c.ended:
	case <-time.After(endWithin):
		c.t.Errorf("gantry up did not end within %s of %s\n%s", endWithin, s, c.describe())
		c.cmd.Process.Kill()
		<-c.ended
	}
}

// end ends the cluster as Ctrl-C does and checks that it went well.
func (c *cluster) end() {
	c.t.Helper()
	c.signal(syscall.SIGINT)
	if c.err != nil {
		c.t.Errorf("gantry up ended with %v\n%s", c.err, c.describe())
	}
}

// gantry runs a command against the cluster.
func (c *cluster) gantry(args ...string) (status int, stdout, stderr string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "gantry"), append([]string{"--work-dir", c.workDir}, args...)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}

// must runs a command that has to succeed and returns what it wrote.
func (c *cluster) must(args ...string) string {
	c.t.Helper()
	status, out, errOut := c.gantry(args...)
	if status != 0 {
		c.t.Fatalf("gantry %s: exit status %d\n%s%s\n%s", strings.Join(args, " "), status, out, errOut, c.describe())
	}
	return out
}

// app returns what Marathon says of the demo.
func (c *cluster) app() client.App {
	c.t.Helper()
	var app client.App
	if err := json.Unmarshal([]byte(c.must("app", "show", "hello-web", "--json")), &app); err != nil {
		c.t.Fatal(err)
	}
	return app
}

// answering returns the ids of the demo's instances that answer HTTP.
func (c *cluster) answering() []string {
	c.t.Helper()
	var ids []string
	for _, task := range c.app().Tasks {
		if len(task.Ports) == 0 {
			continue
		}
		get := http.Client{Timeout: 2 * time.Second}
		resp, err := get.Get("http://" + net.JoinHostPort(task.Host, strconv.Itoa(task.Ports[0])) + "/")
		if err != nil {
			continue
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			ids = append(ids, task.ID)
		}
	}
	return ids
}

// awaitInstances waits until exactly n instances answer and returns their ids.
func (c *cluster) awaitInstances(n int) []string {
	c.t.Helper()
	var ids []string
	await(c.t, soon, strconv.Itoa(n)+" instances that answer", c.describe, func() bool {
		ids = c.answering()
		return len(ids) == n && len(c.app().Tasks) == n
	})
	return ids
}

// await polls until a condition holds.
func await(t *testing.T, within time.Duration, what string, describe func() string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(within); !condition(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %s\n%s", what, within, describe())
		}
	}
}

// processes returns the ids of the cluster's processes: those that have its work dir in their arguments, or are in
// its cgroups. One that has ended and waits for the system's first process to notice is none: it was orphaned by design.
func (c *cluster) processes() []int {
	c.t.Helper()
	group := cgroup.Name(c.workDir)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		c.t.Fatal(err)
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// A process that has just ended reads as empty.
		args, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		groups, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cgroup"))
		if !orphanEnded(pid) && (bytes.Contains(args, []byte(c.workDir)) || bytes.Contains(groups, []byte(group))) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// orphanEnded reports whether a process is a zombie that belongs to the system's first process.
func orphanEnded(pid int) bool {
	status, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	return bytes.Contains(status, []byte("\nState:\tZ")) && bytes.Contains(status, []byte("\nPPid:\t1\n"))
}

// instances returns the process ids of the demo's instances.
func (c *cluster) instances() []int {
	c.t.Helper()
	return slices.DeleteFunc(c.processes(), func(pid int) bool {
		args, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		return !bytes.HasPrefix(args, []byte("./hello-web\x00"))
	})
}

// checkNothingLeft fails the test for every process, cgroup, mount and socket of the cluster.
func (c *cluster) checkNothingLeft() {
	c.t.Helper()
	for _, pid := range c.processes() {
		args, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
		c.t.Errorf("process %d is left: %q", pid, args)
	}
	group := strings.TrimPrefix(cgroup.Name(c.workDir), "/")
	for _, pattern := range []string{"/sys/fs/cgroup/" + group, "/sys/fs/cgroup/*/" + group} {
		left, err := filepath.Glob(pattern)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, dir := range left {
			c.t.Errorf("cgroup %s is left", dir)
		}
	}
	for _, table := range []string{"/proc/self/mounts", "/proc/net/unix"} {
		text, err := os.ReadFile(table)
		if err != nil {
			c.t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, c.workDir) {
				c.t.Errorf("left in %s: %s", table, line)
			}
		}
	}
	err := filepath.WalkDir(c.workDir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type() == fs.ModeSocket {
			c.t.Errorf("socket %s is left", path)
		}
		return err
	})
	if err != nil {
		c.t.Error(err)
	}
	if _, err := os.Stat(daemon.ClusterFile(c.workDir)); err == nil {
		c.t.Error("addresses.json is left")
	}
}

// begin starts a command against the cluster and returns what it writes while it runs.
func (c *cluster) begin(args ...string) (*exec.Cmd, *screen) {
	c.t.Helper()
	cmd := exec.Command(filepath.Join(bin, "gantry"), append([]string{"--work-dir", c.workDir}, args...)...)
	shown := new(screen)
	cmd.Stdout, cmd.Stderr = shown, shown
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	return cmd, shown
}
