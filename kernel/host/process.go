package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pipeGrace is how long output is read on once the process has ended, if something it
// left behind holds the pipe open.
const pipeGrace = time.Second

// process is one run of a plugin's binary. It implements go-plugin's runner.Runner.
type process struct {
	cmd   *exec.Cmd
	files []pinned // what it runs from
	group *group   // nil: in the host's own cgroup

	stdout, stderr *os.File // ends to read from
	pid            int
	done           chan struct{} // closed when the process is gone
	err            error         // how it ended; readable when done is closed

	mu     sync.Mutex // held while the process group is signalled or reaped
	reaped bool
}

// Start runs the binary, if all is still as it was pinned. The process gets
// SIGKILL when this process ends, however that may be.
func (p *process) Start(context.Context) error {
	for _, f := range p.files {
		if err := f.verify(); err != nil {
			return err
		}
	}
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name(), err)
	}
	errRead, errWrite, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", p.Name(), err), outRead.Close(), outWrite.Close())
	}
	p.stdout, p.stderr = outRead, errRead
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = nil, outWrite, errWrite
	p.done = make(chan struct{})
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	started := make(chan error)
	go p.live(started)
	err = <-started
	outWrite.Close()
	errWrite.Close()
	if err != nil {
		outRead.Close()
		errRead.Close()
		return fmt.Errorf("start %s: %w", p.Name(), err)
	}
	return nil
}

// live starts the process and stays until it is gone. It keeps its thread: the kernel
// sends the parent-death signal when the thread that forked ends, not the process. The
// thread ends with the goroutine.
func (p *process) live(started chan<- error) {
	runtime.LockOSThread()
	if err := p.group.around(p.cmd); err != nil {
		started <- err
		return
	}
	p.pid = p.cmd.Process.Pid
	started <- nil
	awaitExit(p.pid)

	p.mu.Lock()
	// The group's number is ours until its leader is reaped.
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	p.err = p.cmd.Wait()
	p.reaped = true
	p.mu.Unlock()
	deadline := time.Now().Add(pipeGrace)
	_ = p.stdout.SetReadDeadline(deadline) // pipes that can't have one end with their writers
	_ = p.stderr.SetReadDeadline(deadline)
	close(p.done)
}

// awaitExit waits for the process to end and leaves it to be reaped.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}

// Wait waits for the process to be gone.
func (p *process) Wait(context.Context) error {
	<-p.done
	p.stdout.Close()
	p.stderr.Close()
	return p.err
}

// ended says how the process ended, when done is closed.
func (p *process) ended() error {
	if p.err != nil {
		return fmt.Errorf("the process ended: %w", p.err)
	}
	return errors.New("the process ended")
}

// Kill ends the process and all that it started in its group.
func (p *process) Kill(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.pid == 0 || p.reaped {
		return nil
	}
	return syscall.Kill(-p.pid, syscall.SIGKILL)
}

// Stdout is the handshake.
func (p *process) Stdout() io.ReadCloser { return p.stdout }

// Stderr is the log.
func (p *process) Stderr() io.ReadCloser { return p.stderr }

// Name is the plugin's own.
func (p *process) Name() string { return p.cmd.Args[0] }

// ID is the process id, empty before the start.
func (p *process) ID() string {
	if p.pid == 0 {
		return ""
	}
	return strconv.Itoa(p.pid)
}

// Diagnose has nothing to add: the journal has the plugin's own words.
func (p *process) Diagnose(context.Context) string { return "" }

// PluginToHost changes nothing: plugin and host see the same files.
func (p *process) PluginToHost(network, address string) (string, string, error) {
	return network, address, nil
}

// HostToPlugin changes nothing either.
func (p *process) HostToPlugin(network, address string) (string, string, error) {
	return network, address, nil
}
