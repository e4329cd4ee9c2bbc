package store

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// The layout of bbolt's file, which has never changed: pages of one size, the first two of
// which are heads; numbers are in the host's byte order. What is here reads it with plain
// reads, so that damage is an error with a place and never a fault.
const (
	pageHead   = 16 // id, kind, count of items, count of pages that continue it
	itemSize   = 16 // of an item in a branch or a leaf
	headSize   = 64
	bucketHead = 16 // root page, sequence

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10
	bucketItem   = 0x01

	magic      = 0xED0CDAED
	version    = 2
	noFreelist = ^uint64(0)
)

var native = binary.NativeEndian

// errHead is what is wrong with a head that bbolt did not write, or not whole.
var errHead = errors.New("it is not the head of a store")

// head is one of the two that bbolt writes in turn: the one of the later transaction counts.
type head struct {
	pageSize int64
	root     uint64 // page of the root bucket
	freelist uint64 // page of the list of free pages
	pages    uint64 // how many are in use or free, the heads included
	txn      uint64
}

func parseHead(b []byte) (head, error) {
	if len(b) < pageHead+headSize {
		return head{}, errHead
	}
	b = b[pageHead : pageHead+headSize]
	sum := fnv.New64a()
	sum.Write(b[:headSize-8])
	if native.Uint32(b) != magic || native.Uint32(b[4:]) != version || native.Uint64(b[headSize-8:]) != sum.Sum64() {
		return head{}, errHead
	}
	h := head{
		pageSize: int64(native.Uint32(b[8:])),
		root:     native.Uint64(b[16:]),
		freelist: native.Uint64(b[32:]),
		pages:    native.Uint64(b[40:]),
		txn:      native.Uint64(b[48:]),
	}
	if h.pageSize < 1024 || h.pageSize&(h.pageSize-1) != 0 {
		return head{}, errHead
	}
	return h, nil
}

// pager reads the pages of a file.
type pager struct {
	r        io.ReaderAt
	size     int64
	pageSize int64
	heads    []head // those that are whole, the newest first
	failed   error  // the first failure to read
}

// newPager reads the heads; without a good one it reads pages of the usual size.
func newPager(r io.ReaderAt, size int64) (*pager, error) {
	f := &pager{r: r, size: size, pageSize: 4096}
	first, err := f.headAt(0)
	switch {
	case err == nil:
		f.pageSize = first.pageSize
		f.heads = append(f.heads, first)
		second, err := f.headAt(f.pageSize)
		if err == nil && second.pageSize == f.pageSize {
			f.heads = append(f.heads, second)
		}
		if err != nil && !errors.Is(err, errHead) {
			return nil, err
		}
	case !errors.Is(err, errHead):
		return nil, err
	default:
		for at := int64(1024); at <= 1024<<14; at *= 2 {
			if second, err := f.headAt(at); err == nil && second.pageSize == at {
				f.pageSize = at
				f.heads = append(f.heads, second)
				break
			}
		}
	}
	if len(f.heads) == 2 && f.heads[1].txn > f.heads[0].txn {
		f.heads[0], f.heads[1] = f.heads[1], f.heads[0]
	}
	return f, nil
}

func (f *pager) headAt(at int64) (head, error) {
	b, err := f.bytes(at, pageHead+headSize)
	if err != nil {
		return head{}, err
	}
	return parseHead(b)
}

// bytes reads n bytes, or fewer where the file ends.
func (f *pager) bytes(at, n int64) ([]byte, error) {
	b := make([]byte, max(0, min(n, f.size-at)))
	if _, err := f.r.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		err = fmt.Errorf("read %d bytes at %d: %w", len(b), at, err)
		f.failed = cmp.Or(f.failed, err)
		return nil, err
	}
	return b, nil
}

// page is one of a tree with those that continue it, or one inside an item.
type page struct {
	id    uint64 // as it says
	kind  uint16
	count int
	body  []byte // its head included
	at    int64  // of body in the file
}

// page reads the page id of a tree or the list of free pages; limit is the number of pages
// that there are.
func (f *pager) page(id, limit uint64) (page, error) {
	if id < 2 || id >= limit {
		return page{}, fmt.Errorf("a page %d is referred to, and there are %d", id, limit)
	}
	at := int64(id) * f.pageSize
	if at+f.pageSize > f.size {
		return page{}, fmt.Errorf("page %d (byte %d) is beyond the end", id, at)
	}
	b, err := f.bytes(at, f.pageSize)
	if err != nil {
		return page{}, err
	}
	p, more := parsePage(b, at), uint64(native.Uint32(b[12:]))
	if p.id != id {
		return page{}, fmt.Errorf("page %d (byte %d) says that it is page %d", id, at, p.id)
	}
	if more > 0 {
		if id+more >= limit || at+int64(1+more)*f.pageSize > f.size {
			return page{}, fmt.Errorf("page %d (byte %d) goes on for %d pages, beyond the end", id, at, more)
		}
		if p.body, err = f.bytes(at, int64(1+more)*f.pageSize); err != nil {
			return page{}, err
		}
	}
	return p, p.check(fmt.Sprintf("page %d (byte %d)", id, at))
}

// parsePage takes a page's head apart; b has at least that.
func parsePage(b []byte, at int64) page {
	return page{id: native.Uint64(b), kind: native.Uint16(b[8:]), count: int(native.Uint16(b[10:])), body: b, at: at}
}

// check says whether the items fit into the page.
func (p page) check(name string) error {
	switch p.kind {
	case branchPage, leafPage:
		if pageHead+p.count*itemSize > len(p.body) {
			return fmt.Errorf("%s says that it has %d items, more than fit", name, p.count)
		}
	case freelistPage:
	default:
		return fmt.Errorf("%s is of an unknown kind, %#x", name, p.kind)
	}
	return nil
}

// pages is how many pages of the file the page takes.
func (p page) pages(pageSize int64) uint64 { return uint64(int64(len(p.body)) / pageSize) }

// item is a key with its value in a leaf, or with a page in a branch.
type item struct {
	flags      uint32
	key, value []byte
	child      uint64
	at         int64 // of the key in the file
}

// item returns the item i, which need not be below count; ok is false if it lies outside
// the page or no item of a store can be like that.
func (p page) item(i int) (it item, ok bool) {
	at := pageHead + i*itemSize
	if at+itemSize > len(p.body) {
		return item{}, false
	}
	b := p.body[at : at+itemSize]
	var pos, keySize, valueSize int64
	if p.kind == branchPage {
		pos, keySize, it.child = int64(native.Uint32(b)), int64(native.Uint32(b[4:])), native.Uint64(b[8:])
	} else {
		it.flags = native.Uint32(b)
		pos, keySize, valueSize = int64(native.Uint32(b[4:])), int64(native.Uint32(b[8:])), int64(native.Uint32(b[12:]))
	}
	pos += int64(at)
	if keySize == 0 || keySize > MaxKey || pos+keySize+valueSize > int64(len(p.body)) {
		return item{}, false
	}
	it.key, it.value = p.body[pos:pos+keySize], p.body[pos+keySize:pos+keySize+valueSize]
	it.at = p.at + pos
	return it, true
}

// freelist returns the pages that a head's list calls free, and those of the list itself.
func (f *pager) freelist(h head) (free map[uint64]bool, own page, err error) {
	if h.freelist == noFreelist {
		return nil, page{}, errors.New("it has no list of free pages")
	}
	if own, err = f.page(h.freelist, h.pages); err != nil {
		return nil, page{}, fmt.Errorf("the list of free pages: %w", err)
	}
	if own.kind != freelistPage {
		return nil, page{}, fmt.Errorf("page %d (byte %d) is not the list of free pages", h.freelist, own.at)
	}
	ids, count := own.body[pageHead:], uint64(own.count)
	if count == 0xFFFF {
		count, ids = native.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return nil, page{}, fmt.Errorf("the list of free pages (byte %d) says that it has %d, more than fit", own.at, count)
	}
	free = make(map[uint64]bool, count)
	for i := range count {
		id := native.Uint64(ids[8*i:])
		if id < 2 || id >= h.pages || free[id] {
			return nil, page{}, fmt.Errorf("the list of free pages (byte %d) has page %d, of %d, wrongly or twice", own.at, id, h.pages)
		}
		free[id] = true
	}
	return free, own, nil
}
