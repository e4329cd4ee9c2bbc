package storetest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/gantry-project/gantry/kernel/store"
)

// Fault is how a disk fails.
type Fault int

// The faults that a store has to live with.
const (
	Sound      Fault = iota // none
	NoSpace                 // writes fail with ENOSPC, and growing the file does
	WriteError              // writes fail with EIO
	ShortWrite              // writes fail with EIO when half is written
	SyncError               // syncs fail with EIO
	SlowSync                // syncs take SyncTakes
)

// SyncTakes is how long a sync of a disk with SlowSync takes.
const SyncTakes = 300 * time.Millisecond

func (f Fault) String() string {
	return [...]string{"sound", "no space", "write error", "short write", "sync error", "slow sync"}[f]
}

// Disk is where the stores of one test lie.
type Disk interface {
	// Open opens the store, the same each time.
	Open() (store.Store, error)
	// Set replaces the disk's fault by another, which begins after that many writes or syncs.
	Set(fault Fault, after int) error
}

// RunOnDisk tests a store on a disk that fails; fresh returns one without a store for each test.
func RunOnDisk(t *testing.T, fresh func(t *testing.T) Disk) {
	for _, fault := range []Fault{NoSpace, WriteError, ShortWrite, SyncError} {
		for _, after := range []int{0, 1, 2, 3, 6} {
			t.Run(fmt.Sprintf("%s after %d", fault, after), func(t *testing.T) { failing(t, fresh(t), fault, after) })
		}
		t.Run(fmt.Sprintf("%s while it is opened", fault), func(t *testing.T) { opening(t, fresh(t), fault) })
	}
	t.Run("slow sync", func(t *testing.T) { slow(t, fresh(t)) })
}

func mustOpen(t *testing.T, d Disk) store.Store {
	t.Helper()
	s, err := d.Open()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func mustSet(t *testing.T, d Disk, fault Fault, after int) {
	t.Helper()
	if err := d.Set(fault, after); err != nil {
		t.Fatal(err)
	}
}

// twin is a transaction that writes the same to two keys, so that half of it would show.
func twin(i int) store.Txn {
	value := fmt.Sprintf("%06d%02000d", i, i)
	return puts(fmt.Sprintf("a/%02d", i%20), value, fmt.Sprintf("b/%02d", i%20), value)
}

// lasting checks that the last answered write of every key is there, or a later one, and none by halves.
func lasting(t *testing.T, s store.Store, answered map[int]int) {
	t.Helper()
	entries, _, err := s.List(context.Background(), "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		got[e.Key] = string(e.Value)
	}
	for slot := range 20 {
		a, b := got[fmt.Sprintf("a/%02d", slot)], got[fmt.Sprintf("b/%02d", slot)]
		if a != b {
			t.Errorf("slot %d: half of a transaction is there", slot)
		}
		last, found := answered[slot]
		if found && (a == "" || a[:6] < fmt.Sprintf("%06d", last)) {
			t.Errorf("slot %d: write %d was answered and is not there", slot, last)
		}
	}
}

// failing writes until the disk fails. From then on nothing is answered, not even on a disk that is
// sound again, until the store is opened anew; then all is there that was answered before.
func failing(t *testing.T, d Disk, fault Fault, after int) {
	s := mustOpen(t, d)
	answered := map[int]int{}
	write := func(i int) error {
		_, err := s.Apply(context.Background(), twin(i))
		if err == nil {
			answered[i%20] = i
		}
		return err
	}
	for i := range 30 {
		if err := write(i); err != nil {
			t.Fatal(err)
		}
	}
	mustSet(t, d, fault, after)
	i := 30
	for ; ; i++ {
		if err := write(i); err != nil {
			if !errors.Is(err, store.ErrFailed) {
				t.Errorf("on a disk that fails: %v, want ErrFailed", err)
			}
			break
		}
		if i > 200 {
			t.Fatal("the disk never failed")
		}
	}
	mustSet(t, d, Sound, 0)
	if err := write(i + 1); !errors.Is(err, store.ErrFailed) {
		t.Errorf("write after a failed one: %v, want ErrFailed", err)
	}
	if _, _, err := s.List(context.Background(), "", "", 0); !errors.Is(err, store.ErrFailed) {
		t.Errorf("list after a failed write: %v, want ErrFailed: what it shows may not last", err)
	}
	s.Close() // whatever it says
	s = mustOpen(t, d)
	defer s.Close()
	lasting(t, s, answered)
	if err := write(i + 2); err != nil {
		t.Errorf("write after the store was opened again: %v", err)
	}
}

// opening fails at some moment of Open. It works or says so; afterwards all is there.
func opening(t *testing.T, d Disk, fault Fault) {
	answered := map[int]int{}
	for after := range 8 {
		mustSet(t, d, fault, after)
		if s, err := d.Open(); err == nil {
			s.Close() // may fail
		}
		mustSet(t, d, Sound, 0)
		s := mustOpen(t, d)
		lasting(t, s, answered)
		if _, err := s.Apply(context.Background(), twin(after)); err != nil {
			t.Fatal(err)
		}
		answered[after] = after
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// slow: a disk that takes its time delays the answers and loses none of them.
func slow(t *testing.T, d Disk) {
	s := mustOpen(t, d)
	mustSet(t, d, SlowSync, 0)
	answers := make(chan error)
	for i := range 20 {
		go func() {
			_, err := s.Apply(context.Background(), twin(i))
			answers <- err
		}()
	}
	answered := map[int]int{}
	for i := range 20 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
		answered[i] = i
	}
	mustSet(t, d, Sound, 0)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, d)
	defer s.Close()
	lasting(t, s, answered)
}
