package keeper

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/gantry-project/gantry/kernel/failpoint"
)

const (
	lockName   = "keeper.lock"
	socketName = "keeper.sock"
	logName    = "keeper.log"
)

// lock takes the directory for this process until it ends; ErrRunning if another has it.
func lock(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = ErrRunning
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// withSocket calls use with a path of the socket in dir that fits into a socket address,
// however long dir is.
func withSocket(dir string, use func(path string) error) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return use(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName))
}

// checkPeer lets in root and the user that this process runs as.
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, credErr); err != nil {
		return fmt.Errorf("ask who connected: %w", err)
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d may not use this keeper", cred.Uid)
	}
	return nil
}

// seal copies the program at path into a file that nothing can change, so that neither
// an upgrade of the file nor a container can change what runs.
func seal(path string) (*os.File, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	// Kernels before 6.3 do not know MFD_EXEC, and make the file executable anyway.
	fd, err := unix.MemfdCreate("gantry-keeper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("gantry-keeper", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("make a file in memory: %w", err)
	}
	out := os.NewFile(uintptr(fd), "gantry-keeper")
	if err := fill(out, in); err != nil {
		return nil, errors.Join(fmt.Errorf("seal %s: %w", path, err), out.Close())
	}
	return out, nil
}

func fill(out, in *os.File) error {
	if _, err := out.ReadFrom(in); err != nil {
		return err
	}
	// Containers of all users begin as this program, and none may read it.
	if err := out.Chmod(0o511); err != nil {
		return err
	}
	seals := unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	_, err := unix.FcntlInt(out.Fd(), unix.F_ADD_SEALS, seals)
	return err
}

// detached is a process in a session of its own: it outlives this one, and no terminal's
// signal reaches it.
func detached() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }

// bootID names the host's current boot.
func bootID() (string, error) {
	text, err := os.ReadFile(failpoint.Path("/proc/sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("find the boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
