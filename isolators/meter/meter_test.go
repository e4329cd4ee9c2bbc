package meter

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
)

// datagramHeaders are the bytes before a datagram's own: IPv4's 20 and UDP's 8.
const datagramHeaders = 28

// track has m track groups, which need no process to be read.
func track(t testing.TB, m *Meter, groups ...string) {
	t.Helper()
	for _, g := range groups {
		if err := m.Track(g); err != nil {
			t.Fatal(err)
		}
		dir, _, _ := m.files.dir("cpuacct", g)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

func usage(t testing.TB, m *Meter, group string) Usage {
	t.Helper()
	u, err := m.Read(group)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// between fails where got is not from least to most but for 2 % and the time that it
// takes to be moved into a group, or that the kernel was not told of yet.
func between(t testing.TB, what string, got, least, most time.Duration) {
	t.Helper()
	const slack = 10 * time.Millisecond
	if got < least-least/50-slack || got > most+most/50+slack {
		t.Errorf("%s: %v of CPU time, want %v to %v", what, got, least, most)
	}
}

func TestCPUTimeByEBPF(t *testing.T) {
	h := newHost(t)
	m, group := h.open(t), h.group("burns")
	track(t, m, group)
	burned := h.burn(t, group)
	u := usage(t, m, group)
	between(t, "by eBPF", u.CPU(), burned, burned)
	if u.User == 0 || u.System == 0 || u.Source != FromEBPF {
		t.Errorf("not divided: %+v", u)
	}
}

func TestCPUTimeByFiles(t *testing.T) {
	h := newHost(t)
	m, group := Files(h.features), h.group("burns")
	track(t, m, group)
	burned := h.burn(t, group)
	u := usage(t, m, group)
	between(t, "by files", u.CPU(), burned, burned)
	if u.User == 0 || u.Source != FromFiles {
		t.Errorf("got %+v", u)
	}
}

func TestCPUTimeOfARunningProcess(t *testing.T) {
	h := newHost(t)
	m, early, late := h.open(t), h.group("early"), h.group("late")
	for _, group := range []string{early, late} {
		if group == early {
			track(t, m, group)
		}
		p := h.script(t, group, "while :; do :; done")
		p.runFor(t, 500*time.Millisecond)
		if group == late {
			track(t, m, group)
		}
		least := p.runFor(t, time.Second)
		got := usage(t, m, group).CPU()
		between(t, group, got, least, p.runFor(t, 0))
		p.end()
	}
}

func TestCPUTimeByEBPFIsNeverBehindTheFiles(t *testing.T) {
	h := newHost(t)
	m, group := h.open(t), h.group("endless")
	track(t, m, group)
	p := h.script(t, group, "while :; do :; done")
	p.runFor(t, 100*time.Millisecond)
	// Both tell what the scheduler told them, at the same moments; version 2 in microseconds.
	const slack = 2 * time.Microsecond
	for range 500 {
		before, err := m.files.times(group)
		if err != nil {
			t.Fatal(err)
		}
		got := usage(t, m, group).CPU()
		after, err := m.files.times(group)
		if err != nil {
			t.Fatal(err)
		}
		if got < before.total-slack || got > after.total+slack {
			t.Fatalf("by eBPF %v, by files %v and then %v", got, before.total, after.total)
		}
	}
}

func TestDatagramsAreCountedToTheByte(t *testing.T) {
	h := newHost(t)
	m, group := h.open(t), h.group("answers")
	track(t, m, group)
	p := h.role(t, group, "udp")
	exchange(t, p.hear(t), 500, 1000)
	want := Usage{RxBytes: 500 * (1000 + datagramHeaders), RxPackets: 500, TxBytes: 500 * (1000 + datagramHeaders), TxPackets: 500}
	if got := traffic(usage(t, m, group)); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// traffic is u without the rest.
func traffic(u Usage) Usage {
	u.User, u.System, u.Source = 0, 0, 0
	return u
}

func TestAStreamCountsWithItsHeaders(t *testing.T) {
	h := newHost(t)
	m, group := h.open(t), h.group("sink")
	track(t, m, group)
	p := h.role(t, group, "tcp")
	conn, err := net.Dial("tcp4", p.hear(t))
	if err != nil {
		t.Fatal(err)
	}
	const sent = 1 << 20
	if _, err := conn.Write(make([]byte, sent)); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	p.hear(t)
	u := usage(t, m, group)
	if u.RxBytes < sent || u.RxBytes > sent*105/100 || u.RxPackets < 16 {
		t.Errorf("received %d bytes in %d packets of a stream of %d", u.RxBytes, u.RxPackets, sent)
	}
	if u.TxBytes == 0 || u.TxBytes > sent/10 {
		t.Errorf("sent %d bytes to acknowledge %d", u.TxBytes, sent)
	}
}

func TestWhatIsNotTrackedIsNotCounted(t *testing.T) {
	h := newHost(t)
	m, group, other := h.open(t), h.group("later"), h.group("other")
	track(t, m, other)
	burned := h.burn(t, group)
	talks := h.role(t, group, "udp")
	exchange(t, talks.hear(t), 10, 10)
	talks.end()
	if u := usage(t, m, other); u.CPU() != 0 || u.RxBytes != 0 || u.TxBytes != 0 {
		t.Errorf("a group without processes used %+v", u)
	}
	if _, err := m.Read(group); !errors.Is(err, ErrUntracked) {
		t.Errorf("read what is not tracked: %v", err)
	}
	track(t, m, group)
	u := usage(t, m, group)
	if got := traffic(u); got != (Usage{}) {
		t.Errorf("traffic from before it was tracked: %+v", got)
	}
	between(t, "before it was tracked", u.CPU(), burned, burned+talks.used())
	if err := m.Untrack(group); err != nil {
		t.Error(err)
	}
	if _, err := m.Read(group); !errors.Is(err, ErrUntracked) {
		t.Errorf("read what is not tracked any more: %v", err)
	}
}

func TestGroupsCountForThoseAbove(t *testing.T) {
	h := newHost(t)
	m, pod := h.open(t), h.group("pod")
	task, deep := pod+"/task", pod+"/task/of/its/own"
	track(t, m, pod, task, h.group("beside"))
	exchange(t, h.role(t, deep, "udp").hear(t), 20, 100)
	for group, n := range map[string]uint64{pod: 20, task: 20, h.group("beside"): 0} {
		if u := usage(t, m, group); u.RxPackets != n || u.TxBytes != n*(100+datagramHeaders) || (u.CPU() > 0) != (n > 0) {
			t.Errorf("%s: %+v", group, u)
		}
	}
}

func TestManyGroups(t *testing.T) {
	h := newHost(t)
	m := h.open(t)
	const groups, active = 300, 5
	for i := range groups {
		track(t, m, h.group(strconv.Itoa(i)))
	}
	for i := range active {
		exchange(t, h.role(t, h.group(strconv.Itoa(i*50)), "udp").hear(t), i+1, 100)
	}
	for i := range groups {
		var want uint64
		if i%50 == 0 && i/50 < active {
			want = uint64(i/50 + 1)
		}
		if u := usage(t, m, h.group(strconv.Itoa(i))); u.RxPackets != want {
			t.Errorf("group %d received %d packets, want %d", i, u.RxPackets, want)
		}
	}
}

func TestNumbersDoNotGoBackWhenTheMeterRestarts(t *testing.T) {
	h := newHost(t)
	group := h.group("long-lived")
	first := h.open(t)
	track(t, first, group)
	h.burn(t, group)
	talks := h.role(t, group, "udp")
	addr := talks.hear(t)
	exchange(t, addr, 10, 100)
	before := usage(t, first, group)
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	burned := h.burn(t, group)
	exchange(t, addr, 10, 100)

	files := Files(h.features)
	track(t, files, group)
	meanwhile := usage(t, files, group)
	if meanwhile.User < before.User || meanwhile.System < before.System || meanwhile.RxBytes != 0 {
		t.Errorf("by files: %+v, before %+v", meanwhile, before)
	}

	second := h.open(t)
	track(t, second, group)
	exchange(t, addr, 10, 100)
	after := usage(t, second, group)
	if after.RxPackets != before.RxPackets+10 || after.TxBytes != before.TxBytes+10*(100+datagramHeaders) {
		t.Errorf("traffic: %+v, before %+v", after, before)
	}
	if after.User < meanwhile.User || after.System < meanwhile.System {
		t.Errorf("CPU time: %+v, before %+v", after, meanwhile)
	}
	talks.end()
	between(t, "while there was no meter", after.CPU()-before.CPU(), burned, burned+talks.used())
}

func TestTwoMetersCountByThemselves(t *testing.T) {
	h := newHost(t)
	one, two := h.open(t), h.open(t)
	shared, own := h.group("shared"), h.group("own")
	track(t, one, shared)
	track(t, two, shared, own)
	addr := h.role(t, shared, "udp").hear(t)
	exchange(t, addr, 10, 10)
	if a, b := usage(t, one, shared), usage(t, two, shared); a.RxPackets != 10 || traffic(a) != traffic(b) {
		t.Errorf("%+v and %+v", a, b)
	}
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	exchange(t, addr, 10, 10)
	if u := usage(t, two, shared); u.RxPackets != 20 {
		t.Errorf("after the other was closed: %+v", u)
	}
}

func TestNothingIsLeftAfterClose(t *testing.T) {
	h := newHost(t)
	m := h.open(t)
	track(t, m, h.group("c"))
	var ids []ebpf.ProgramID
	for _, p := range []*ebpf.Program{m.counter.objects.OnSwitch, m.counter.objects.OnIngress, m.counter.objects.OnEgress, m.counter.objects.Settle} {
		info, err := p.Info()
		if err != nil {
			t.Fatal(err)
		}
		id, _ := info.ID()
		ids = append(ids, id)
	}
	info, err := m.counter.objects.Groups.Info()
	if err != nil {
		t.Fatal(err)
	}
	groups, _ := info.ID()
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	// A program goes with the last reference to it, which the kernel drops in its own time.
	for _, id := range ids {
		gone(t, fmt.Sprintf("program %d", id), func() (interface{ Close() error }, error) { return ebpf.NewProgramFromID(id) })
	}
	gone(t, "the map of groups", func() (interface{ Close() error }, error) { return ebpf.NewMapFromID(groups) })
}

// gone waits until what is looked up is not there.
func gone(t *testing.T, what string, lookUp func() (interface{ Close() error }, error)) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		found, err := lookUp()
		if errors.Is(err, fs.ErrNotExist) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		found.Close()
		if time.Now().After(deadline) {
			t.Errorf("%s is still there", what)
			return
		}
		runtime.Gosched()
	}
}

func TestTrack(t *testing.T) {
	h := newHost(t)
	m, group := h.open(t), h.group("c")
	for _, bad := range []string{"", "/", "/system.slice", h.parent + "/../x"} {
		if m.Track(bad) == nil {
			t.Errorf("%q is tracked", bad)
		}
	}
	if err := m.Track(h.group(strings.Repeat("x/", maxLevels) + "x")); err == nil || !strings.Contains(err.Error(), "levels deep") {
		t.Errorf("a group that is too deep: %v", err)
	}
	track(t, m, group, group)
	dir, err := m.files.anchor(group)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Untrack(group); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left where no container came to be: %v", dir, err)
	}
	if err := m.Untrack(group); err != nil {
		t.Errorf("untrack again: %v", err)
	}
	for i := range MaxGroups {
		m.groups[strconv.Itoa(i)] = &account{}
	}
	if err := m.Track(group); !errors.Is(err, ErrFull) {
		t.Errorf("one too many: %v", err)
	}
}

func TestAGroupThatIsGone(t *testing.T) {
	h := newHost(t)
	m, group := h.open(t), h.group("c")
	track(t, m, group)
	if err := h.script(t, group, ":").Wait(); err != nil {
		t.Fatal(err)
	}
	if err := h.features.Remove(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Read(group); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("read: %v", err)
	}
	if err := m.Untrack(group); err != nil {
		t.Errorf("untrack: %v", err)
	}
}
