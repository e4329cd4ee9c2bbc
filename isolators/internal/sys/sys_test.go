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
