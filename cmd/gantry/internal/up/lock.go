package up

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// lockDir takes the work dir for this process, until the file is closed or the process ends.
func lockDir(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = errors.Join(f.Truncate(0), writeAt(f, fmt.Sprintln(os.Getpid())))
	}
	if err == nil {
		return f, nil
	}
	defer f.Close()
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	pid, _ := io.ReadAll(io.LimitReader(f, 32)) // only to be told
	return nil, fmt.Errorf("another `gantry up` (process %s) runs in this work dir: end it, or choose another with --work-dir",
		strings.TrimSpace(string(pid)))
}

// checkOthers refuses to start while tasks live on under an agent that this start would not have: they would run unseen,
// and what they use would be given out again.
func (u *cluster) checkOthers() error {
	locks, err := filepath.Glob(u.path("agent*", "keeper", "keeper.lock"))
	if err != nil {
		return err
	}
	for _, path := range locks {
		name := filepath.Base(filepath.Dir(filepath.Dir(path)))
		ours := false
		for i := range u.Agents {
			ours = ours || name == u.agentName(i)
		}
		if ours {
			continue
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
		f.Close() // only its lock matters, which goes with it
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return fmt.Errorf("tasks of an earlier start live on under %s, which --agents %d does not have: start with the number of agents of that time",
				filepath.Join(u.WorkDir, name), u.Agents)
		}
	}
	return nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}
