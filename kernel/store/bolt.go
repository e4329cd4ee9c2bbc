package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

const (
	format    = "1"      // of the file; a reader of another one refuses it
	minSize   = 2 * 4096 // of the file: its two heads
	lockWait  = 500 * time.Millisecond
	formatKey = "format"
	tallyKey  = "tally"
)

var (
	metaBucket    = []byte("meta")
	entriesBucket = []byte("entries")
)

// Bolt is a Store in one bbolt file. One goroutine of its own writes: whatever waits when
// a commit ends goes into the next one, so that a single sync to disk serves them all.
type Bolt struct {
	path    string
	db      *bolt.DB
	queue   chan *request
	closing chan struct{} // closed by Close
	stopped chan struct{} // closed by the writer as it ends
	once    sync.Once
	failed  atomic.Pointer[error] // the write error after which no write is taken
}

// OpenBolt opens the store at path, or creates it: a file of mode 0600, in a folder that is
// made with mode 0700 if it is missing. It reads every record once, and refuses a damaged
// file (ErrCorrupt), one that another process has open (ErrLocked) and one of an unknown
// format (ErrFormat).
func OpenBolt(path string) (*Bolt, error) {
	if err := prepare(path); err != nil {
		return nil, err
	}
	if err := verify(path); err != nil {
		return nil, err
	}
	db, err := openFile(path, false)
	if err != nil {
		return nil, err
	}
	b := &Bolt{
		path:    path,
		db:      db,
		queue:   make(chan *request, queueLength),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	go b.write()
	return b, nil
}

// prepare makes folder and file if they are missing, and checks their modes.
func prepare(path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the folder of store %s: %w", path, err)
	}
	switch info, err := os.Stat(dir); {
	case err != nil:
		return fmt.Errorf("open store %s: %w", path, err)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("open store %s: others may write to its folder (mode %04o): chmod 700 %s", path, info.Mode().Perm(), dir)
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return create(path)
	case err != nil:
		return fmt.Errorf("open store %s: %w", path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("open store %s: it is no regular file: move it away or name another path", path)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("open store %s: others may open it (mode %04o): chmod 600 %s", path, info.Mode().Perm(), path)
	case info.Size() < minSize:
		return damaged(path, fmt.Errorf("the file has only %d bytes", info.Size()))
	}
	return nil
}

// create makes a whole store under another name and links it into place, so that a crash
// leaves either none or a good one, and two creators don't meet in one file.
func create(path string) error {
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	if err := tmp.Close(); err != nil {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	db, err := openFile(tmp.Name(), false)
	if err != nil {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucket(metaBucket)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucket(entriesBucket); err != nil {
			return err
		}
		if err := meta.Put([]byte(formatKey), []byte(format)); err != nil {
			return err
		}
		return meta.Put([]byte(tallyKey), tally{}.encode())
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}

// openFile opens the bbolt file. Its list of free pages is read here, where damage to it is
// caught by guard.
func openFile(path string, readOnly bool) (db *bolt.DB, err error) {
	var file *os.File
	err = guard(path, func() error {
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			Timeout:         lockWait,
			ReadOnly:        readOnly,
			PreLoadFreelist: true,
			FreelistType:    bolt.FreelistMapType,
			OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
				file, err = os.OpenFile(name, flag, mode)
				return file, err
			},
		})
		return err
	})
	if errors.Is(err, ErrCorrupt) && file != nil {
		// bbolt has panicked, and its mapping would keep the lock beyond Close.
		err = errors.Join(err, syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
	}
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%w: another process has %s open: end it, or use another work dir", ErrLocked, path)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return nil, damaged(path, err)
	case errors.Is(err, ErrCorrupt):
		return nil, err
	}
	return nil, fmt.Errorf("open store %s: %w", path, err)
}

// verify reads everything before anything is written: first all records, under guard, and
// then, with every page known to be readable, bbolt's own account of its pages. A free page
// that is in use would be written over.
func verify(path string) error {
	db, err := openFile(path, true)
	if err != nil {
		return err
	}
	err = guard(path, func() error {
		return db.View(func(tx *bolt.Tx) error { return verifyRecords(path, tx) })
	})
	if err == nil {
		err = db.View(func(tx *bolt.Tx) error { return verifyPages(path, tx) })
	}
	return errors.Join(err, db.Close())
}

func verifyPages(path string, tx *bolt.Tx) error {
	var first error
	for err := range tx.Check(bolt.WithKVStringer(shortly{})) { // to its end: a goroutine feeds it
		if first == nil {
			first = damaged(path, err)
		}
	}
	return first
}

func verifyRecords(path string, tx *bolt.Tx) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	if info.Size() < tx.Size() {
		return damaged(path, fmt.Errorf("the file has %d bytes and needs %d: its end is cut off", info.Size(), tx.Size()))
	}
	meta, entries := tx.Bucket(metaBucket), tx.Bucket(entriesBucket)
	if meta == nil || entries == nil {
		return damaged(path, errors.New("it holds no registry"))
	}
	if got := string(meta.Get([]byte(formatKey))); got != format {
		return fmt.Errorf("%w: %s is of format %.32q and this program knows %q: start a program of the version that wrote it", ErrFormat, path, got, format)
	}
	want, err := decodeTally(meta.Get([]byte(tallyKey)))
	if err != nil {
		return damaged(path, err)
	}
	got, find := tally{revision: want.revision}, entries.Cursor()
	err = entries.ForEach(func(k, rec []byte) error {
		revision, _, err := unseal(string(k), rec)
		if err != nil {
			return damaged(path, err)
		}
		if revision > want.revision {
			return damaged(path, fmt.Errorf("the record of key %q has revision %d, after the store's last, %d", k, revision, want.revision))
		}
		// Walking looks only into leaves; searching looks into every branch.
		if found, _ := find.Seek(k); !bytes.Equal(found, k) {
			return damaged(path, fmt.Errorf("key %q is there but can't be found", k))
		}
		got.add(rec)
		return nil
	})
	if err != nil {
		return err
	}
	if got != want {
		return damaged(path, fmt.Errorf("it has %d records, and not the %d that were written", got.entries, want.entries))
	}
	return nil
}

// shortly prints keys of damaged pages: their length is as doubtful as the rest.
type shortly struct{}

func (shortly) KeyToString(key []byte) string { return fmt.Sprintf("%q", key[:min(len(key), 16)]) }
func (shortly) ValueToString([]byte) string   { return "" }

// damaged says where, what, and what to do about it.
func damaged(path string, what error) error {
	return fmt.Errorf("%w: %s: %w: restore it from a copy, or move it away to start with an empty one", ErrCorrupt, path, what)
}

// guard runs f, which reads the mapped file: a page that points nowhere makes bbolt panic,
// and a file cut off under it faults; both come back as ErrCorrupt.
func guard(path string, f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(path, fmt.Errorf("%v", p))
		}
	}()
	return f()
}

// List implements Store.
func (b *Bolt) List(ctx context.Context, prefix, after string, limit int) (entries []Entry, more bool, err error) {
	if err := ctx.Err(); err != nil {
		return nil, false, fmt.Errorf("list %q: %w", prefix, err)
	}
	select {
	case <-b.closing:
		return nil, false, ErrClosed
	default:
	}
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	err = guard(b.path, func() error {
		return b.db.View(func(tx *bolt.Tx) error {
			entries, more, err = b.page(tx, prefix, after, limit)
			return err
		})
	})
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		err = ErrClosed
	}
	if err != nil {
		return nil, false, err
	}
	return entries, more, nil
}

// page copies out one page of entries, ending it early once it has MaxTxn bytes.
func (b *Bolt) page(tx *bolt.Tx, prefix, after string, limit int) (entries []Entry, more bool, err error) {
	c, size := tx.Bucket(entriesBucket).Cursor(), 0
	k, rec := c.Seek([]byte(max(prefix, after)))
	if k != nil && after != "" && string(k) == after {
		k, rec = c.Next()
	}
	for ; k != nil && bytes.HasPrefix(k, []byte(prefix)); k, rec = c.Next() {
		if len(entries) == limit || size >= MaxTxn {
			return entries, true, nil
		}
		key := string(k)
		revision, value, err := unseal(key, rec)
		if err != nil {
			return nil, false, damaged(b.path, err)
		}
		entries = append(entries, Entry{Key: key, Value: bytes.Clone(value), Revision: revision})
		size += len(k) + len(value)
	}
	return entries, false, nil
}

// Close implements Store; transactions that still wait get ErrClosed.
func (b *Bolt) Close() error {
	err := ErrClosed
	b.once.Do(func() {
		close(b.closing)
		<-b.stopped
		if err = b.db.Close(); err != nil {
			err = fmt.Errorf("close store %s: %w", b.path, err)
		}
	})
	return err
}
