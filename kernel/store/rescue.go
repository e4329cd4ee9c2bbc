package store

import (
	"cmp"
	"maps"
	"slices"
)

// salvaged is what could be read of a damaged file.
type salvaged struct {
	contents
	lost    int             // see Report
	doubted map[string]bool // keys of records from pages that were free, or may have been
}

func (s *salvaged) doubtful() []string { return slices.Sorted(maps.Keys(s.doubted)) }

// salvage reads all that can be read: the newest tree if everything in it is there, and
// else what is left of it, and what the pages beside it have of the missing parts.
func (f *pager) salvage() salvaged {
	base := f.newest()
	if base == nil {
		base = &inspection{f: f, records: map[string]record{}, breaches: []breach{{}}}
	}
	s := salvaged{contents: contents{id: base.id, revision: base.found.revision, records: base.records}, doubted: map[string]bool{}}
	if base.written != nil {
		s.revision = max(s.revision, base.written.revision)
	}
	if base.complete() {
		return s
	}
	scan := scan{base: base, salvaged: &s, whole: base.free != nil, leafs: base.entered}
	scan.run()
	if scan.whole && scan.leafs { // what is missing was deleted
		s.dropDoubted()
		return s
	}
	s.lost = s.missing(base.written)
	return s
}

// newest is the inspection of the last transaction of which anything is left: that of the
// newest head, or a later one whose head is damaged; nil if there is no tree at all.
func (f *pager) newest() *inspection {
	var base *inspection
	if len(f.heads) > 0 {
		base = f.inspect(f.heads[0], map[string]record{})
	}
	if len(f.heads) == 2 {
		return base
	}
	after := uint64(0)
	if base != nil && base.written != nil {
		after = base.written.revision
	}
	if later := f.latest(after); later != nil {
		return later
	}
	if roots := f.roots(); base == nil && len(roots) > 0 {
		base = f.inspect(roots[0].head, map[string]record{})
	}
	return base
}

// latest returns the newest tree that is complete, of those after a revision, without the
// help of a head; nil if there is none.
func (f *pager) latest(after uint64) *inspection {
	for _, r := range f.roots() {
		if r.revision <= after {
			return nil
		}
		if in := f.inspect(r.head, map[string]record{}); in.complete() {
			return in
		}
	}
	return nil
}

// root is a page that has been the root of a store.
type root struct {
	head     head // as it may have been; without a list of free pages
	revision uint64
}

// roots finds those in the file, the newest first.
func (f *pager) roots() []root {
	var found []root
	limit := uint64(f.size / f.pageSize)
	for id := uint64(2); id < limit; id++ {
		p, err := f.page(id, limit)
		if err != nil || p.kind != leafPage {
			continue
		}
		if t := p.account(); t != nil {
			found = append(found, root{head{pageSize: f.pageSize, root: id, freelist: noFreelist, pages: limit}, t.revision})
		}
	}
	slices.SortStableFunc(found, func(a, b root) int { return cmp.Compare(b.revision, a.revision) })
	return found
}

// account is the tally in a root page; nil if it has none.
func (p page) account() *tally {
	for i := range p.count {
		it, ok := p.item(i)
		if !ok || it.flags != bucketItem || string(it.key) != string(metaBucket) || len(it.value) < bucketHead {
			continue
		}
		inside, err := inline(it)
		if err != nil {
			return nil
		}
		in := inspection{}
		in.meta(inside, nil, nil)
		return in.written
	}
	return nil
}

// scan looks for records in every page: those of the tree too, for it may lead astray.
type scan struct {
	base *inspection
	*salvaged
	whole bool // all pages that were in use have been read, but for the root's
	leafs bool // records were in pages of their own, not in the root's
}

func (s *scan) run() {
	f := s.base.f
	list := map[uint64]bool{}
	if s.base.free != nil {
		if _, own, err := f.freelist(s.base.h); err == nil {
			for i := range own.pages(f.pageSize) {
				list[s.base.h.freelist+i] = true
			}
		}
	}
	s.whole = s.whole && f.size >= int64(s.base.h.pages)*f.pageSize && !s.damagedRecords()
	for id := uint64(2); id < uint64((f.size+f.pageSize-1)/f.pageSize); id++ {
		if list[id] {
			continue
		}
		live := s.base.free != nil && id < s.base.h.pages && !s.base.free[id]
		p, good := f.rescue(id)
		if live && !good && id != s.base.h.root {
			s.whole = false
		}
		live = live && p.id == id // else it may have been meant for another place
		s.take(p, live)
		s.leafs = s.leafs || live && good && p.kind == leafPage
		if good {
			id += p.pages(f.pageSize) - 1
		}
	}
}

// damagedRecords reports whether a page that was walked has had a bad record.
func (s *scan) damagedRecords() bool {
	return slices.ContainsFunc(s.base.breaches, func(b breach) bool { return b.record })
}

// rescue reads a page whose head may be wrong; good says that all of it makes sense.
func (f *pager) rescue(id uint64) (p page, good bool) {
	at := int64(id) * f.pageSize
	if p, err := f.page(id, uint64(f.size/f.pageSize)); err == nil && p.kind != freelistPage {
		for i := range p.count {
			it, ok := p.item(i)
			if ok && p.kind == leafPage && it.flags == 0 {
				_, _, err := p.record(i)
				ok = err == nil
			}
			if !ok {
				return p, false
			}
		}
		return p, p.count > 0
	}
	b, err := f.bytes(at, f.pageSize)
	if err != nil || len(b) < pageHead {
		return page{}, false
	}
	p = parsePage(b, at)
	if p.id == id { // the head is a page's: what its items need is read, whatever it says
		if b, err = f.bytes(at, max(f.pageSize, p.extent())); err == nil {
			p.body = b
		}
	}
	p.kind, p.count = leafPage, (len(p.body)-pageHead)/itemSize
	return p, false
}

// extent is how many bytes the items of a leaf say that they need.
func (p page) extent() int64 {
	need := int64(0)
	for i := range p.count {
		at := pageHead + i*itemSize
		if at+itemSize > len(p.body) {
			break
		}
		b := p.body[at:]
		if end := int64(at) + int64(native.Uint32(b[4:])) + int64(native.Uint32(b[8:])) + int64(native.Uint32(b[12:])); end <= MaxTxn {
			need = max(need, end)
		}
	}
	return need
}

// take keeps the records of a page that may be missing in the tree.
func (s *scan) take(p page, live bool) {
	if p.kind != leafPage {
		return
	}
	for i := range p.count {
		it, ok := p.item(i)
		if ok && it.flags == bucketItem && string(it.key) == string(entriesBucket) {
			if inside, err := inline(it); err == nil {
				s.take(inside, live)
			}
			continue
		}
		if it, rec, err := p.record(i); err == nil {
			s.offer(string(it.key), rec, live)
		}
	}
}

// offer keeps a record if it may be the last one of its key.
func (s *scan) offer(key string, rec record, live bool) {
	committed := len(s.base.f.heads) < 2 || s.base.written == nil || rec.revision <= s.base.written.revision
	missing := slices.ContainsFunc(s.base.breaches, func(b breach) bool { return b.covers(key) })
	if !committed || !missing || key == tallyKey || key == identityKey {
		return
	}
	have, found := s.records[key]
	switch {
	case !found || rec.revision > have.revision:
		s.records[key] = rec
		s.revision = max(s.revision, rec.revision)
		delete(s.doubted, key)
		if !live {
			s.doubted[key] = true
		}
	case live && rec.revision == have.revision:
		delete(s.doubted, key)
	}
}

// dropDoubted removes the records that are known to be of the past.
func (s *salvaged) dropDoubted() {
	for key := range s.doubted {
		delete(s.records, key)
	}
	clear(s.doubted)
}

// missing is how many of the records that were written have not been found beyond doubt; if
// all were found, nothing is in doubt.
func (s *salvaged) missing(written *tally) int {
	if written == nil {
		return Unknown
	}
	var sure, all tally
	for key, rec := range s.records {
		all.add(rec.sealed)
		if !s.doubted[key] {
			sure.add(rec.sealed)
		}
	}
	written = &tally{entries: written.entries, sum: written.sum}
	switch *written {
	case sure:
		s.dropDoubted()
		return 0
	case all:
		clear(s.doubted)
		return 0
	}
	return max(0, int(written.entries)-int(sure.entries))
}
