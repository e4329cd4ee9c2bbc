package meter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
)

// roleOf tells the test program to be one of the processes that are measured.
const roleOf = "GANTRY_METER_ROLE"

func TestMain(m *testing.M) {
	roles := map[string]func() error{"udp": answerUDP, "tcp": sinkTCP, "pipe": answerPipe, "burn": burnCPU}
	role, ok := roles[os.Getenv(roleOf)]
	if !ok {
		os.Exit(m.Run())
	}
	if err := role(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// answerUDP prints its address and sends every datagram back until its input ends.
func answerUDP() error {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(conn.LocalAddr())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	data := make([]byte, 1<<16)
	for {
		n, from, err := conn.ReadFrom(data)
		if err != nil {
			return err
		}
		if _, err := conn.WriteTo(data[:n], from); err != nil {
			return err
		}
	}
}

// sinkTCP prints its address, reads one connection to its end and says so.
func sinkTCP() error {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	conn, err := listener.Accept()
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, conn); err != nil {
		return err
	}
	fmt.Println("done")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// answerPipe writes back each byte that it reads, by one thread and no scheduler of Go's.
func answerPipe() error {
	var data [1]byte
	for {
		if n, err := syscall.Read(0, data[:]); n != 1 {
			return err
		}
		if _, err := syscall.Write(1, data[:]); err != nil {
			return err
		}
	}
}

// burnCPU says that it is ready, waits for a line, answers how much CPU time it had (in
// nanoseconds) and ends when it has had a second more, some of that in the kernel.
func burnCPU() error {
	fmt.Println("ready")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil {
		return err
	}
	start, err := cpuTime()
	fmt.Println(int64(start))
	for used := start; err == nil && used < start+time.Second; used, err = cpuTime() {
		for range 1 << 12 {
			_ = syscall.Getppid()
			for i := range 1 << 9 {
				runtime.KeepAlive(i)
			}
		}
	}
	return err
}

// cpuTime is the CPU time that this process had.
func cpuTime() (time.Duration, error) {
	var used syscall.Rusage
	err := syscall.Getrusage(syscall.RUSAGE_SELF, &used)
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()), err
}

// host has groups of its own, which the end of the test removes.
type host struct {
	features cgroup.Features
	parent   string
}

// newHost skips where the host can't do what is tested.
func newHost(t testing.TB) host {
	t.Helper()
	if os.Geteuid() != 0 {
		unable(t, "making control groups needs root")
	}
	f, err := cgroup.Probe()
	if err != nil {
		unable(t, err.Error())
	}
	h := host{features: f, parent: cgroup.Name(t.TempDir())}
	t.Cleanup(func() {
		if err := f.Remove(context.Background(), h.parent); err != nil {
			t.Error(err)
		}
	})
	return h
}

// open makes a meter that uses eBPF.
func (h host) open(t testing.TB) *Meter {
	t.Helper()
	m, err := Open(h.features)
	if errors.Is(err, ErrUnavailable) {
		if _, missing := os.Stat(kernelTypes); missing != nil {
			t.Skip(err)
		}
		unable(t, err.Error())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() }) // a test may have closed it
	return m
}

func unable(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("GANTRY_REQUIRE_ROOT") == "1" {
		t.Fatal(why)
	}
	t.Skip(why)
}

func (h host) group(id string) string { return cgroup.Container(h.parent, id) }

// place moves a process into group, in every hierarchy where that takes no more than a
// write.
func (h host) place(t testing.TB, group string, pid int) {
	t.Helper()
	for _, hierarchy := range h.features.Hierarchies {
		if !hierarchy.V2 && slices.Contains(hierarchy.Controllers, "cpuset") {
			continue
		}
		dir := filepath.Join(hierarchy.Mount, group)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// process is one that runs in a group, and ends with the test.
type process struct {
	*exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	// outside is the CPU time that it had before it was placed in a group.
	outside time.Duration
}

// script runs a shell's script in group.
func (h host) script(t testing.TB, group, script string) *process {
	t.Helper()
	p := start(t, exec.Command("sh", "-c", "echo ready; read go; "+script))
	p.hear(t)
	h.place(t, group, p.Process.Pid)
	p.outside = p.runFor(t, 0)
	p.say(t, "go")
	return p
}

// role runs the test program in group, where it is from its first instruction: a socket
// belongs to where it was made.
func (h host) role(t testing.TB, group, role string) *process {
	t.Helper()
	mount, _ := files{h.features}.unified()
	if err := os.MkdirAll(filepath.Join(mount, group), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(filepath.Join(mount, group))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := self(t, role)
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return start(t, cmd)
}

// burn has a process in group use CPU time, and returns how much the kernel says it was.
func (h host) burn(t testing.TB, group string) time.Duration {
	t.Helper()
	p := start(t, self(t, "burn"))
	p.hear(t)
	h.place(t, group, p.Process.Pid)
	p.say(t, "go")
	before, err := strconv.ParseInt(p.hear(t), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	return p.used() - time.Duration(before)
}

// self is the test program in another role.
func self(t testing.TB, role string) *exec.Cmd {
	t.Helper()
	file, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(file)
	cmd.Env = append(os.Environ(), roleOf+"="+role)
	return cmd
}

func start(t testing.TB, cmd *exec.Cmd) *process {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{Cmd: cmd, in: in, out: bufio.NewReader(out)}
	t.Cleanup(p.end)
	return p
}

func (p *process) say(t testing.TB, word string) {
	t.Helper()
	if _, err := fmt.Fprintln(p.in, word); err != nil {
		t.Fatal(err)
	}
}

func (p *process) hear(t testing.TB) string {
	t.Helper()
	line, err := p.out.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line[:len(line)-1]
}

// runFor waits until the process was on a CPU for so long since it was placed, and
// returns how long it was.
func (p *process) runFor(t testing.TB, least time.Duration) time.Duration {
	t.Helper()
	for {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", p.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		nanos, err := strconv.ParseInt(strings.Fields(string(text))[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		if ran := time.Duration(nanos) - p.outside; ran >= least {
			return ran
		}
		runtime.Gosched()
	}
}

// used is the CPU time that the process had, once it has ended.
func (p *process) used() time.Duration {
	return p.ProcessState.UserTime() + p.ProcessState.SystemTime()
}

// end kills the process and waits for it.
func (p *process) end() {
	_ = p.Process.Kill()
	_ = p.Wait()
}

// exchange has a process of role "udp" answer n datagrams of size bytes each.
func exchange(t testing.TB, addr string, n, size int) {
	t.Helper()
	conn, err := net.Dial("udp4", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	data := make([]byte, size)
	for range n {
		if _, err := conn.Write(data); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(data); err != nil {
			t.Fatal(err)
		}
	}
}
