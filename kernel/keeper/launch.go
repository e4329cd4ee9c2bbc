package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// maxLog is how large a keeper's log may be when the next one starts; it is set
	// aside as keeper.log.1 then.
	maxLog = 4 << 20
	// readyFD and programFD are open in a launched keeper.
	readyFD, programFD = 3, 4
	// alreadyRunning is what a launched keeper answers when another has the directory.
	alreadyRunning = "already running"
	ready          = "ready"
	// maxReady bounds an answer.
	maxReady = 4096
	// failpoints is what tests tell the processes of a cluster; see package failpoint.
	failpoints = "GANTRY_FAILPOINTS"
)

// LaunchConfig says which keeper to start and where.
type LaunchConfig struct {
	// Binary is the path of the program, cmd/gantry-keeper.
	Binary string
	// Dir is the keeper's directory; it is made, with mode 0700, if it is missing.
	Dir string
	// Cgroup is the keeper's own group, like /gantry-1f2e3d4c/keeper; empty: the
	// caller's.
	Cgroup string
}

// Launch starts a reaper that outlives this process, and with it a keeper, and returns when
// that can be dialled: ErrRunning if the directory has one already. The reaper is a child
// of this process while both live, and is waited for.
func Launch(ctx context.Context, c LaunchConfig) error {
	if err := launch(ctx, c); err != nil {
		return fmt.Errorf("launch keeper in %s: %w", c.Dir, err)
	}
	return nil
}

func launch(ctx context.Context, c LaunchConfig) error {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	program, err := seal(c.Binary)
	if err != nil {
		return err
	}
	defer program.Close()
	log, err := openLog(dir)
	if err != nil {
		return err
	}
	defer log.Close()
	ours, theirs, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ours.Close()
	cmd := exec.Cmd{
		Path:        fmt.Sprintf("/proc/self/fd/%d", programFD),
		Args:        []string{"gantry-keeper", "--part", "reaper", "--dir", dir, "--cgroup", c.Cgroup},
		Env:         environment(),
		Dir:         "/",
		Stdout:      log,
		Stderr:      log,
		ExtraFiles:  []*os.File{theirs, program},
		SysProcAttr: detached(),
	}
	err = cmd.Start()
	if err := errors.Join(err, theirs.Close()); err != nil {
		return err
	}
	go cmd.Wait()
	return awaitReady(ctx, ours, filepath.Join(dir, logName))
}

func environment() []string {
	env := []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	if dir, ok := os.LookupEnv(failpoints); ok {
		env = append(env, failpoints+"="+dir)
	}
	return env
}

// awaitReady reads what Ready writes.
func awaitReady(ctx context.Context, from *os.File, log string) error {
	stop := context.AfterFunc(ctx, func() { from.Close() })
	defer stop()
	answer, err := io.ReadAll(io.LimitReader(from, maxReady))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return err
	case string(answer) == ready:
		return nil
	case len(answer) == 0:
		return fmt.Errorf("it ended before it was ready; its log is %s", log)
	}
	return refused(string(answer))
}

// refused is the reason that a process gave through Ready.
func refused(answer string) error {
	switch answer {
	case alreadyRunning:
		return ErrRunning
	case "":
		return errors.New("it ended before it was ready")
	}
	return errors.New(strings.TrimSpace(answer))
}

// Detach is called first by a reaper that Launch started (it has the arguments --part
// reaper): it closes what Launch left open, or keeps it from the reaper's children.
func Detach() {
	syscall.CloseOnExec(readyFD)
	_ = syscall.Close(programFD)
}

// Ready tells the process that started this one whether it serves now (err is nil) or why
// it cannot. It is called once, after Detach or Inherit.
func Ready(err error) {
	answer := ready
	switch {
	case errors.Is(err, ErrRunning):
		answer = alreadyRunning
	case err != nil:
		answer = err.Error()
	}
	f := os.NewFile(readyFD, "ready")
	// A launcher that has died is no reason not to serve.
	_, _ = f.WriteString(answer)
	_ = f.Close()
}

func openLog(dir string) (*os.File, error) {
	path := filepath.Join(dir, logName)
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
}
