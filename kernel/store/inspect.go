package store

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strconv"
)

// breach is a part of the file that can't be trusted, and the keys from..to whose records
// may have been in it; nil is without a bound.
type breach struct {
	from, to []byte
	err      error
	record   bool // records were in it, and nothing else
}

func (b breach) covers(key string) bool {
	return (b.from == nil || key >= string(b.from)) && (b.to == nil || key < string(b.to))
}

// record is one that matches its checksum.
type record struct {
	revision uint64
	sealed   []byte // as in the file
}

// inspection is a walk through the tree below one head, which reads all of it once.
type inspection struct {
	f        *pager
	h        head
	free     map[uint64]bool // nil: unknown
	used     []bool          // pages of the tree
	format   string
	id       identity
	written  *tally            // what the store says that it has; nil: unknown
	found    tally             // what was found; revision is the highest of all
	newest   string            // the key that has it
	records  map[string]record // those found; nil: they are only counted
	entered  bool              // there is a bucket of records
	breaches []breach          // in the order of their finding
}

// inspect walks the tree of h, and keeps its records if records is not nil.
func (f *pager) inspect(h head, records map[string]record) *inspection {
	in := &inspection{f: f, h: h, used: make([]bool, min(h.pages, uint64(f.size/f.pageSize))), records: records}
	if need := int64(h.pages) * f.pageSize; f.size < need {
		in.breach(nil, nil, fmt.Errorf("its end is cut off: it has %d bytes of %d", f.size, need))
	}
	free, list, err := f.freelist(h)
	if err != nil {
		in.flaw(err)
	}
	in.free = free
	in.tree(h.root, nil, nil, in.bucket)
	if len(in.breaches) == 0 {
		in.account(list)
	}
	if len(in.breaches) == 0 {
		in.settle()
	}
	return in
}

func (in *inspection) breach(from, to []byte, err error) {
	in.breaches = append(in.breaches, breach{from: from, to: to, err: err})
}

// flaw is damage that no record was in.
func (in *inspection) flaw(err error) { in.breach(nil, []byte{}, err) }

// account has every page either in the tree or free: a free page that is in use would be
// written over.
func (in *inspection) account(list page) {
	for i := range list.pages(in.f.pageSize) {
		in.used[in.h.freelist+i] = true
	}
	for id := uint64(2); id < uint64(len(in.used)); id++ {
		if !in.used[id] && !in.free[id] {
			in.flaw(fmt.Errorf("page %d (byte %d) is neither used nor free", id, int64(id)*in.f.pageSize))
			return
		}
	}
}

// settle compares what was found with what was written.
func (in *inspection) settle() {
	switch {
	case in.written == nil || !in.entered:
		in.breach(nil, nil, errors.New("it holds no registry"))
	case in.found.revision > in.written.revision:
		in.breach(nil, nil, fmt.Errorf("the record of key %.64q has revision %d, after the store's last, %d", in.newest, in.found.revision, in.written.revision))
	case !in.complete():
		in.breach(nil, nil, fmt.Errorf("it has %d records, and not the %d that were written", in.found.entries, in.written.entries))
	}
}

// complete reports whether every record that was written was found: then it does not
// matter to them what else is broken.
func (in *inspection) complete() bool {
	return in.written != nil && in.found.entries == in.written.entries && in.found.sum == in.written.sum
}

// tree walks the pages below page id, whose keys are from..to, and hands the items of its
// leaves to leaf.
func (in *inspection) tree(id uint64, from, to []byte, leaf func(page, []byte, []byte)) {
	p, err := in.f.page(id, in.h.pages)
	if err == nil {
		err = in.claim(id, p)
	}
	switch {
	case err != nil:
		in.breach(from, to, err)
	case p.kind == leafPage:
		leaf(p, from, to)
	case p.kind == branchPage:
		in.branch(p, from, to, leaf)
	default:
		in.breach(from, to, fmt.Errorf("page %d (byte %d) is neither branch nor leaf", id, p.at))
	}
}

func (in *inspection) claim(id uint64, p page) error {
	for i := id; i < id+p.pages(in.f.pageSize); i++ {
		if in.used[i] {
			return fmt.Errorf("page %d (byte %d) is in use twice", i, int64(i)*in.f.pageSize)
		}
		if in.free[i] {
			return fmt.Errorf("page %d (byte %d) is both used and free", i, int64(i)*in.f.pageSize)
		}
		in.used[i] = true
	}
	return nil
}

func (in *inspection) branch(p page, from, to []byte, leaf func(page, []byte, []byte)) {
	children := make([]item, p.count)
	last := from
	for i := range children {
		it, ok := p.item(i)
		if !ok || bytes.Compare(it.key, last) < 0 || i > 0 && bytes.Equal(it.key, last) || to != nil && bytes.Compare(it.key, to) >= 0 {
			in.breach(from, to, fmt.Errorf("branch %d of the page at byte %d is out of order", i, p.at))
			return
		}
		children[i], last = it, it.key
	}
	if len(children) == 0 {
		in.breach(from, to, fmt.Errorf("the branches of the page at byte %d are missing", p.at))
		return
	}
	for i, it := range children {
		end := to
		if i+1 < len(children) {
			end = children[i+1].key
		}
		in.tree(it.child, it.key, end, leaf)
	}
}

// bucket reads a leaf of the root, whose items are buckets.
func (in *inspection) bucket(p page, _, _ []byte) {
	for i := range p.count {
		it, ok := p.item(i)
		if !ok || it.flags != bucketItem || len(it.value) < bucketHead {
			in.breach(nil, nil, fmt.Errorf("item %d of the page at byte %d is no bucket", i, p.at))
			return
		}
		var leaf func(page, []byte, []byte)
		switch string(it.key) {
		case string(metaBucket):
			leaf = in.meta
		case string(entriesBucket):
			in.entered, leaf = true, in.entries
		default:
			in.breach(nil, nil, fmt.Errorf("there is a bucket %.32q at byte %d, which is no store's", it.key, it.at))
			return
		}
		if root := native.Uint64(it.value); root != 0 {
			in.tree(root, nil, nil, leaf)
			continue
		}
		inside, err := inline(it)
		if err != nil {
			in.breaches = append(in.breaches, breach{err: err, record: true})
			continue
		}
		leaf(inside, nil, nil)
	}
}

// inline is the page inside the item of a small bucket.
func inline(it item) (page, error) {
	at := it.at + int64(len(it.key)) + bucketHead
	if len(it.value) < bucketHead+pageHead {
		return page{}, fmt.Errorf("bucket %.32q at byte %d is cut off", it.key, it.at)
	}
	p := parsePage(it.value[bucketHead:], at)
	if p.kind != leafPage {
		return page{}, fmt.Errorf("bucket %.32q at byte %d is of an unknown kind, %#x", it.key, it.at, p.kind)
	}
	return p, p.check(fmt.Sprintf("bucket %.32q at byte %d", it.key, it.at))
}

// meta reads a leaf of the store's account of itself.
func (in *inspection) meta(p page, _, _ []byte) {
	values := map[string][]byte{}
	for i := range p.count {
		if it, ok := p.item(i); ok && it.flags == 0 {
			values[string(it.key)] = it.value
		}
	}
	err := in.readMeta(values)
	if err != nil {
		in.breach(nil, nil, fmt.Errorf("at byte %d: %w", p.at, err))
	}
}

func (in *inspection) readMeta(values map[string][]byte) error {
	in.format = string(values[formatKey])
	written, err := decodeTally(values[tallyKey])
	if err != nil {
		return err
	}
	in.written = &written
	if in.id, err = decodeIdentity(values[identityKey]); err != nil {
		return err
	}
	number, err := strconv.Atoi(in.format)
	if err != nil || number < 1 || in.id.format != "" && in.id.format != in.format {
		return fmt.Errorf("the store's format is %.32q, which was never written", in.format)
	}
	return nil
}

// entries reads a leaf of records. Between two good ones a bad one may have had any key.
func (in *inspection) entries(p page, from, to []byte) {
	last, bad := from, error(nil)
	for i := range p.count {
		it, rec, err := p.record(i)
		if err == nil && (bytes.Compare(it.key, last) < 0 || i > 0 && bytes.Equal(it.key, last) || to != nil && bytes.Compare(it.key, to) >= 0) {
			err = fmt.Errorf("key %.64q (byte %d) is out of order", it.key, it.at)
		}
		if err != nil {
			bad = cmp.Or(bad, err)
			continue
		}
		if bad != nil {
			in.breaches = append(in.breaches, breach{last, it.key, bad, true})
			bad = nil
		}
		last = it.key
		in.add(string(it.key), rec)
	}
	if bad != nil {
		in.breaches = append(in.breaches, breach{last, to, bad, true})
	}
}

func (in *inspection) add(key string, rec record) {
	in.found.add(rec.sealed)
	if rec.revision > in.found.revision {
		in.found.revision, in.newest = rec.revision, key
	}
	if in.records != nil {
		in.records[key] = rec
	}
}

// unknownFormat reports whether a program of another version has written the file.
func (in *inspection) unknownFormat() bool {
	number, err := strconv.Atoi(in.format)
	return err == nil && number > 0 && in.format != format && (in.id.format == "" || in.id.format == in.format)
}

// record returns the item i of a leaf with its record, if that is good.
func (p page) record(i int) (item, record, error) {
	it, ok := p.item(i)
	if !ok || it.flags != 0 {
		return it, record{}, fmt.Errorf("item %d of the page at byte %d is no record", i, p.at)
	}
	revision, _, err := unseal(string(it.key), it.value)
	if err != nil {
		return it, record{}, fmt.Errorf("%w (byte %d)", err, it.at)
	}
	return it, record{revision, it.value}, nil
}

// damage is the first thing found wrong, nil if all is well.
func (in *inspection) damage() error {
	if len(in.breaches) == 0 {
		return nil
	}
	return in.breaches[0].err
}
