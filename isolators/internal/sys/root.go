package sys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Root is what a process sees as /.
type Root struct{ dir *os.File }

// OpenRoot refers to the root of the process pid, which must not be reaped meanwhile.
func OpenRoot(pid int) (Root, error) {
	dir, err := os.OpenFile(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY, 0)
	return Root{dir}, err
}

// Lacks says whether there is surely nothing at path; its links lead where they lead in
// there.
func (r Root) Lacks(path string) bool {
	fd, err := unix.Openat2(int(r.dir.Fd()), path, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err == nil {
		_ = unix.Close(fd)
	}
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR)
}

// Close lets go of it.
func (r Root) Close() error { return r.dir.Close() }
