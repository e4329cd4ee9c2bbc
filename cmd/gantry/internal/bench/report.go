package bench

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"
)

// Machine is where a measurement was made.
type Machine struct {
	CPUs   int    `json:"cpus"`
	CPU    string `json:"cpu"`
	MemMiB int    `json:"mem_mib"`
	Kernel string `json:"kernel"`
	// Load is the load average of the last minute before the measurement: above the number of processors, others
	// were at work, and only ratios mean something.
	Load float64 `json:"load"`
}

func machine() (Machine, error) {
	m := Machine{CPUs: runtime.NumCPU()}
	var kib int
	for _, from := range []struct {
		file, format string
		to           any
	}{
		{"/proc/sys/kernel/osrelease", "%s", &m.Kernel},
		{"/proc/loadavg", "%g", &m.Load},
		{"/proc/meminfo", "MemTotal: %d", &kib},
	} {
		data, err := os.ReadFile(from.file)
		if err == nil {
			_, err = fmt.Sscanf(string(data), from.format, from.to)
		}
		if err != nil {
			return m, fmt.Errorf("look at the machine: %s: %w", from.file, err)
		}
	}
	m.MemMiB = kib >> 10
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, fmt.Errorf("look at the machine: %w", err)
	}
	for line := range strings.Lines(string(cpus)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	return m, nil
}

// Text writes r for a person.
func (r Report) Text(out io.Writer) error {
	m := r.Machine
	fmt.Fprintf(out, "%d CPUs (%s), %d MiB, Linux %s, load %.2f at the start\n\n", m.CPUs, m.CPU, m.MemMiB, m.Kernel, m.Load)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	if l := r.Latency; l != nil {
		fmt.Fprintf(w, "ACCEPT to RUNNING, %d tasks in turn\tp50 %.1f ms, p90 %.1f ms, p99 %.1f ms\n", l.Tasks, l.P50, l.P90, l.P99)
		cost(w, l.DaemonCPU, l.ChildCPU, l.Recounted)
	}
	if t := r.Rate; t != nil {
		fmt.Fprintf(w, "%d tasks at once\t%.1f tasks/s\n", t.Tasks, t.PerSecond)
		if c := t.Runc; c != nil {
			fmt.Fprintf(w, "  a loop of %s\t%.1f containers/s: %.2f times that\n", c.Version, c.PerSecond, c.Ratio)
			fmt.Fprintf(w, "  %d such loops at once\t%.1f containers/s\n", m.CPUs, c.Parallel)
		}
		cost(w, t.DaemonCPU, t.ChildCPU, t.Recounted)
	}
	if e := r.Memory; e != nil {
		fmt.Fprintf(w, "memory of the daemons, %d live tasks\t%.0f KiB a task\n", e.Tasks, e.KiBPerTask)
	}
	if len(r.Idle) > 0 {
		fmt.Fprintf(w, "memory of the idle cluster\t%.0f MiB\n", float64(sum(r.Idle).rssKiB)/1024)
		for _, p := range r.Idle {
			peak := p.PeakKiB
			for _, after := range r.After {
				if after.pid == p.pid {
					peak = after.PeakKiB
				}
			}
			fmt.Fprintf(w, "  %s\t%.1f MiB, at most %.1f\n", p.Name, float64(p.RSSKiB)/1024, float64(peak)/1024)
		}
	}
	return w.Flush()
}

func cost(w io.Writer, daemons, containers float64, recounted int) {
	if recounted == 0 {
		return // of a cluster that is not ours nothing more is known
	}
	fmt.Fprintf(w, "  CPU time for each\tdaemons %.1f ms, containers %.1f ms\n", daemons, containers)
	fmt.Fprintf(w, "  recounted on the agent's disk\t%d\n", recounted)
}
