package store

import (
	"context"
	"errors"
	"fmt"
)

// Limits of one store. A value leaves room below the limit of a request to etcd, 1.5 MiB, so
// that every implementation can keep them.
const (
	MaxKey   = 512     // bytes of a key
	MaxValue = 5 << 18 // bytes of a value: 1.25 MiB
	MaxTxn   = 8 << 20 // bytes of all keys and values of a transaction
	MaxOps   = 8192    // conditions, puts and deletes of a transaction together
	MaxPage  = 1000    // entries that List returns at most, and for limit 0
)

// Sentinels that errors of every implementation wrap.
var (
	ErrClosed   = errors.New("store is closed")
	ErrCorrupt  = errors.New("store is damaged")
	ErrDeposed  = errors.New("store has another writer now")
	ErrFailed   = errors.New("store failed and is of no use until it is opened again")
	ErrForeign  = errors.New("store is another one's")
	ErrFormat   = errors.New("store has an unknown format")
	ErrInvalid  = errors.New("invalid store request")
	ErrLocked   = errors.New("store is in use")
	ErrMissing  = errors.New("store is missing")
	ErrOutdated = errors.New("store is an older copy")
	ErrUnfit    = errors.New("file is not fit to be a store")
)

// Refused says whether err is about what is in the store's place, so that whoever opens it
// again meets the same until a person has done what the error says.
func Refused(err error) bool {
	for _, why := range []error{ErrCorrupt, ErrForeign, ErrFormat, ErrMissing, ErrOutdated, ErrUnfit} {
		if errors.Is(err, why) {
			return true
		}
	}
	return false
}

// Entry is one key and its value. Revision is that of the key's last write; Apply ignores
// it in Puts.
type Entry struct {
	Key      string
	Value    []byte
	Revision uint64
}

// Condition holds while the key's last write has this revision; 0 says that the key must
// not exist.
type Condition struct {
	Key      string
	Revision uint64
}

// Txn changes several keys at once or, if any condition does not hold, none. A key may be
// put or deleted once in a transaction. Deleting a missing key is no error.
type Txn struct {
	Conditions []Condition
	Puts       []Entry
	Deletes    []string
}

// Result says whether the conditions held. Revision is the transaction's own if it was
// applied and has puts or deletes, and the store's current one otherwise; it grows with
// each transaction that writes, and never falls.
type Result struct {
	Applied  bool
	Revision uint64
}

// Store is safe for concurrent use. Transactions are serializable, and what List returns
// is one moment of the store.
type Store interface {
	// List returns the entries whose keys start with prefix and come after the key
	// after, in byte order, at most limit of them (0 or too many: MaxPage), and fewer if
	// they are large. More is true if there are others; continue with the last key.
	List(ctx context.Context, prefix, after string, limit int) (entries []Entry, more bool, err error)
	// Apply is durable when it returns without an error. A context that ends before the
	// transaction has begun withdraws it; afterwards Apply waits for its true outcome.
	Apply(ctx context.Context, txn Txn) (Result, error)
	// Close waits for the transaction at hand and releases the store.
	Close() error
}

// Validate checks a transaction against the limits; its errors wrap ErrInvalid. Every
// implementation calls it first.
func (t Txn) Validate() error {
	if n := len(t.Conditions) + len(t.Puts) + len(t.Deletes); n > MaxOps {
		return fmt.Errorf("%w: %d conditions, puts and deletes are more than the %d of one transaction: split it", ErrInvalid, n, MaxOps)
	}
	for _, c := range t.Conditions {
		if err := validKey(c.Key); err != nil {
			return err
		}
	}
	size, changed := 0, make(map[string]bool, len(t.Puts)+len(t.Deletes))
	for _, e := range t.Puts {
		if len(e.Value) > MaxValue {
			return fmt.Errorf("%w: the value of %.64q has %d bytes, and %d is the most that one key holds", ErrInvalid, e.Key, len(e.Value), MaxValue)
		}
		if err := change(changed, e.Key); err != nil {
			return err
		}
		size += len(e.Key) + len(e.Value)
	}
	for _, key := range t.Deletes {
		if err := change(changed, key); err != nil {
			return err
		}
		size += len(key)
	}
	if size > MaxTxn {
		return fmt.Errorf("%w: a transaction of %d bytes is over the limit of %d: split it", ErrInvalid, size, MaxTxn)
	}
	return nil
}

func change(changed map[string]bool, key string) error {
	if err := validKey(key); err != nil {
		return err
	}
	if changed[key] {
		return fmt.Errorf("%w: key %.64q is changed twice in one transaction", ErrInvalid, key)
	}
	changed[key] = true
	return nil
}

func validKey(key string) error {
	if key == "" {
		return fmt.Errorf("%w: a key is empty", ErrInvalid)
	}
	if len(key) > MaxKey {
		return fmt.Errorf("%w: key %.64q... has %d bytes, and %d is the most", ErrInvalid, key, len(key), MaxKey)
	}
	return nil
}
