package store

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/gantry-project/gantry/kernel/failpoint"
)

const (
	queueLength = 256 // transactions that may wait; more wait in Apply
	batchLength = 128 // transactions of one commit
	markEvery   = time.Second
)

// The life of a request. Whoever moves it out of waiting, the writer or a caller whose
// context has ended, decides whether it runs.
const (
	waiting int32 = iota
	begun
	withdrawn
)

type request struct {
	txn   Txn
	state atomic.Int32
	res   Result
	err   error
	done  chan struct{} // closed once res and err are set
}

// Apply implements Store.
func (b *Bolt) Apply(ctx context.Context, txn Txn) (Result, error) {
	if err := txn.Validate(); err != nil {
		return Result{}, err
	}
	if err := ctx.Err(); err != nil {
		return Result{}, fmt.Errorf("apply transaction: %w", err)
	}
	r := &request{txn: txn, done: make(chan struct{})}
	select {
	case <-b.closing:
		return Result{}, ErrClosed
	case <-ctx.Done():
		return Result{}, fmt.Errorf("apply transaction: %w", ctx.Err())
	case b.queue <- r:
	}
	select {
	case <-r.done:
	case <-b.stopped:
	case <-ctx.Done():
		if r.state.CompareAndSwap(waiting, withdrawn) {
			return Result{}, fmt.Errorf("apply transaction: %w", ctx.Err())
		}
	}
	if r.state.CompareAndSwap(waiting, withdrawn) { // the writer has stopped
		return Result{}, ErrClosed
	}
	<-r.done
	return r.res, r.err
}

// write is the writer: it owns every change of the file until Close.
func (b *Bolt) write() {
	defer close(b.stopped)
	tick := time.NewTicker(markEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.remark()
		case <-b.closing:
			return
		case r := <-b.queue:
			b.commit(b.gather(r))
		}
	}
}

// remark brings the mark up to the last commit, so that an older copy is noticed whenever it
// was made. One that stays behind does no harm.
func (b *Bolt) remark() {
	now := b.mark
	now.revision = b.committed
	if now != b.mark && b.failure() == nil && now.write(b.path) == nil {
		b.mark = now
	}
}

// gather takes what waits behind first, and marks as begun whatever isn't withdrawn.
func (b *Bolt) gather(first *request) []*request {
	var batch []*request
	size := 0
	for r := first; ; {
		if r.state.CompareAndSwap(waiting, begun) {
			batch = append(batch, r)
			size += r.txn.size()
		}
		if len(batch) == batchLength || size >= MaxTxn {
			return batch
		}
		select {
		case r = <-b.queue:
		default:
			return batch
		}
	}
}

// commit runs the batch as one bbolt transaction and answers each request. A failed write
// ends all writing: after a failed sync nobody knows what the disk holds until it is read
// again.
func (b *Bolt) commit(batch []*request) {
	if len(batch) == 0 {
		return
	}
	err := b.failure()
	if err == nil {
		if err = guard(func() error { return b.run(batch) }); err != nil {
			err = b.fail(err)
		}
	}
	for _, r := range batch {
		if err != nil {
			r.res, r.err = Result{}, err
		}
		close(r.done)
	}
}

// run sets each request's result; they count only if it returns nil.
func (b *Bolt) run(batch []*request) error {
	if err := b.intact(); err != nil {
		return err
	}
	tx, err := b.db.Begin(true)
	if err != nil {
		return err
	}
	defer tx.Rollback() // of no effect after Commit
	meta := tx.Bucket(metaBucket)
	total, err := decodeTally(meta.Get([]byte(tallyKey)))
	if err != nil {
		return damaged(b.path, err)
	}
	before := total.revision
	for _, r := range batch {
		r.res, err = b.apply(tx.Bucket(entriesBucket), &total, r.txn)
		switch {
		case errors.Is(err, ErrCorrupt): // found before anything was changed
			r.err = err
		case err != nil:
			return err
		}
	}
	if total.revision == before {
		return nil
	}
	if err := meta.Put([]byte(tallyKey), total.encode()); err != nil {
		return err
	}
	size := tx.Size() // of what is there for sure: the file may grow in Commit
	failpoint.Hit("store.commit")
	if err := tx.Commit(); err != nil {
		return err
	}
	failpoint.Hit("store.committed")
	b.committed = total.revision
	b.size.Store(size)
	if !isAt(b.file, b.path) {
		return errors.New("the file was moved or replaced while it was open")
	}
	return nil
}

// apply changes entries and total by one transaction.
func (b *Bolt) apply(entries *bolt.Bucket, total *tally, txn Txn) (Result, error) {
	for _, c := range txn.Conditions {
		revision, err := b.revision(entries, c.Key)
		if err != nil {
			return Result{}, err
		}
		if revision != c.Revision {
			return Result{Revision: total.revision}, nil
		}
	}
	if len(txn.Puts)+len(txn.Deletes) == 0 {
		return Result{Applied: true, Revision: total.revision}, nil
	}
	total.revision++
	for _, e := range txn.Puts {
		key, rec := []byte(e.Key), seal(e.Key, total.revision, e.Value)
		if old := entries.Get(key); old != nil {
			total.remove(old)
		}
		total.add(rec)
		if err := entries.Put(key, rec); err != nil {
			return Result{}, fmt.Errorf("put %q: %w", e.Key, err)
		}
	}
	for _, k := range txn.Deletes {
		key := []byte(k)
		if old := entries.Get(key); old != nil {
			total.remove(old)
		}
		if err := entries.Delete(key); err != nil {
			return Result{}, fmt.Errorf("delete %q: %w", k, err)
		}
	}
	return Result{Applied: true, Revision: total.revision}, nil
}

// revision returns that of the key's last write, 0 if there is no such key.
func (b *Bolt) revision(entries *bolt.Bucket, key string) (uint64, error) {
	rec := entries.Get([]byte(key))
	if rec == nil {
		return 0, nil
	}
	revision, _, err := unseal(key, rec)
	if err != nil {
		return 0, damaged(b.path, err)
	}
	return revision, nil
}

func (t Txn) size() int {
	n := 0
	for _, e := range t.Puts {
		n += len(e.Key) + len(e.Value)
	}
	return n
}
