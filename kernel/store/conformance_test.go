package store_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/gantry-project/gantry/cmd/gantry/e2e/faultfs"
	"github.com/gantry-project/gantry/kernel/store"
	"github.com/gantry-project/gantry/kernel/store/storetest"
)

func TestMain(m *testing.M) {
	faultfs.Main()
	os.Exit(m.Run())
}

func TestBoltConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() store.Store {
		path := filepath.Join(t.TempDir(), "registry.db")
		return func() store.Store {
			s, err := store.OpenBolt(path)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}

// disk is a storetest.Disk with a Bolt on it. The fault is the file's and that of what is
// beside it: the mark, and files that are to take its place.
type disk struct {
	*faultfs.Disk
	path string
}

func (d disk) Open() (store.Store, error) {
	s, err := store.OpenBolt(d.path)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (d disk) Set(fault storetest.Fault, after int) error {
	f := faultfs.Fault{Name: "registry.db*", On: faultfs.Write, After: after}
	switch fault {
	case storetest.Sound:
		return d.Disk.Set()
	case storetest.NoSpace:
		f.Errno = syscall.ENOSPC
	case storetest.WriteError:
		f.Errno = syscall.EIO
	case storetest.ShortWrite:
		f.Errno, f.Short = syscall.EIO, true
	case storetest.SyncError:
		f.On, f.Errno = faultfs.Sync, syscall.EIO
	case storetest.SlowSync:
		f.On, f.Delay = faultfs.Sync, storetest.SyncTakes
	}
	return d.Disk.Set(f)
}

func TestBoltConformsOnAFailingDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("GANTRY_REQUIRE_ROOT") != "" {
			t.Fatal("only root can mount the disk that fails")
		}
		t.Skip("only root can mount the disk that fails")
	}
	storetest.RunOnDisk(t, func(t *testing.T) storetest.Disk {
		dir := t.TempDir()
		mounted, err := faultfs.Mount(dir, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := mounted.Unmount(); err != nil {
				t.Error(err)
			}
		})
		return disk{mounted, filepath.Join(dir, "store", "registry.db")}
	})
}
