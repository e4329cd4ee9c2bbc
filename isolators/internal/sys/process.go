package sys

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ErrNoProcess says that the process asked for has ended.
var ErrNoProcess = errors.New("no such process")

// Process is a reference to one process, which stays with that process when its number
// is used again.
type Process struct {
	pid int
	fd  int
	// file owns fd, so that waiting costs no thread.
	file *os.File
}

// OpenProcess refers to the process pid. Where startTicks is not zero the process must
// have started then (see StartTicks), else the answer is ErrNoProcess.
func OpenProcess(pid int, startTicks uint64) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		// The latter two are for the number of a thread.
		return nil, ErrNoProcess
	}
	if err != nil {
		return nil, fmt.Errorf("refer to process %d: %w", pid, err)
	}
	p := &Process{pid: pid, fd: fd, file: os.NewFile(uintptr(fd), "pidfd")}
	if startTicks == 0 {
		return p, nil
	}
	ticks, err := StartTicks(pid)
	if err == nil && ticks != startTicks {
		err = ErrNoProcess
	}
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Pid is the process's number.
func (p *Process) Pid() int { return p.pid }

// Signal sends sig; ErrNoProcess if the process has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	err := unix.PidfdSendSignal(p.fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return ErrNoProcess
	}
	if err != nil {
		return fmt.Errorf("send signal %d to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// Ended says whether the process has ended; a zombie has.
func (p *Process) Ended() (bool, error) { return p.poll(unix.POLLIN, 0) }

// Await blocks until the process has ended, whoever its parent is, or until Close.
func (p *Process) Await() error {
	conn, err := p.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("await process %d: %w", p.pid, err)
	}
	var failed error
	err = conn.Read(func(uintptr) bool {
		ended, err := p.Ended()
		failed = err
		return ended || err != nil
	})
	if err != nil {
		return fmt.Errorf("await process %d: %w", p.pid, err)
	}
	return failed
}

// AwaitReaped waits until the parent of a process that has ended took note of that, and
// says whether it did in time. Kernels before 6.9 do not tell.
func (p *Process) AwaitReaped(within time.Duration) bool {
	reaped, err := p.poll(0, int(within.Milliseconds()))
	return reaped && err == nil
}

// ExitStatus is how the process ended, though it was another's child: what its zombie
// tells, or what the kernel noted when its parent reaped it. False where neither is so
// (see TellsExits).
func (p *Process) ExitStatus() (syscall.WaitStatus, bool) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(p.fd, &info); err != nil {
		return 0, false
	}
	if info.Mask&unix.PIDFD_INFO_EXIT != 0 {
		return syscall.WaitStatus(info.Exit_code), true
	}
	return p.zombieStatus()
}

// zombieStatus reads the last field but none of /proc/PID/stat. The number cannot come to
// name another process between the two questions, for the zombie holds it.
func (p *Process) zombieStatus() (syscall.WaitStatus, bool) {
	fields, err := stat(p.pid)
	if err != nil || fields[0] != "Z" || len(fields) < 50 {
		return 0, false
	}
	if reaped, err := p.poll(0, 0); reaped || err != nil {
		return 0, false
	}
	status, err := strconv.ParseUint(fields[49], 10, 32)
	return syscall.WaitStatus(status), err == nil
}

// TellsExits says whether the kernel tells how a process ended after its parent reaped
// it, to whoever referred to it before. Linux does from 6.15 on.
func TellsExits() bool {
	// A thread's end is enough to find out.
	started, end := make(chan int), make(chan struct{})
	go thread(started, end)
	tid := <-started
	fd, err := unix.PidfdOpen(tid, unix.PIDFD_THREAD)
	close(end)
	if err != nil {
		return false
	}
	p := &Process{pid: tid, fd: fd, file: os.NewFile(uintptr(fd), "pidfd")}
	defer p.Close()
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	return p.AwaitReaped(time.Second) && unix.IoctlPidfdInfo(fd, &info) == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0
}

// thread makes a thread, says which, and ends it when it is told to.
func thread(started chan<- int, end <-chan struct{}) {
	runtime.LockOSThread()
	if tid := unix.Gettid(); tid != os.Getpid() {
		started <- tid
		<-end
		return // locked: the thread ends, too
	}
	// The first thread never does. While it is held here another goroutine gets another.
	defer runtime.UnlockOSThread()
	go thread(started, end)
	<-end
}

// poll says whether the process ended (POLLIN) or was reaped (0, the hang-up that is
// always told) within the time; a negative time has no end.
func (p *Process) poll(events int16, timeoutMillis int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: events}}
	for {
		n, err := unix.Poll(fds, timeoutMillis)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("await process %d: %w", p.pid, err)
		}
		return n > 0, nil
	}
}

// Close releases the reference; the process goes on.
func (p *Process) Close() error { return p.file.Close() }

// StartTicks is the time that process pid started, in clock ticks since boot: with the
// pid it names one process only. ErrNoProcess if there is none.
func StartTicks(pid int) (uint64, error) {
	fields, err := stat(pid)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(fields[19], 10, 64)
}

// Name is that of the program that pid is, as /proc/PID/comm has it; a zombie's, too.
func Name(pid int) (string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if gone(err) {
		return "", ErrNoProcess
	}
	return strings.TrimSuffix(string(data), "\n"), err
}

// stat is /proc/PID/stat from the third field on, the state: at least 20 fields.
func stat(pid int) ([]string, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if gone(err) {
		return nil, ErrNoProcess
	}
	if err != nil {
		return nil, err
	}
	// The second field is the program's name in parentheses and may hold anything.
	_, rest, ok := cutLast(string(data), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return nil, fmt.Errorf("/proc/%d/stat: unexpected form %q", pid, data)
	}
	return fields, nil
}

// DefaultsTo says whether process pid neither catches nor ignores sig. ErrNoProcess if
// there is none.
func DefaultsTo(pid int, sig syscall.Signal) (bool, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if gone(err) {
		return false, ErrNoProcess
	}
	if err != nil {
		return false, err
	}
	var handled uint64
	for line := range strings.Lines(string(data)) {
		key, value, _ := strings.Cut(line, ":")
		if key != "SigCgt" && key != "SigIgn" {
			continue
		}
		mask, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return false, fmt.Errorf("/proc/%d/status: %s: %w", pid, key, err)
		}
		handled |= mask
	}
	return handled&(1<<(sig-1)) == 0, nil
}

// gone says whether err, from reading below /proc/PID, means that the process ended.
func gone(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}
