package keeper

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

func TestRecords(t *testing.T) {
	r, err := openRecords(filepath.Join(t.TempDir(), "exits"))
	if err != nil {
		t.Fatal(err)
	}
	for _, durable := range []bool{true, false} {
		if err := r.put("c1", &containerpb.Exit{Status: 7}, durable); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.put("c2", &containerpb.Exit{}, true); err != nil {
		t.Fatal(err)
	}
	got := new(containerpb.Exit)
	if err := r.get("c1", got); err != nil || got.GetStatus() != 7 {
		t.Errorf("got %v, %v", got, err)
	}
	unfinished := filepath.Join(r.dir, ".c3.tmp")
	if err := os.WriteFile(unfinished, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if ids, err := r.ids(); err != nil || !slices.Equal(ids, []string{"c1", "c2"}) {
		t.Errorf("ids: %v, %v", ids, err)
	}
	if _, err := os.Stat(unfinished); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unfinished write stays: %v", err)
	}
	for range 2 {
		if err := r.remove("c1"); err != nil {
			t.Error(err)
		}
	}
	if err := r.get("c1", got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get of what was removed: %v", err)
	}
}

// However a record is damaged, it is not taken for another; and what is no record is told
// from what cannot be read.
func TestDamagedRecord(t *testing.T) {
	good, err := encode(&containerpb.Exit{Status: 7, ContainerId: "c"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		if err := decode(good[:i], new(containerpb.Exit)); !errors.Is(err, errDamaged) {
			t.Errorf("%d bytes: %v", i, err)
		}
		for bit := range 8 {
			bad := slices.Clone(good)
			bad[i] ^= 1 << bit
			if err := decode(bad, new(containerpb.Exit)); !errors.Is(err, errDamaged) {
				t.Errorf("bit %d of byte %d: %v", bit, i, err)
			}
		}
	}
	newer := slices.Clone(good)
	newer[4] = recordVersion + 1
	binary.BigEndian.PutUint32(newer, crc32.Checksum(newer[4:], castagnoli))
	if err := decode(newer, new(containerpb.Exit)); !errors.Is(err, errNewer) {
		t.Errorf("of a newer version: %v", err)
	}
}

func TestNoRecord(t *testing.T) {
	r, err := openRecords(filepath.Join(t.TempDir(), "exits"))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.put("target", &containerpb.Exit{}, true); err != nil {
		t.Fatal(err)
	}
	for name, make := range map[string]func(path string) error{
		"directory": func(path string) error { return os.MkdirAll(filepath.Join(path, "full"), 0o700) },
		"link":      func(path string) error { return os.Symlink("target", path) },
		"fifo":      func(path string) error { return syscall.Mkfifo(path, 0o600) },
		"empty":     func(path string) error { return os.WriteFile(path, nil, 0o600) },
		"large":     func(path string) error { return errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)) },
	} {
		if err := make(r.path(name)); err != nil {
			t.Fatal(err)
		}
		if err := r.get(name, new(containerpb.Exit)); !errors.Is(err, errDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		for range 2 {
			if err := errors.Join(r.setAside(name), r.put(name, &containerpb.Exit{Status: 3}, true)); err != nil {
				t.Errorf("%s cannot be replaced: %v", name, err)
			}
		}
		exit := new(containerpb.Exit)
		if err := r.get(name, exit); err != nil || exit.GetStatus() != 3 {
			t.Errorf("%s, replaced: %v, %v", name, exit, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	good, err := encode(&containerpb.Exit{Status: 7, ContainerId: "c"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range []proto.Message{new(containerpb.Exit), new(keeperpb.Accepted)} {
			err := decode(data, m)
			if err != nil && !errors.Is(err, errDamaged) && !errors.Is(err, errNewer) {
				t.Errorf("neither damaged nor newer: %v", err)
			}
		}
	})
}

func TestEnds(t *testing.T) {
	dir := t.TempDir()
	e, err := openEnds(dir, "this boot")
	if err != nil {
		t.Fatal(err)
	}
	other, err := openEnds(dir, "another")
	if err != nil {
		t.Fatal(err)
	}
	if _, found := e.find(7, 8); found {
		t.Error("found where nothing is")
	}
	if err := errors.Join(
		e.put(End{Pid: 7, StartTicks: 8, Status: 3 << 8}, time.Unix(1, 0)),
		e.put(End{Pid: 7, StartTicks: 9, Status: 9}, time.Unix(1, 0)),
	); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		ends   ends
		pid    int
		ticks  uint64
		status syscall.WaitStatus
		found  bool
	}{{e, 7, 8, 3 << 8, true}, {e, 7, 9, 9, true}, {e, 7, 10, 0, false}, {e, 6, 8, 0, false}, {other, 7, 8, 0, false}} {
		if end, found := c.ends.find(c.pid, c.ticks); end.Status != c.status || found != c.found {
			t.Errorf("%d of %d: %v, %v", c.pid, c.ticks, end, found)
		}
	}
	good, err := os.ReadFile(e.path())
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x10
		for _, data := range [][]byte{bad, good[:i]} {
			if err := os.WriteFile(e.path(), data, 0o600); err != nil {
				t.Fatal(err)
			}
			if end, found := e.find(7, 8); found && (end.Status != 3<<8 || end.NeverRan) {
				t.Errorf("damage at %d, %d bytes: %v", i, len(data), end)
			}
			// What is left of a record that was not finished is in nobody's way.
			if err := e.put(End{Pid: 1, StartTicks: 2, Status: 4 << 8, NeverRan: true}, time.Unix(1, 0)); err != nil {
				t.Fatal(err)
			}
			if end, found := e.find(1, 2); !found || end.Status != 4<<8 || !end.NeverRan {
				t.Errorf("after damage at %d, %d bytes: %v, %v", i, len(data), end, found)
			}
		}
	}
	if err := errors.Join(e.clear(), e.clear(), os.Mkdir(e.path(), 0o700)); err != nil {
		t.Fatal(err)
	}
	if _, found := e.find(7, 8); found {
		t.Error("found in a directory")
	}
	if e, err = openEnds(dir, "this boot"); err != nil {
		t.Fatal(err)
	}
	if err := e.put(End{Pid: 7}, time.Unix(1, 0)); err != nil {
		t.Errorf("a directory is in the way: %v", err)
	}
}

func TestEndsAreBounded(t *testing.T) {
	e, err := openEnds(t.TempDir(), "this boot")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(e.path(), make([]byte, maxEnds), 0o600); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if err := e.put(End{Pid: i + 1}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
		if _, found := e.find(1, 0); !found {
			t.Errorf("the first is lost after %d more", i)
		}
	}
	if info, err := os.Stat(e.path()); err != nil || info.Size() != 2*endSize {
		t.Errorf("%v, %v", info, err)
	}
}

func FuzzEnds(f *testing.F) {
	e := ends{dir: "/nowhere"}
	f.Add(e.encode(End{Pid: 7, StartTicks: 8, Status: 3 << 8}, time.Unix(1, 0)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) != endSize {
			return
		}
		if end, ok := e.decode(data); ok {
			again := e.encode(end, time.Unix(0, int64(binary.BigEndian.Uint64(data[21:]))))
			if !slices.Equal(again, data) {
				t.Errorf("%x is read as %v, which is %x", data, end, again)
			}
		}
	})
}
