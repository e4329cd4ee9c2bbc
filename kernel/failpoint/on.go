//go:build failpoints

package failpoint

import (
	"os"
	"path/filepath"
	"syscall"
)

var dir = os.Getenv("GANTRY_FAILPOINTS")

// Hit kills the process if the point is armed, and disarms it: once for each file.
func Hit(name string) {
	if dir == "" || os.Remove(filepath.Join(dir, name)) != nil {
		return
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		panic(err)
	}
	select {} // until the signal arrives
}

// Path is the file of path's last name in the folder of the armed points if there is one,
// else path itself: a test can give a process another boot id.
func Path(path string) string {
	if dir == "" {
		return path
	}
	if other := filepath.Join(dir, filepath.Base(path)); exists(other) {
		return other
	}
	return path
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
