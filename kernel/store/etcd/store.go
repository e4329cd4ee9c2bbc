package etcd

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantry-project/gantry/kernel/store"
)

// Store is a store.Store whose writer this process is. All that it asks of etcd depends on the
// office being as this store left it.
type Store struct {
	etcd      ledger
	turn      chan struct{}     // holds a token while nobody reads or writes
	revisions map[string]uint64 // of every key; whoever has the turn
	closed    bool              // whoever has the turn
	failed    error             // likewise; after it nothing is read or written
	tenure    context.Context
	end       context.CancelFunc
	resign    func()
	once      sync.Once
}

// open takes office: every store that was opened before refuses from then on.
func open(tenure context.Context, kv clientv3.KV, prefix string) (*Store, error) {
	s := &Store{
		etcd:      ledger{kv: kv, prefix: prefix},
		turn:      make(chan struct{}, 1),
		revisions: make(map[string]uint64),
		resign:    func() {},
	}
	s.tenure, s.end = context.WithCancel(tenure)
	err := s.etcd.take(s.tenure)
	if err == nil {
		err = s.etcd.settle(s.tenure)
	}
	if err == nil {
		err = s.index()
	}
	if err != nil {
		s.end()
		return nil, fmt.Errorf("take office: %w", s.judge(err))
	}
	s.turn <- struct{}{}
	return s, nil
}

// index learns the revision of every key.
func (s *Store) index() error {
	for after, more := "", true; more; {
		var entries []store.Entry
		var err error
		if entries, more, err = s.page(s.tenure, "", after, store.MaxPage); err != nil {
			return err
		}
		for _, e := range entries {
			s.revisions[e.Key] = e.Revision
			after = e.Key
		}
	}
	return nil
}

// Lost is closed when this process is not in office any more, or the store has failed.
func (s *Store) Lost() <-chan struct{} { return s.tenure.Done() }

// Apply implements store.Store.
func (s *Store) Apply(ctx context.Context, txn store.Txn) (store.Result, error) {
	if err := txn.Validate(); err != nil {
		return store.Result{}, err
	}
	if err := s.begin(ctx); err != nil {
		return store.Result{}, fmt.Errorf("apply transaction: %w", err)
	}
	defer s.finish()
	for _, c := range txn.Conditions {
		if s.revisions[c.Key] != c.Revision {
			return s.look(ctx, false)
		}
	}
	if len(txn.Puts)+len(txn.Deletes) == 0 {
		return s.look(ctx, true)
	}
	// From here on the true outcome is waited for, whoever still wants to know it.
	if err := s.etcd.write(s.tenure, changes(txn, s.etcd.office.revision+1)); err != nil {
		return store.Result{}, fmt.Errorf("apply transaction: %w", s.fail(err))
	}
	revision := s.etcd.office.revision
	for _, e := range txn.Puts {
		s.revisions[e.Key] = revision
	}
	for _, key := range txn.Deletes {
		delete(s.revisions, key)
	}
	return store.Result{Applied: true, Revision: revision}, nil
}

// look answers a transaction that writes nothing, if this is still the writer.
func (s *Store) look(ctx context.Context, applied bool) (store.Result, error) {
	if _, err := s.etcd.read(ctx, "", "\x00", 1); err != nil {
		return store.Result{}, fmt.Errorf("apply transaction: %w", s.judge(err))
	}
	return store.Result{Applied: applied, Revision: s.etcd.office.revision}, nil
}

// changes turns a transaction into operations on entries.
func changes(txn store.Txn, revision uint64) []change {
	list := make([]change, 0, len(txn.Puts)+len(txn.Deletes))
	for _, e := range txn.Puts {
		list = append(list, change{key: e.Key, value: seal(revision, e.Value)})
	}
	for _, key := range txn.Deletes {
		list = append(list, change{key: key})
	}
	return list
}

// seal puts the revision before a value.
func seal(revision uint64, value []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(value)), revision), value...)
}

// List implements store.Store.
func (s *Store) List(ctx context.Context, prefix, after string, limit int) ([]store.Entry, bool, error) {
	if err := s.begin(ctx); err != nil {
		return nil, false, fmt.Errorf("list %q: %w", prefix, err)
	}
	defer s.finish()
	if limit <= 0 || limit > store.MaxPage {
		limit = store.MaxPage
	}
	entries, more, err := s.page(ctx, prefix, after, limit)
	if err != nil {
		return nil, false, fmt.Errorf("list %q: %w", prefix, s.judge(err))
	}
	return entries, more, nil
}

// readAtOnce is how many entries are asked for at a time, since each may be large.
const readAtOnce = 64

// page reads entries; several requests see the same moment, since each depends on the office.
func (s *Store) page(ctx context.Context, prefix, after string, limit int) (entries []store.Entry, more bool, err error) {
	from, size := prefix, 0
	if after != "" {
		from = max(prefix, after+"\x00")
	}
	for more = true; more && len(entries) < limit && size < store.MaxTxn; {
		answer, err := s.etcd.read(ctx, from, prefix, min(readAtOnce, limit-len(entries)))
		if err != nil {
			return nil, false, err
		}
		for _, kv := range answer.GetKvs() {
			key := s.etcd.key(kv.Key)
			if len(kv.Value) < 8 {
				return nil, false, fmt.Errorf("%w: the value of key %q has no revision", store.ErrCorrupt, key)
			}
			entries = append(entries, store.Entry{Key: key, Value: kv.Value[8:], Revision: binary.BigEndian.Uint64(kv.Value)})
			size += len(key) + len(kv.Value)
			from = key + "\x00"
		}
		more = answer.GetMore()
	}
	return entries, more, nil
}

// begin waits for the turn.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.turn:
	case <-ctx.Done():
		return ctx.Err()
	}
	err := s.failed
	if s.closed {
		err = store.ErrClosed
	}
	if err == nil && s.tenure.Err() != nil {
		err = store.ErrDeposed
	}
	if err != nil {
		s.finish()
	}
	return err
}

func (s *Store) finish() { s.turn <- struct{}{} }

// fail ends the store: what it wrote is not known, or no longer its to write.
func (s *Store) fail(err error) error {
	err = s.judge(err)
	if !errors.Is(err, store.ErrDeposed) {
		err = fmt.Errorf("%w: %w", store.ErrFailed, err)
	}
	s.failed = err
	s.end()
	return err
}

// judge says ErrDeposed where the time in office has ended, whatever went wrong for it.
func (s *Store) judge(err error) error {
	if errors.Is(err, store.ErrDeposed) {
		s.end()
		return err
	}
	if s.tenure.Err() != nil {
		return fmt.Errorf("%w: %w", store.ErrDeposed, err)
	}
	return err
}

// Close implements store.Store, and gives up the office.
func (s *Store) Close() error {
	err := store.ErrClosed
	s.once.Do(func() {
		s.end()
		<-s.turn
		s.closed = true
		s.finish()
		s.resign()
		err = nil
	})
	return err
}
