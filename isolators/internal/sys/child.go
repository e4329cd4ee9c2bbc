package sys

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoChild says that none of this process's children has ended.
var ErrNoChild = errors.New("no child has ended")

// Subreaper makes this process the parent of its descendants whose own parents end.
func Subreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	return nil
}

// EndedChild is how the child pid ended, or if that is zero any child that has: the same
// one until Reap, for it stays a zombie. ErrNoChild if it has not ended.
func EndedChild(pid int) (int, syscall.WaitStatus, error) {
	kind := unix.P_PID
	if pid == 0 {
		kind = unix.P_ALL
	}
	return wait(kind, pid)
}

// Reap lets go of the child pid, which has ended.
func Reap(pid int) error {
	for {
		_, err := unix.Wait4(pid, nil, unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("reap process %d: %w", pid, err)
		}
		return nil
	}
}

// childInfo is what waitid(2) tells in a siginfo_t, and at least as large: 128 bytes.
type childInfo struct {
	_      [2]int32
	code   int32
	_      [0]uintptr // what follows is aligned as a pointer is
	pid    int32
	_      uint32
	status int32
	_      [104]byte
}

func wait(kind, id int) (int, syscall.WaitStatus, error) {
	var info childInfo
	for {
		err := unix.Waitid(kind, id, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.ECHILD):
			return 0, 0, ErrNoChild
		case err != nil:
			return 0, 0, fmt.Errorf("wait for a child: %w", err)
		case info.pid == 0:
			return 0, 0, ErrNoChild
		}
		return int(info.pid), info.waitStatus(), nil
	}
}

// waitStatus is the form of wait(2), which siginfo_t has in parts.
func (i *childInfo) waitStatus() syscall.WaitStatus {
	const exited, dumped = 1, 3 // CLD_EXITED, CLD_DUMPED
	switch i.code {
	case exited:
		return syscall.WaitStatus(i.status&0xff) << 8
	case dumped:
		return syscall.WaitStatus(i.status) | 0x80
	default:
		return syscall.WaitStatus(i.status)
	}
}
