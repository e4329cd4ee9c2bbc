package faultfs_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/gantry-project/gantry/cmd/gantry/e2e/faultfs"
)

func TestMain(m *testing.M) {
	faultfs.Main()
	os.Exit(m.Run())
}

// mount mounts a fresh folder until the test ends.
func mount(t *testing.T) (disk *faultfs.Disk, dir, behind string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can mount")
	}
	dir, behind = t.TempDir(), t.TempDir()
	disk, err := faultfs.Mount(dir, behind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Unmount(); err != nil {
			t.Error(err)
		}
		if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), dir) {
			t.Errorf("%s is still mounted (%v)", dir, err)
		}
	})
	return disk, dir, behind
}

func TestFaults(t *testing.T) {
	disk, dir, behind := mount(t)
	f, err := os.Create(filepath.Join(dir, "a.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	write := func() error { _, err := f.WriteAt(bytes.Repeat([]byte("x"), 4096), 0); return err }
	sound := func() error { return errors.Join(write(), f.Sync(), f.Truncate(8192)) }
	if err := sound(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		fault  faultfs.Fault
		try    func() error
		want   error
		before int // tries that succeed
	}{
		{"a write fails", faultfs.Fault{Name: "*.db", On: faultfs.Write, Errno: syscall.ENOSPC}, write, syscall.ENOSPC, 0},
		{"growth fails", faultfs.Fault{Name: "*.db", On: faultfs.Write, Errno: syscall.ENOSPC}, func() error { return f.Truncate(1 << 20) }, syscall.ENOSPC, 0},
		{"a sync fails", faultfs.Fault{Name: "*.db", On: faultfs.Sync, Errno: syscall.EIO}, f.Sync, syscall.EIO, 0},
		{"the third sync fails", faultfs.Fault{Name: "*.db", On: faultfs.Sync, Errno: syscall.EIO, After: 2}, f.Sync, syscall.EIO, 2},
		{"another file's fault", faultfs.Fault{Name: "b.db", On: faultfs.Sync, Errno: syscall.EIO}, f.Sync, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := disk.Set(c.fault); err != nil {
				t.Fatal(err)
			}
			for range c.before {
				if err := c.try(); err != nil {
					t.Errorf("too early: %v", err)
				}
			}
			if err := c.try(); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if err := errors.Join(disk.Set(), sound()); err != nil {
				t.Errorf("without a fault: %v", err)
			}
		})
	}
	if err := disk.Set(faultfs.Fault{Name: "a.db", On: faultfs.Write, Errno: syscall.EIO, Short: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte("y"), 4096), 0); !errors.Is(err, syscall.EIO) {
		t.Errorf("a short write: %v", err)
	}
	if text, err := os.ReadFile(filepath.Join(behind, "a.db")); err != nil || bytes.Count(text, []byte("y")) != 2048 {
		t.Errorf("%d of 4096 bytes were written, %v; want half", bytes.Count(text, []byte("y")), err)
	}
	if err := disk.Set(faultfs.Fault{Name: "[", On: faultfs.Write}); err == nil {
		t.Error("a pattern that is none was accepted")
	}
}
