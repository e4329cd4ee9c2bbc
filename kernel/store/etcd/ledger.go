package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/gantry-project/gantry/kernel/store"
)

// Keys below the prefix.
const (
	officeKey  = "office"   // who writes, and the revision of the last transaction
	entryKeys  = "entry/"   // the store's entries, each with its revision before its value
	staged     = "staged"   // is there while the journal has a transaction to carry out
	journalKey = "journal/" // the changes of a large transaction: 'p' and the value, or 'd'
)

// Limits of one request: what etcd allows if it was not told otherwise is 128 and 1.5 MiB.
const (
	requestOps   = 50 // changes, of two operations each
	requestBytes = 5<<18 + 2048
	opBytes      = 64 // what an operation takes beside key and value, at most
)

// office is the one key that all requests depend on.
type office struct {
	revision uint64 // of the last transaction
	term     uint64 // how many have taken office
	holder   string // no two are the same
}

func (o office) String() string { return fmt.Sprintf("%d %d %s", o.revision, o.term, o.holder) }

// ledger is what a store asks of etcd, in office.
type ledger struct {
	kv     clientv3.KV
	prefix string
	office office
}

// change is one key's new value, or nil: deleted.
type change struct {
	key   string
	value []byte
}

// key strips what is before the store's own key.
func (l *ledger) key(raw []byte) string { return string(raw)[len(l.prefix)+len(entryKeys):] }

// take replaces whoever is in office.
func (l *ledger) take(ctx context.Context) error {
	key, holder := l.prefix+officeKey, rand.Text()
	return l.insist(ctx, func(ctx context.Context) (bool, error) {
		answer, err := l.kv.Get(ctx, key)
		if err != nil {
			return false, err
		}
		vacant, next := clientv3.Compare(clientv3.CreateRevision(key), "=", 0), office{term: 1, holder: holder}
		if len(answer.Kvs) > 0 {
			var last office
			value := string(answer.Kvs[0].Value)
			if _, err := fmt.Sscanf(value, "%d %d %s", &last.revision, &last.term, &last.holder); err != nil {
				return false, fmt.Errorf("%w: %s is %.100q", store.ErrFormat, key, value)
			}
			if last.holder == holder { // an attempt that was not answered
				l.office = last
				return true, nil
			}
			vacant = clientv3.Compare(clientv3.Value(key), "=", value)
			next = office{last.revision, last.term + 1, holder}
		}
		taken, err := l.kv.Txn(ctx).If(vacant).Then(clientv3.OpPut(key, next.String())).Commit()
		if err != nil || !taken.Succeeded {
			return false, err
		}
		l.office = next
		return true, nil
	})
}

// write makes one transaction of the changes, which gets the next revision.
func (l *ledger) write(ctx context.Context, changes []change) error {
	parts := split(changes)
	if len(parts) == 1 {
		return l.advance(ctx, l.entries(parts[0]))
	}
	for _, part := range parts {
		if err := l.request(ctx, l.journal(part)); err != nil {
			return err
		}
	}
	if err := l.advance(ctx, []clientv3.Op{clientv3.OpPut(l.prefix+staged, "")}); err != nil {
		return err
	}
	return l.carryOut(ctx, parts)
}

// carryOut moves changes from the journal to the entries.
func (l *ledger) carryOut(ctx context.Context, parts [][]change) error {
	for _, part := range parts {
		ops := l.entries(part)
		for _, c := range part {
			ops = append(ops, clientv3.OpDelete(l.prefix+journalKey+c.key))
		}
		if err := l.request(ctx, ops); err != nil {
			return err
		}
	}
	return l.request(ctx, []clientv3.Op{clientv3.OpDelete(l.prefix + staged)})
}

// settle completes a transaction that took effect, and forgets one that did not.
func (l *ledger) settle(ctx context.Context) error {
	mark, err := l.get(ctx, clientv3.OpGet(l.prefix+staged))
	if err != nil {
		return err
	}
	all := l.prefix + journalKey
	if len(mark.GetKvs()) == 0 {
		return l.request(ctx, []clientv3.Op{clientv3.OpDelete(all, clientv3.WithPrefix())})
	}
	for {
		page, err := l.get(ctx, clientv3.OpGet(all, clientv3.WithPrefix(), clientv3.WithLimit(requestOps)))
		if err != nil {
			return err
		}
		var part []change
		for _, kv := range page.GetKvs() {
			c := change{key: strings.TrimPrefix(string(kv.Key), all)}
			if len(kv.Value) > 0 && kv.Value[0] == 'p' {
				c.value = kv.Value[1:]
			}
			part = append(part, c)
		}
		parts := split(part)
		if page.GetMore() { // the mark stays until the last of them
			for _, part := range parts {
				if err := l.request(ctx, append(l.entries(part), l.forget(part)...)); err != nil {
					return err
				}
			}
			continue
		}
		return l.carryOut(ctx, parts)
	}
}

// split cuts changes into what fits requests.
func split(changes []change) (parts [][]change) {
	size, begin := 0, 0
	for i, c := range changes {
		cost := 2*len(c.key) + len(c.value) + 2*opBytes
		if i > begin && (i-begin == requestOps || size+cost > requestBytes) {
			parts, begin, size = append(parts, changes[begin:i]), i, 0
		}
		size += cost
	}
	return append(parts, changes[begin:])
}

func (l *ledger) entries(part []change) []clientv3.Op {
	ops := make([]clientv3.Op, 0, 2*len(part))
	for _, c := range part {
		if c.value == nil {
			ops = append(ops, clientv3.OpDelete(l.prefix+entryKeys+c.key))
		} else {
			ops = append(ops, clientv3.OpPut(l.prefix+entryKeys+c.key, string(c.value)))
		}
	}
	return ops
}

func (l *ledger) journal(part []change) []clientv3.Op {
	ops := make([]clientv3.Op, 0, len(part))
	for _, c := range part {
		value := "d"
		if c.value != nil {
			value = "p" + string(c.value)
		}
		ops = append(ops, clientv3.OpPut(l.prefix+journalKey+c.key, value))
	}
	return ops
}

func (l *ledger) forget(part []change) []clientv3.Op {
	ops := make([]clientv3.Op, 0, len(part))
	for _, c := range part {
		ops = append(ops, clientv3.OpDelete(l.prefix+journalKey+c.key))
	}
	return ops
}

// inOffice holds while nobody else has taken office, nor this one gone on.
func (l *ledger) inOffice() clientv3.Cmp {
	return clientv3.Compare(clientv3.Value(l.prefix+officeKey), "=", l.office.String())
}

// advance carries out operations and, with them, counts a transaction.
func (l *ledger) advance(ctx context.Context, ops []clientv3.Op) error {
	key, next := l.prefix+officeKey, l.office
	next.revision++
	err := l.insist(ctx, func(ctx context.Context) (bool, error) {
		answer, err := l.kv.Txn(ctx).If(l.inOffice()).
			Then(append([]clientv3.Op{clientv3.OpPut(key, next.String())}, ops...)...).
			Else(clientv3.OpGet(key)).Commit()
		if err != nil || answer.Succeeded {
			return err == nil, err
		}
		kvs := answer.Responses[0].GetResponseRange().GetKvs()
		if len(kvs) == 1 && string(kvs[0].Value) == next.String() {
			return true, nil // an attempt that was not answered
		}
		return false, store.ErrDeposed
	})
	if err == nil {
		l.office = next
	}
	return err
}

// request carries out operations that may be repeated: what they write depends on nothing, and
// a late repetition finds the office changed.
func (l *ledger) request(ctx context.Context, ops []clientv3.Op) error {
	return l.insist(ctx, func(ctx context.Context) (bool, error) {
		answer, err := l.kv.Txn(ctx).If(l.inOffice()).Then(ops...).Commit()
		if err == nil && !answer.Succeeded {
			err = store.ErrDeposed
		}
		return err == nil, err
	})
}

// read reads entries from a key to the end of the prefix.
func (l *ledger) read(ctx context.Context, from, prefix string, limit int) (*pb.RangeResponse, error) {
	start := l.prefix + entryKeys + from
	end := clientv3.GetPrefixRangeEnd(l.prefix + entryKeys + prefix)
	if start >= end {
		start = end // nothing; but who is in office must be asked
	}
	return l.get(ctx, clientv3.OpGet(start, clientv3.WithRange(end), clientv3.WithLimit(int64(limit))))
}

func (l *ledger) get(ctx context.Context, op clientv3.Op) (got *pb.RangeResponse, err error) {
	err = l.insist(ctx, func(ctx context.Context) (bool, error) {
		answer, err := l.kv.Txn(ctx).If(l.inOffice()).Then(op).Commit()
		if err != nil {
			return false, err
		}
		if !answer.Succeeded {
			return false, store.ErrDeposed
		}
		got = answer.Responses[0].GetResponseRange()
		return true, nil
	})
	return got, err
}

// insist repeats a request until it is done or can't be.
func (l *ledger) insist(ctx context.Context, try func(context.Context) (done bool, err error)) error {
	late := time.Now().Add(settleWithin)
	for {
		ask, cancel := context.WithTimeout(ctx, askWithin)
		done, err := try(ask)
		cancel()
		switch {
		case done:
			return nil
		case err != nil && final(err), err != nil && time.Now().After(late):
			return err
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), err)
		}
		wait := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-wait.C:
		}
		wait.Stop()
	}
}

// final says that repeating does not help.
func final(err error) bool {
	for _, is := range []error{
		store.ErrDeposed, store.ErrFormat,
		rpctypes.ErrNoSpace, rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyOps, rpctypes.ErrPermissionDenied, rpctypes.ErrCorrupt,
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}
