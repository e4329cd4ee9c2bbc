// Package sys is the isolators' one door to the kernel: the few system calls and /proc
// files that the standard library does not cover. Everything else asks here.
//
//	p, err := sys.OpenProcess(pid, startTicks)
//	defer p.Close()
//	err = p.Signal(syscall.SIGTERM)
package sys

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// OpenAppend opens the file at path for appending, creating it with mode 0644 and the
// given owner. Symbolic links and anything but a regular file are refused: the
// directory may belong to someone else.
func OpenAppend(path string, uid, gid int) (*os.File, error) {
	flags := os.O_WRONLY | os.O_APPEND | os.O_CREATE | unix.O_NOFOLLOW | unix.O_NONBLOCK
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, err
	}
	if err := ownRegular(f, uid, gid); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func ownRegular(f *os.File, uid, gid int) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", f.Name())
	}
	return f.Chown(uid, gid)
}

// Nonblock opens files so that a FIFO or a device cannot make the opener wait; os.Root
// takes it as an extra flag.
const Nonblock = unix.O_NONBLOCK
