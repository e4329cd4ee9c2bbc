package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/gantry-project/gantry/kernel/failpoint"
)

const (
	format      = "1" // of the file; a reader of another one refuses it
	lockWait    = 500 * time.Millisecond
	lockEvery   = 25 * time.Millisecond
	formatKey   = "format"
	tallyKey    = "tally"
	identityKey = "identity"
)

var (
	metaBucket    = []byte("meta")
	entriesBucket = []byte("entries")
)

// errFault says that reading the mapped file has failed inside bbolt.
var errFault = errors.New("reading failed")

// Bolt is a Store in one bbolt file. One goroutine of its own writes: whatever waits when
// a commit ends goes into the next one, so that a single sync to disk serves them all.
type Bolt struct {
	path      string
	file      *os.File // bbolt's, which closes it
	db        *bolt.DB
	mark      mark // as it is beside the file
	queue     chan *request
	closing   chan struct{} // closed by Close
	stopped   chan struct{} // closed by the writer as it ends
	once      sync.Once
	committed uint64                // revision of the last commit; the writer's until it has stopped
	size      atomic.Int64          // bytes that the file must have
	failed    atomic.Pointer[error] // after which nothing is read or written
}

// OpenBolt opens the store at path, or creates it: a file of mode 0600, in a folder that is
// made with mode 0700 if it is missing. Beside it is FILE.mark, which says how far the store
// was. OpenBolt reads every record once, and refuses a damaged file (ErrCorrupt), one that
// another process has open (ErrLocked), one of an unknown format (ErrFormat), and by the
// mark one that has gone (ErrMissing), is an older copy (ErrOutdated) or another store's
// (ErrForeign), and what is no regular file or open to others (ErrUnfit). Each error is a
// sentence that names the file and what to do.
func OpenBolt(path string) (*Bolt, error) {
	if err := prepare(path); err != nil {
		return nil, err
	}
	file, err := lockFile(path)
	if err != nil {
		return nil, err
	}
	b, err := open(path, file)
	if err != nil {
		return nil, errors.Join(err, unlessClosed(file.Close()))
	}
	go b.write()
	return b, nil
}

func unlessClosed(err error) error {
	if errors.Is(err, os.ErrClosed) {
		return nil
	}
	return err
}

// open opens the locked file, once it is found to be whole and the right one.
func open(path string, file *os.File) (*Bolt, error) {
	in, err := verify(path, file)
	if err != nil {
		return nil, err
	}
	last, err := readMark(path)
	if err != nil {
		return nil, err
	}
	if err := last.check(path, in.id, in.written.revision); err != nil {
		return nil, err
	}
	if err := removeLeftovers(path); err != nil {
		return nil, err
	}
	db, err := openFile(path, file)
	if err != nil {
		return nil, err
	}
	b := &Bolt{
		path:      path,
		file:      file,
		db:        db,
		queue:     make(chan *request, queueLength),
		closing:   make(chan struct{}),
		stopped:   make(chan struct{}),
		committed: in.written.revision,
	}
	if err := b.begin(in.id.next()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return b, nil
}

// begin counts this opening, in the file first: a mark that is behind does no harm.
func (b *Bolt) begin(id identity) error {
	err := b.db.Update(func(tx *bolt.Tx) error {
		b.size.Store(tx.Size())
		return tx.Bucket(metaBucket).Put([]byte(identityKey), id.encode())
	})
	if err != nil {
		return fmt.Errorf("open store %s: %w", b.path, err)
	}
	failpoint.Hit("store.opened")
	b.mark = mark{id.name, id.generation, b.committed}
	return b.mark.write(b.path)
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
		return fmt.Errorf("%w: %s: others may write to its folder (mode %04o): chmod 700 %s", ErrUnfit, path, info.Mode().Perm(), dir)
	}
	err := checkFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	switch last, err := readMark(path); {
	case err != nil:
		return err
	case last != nil:
		return refused(ErrMissing, path, fmt.Errorf("%s says that there was one, with revision %d", markPath(path), last.revision))
	}
	return create(path)
}

// checkFile says whether the file is one that this user alone may open.
func checkFile(path string) error {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return fmt.Errorf("open store %s: %w", path, err)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: %s: it is no regular file: move it away or name another path", ErrUnfit, path)
	case info.Mode().Perm()&0o077 != 0:
		return fmt.Errorf("%w: %s: others may open it (mode %04o): chmod 600 %s", ErrUnfit, path, info.Mode().Perm(), path)
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && int(stat.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: %s: it belongs to user %d and this is user %d: chown %d %s", ErrUnfit, path, stat.Uid, os.Geteuid(), os.Geteuid(), path)
	}
	return nil
}

// lockFile opens the file and keeps other processes from it until it is closed.
func lockFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	err = flock(file)
	if err == nil && !isAt(file, path) {
		err = syscall.EWOULDBLOCK // it was mended while we waited
	}
	switch {
	case err == nil:
		return file, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = fmt.Errorf("%w: another process has %s open: end it, or use another work dir", ErrLocked, path)
	default:
		err = fmt.Errorf("lock store %s: %w", path, err)
	}
	return nil, errors.Join(err, file.Close())
}

// flock waits a little, for a process that is ending.
func flock(file *os.File) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockEvery) {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Now().After(deadline) {
			return err
		}
	}
}

// isAt reports whether path still leads to the open file.
func isAt(file *os.File, path string) bool {
	mine, err := file.Stat()
	if err != nil {
		return false
	}
	there, err := os.Lstat(path)
	return err == nil && os.SameFile(mine, there)
}

// removeLeftovers removes what a process left that was killed while it wrote a new file. The
// caller has the lock.
func removeLeftovers(path string) error {
	dir, base := filepath.Dir(path), filepath.Base(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("open store %s: %w", path, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), base+".new-") || strings.HasPrefix(e.Name(), base+".mark.new-") {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("open store %s: %w", path, err)
			}
		}
	}
	return nil
}

// create makes a whole store under another name and links it into place, so that a crash
// leaves either none or a good one, and two creators don't meet in one file.
func create(path string) error {
	tmp, err := writeNew(path, contents{id: identity{}.next()})
	if err != nil {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	defer os.Remove(tmp)
	failpoint.Hit("store.create")
	if err := os.Link(tmp, path); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("create store %s: %w", path, err)
	}
	failpoint.Hit("store.created")
	return syncDir(filepath.Dir(path))
}

// contents is what a new file is to hold.
type contents struct {
	id       identity
	revision uint64
	records  map[string]record
}

// writeNew writes a whole store beside path and returns its name.
func writeNew(path string, c contents) (name string, err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			os.Remove(tmp.Name())
		}
	}()
	db, err := openFile(path, tmp)
	if err != nil {
		return "", errors.Join(err, unlessClosed(tmp.Close()))
	}
	err = db.Update(func(tx *bolt.Tx) error { return c.put(tx) })
	return tmp.Name(), errors.Join(err, db.Close())
}

func (c contents) put(tx *bolt.Tx) error {
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	entries, err := tx.CreateBucket(entriesBucket)
	if err != nil {
		return err
	}
	total := tally{revision: c.revision}
	for _, key := range slices.Sorted(maps.Keys(c.records)) {
		rec := c.records[key]
		total.add(rec.sealed)
		if err := entries.Put([]byte(key), rec.sealed); err != nil {
			return fmt.Errorf("put %q: %w", key, err)
		}
	}
	return errors.Join(
		meta.Put([]byte(formatKey), []byte(format)),
		meta.Put([]byte(identityKey), c.id.encode()),
		meta.Put([]byte(tallyKey), total.encode()))
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

// openFile opens an open file as bbolt's. Its list of free pages is read here, where damage
// to it is caught by guard.
func openFile(path string, file *os.File) (db *bolt.DB, err error) {
	err = guard(func() error {
		db, err = bolt.Open(path, 0o600, &bolt.Options{
			PreLoadFreelist: true,
			FreelistType:    bolt.FreelistMapType,
			OpenFile:        func(string, int, os.FileMode) (*os.File, error) { return file, nil },
		})
		return err
	})
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, errFault), errors.Is(err, bolterrors.ErrInvalid):
		return nil, damaged(path, err)
	}
	return nil, fmt.Errorf("open store %s: %w", path, err)
}

// verify reads all of the file before anything is written.
func verify(path string, file *os.File) (*inspection, error) {
	f, err := pagesOf(file)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	return f.verify(path)
}

func (f *pager) verify(path string) (*inspection, error) {
	if len(f.heads) == 0 {
		return nil, damaged(path, fmt.Errorf("of its %d bytes neither head (page 0, byte 0, and page 1, byte %d) is whole", f.size, f.pageSize))
	}
	in := f.inspect(f.heads[0], nil)
	switch {
	case f.failed != nil:
		return nil, fmt.Errorf("open store %s: %w", path, f.failed)
	case in.unknownFormat():
		return nil, fmt.Errorf("%w: %s is of format %.32q and this program knows %q: start a program of the version that wrote it", ErrFormat, path, in.format, format)
	case in.damage() != nil:
		return nil, damaged(path, in.damage())
	}
	// With both heads whole the newer one is the last transaction. A head that is not may
	// have been of a later one, which was answered: its pages would be there.
	if len(f.heads) == 1 && f.latest(in.written.revision) != nil {
		return nil, damaged(path, errors.New("the head of its last transaction is damaged"))
	}
	return in, nil
}

func pagesOf(file *os.File) (*pager, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return newPager(file, info.Size())
}

// damaged says where, what, and what to do about it.
func damaged(path string, what error) error {
	return fmt.Errorf("%w: %s: %w: `gantry mend %s` saves what can be read", ErrCorrupt, path, what, path)
}

// refused is damaged for a file that is whole, or gone.
func refused(kind error, path string, what error) error {
	return fmt.Errorf("%w: %s: %w: put the right file back, or run `gantry mend %s` to go on with what is there", kind, path, what, path)
}

// guard runs f, which reads the mapped file: a page that points nowhere makes bbolt panic,
// and a file cut off under it faults; both come back as errFault.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errFault, p)
		}
	}()
	return f()
}

// intact says whether the open file is still the one at the path, and as long as bbolt
// believes: what is written to another one is lost with it.
func (b *Bolt) intact() error {
	info, err := b.file.Stat()
	switch {
	case err != nil:
		return err
	case !isAt(b.file, b.path):
		return errors.New("the file was moved or replaced while it was open")
	case info.Size() < b.size.Load():
		return fmt.Errorf("the file was cut off to %d bytes, of %d, while it was open", info.Size(), b.size.Load())
	}
	return nil
}

// fail records the first error after which the store can't be trusted, and returns it.
func (b *Bolt) fail(what error) error {
	err := fmt.Errorf("%w: %s: %w", ErrFailed, b.path, what)
	b.failed.CompareAndSwap(nil, &err)
	return b.failure()
}

func (b *Bolt) failure() error {
	if err := b.failed.Load(); err != nil {
		return *err
	}
	return nil
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
	if err := b.failure(); err != nil {
		return nil, false, err
	}
	if err := b.intact(); err != nil {
		return nil, false, b.fail(err)
	}
	err = guard(func() error {
		return b.db.View(func(tx *bolt.Tx) error {
			entries, more, err = b.page(tx, prefix, after, limit)
			return err
		})
	})
	switch {
	case errors.Is(err, bolterrors.ErrDatabaseNotOpen):
		err = ErrClosed
	case errors.Is(err, errFault):
		err = b.fail(err)
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
		if err = b.close(); err != nil {
			err = fmt.Errorf("close store %s: %w", b.path, err)
		}
	})
	return err
}

func (b *Bolt) close() error {
	if errors.Is(b.failure(), errFault) { // bbolt may hold its locks for good; the process's end unmaps the file
		return errors.Join(syscall.Flock(int(b.file.Fd()), syscall.LOCK_UN), b.file.Close())
	}
	var err error
	if b.failure() == nil && b.committed > b.mark.revision {
		b.mark.revision = b.committed
		err = b.mark.write(b.path)
	}
	return errors.Join(err, b.db.Close())
}
