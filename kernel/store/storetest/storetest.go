// Package storetest is the suite that every store.Store passes.
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) func() store.Store {
//			path := filepath.Join(t.TempDir(), "registry.db")
//			return func() store.Store { ... open path ... }
//		})
//	}
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-project/gantry/kernel/store"
)

// Run tests a store. For each test, fresh names an empty one; the function it returns
// opens that store, and is called again after Close to see what lasted.
func Run(t *testing.T, fresh func(t *testing.T) (open func() store.Store)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, s store.Store)
	}{
		{"an empty store lists nothing", empty},
		{"what is put is listed", put},
		{"conditions guard a transaction", conditions},
		{"a transaction is applied whole or not at all", atomic},
		{"a revision grows and is the key's own", revisions},
		{"pages cover all keys in order", pages},
		{"prefixes are exact", prefixes},
		{"limits are refused with a reason", limits},
		{"the largest of everything is accepted", largest},
		{"returned values belong to the caller", ownership},
		{"concurrent counters lose nothing", counters},
		{"an ended context applies nothing", cancelled},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := fresh(t)()
			defer s.Close()
			c.test(t, s)
		})
	}
	t.Run("what was applied outlives Close", func(t *testing.T) { durable(t, fresh(t)) })
	t.Run("a closed store says so", func(t *testing.T) { closed(t, fresh(t)()) })
}

func apply(t *testing.T, s store.Store, txn store.Txn) store.Result {
	t.Helper()
	res, err := s.Apply(context.Background(), txn)
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return res
}

func puts(pairs ...string) store.Txn {
	var txn store.Txn
	for i := 0; i < len(pairs); i += 2 {
		txn.Puts = append(txn.Puts, store.Entry{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return txn
}

// dump lists the whole store as "key=value" strings.
func dump(t *testing.T, s store.Store) []string {
	t.Helper()
	return list(t, s, "", 0)
}

func list(t *testing.T, s store.Store, prefix string, limit int) []string {
	t.Helper()
	all, after := []string{}, ""
	for {
		page, more, err := s.List(context.Background(), prefix, after, limit)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		if limit > 0 && len(page) > limit {
			t.Fatalf("a page of %d entries, limit %d", len(page), limit)
		}
		for _, e := range page {
			all = append(all, e.Key+"="+string(e.Value))
			after = e.Key
		}
		if !more {
			return all
		}
		if len(page) == 0 {
			t.Fatal("an empty page that promises more")
		}
	}
}

func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func empty(t *testing.T, s store.Store) {
	same(t, dump(t, s))
	if res := apply(t, s, store.Txn{}); !res.Applied {
		t.Fatalf("the empty transaction was not applied: %+v", res)
	}
}

func put(t *testing.T, s store.Store) {
	apply(t, s, puts("b", "2", "a", "1"))
	apply(t, s, puts("a", "one", "c", ""))
	same(t, dump(t, s), "a=one", "b=2", "c=")
	apply(t, s, store.Txn{Deletes: []string{"b", "missing"}})
	same(t, dump(t, s), "a=one", "c=")
}

func conditions(t *testing.T, s store.Store) {
	absent := store.Txn{Conditions: []store.Condition{{Key: "k"}}, Puts: puts("k", "1").Puts}
	first := apply(t, s, absent)
	if !first.Applied {
		t.Fatal("k does not exist, and a transaction on that condition was refused")
	}
	if res := apply(t, s, absent); res.Applied || res.Revision != first.Revision {
		t.Fatalf("k exists: got %+v, want not applied at revision %d", res, first.Revision)
	}
	at := func(rev uint64, value string) store.Txn {
		return store.Txn{Conditions: []store.Condition{{Key: "k", Revision: rev}}, Puts: puts("k", value).Puts}
	}
	second := apply(t, s, at(first.Revision, "2"))
	if !second.Applied {
		t.Fatal("refused at the right revision")
	}
	if apply(t, s, at(first.Revision, "3")).Applied {
		t.Fatal("applied at an old revision")
	}
	if apply(t, s, at(second.Revision+1, "3")).Applied {
		t.Fatal("applied at a revision to come")
	}
	same(t, dump(t, s), "k=2")
	apply(t, s, store.Txn{Deletes: []string{"k"}})
	if !apply(t, s, absent).Applied {
		t.Fatal("k was deleted, and a transaction on its absence was refused")
	}
}

func atomic(t *testing.T, s store.Store) {
	apply(t, s, puts("a", "1", "b", "1"))
	res := apply(t, s, store.Txn{
		Conditions: []store.Condition{{Key: "missing", Revision: 7}},
		Puts:       puts("a", "2", "c", "2").Puts,
		Deletes:    []string{"b"},
	})
	if res.Applied {
		t.Fatal("applied although a condition does not hold")
	}
	same(t, dump(t, s), "a=1", "b=1")
}

func revisions(t *testing.T, s store.Store) {
	one := apply(t, s, puts("a", "1", "b", "1"))
	two := apply(t, s, puts("b", "2"))
	if two.Revision <= one.Revision {
		t.Fatalf("revision %d came after %d", two.Revision, one.Revision)
	}
	entries, _, err := s.List(context.Background(), "", "", 0)
	if err != nil {
		t.Fatal(err)
	}
	if entries[0].Revision != one.Revision || entries[1].Revision != two.Revision {
		t.Fatalf("a and b are at %d and %d, want %d and %d", entries[0].Revision, entries[1].Revision, one.Revision, two.Revision)
	}
	check := apply(t, s, store.Txn{Conditions: []store.Condition{{Key: "a", Revision: one.Revision}}})
	if !check.Applied || check.Revision != two.Revision {
		t.Fatalf("a mere check gave %+v, want applied at %d", check, two.Revision)
	}
}

func pages(t *testing.T, s store.Store) {
	var want []string
	txn := store.Txn{}
	for i := range 2500 {
		key := fmt.Sprintf("k%05d", i)
		txn.Puts = append(txn.Puts, store.Entry{Key: key})
		want = append(want, key+"=")
	}
	slices.Reverse(txn.Puts)
	apply(t, s, txn)
	for _, limit := range []int{0, 7, 999, 1 << 20} {
		if limit > store.MaxPage {
			limit = 0
		}
		same(t, list(t, s, "k", limit), want...)
	}
	if _, more, _ := s.List(context.Background(), "k", "k02489", 10); more {
		t.Fatal("the last page promises more")
	}
	if page, more, _ := s.List(context.Background(), "k", "k02489x", 10); more || len(page) != 10 {
		t.Fatalf("after a key that is not there: %d entries, more=%v", len(page), more)
	}
}

func prefixes(t *testing.T, s store.Store) {
	apply(t, s, puts("a", "0", "a/b", "1", "a/c", "2", "a0", "3", "b", "4", "a/\xff", "5"))
	same(t, list(t, s, "a/", 1), "a/b=1", "a/c=2", "a/\xff=5")
	same(t, list(t, s, "nothing", 0))
	page, more, err := s.List(context.Background(), "b", "a", 0)
	if err != nil || more || len(page) != 1 || page[0].Key != "b" {
		t.Fatalf("prefix b after a: %v, more=%v, %v", page, more, err)
	}
	page, more, err = s.List(context.Background(), "a/", "b", 0)
	if err != nil || more || len(page) != 0 {
		t.Fatalf("prefix a/ after b: %v, more=%v, %v", page, more, err)
	}
}

func limits(t *testing.T, s store.Store) {
	big := bytes.Repeat([]byte{'x'}, store.MaxValue)
	whole := store.Txn{}
	for i := range store.MaxTxn/store.MaxValue + 1 {
		whole.Puts = append(whole.Puts, store.Entry{Key: fmt.Sprint(i), Value: big})
	}
	many := store.Txn{Deletes: make([]string, store.MaxOps+1)}
	for i := range many.Deletes {
		many.Deletes[i] = fmt.Sprint(i)
	}
	for name, txn := range map[string]store.Txn{
		"long key":         puts(strings.Repeat("k", store.MaxKey+1), ""),
		"long condition":   {Conditions: []store.Condition{{Key: strings.Repeat("k", store.MaxKey+1)}}},
		"empty key":        puts("", "v"),
		"empty delete":     {Deletes: []string{""}},
		"large value":      {Puts: []store.Entry{{Key: "k", Value: append(big, 'x')}}},
		"large":            whole,
		"many operations":  many,
		"put twice":        puts("k", "1", "k", "2"),
		"put and deleted":  {Puts: puts("k", "1").Puts, Deletes: []string{"k"}},
		"deleted twice":    {Deletes: []string{"k", "k"}},
		"empty conditions": {Conditions: []store.Condition{{}}},
	} {
		if _, err := s.Apply(context.Background(), txn); !errors.Is(err, store.ErrInvalid) {
			t.Errorf("%s: got %.200v, want ErrInvalid", name, err)
		}
	}
	same(t, dump(t, s))
}

func largest(t *testing.T, s store.Store) {
	key := strings.Repeat("k", store.MaxKey)
	value := strings.Repeat("v", store.MaxValue)
	apply(t, s, puts(key, value, "l", value, "m", value, "n", value))
	apply(t, s, puts("o", value, "p", value, "q", value))
	if got := len(dump(t, s)); got != 7 {
		t.Fatalf("%d of 7 large entries came back", got)
	}
}

func ownership(t *testing.T, s store.Store) {
	mine := []byte("mine")
	apply(t, s, store.Txn{Puts: []store.Entry{{Key: "k", Value: mine}}})
	copy(mine, "XXXX")
	entries, _, _ := s.List(context.Background(), "", "", 0)
	copy(entries[0].Value, "YYYY")
	same(t, dump(t, s), "k=mine")
}

func counters(t *testing.T, s store.Store) {
	const workers, each = 8, 12
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				increment(t, s)
			}
		})
	}
	wg.Wait()
	same(t, dump(t, s), fmt.Sprintf("n=%d", workers*each))
}

// increment adds one to n by reading and a conditional write, as often as it takes.
func increment(t *testing.T, s store.Store) {
	for {
		entries, _, err := s.List(context.Background(), "n", "", 1)
		if err != nil {
			t.Error(err)
			return
		}
		n, rev := 0, uint64(0)
		if len(entries) == 1 {
			fmt.Sscan(string(entries[0].Value), &n)
			rev = entries[0].Revision
		}
		res, err := s.Apply(context.Background(), store.Txn{
			Conditions: []store.Condition{{Key: "n", Revision: rev}},
			Puts:       puts("n", fmt.Sprint(n+1)).Puts,
		})
		if err != nil {
			t.Error(err)
			return
		}
		if res.Applied {
			return
		}
	}
}

func cancelled(t *testing.T, s store.Store) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.Apply(ctx, puts("k", "v")); !errors.Is(err, context.Canceled) {
		t.Fatalf("apply: got %v, want context.Canceled", err)
	}
	if _, _, err := s.List(ctx, "", "", 0); !errors.Is(err, context.Canceled) {
		t.Fatalf("list: got %v, want context.Canceled", err)
	}
	same(t, dump(t, s))
}

func durable(t *testing.T, open func() store.Store) {
	s := open()
	last := apply(t, s, puts("a", "1", "b", "2"))
	last = apply(t, s, store.Txn{Deletes: []string{"b"}})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open()
	defer s.Close()
	same(t, dump(t, s), "a=1")
	if next := apply(t, s, puts("c", "3")); next.Revision <= last.Revision {
		t.Fatalf("revision %d after Close, %d before", next.Revision, last.Revision)
	}
}

func closed(t *testing.T, s store.Store) {
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Apply(context.Background(), puts("k", "v")); !errors.Is(err, store.ErrClosed) {
		t.Errorf("apply: got %v, want ErrClosed", err)
	}
	if _, _, err := s.List(context.Background(), "", "", 0); !errors.Is(err, store.ErrClosed) {
		t.Errorf("list: got %v, want ErrClosed", err)
	}
	if err := s.Close(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("second close: got %v, want ErrClosed", err)
	}
}
