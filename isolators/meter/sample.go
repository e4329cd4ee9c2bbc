package meter

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"strings"
	"time"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	"google.golang.org/protobuf/proto"
)

// unlimited is the least that version 1 says where memory is not limited: it depends on
// the size of pages.
const unlimited = math.MaxInt64 &^ (1<<20 - 1)

// Sample tells everything that is known of group, at the time now. What the host's
// controllers do not tell is not set, and neither is a limit that there is not. Errors
// are those of Read.
func (m *Meter) Sample(group string, now time.Time) (*mesos.ResourceStatistics, error) {
	u, err := m.Read(group)
	if err != nil {
		return nil, err
	}
	s := &mesos.ResourceStatistics{
		Timestamp:          proto.Float64(float64(now.UnixMicro()) / 1e6),
		CpusUserTimeSecs:   proto.Float64(u.User.Seconds()),
		CpusSystemTimeSecs: proto.Float64(u.System.Seconds()),
	}
	if u.Source == FromEBPF {
		s.NetRxBytes, s.NetRxPackets = proto.Uint64(u.RxBytes), proto.Uint64(u.RxPackets)
		s.NetTxBytes, s.NetTxPackets = proto.Uint64(u.TxBytes), proto.Uint64(u.TxPackets)
	}
	if err := m.files.sample(group, s); err != nil {
		return nil, fmt.Errorf("meter %s: %w", group, err)
	}
	return s, nil
}

// sample sets what the files of group tell but for times.
func (f files) sample(group string, s *mesos.ResourceStatistics) error {
	r := new(reader)
	if dir, v2, ok := f.dir("cpu", group); ok {
		r.dir = dir
		r.throttling(v2, s)
	}
	if dir, v2, ok := f.dir("memory", group); ok {
		r.dir = dir
		if v2 {
			r.memory2(s)
		} else {
			r.memory1(s)
		}
	}
	if dir, _, ok := f.dir("pids", group); ok {
		r.dir = dir
		if n := r.number("pids.current"); n != nil {
			s.Threads = proto.Uint32(uint32(*n))
		}
	}
	pids, err := f.Members(group)
	if err != nil {
		return errors.Join(r.failed, err)
	}
	s.Processes = proto.Uint32(uint32(len(pids)))
	return r.failed
}

// reader reads files of the group's directory dir, and keeps what fails. A file that is
// missing is something that the kernel does not tell.
type reader struct {
	dir    string
	failed error
}

func (r *reader) number(file string) *uint64 {
	n, err := number(r.dir, file)
	if err != nil {
		r.fail(err)
		return nil
	}
	return &n
}

func (r *reader) table(file string) map[string]uint64 {
	t, err := table(r.dir, file)
	r.fail(err)
	return t
}

func (r *reader) fail(err error) {
	if !errors.Is(err, fs.ErrNotExist) {
		r.failed = errors.Join(r.failed, err)
	}
}

// in is the value of key, if t has one.
func in(t map[string]uint64, key string) *uint64 {
	if n, ok := t[key]; ok {
		return &n
	}
	return nil
}

func (r *reader) throttling(v2 bool, s *mesos.ResourceStatistics) {
	stat := r.table("cpu.stat")
	if n, ok := stat["nr_periods"]; ok {
		s.CpusNrPeriods = proto.Uint32(uint32(n))
		s.CpusNrThrottled = proto.Uint32(uint32(stat["nr_throttled"]))
		waited := time.Duration(stat["throttled_time"])
		if v2 {
			waited = time.Duration(stat["throttled_usec"]) * time.Microsecond
		}
		s.CpusThrottledTimeSecs = proto.Float64(waited.Seconds())
	}
	quota, period := r.quota(v2)
	if quota > 0 && period > 0 {
		s.CpusLimit = proto.Float64(float64(quota) / float64(period))
	}
}

// quota is the CPU time of each period; zeros where it is not limited.
func (r *reader) quota(v2 bool) (quota, period int64) {
	text, err := "", error(nil)
	if v2 {
		text, err = read(r.dir, "cpu.max")
	} else {
		var q, p string
		var failed error
		q, err = read(r.dir, "cpu.cfs_quota_us")
		p, failed = read(r.dir, "cpu.cfs_period_us")
		text, err = q+" "+p, errors.Join(err, failed)
	}
	if err != nil {
		r.fail(err)
		return 0, 0
	}
	if q, _, _ := strings.Cut(text, " "); q == "max" || q == "-1" {
		return 0, 0
	}
	if _, err := fmt.Sscanf(text, "%d %d", &quota, &period); err != nil {
		r.fail(fmt.Errorf("CPU quota and period of %s: unexpected %q", r.dir, text))
		return 0, 0
	}
	return quota, period
}

func (r *reader) memory1(s *mesos.ResourceStatistics) {
	s.MemTotalBytes = r.number("memory.usage_in_bytes")
	s.MemTotalMemswBytes = r.number("memory.memsw.usage_in_bytes")
	s.MemKmemUsageBytes = r.number("memory.kmem.usage_in_bytes")
	s.MemKmemTcpUsageBytes = r.number("memory.kmem.tcp.usage_in_bytes")
	s.MemLimitBytes = limit(r.number("memory.limit_in_bytes"))
	s.MemSoftLimitBytes = limit(r.number("memory.soft_limit_in_bytes"))
	stat := r.table("memory.stat")
	s.MemRssBytes, s.MemAnonBytes = in(stat, "total_rss"), in(stat, "total_rss")
	s.MemCacheBytes, s.MemFileBytes = in(stat, "total_cache"), in(stat, "total_cache")
	s.MemMappedFileBytes = in(stat, "total_mapped_file")
	s.MemSwapBytes = in(stat, "total_swap")
	s.MemUnevictableBytes = in(stat, "total_unevictable")
}

// limit is n, unless that is no limit.
func limit(n *uint64) *uint64 {
	if n == nil || *n >= unlimited {
		return nil
	}
	return n
}

func (r *reader) memory2(s *mesos.ResourceStatistics) {
	s.MemTotalBytes = r.number("memory.current")
	s.MemSwapBytes = r.number("memory.swap.current")
	if text, err := read(r.dir, "memory.max"); err != nil {
		r.fail(err)
	} else if text != "max" {
		s.MemLimitBytes = r.number("memory.max")
	}
	stat := r.table("memory.stat")
	s.MemRssBytes, s.MemAnonBytes = in(stat, "anon"), in(stat, "anon")
	s.MemCacheBytes, s.MemFileBytes = in(stat, "file"), in(stat, "file")
	s.MemMappedFileBytes = in(stat, "file_mapped")
	s.MemUnevictableBytes = in(stat, "unevictable")
	s.MemKmemUsageBytes = in(stat, "kernel")
}
