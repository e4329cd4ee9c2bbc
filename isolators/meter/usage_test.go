package meter

import (
	"math"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestSplit(t *testing.T) {
	second := time.Second
	for name, tc := range map[string]struct {
		times        times
		total        time.Duration
		told         Usage
		user, system time.Duration
	}{
		"in proportion":            {times{user: 3, system: 1}, 4 * second, Usage{}, 3 * second, second},
		"nothing is sampled yet":   {times{}, second, Usage{}, second, 0},
		"all is the system's":      {times{system: 7}, second, Usage{}, 0, second},
		"neither part shrinks":     {times{user: 1}, 4 * second, Usage{User: second, System: 2 * second}, 2 * second, 2 * second},
		"nor is the other pressed": {times{system: 1}, 4 * second, Usage{User: 2 * second, System: second}, 2 * second, 2 * second},
		"the total does not":       {times{user: 1, system: 1}, second, Usage{User: second, System: second}, second, second},
		"centuries":                {times{user: 1 << 63, system: 1 << 62}, math.MaxInt64 / 3 * 3, Usage{}, math.MaxInt64 / 3 * 2, math.MaxInt64 / 3},
	} {
		user, system := tc.times.split(tc.total, tc.told)
		if user != tc.user || system != tc.system {
			t.Errorf("%s: %v and %v, want %v and %v", name, user, system, tc.user, tc.system)
		}
	}
}

func TestSplitNeverGoesBack(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		var told Usage
		var now times
		var total time.Duration
		for range 50 {
			total += time.Duration(random.Int64N(int64(time.Second)))
			now.user += random.Uint64N(100)
			now.system += random.Uint64N(100)
			user, system := now.split(total, told)
			if user < told.User || system < told.System || user+system != total {
				t.Fatalf("%+v of %v after %+v: %v and %v", now, total, told, user, system)
			}
			told = Usage{User: user, System: system}
		}
	}
}

func TestRecord(t *testing.T) {
	h := newHost(t)
	m := Files(h.features)
	track(t, m, h.group("c"))
	dir, err := m.files.anchor(h.group("c"))
	if err != nil {
		t.Fatal(err)
	}
	want := Usage{User: 1, System: 2, RxBytes: 3, RxPackets: 4, TxBytes: math.MaxUint64, TxPackets: 6}
	if err := record(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := recall(dir); got != want || err != nil {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "\x01", "\x02" + strings.Repeat("x", recordBytes-1)} {
		if err := syscall.Setxattr(dir, attribute, []byte(bad), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := recall(dir); err == nil {
			t.Errorf("%q is a record", bad)
		}
	}
	if err := syscall.Setxattr(dir, attribute, make([]byte, recordBytes+9), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := recall(dir); err == nil {
		t.Error("what is too long is a record")
	}
}
