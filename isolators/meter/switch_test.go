package meter

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkSwitch passes a byte to and fro between two processes on one CPU, which is
// two switches each time, and nothing else: the worst that a workload can do to the
// meter, and the meter to it.
func BenchmarkSwitch(b *testing.B) {
	for _, bb := range []struct {
		name  string
		setUp func(b *testing.B, h host) (group string)
	}{
		{"NoMeter", func(b *testing.B, h host) string { return h.group("c") }},
		{"NothingTracked", func(b *testing.B, h host) string {
			h.open(b)
			return h.group("c")
		}},
		{"OthersTracked", func(b *testing.B, h host) string {
			track(b, h.open(b), h.group("other"))
			return h.group("c")
		}},
		{"Tracked", func(b *testing.B, h host) string {
			track(b, h.open(b), h.group("c"))
			return h.group("c")
		}},
	} {
		b.Run(bb.name, func(b *testing.B) {
			h := newHost(b)
			passBytes(b, h, bb.setUp(b, h))
		})
	}
}

// BenchmarkProgram tells what the program takes of each switch, by the kernel's own
// measurement.
func BenchmarkProgram(b *testing.B) {
	h := newHost(b)
	m, group := h.open(b), h.group("c")
	track(b, m, group)
	stats, err := ebpf.EnableStats(unix.BPF_STATS_RUN_TIME)
	if err != nil {
		b.Skip(err)
	}
	defer stats.Close()
	passBytes(b, h, group)
	ran, err := m.counter.objects.OnSwitch.Stats()
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(ran.Runtime.Nanoseconds())/float64(ran.RunCount), "ns/switch")
}

func passBytes(b *testing.B, h host, group string) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		b.Fatal(err)
	}
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		b.Skip(err)
	}
	defer func() {
		if err := unix.SchedSetaffinity(0, &before); err != nil {
			b.Error(err)
		}
	}()
	p, in, out := h.piped(b, group)
	if err := unix.SchedSetaffinity(p.Process.Pid, &one); err != nil {
		b.Fatal(err)
	}
	data := []byte{1}
	for b.Loop() {
		if n, err := syscall.Write(in, data); n != 1 {
			b.Fatal(err)
		}
		if n, err := syscall.Read(out, data); n != 1 {
			b.Fatal(err)
		}
	}
}

// piped runs the test program in group, with pipes that block.
func (h host) piped(b *testing.B, group string) (p *exec.Cmd, in, out int) {
	var there, back [2]int
	for _, pipe := range []*[2]int{&there, &back} {
		if err := syscall.Pipe2(pipe[:], syscall.O_CLOEXEC); err != nil {
			b.Fatal(err)
		}
	}
	stdin, stdout := os.NewFile(uintptr(there[0]), "in"), os.NewFile(uintptr(back[1]), "out")
	p = self(b, "pipe")
	p.Stdin, p.Stdout = stdin, stdout
	if err := p.Start(); err != nil {
		b.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	b.Cleanup(func() {
		_ = syscall.Close(there[1]) // which ends the process
		_ = syscall.Close(back[0])
		_ = p.Wait()
	})
	h.place(b, group, p.Process.Pid)
	return p, there[1], back[0]
}

func BenchmarkRead(b *testing.B) {
	h := newHost(b)
	m, group := h.open(b), h.group("c")
	track(b, m, group)
	for b.Loop() {
		if _, err := m.Read(group); err != nil {
			b.Fatal(err)
		}
	}
}
