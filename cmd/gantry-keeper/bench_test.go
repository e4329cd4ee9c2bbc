package main_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkTrue is a container's whole life, as its agent sees it.
func BenchmarkTrue(b *testing.B) {
	h := newHost(b)
	var starts time.Duration
	for i := 0; b.Loop(); i++ {
		spec := h.spec(b, "true-"+strconv.Itoa(i), "true")
		begin := time.Now()
		h.start(b, spec)
		starts += time.Since(begin)
		h.exit(b, spec.GetId())
		if err := h.client.Forget(within(b), spec.GetId()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(starts.Milliseconds())/float64(b.N), "ms/start")
}

// BenchmarkAdopt is the time from the death of a keeper until the next one has told its
// agent of all containers.
func BenchmarkAdopt(b *testing.B) {
	for _, n := range []int{50, 1000} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			h := newHost(b)
			for i := range n {
				h.start(b, h.spec(b, "c-"+strconv.Itoa(i), "sleep", "1000"))
			}
			keeper, reaper := resident(b, h.pid), resident(b, h.reaper)
			b.ResetTimer()
			for range b.N {
				if err := syscall.Kill(h.pid, syscall.SIGKILL); err != nil {
					b.Fatal(err)
				}
				for range h.client.Events() {
				}
				if running := h.dial(b).GetRunning(); len(running) != n {
					b.Fatalf("%d of %d are adopted", len(running), n)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(keeper), "keeper-KiB")
			b.ReportMetric(float64(reaper), "reaper-KiB")
			b.ReportMetric(float64(resident(b, h.pid)), "adopter-KiB")
			b.ReportMetric(float64(busy(b, h.pid)), "adopter-cpu-ms")
		})
	}
}

// resident is the memory of a process, in KiB.
func resident(b *testing.B, pid int) int {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), "VmRSS:")
	var kib int
	if _, err := fmt.Sscan(after, &kib); err != nil {
		b.Fatal(err)
	}
	return kib
}

// busy is the CPU time that a process has had, in milliseconds.
func busy(b *testing.B, pid int) int {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, after, _ := strings.Cut(string(data), ") ")
	ticks := 0
	for _, field := range strings.Fields(after)[11:13] { // utime and stime
		n, err := strconv.Atoi(field)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return ticks * 10
}
