package sys

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrNoProcess says that the process asked for has ended.
var ErrNoProcess = errors.New("no such process")

// Process is a reference to one process, which stays with that process when its number
// is used again.
type Process struct {
	fd  int
	pid int
}

// OpenProcess refers to the process pid. Where startTicks is not zero the process must
// have started then (see StartTicks), else the answer is ErrNoProcess.
func OpenProcess(pid int, startTicks uint64) (*Process, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil, ErrNoProcess
	}
	if err != nil {
		return nil, fmt.Errorf("refer to process %d: %w", pid, err)
	}
	p := &Process{fd: fd, pid: pid}
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
func (p *Process) Ended() (bool, error) { return p.poll(0) }

// Await blocks until the process has ended, whoever its parent is.
func (p *Process) Await() error {
	_, err := p.poll(-1)
	return err
}

func (p *Process) poll(timeoutMillis int) (bool, error) {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
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
func (p *Process) Close() error { return unix.Close(p.fd) }

// StartTicks is the time that process pid started, in clock ticks since boot: with the
// pid it names one process only. ErrNoProcess if there is none.
func StartTicks(pid int) (uint64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if gone(err) {
		return 0, ErrNoProcess
	}
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses and may hold anything.
	_, rest, ok := cutLast(string(data), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: unexpected form %q", pid, data)
	}
	return strconv.ParseUint(fields[19], 10, 64)
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
