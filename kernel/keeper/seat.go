package keeper

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Files of a seat in the processes that inherit one.
const lockFD, socketFD, lifeFD = 4, 5, 6

// ErrOrphaned says that the reaper above a keeper has died.
var ErrOrphaned = errors.New("the reaper has died")

// Seat is the right to serve a directory: its lock and its socket. Reaper and keeper hold
// it together, so that it is lost only with both, and who dials while one keeper replaces
// another waits instead of being refused.
type Seat struct {
	lock, socket *os.File
	// orphaned is closed when the reaper has died; nil where there never was one.
	orphaned chan struct{}
}

// take takes the directory, ErrRunning if another has it.
func take(dir string) (*Seat, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	held, err := lock(dir)
	if err != nil {
		return nil, err
	}
	socket, err := listen(dir)
	if err != nil {
		return nil, errors.Join(err, held.Close())
	}
	return &Seat{lock: held, socket: socket}, nil
}

// Inherit is the seat of a keeper that a reaper started, and that may call Ready. Serve
// ends with ErrOrphaned when the reaper dies.
func Inherit() *Seat {
	syscall.CloseOnExec(readyFD)
	syscall.CloseOnExec(lifeFD)
	s := Heir()
	s.orphaned = make(chan struct{})
	go func() {
		// Nobody writes; the end comes when nobody could any more.
		_, _ = io.Copy(io.Discard, os.NewFile(lifeFD, "life of the reaper"))
		close(s.orphaned)
	}()
	return s
}

// Bequeath replaces the program of this keeper, whose reaper has died, by a reaper with
// args, which takes the seat by Heir: the parent of the containers goes on, so that their
// ends will be known, and starts another keeper. It returns only if that cannot be done.
func (s *Seat) Bequeath(args []string) error {
	for _, fd := range []int{lockFD, socketFD} {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("become the reaper: %w", err)
		}
	}
	return fmt.Errorf("become the reaper: %w", syscall.Exec("/proc/self/exe", args, os.Environ()))
}

// Heir is the seat of a reaper that was a keeper.
func Heir() *Seat {
	syscall.CloseOnExec(lockFD)
	syscall.CloseOnExec(socketFD)
	return &Seat{lock: os.NewFile(lockFD, lockName), socket: os.NewFile(socketFD, socketName)}
}

// listener is for the one process that serves.
func (s *Seat) listener() (*net.UnixListener, error) {
	l, err := net.FileListener(s.socket)
	if err != nil {
		return nil, err
	}
	unixListener, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s is no unix socket", s.socket.Name()), l.Close())
	}
	return unixListener, nil
}

// reachable says whether the socket's file is there: without it nobody can dial.
func reachable(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, socketName))
	return !errors.Is(err, fs.ErrNotExist)
}

// restore makes the socket again where its file has gone.
func (s *Seat) restore(dir string) error {
	if reachable(dir) {
		return nil
	}
	socket, err := listen(dir)
	if err != nil {
		return err
	}
	err = s.socket.Close()
	s.socket = socket
	return err
}

// leave gives the seat up for all who hold it: dialling finds no keeper, and another may
// be launched.
func (s *Seat) leave() error {
	return errors.Join(
		unix.Shutdown(int(s.socket.Fd()), unix.SHUT_RDWR),
		unix.Flock(int(s.lock.Fd()), unix.LOCK_UN))
}

// close lets go of the seat; it stays with those who hold it, too.
func (s *Seat) close() error { return errors.Join(s.socket.Close(), s.lock.Close()) }

// listen makes the socket. The lock is held, so one that is there has nobody behind it.
func listen(dir string) (*os.File, error) {
	path := filepath.Join(dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var l *net.UnixListener
	err := withSocket(dir, func(path string) (err error) {
		l, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	if err != nil {
		return nil, err
	}
	// Its path goes with the directory's descriptor; the file stays for the lock's
	// next holder to replace.
	l.SetUnlinkOnClose(false)
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, err
	}
	return l.File()
}
