package sys_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gantry-project/gantry/isolators/internal/sys"
)

func TestProcess(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	ticks, err := sys.StartTicks(pid)
	if err != nil || ticks == 0 {
		t.Fatalf("started at %d: %v", ticks, err)
	}
	if _, err := sys.OpenProcess(pid, ticks+1); !errors.Is(err, sys.ErrNoProcess) {
		t.Errorf("a process that started at another time: %v", err)
	}
	p, err := sys.OpenProcess(pid, ticks)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if ended, err := p.Ended(); ended || err != nil {
		t.Errorf("ended: %v, %v", ended, err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	// It is a zombie until the next line, which is as good as ended.
	if err := p.Await(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait()
	if ended, err := p.Ended(); !ended || err != nil {
		t.Errorf("ended: %v, %v", ended, err)
	}
	if err := p.Signal(syscall.SIGKILL); !errors.Is(err, sys.ErrNoProcess) {
		t.Errorf("signal what has ended: %v", err)
	}
	if _, err := sys.StartTicks(pid); !errors.Is(err, sys.ErrNoProcess) {
		t.Errorf("start of what has ended: %v", err)
	}
	if _, err := sys.DefaultsTo(pid, syscall.SIGTERM); !errors.Is(err, sys.ErrNoProcess) {
		t.Errorf("signals of what has ended: %v", err)
	}
	if _, err := sys.OpenProcess(1<<22-1, 0); !errors.Is(err, sys.ErrNoProcess) {
		t.Errorf("a process that never was: %v", err)
	}
}

// A process that another reaps: how it ended can be told all the same.
func TestExitStatusOfAnothersChild(t *testing.T) {
	if !sys.TellsExits() {
		t.Skip("Linux does not tell before 6.15")
	}
	for script, want := range map[string]syscall.WaitStatus{
		"exit 0":        0,
		"exit 7":        7 << 8,
		"kill -TERM $$": syscall.WaitStatus(syscall.SIGTERM),
	} {
		cmd := exec.Command("sh", "-c", "read x; "+script)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		p, err := sys.OpenProcess(cmd.Process.Pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		if status, ok := p.ExitStatus(); ok {
			t.Errorf("%s: it runs, and ended with %v", script, status)
		}
		if err := errors.Join(in.Close(), p.Await()); err != nil {
			t.Fatal(err)
		}
		if status, ok := p.ExitStatus(); !ok || status != want {
			t.Errorf("%s: a zombie with status %v, %v; want %v", script, status, ok, want)
		}
		if _, status, err := sys.EndedChild(cmd.Process.Pid); err != nil || status != want {
			t.Errorf("%s: its parent is told %v, %v; want %v", script, status, err, want)
		}
		if p.AwaitReaped(0) {
			t.Errorf("%s: a zombie counts as reaped", script)
		}
		_ = cmd.Wait()
		if status, ok := p.ExitStatus(); !p.AwaitReaped(0) || !ok || status != want {
			t.Errorf("%s: reaped with status %v, %v; want %v", script, status, ok, want)
		}
	}
}

func TestEndedChild(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	if _, _, err := sys.EndedChild(pid); !errors.Is(err, sys.ErrNoChild) {
		t.Errorf("it runs: %v", err)
	}
	p, err := sys.OpenProcess(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := errors.Join(p.Signal(syscall.SIGQUIT), p.Await()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, status, err := sys.EndedChild(pid); err != nil || status.Signal() != syscall.SIGQUIT {
			t.Errorf("got %v, %v", status, err)
		}
	}
	if err := sys.Reap(pid); err != nil {
		t.Error(err)
	}
	if _, _, err := sys.EndedChild(pid); !errors.Is(err, sys.ErrNoChild) {
		t.Errorf("it is reaped: %v", err)
	}
	_ = cmd.Wait()
}

func TestCloseEndsAwait(t *testing.T) {
	p, err := sys.OpenProcess(os.Getpid(), 0)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- p.Await() }()
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil {
		t.Error("this process has ended")
	}
}

func TestDefaultsTo(t *testing.T) {
	for script, want := range map[string]bool{
		"echo ready; read x":                 true,
		"trap '' TERM; echo ready; read x":   false,
		"trap exit TERM; echo ready; read x": false,
	} {
		cmd := speaking(t, script)
		if got, err := sys.DefaultsTo(cmd.Process.Pid, syscall.SIGTERM); got != want || err != nil {
			t.Errorf("%s: %v, %v", script, got, err)
		}
	}
}

// speaking runs script until the end of the test, and returns when it has said something.
func speaking(t *testing.T, script string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", script)
	_, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestOpenAppend(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	for range 2 {
		f, err := sys.OpenAppend(path, os.Getuid(), os.Getgid())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("x"); err != nil {
			t.Error(err)
		}
		f.Close()
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "xx" {
		t.Errorf("%q, %v", data, err)
	}
	if err := os.Symlink(path, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "fifo", "."} {
		if _, err := sys.OpenAppend(filepath.Join(dir, name), os.Getuid(), os.Getgid()); err == nil {
			t.Errorf("%s is opened", name)
		}
	}
}
