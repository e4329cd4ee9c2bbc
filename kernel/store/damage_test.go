package store

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// long tries each byte and each length of a file, and not some of them.
var long = flag.Bool("long", false, "damage stores at every byte")

// story is a store with a past: the file, and every value that a key has had, the last one last;
// nil is that it was deleted.
type story struct {
	file   []byte
	mark   []byte
	values map[string][][]byte
}

func (s *story) last(key string) []byte {
	all := s.values[key]
	return all[len(all)-1]
}

// current is how many keys there are.
func (s *story) current() int {
	n := 0
	for key := range s.values {
		if s.last(key) != nil {
			n++
		}
	}
	return n
}

// newStory writes a store of so many keys: values of all sizes, many of them overwritten or
// deleted later, so that the file has branches, values of several pages and old pages.
func newStory(t testing.TB, keys int) *story {
	t.Helper()
	path := filepath.Join(t.TempDir(), "registry.db")
	b := mustOpen(t, path)
	s := &story{values: map[string][][]byte{}}
	apply := func(txn Txn) {
		for _, e := range txn.Puts {
			s.values[e.Key] = append(s.values[e.Key], e.Value)
		}
		for _, key := range txn.Deletes {
			s.values[key] = append(s.values[key], nil)
		}
		if _, err := b.Apply(context.Background(), txn); err != nil {
			t.Fatal(err)
		}
	}
	value := func(i, round int) []byte {
		size := 20 + i*37%400
		if i%17 == 3 {
			size = 9000
		}
		return bytes.Repeat(fmt.Appendf(nil, "%d-%d ", i, round), size/4+1)[:size]
	}
	for round := range 3 {
		for i := 0; i < keys; i += 5 {
			var txn Txn
			for j := i; j < min(i+5, keys); j++ {
				key := fmt.Sprintf("thing/%03d-%s", j, strings.Repeat("x", j%40))
				switch {
				case round == 0 || (j+round)%3 == 0:
					txn.Puts = append(txn.Puts, Entry{Key: key, Value: value(j, round)})
				case round == 2 && j%7 == 0:
					txn.Deletes = append(txn.Deletes, key)
				}
			}
			apply(txn)
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.file, err = os.ReadFile(path); err != nil {
		t.Fatal(err)
	}
	if s.mark, err = os.ReadFile(markPath(path)); err != nil {
		t.Fatal(err)
	}
	return s
}

// stride is the distance between the bytes that are tried.
func stride(usual int) int {
	if *long {
		return 1
	}
	return usual
}

// damages calls try for the file with each kind of damage.
func (s *story) damages(usual int, try func(what string, file []byte)) {
	const pageSize = 4096
	for i := 0; i < len(s.file); i += stride(usual) {
		file := bytes.Clone(s.file)
		file[i] ^= 0x41
		try(fmt.Sprintf("byte %d flipped", i), file)
	}
	for n := range len(s.file) {
		edge := n % pageSize
		if n%stride(usual) == 0 || edge <= 1 || edge == pageSize-1 {
			try(fmt.Sprintf("cut to %d bytes", n), s.file[:n])
		}
	}
	for at := 0; at < len(s.file); at += pageSize {
		file := bytes.Clone(s.file)
		clear(file[at:min(at+pageSize, len(file))])
		try(fmt.Sprintf("page %d zeroed", at/pageSize), file)
		copy(file[at:], s.file[2*pageSize:3*pageSize])
		try(fmt.Sprintf("page %d overwritten by page 2", at/pageSize), file)
	}
}

// Whatever byte of a file is flipped, wherever it is cut off: it is refused, or it has all
// that was written. What is salvaged from it is what was written, and what was not found is
// counted.
func TestDamageIsRefusedAndSalvaged(t *testing.T) {
	for _, keys := range []int{4, 60} {
		t.Run(fmt.Sprint(keys), func(t *testing.T) {
			s := newStory(t, keys)
			refused, full, worst := 0, 0, 0
			s.damages(97, func(what string, file []byte) {
				f, err := newPager(bytes.NewReader(file), int64(len(file)))
				if err != nil {
					t.Fatalf("%s: %v", what, err)
				}
				if _, err := f.verify("FILE"); err == nil {
					s.same(t, what, f.inspect(f.heads[0], map[string]record{}).records)
					return
				} else {
					says(t, err, ErrCorrupt, "FILE", "gantry mend FILE")
				}
				refused++
				saved := f.salvage()
				s.honest(t, what, saved)
				if saved.lost == 0 && len(saved.doubted) == 0 {
					full++
				}
				if strings.Contains(what, "flipped") {
					worst = max(worst, saved.lost)
				}
			})
			t.Logf("%d bytes: %d kinds of damage refused, %d of them salvaged in full; a flipped byte lost %d records of %d at most",
				len(s.file), refused, full, worst, s.current())
			if refused == 0 || full == 0 {
				t.Error("nothing was refused, or nothing salvaged")
			}
		})
	}
}

// same checks that the records are the last ones, all of them.
func (s *story) same(t *testing.T, what string, records map[string]record) {
	t.Helper()
	for key := range s.values {
		rec, found := records[key]
		if want := s.last(key); found != (want != nil) || found && !bytes.Equal(rec.sealed[envelopeHead:], want) {
			t.Errorf("%s: accepted, with another value of %s", what, key)
		}
	}
	if len(records) != s.current() {
		t.Errorf("%s: accepted, with %d records of %d", what, len(records), s.current())
	}
}

// honest checks that what was salvaged was once written, and that what is not the last word
// is doubted and counted.
func (s *story) honest(t testing.TB, what string, saved salvaged) {
	t.Helper()
	missing := 0
	for key := range s.values {
		rec, found := saved.records[key]
		switch last := s.last(key); {
		case !found && last != nil:
			missing++
		case found && last != nil && bytes.Equal(rec.sealed[envelopeHead:], last):
		case found && !saved.doubted[key]:
			t.Errorf("%s: an old value of %s, and no doubt about it", what, key)
		case found && last != nil:
			missing++
		}
	}
	for key, rec := range saved.records {
		known := false
		for _, v := range s.values[key] {
			known = known || v != nil && bytes.Equal(v, rec.sealed[envelopeHead:])
		}
		if !known {
			t.Errorf("%s: %q was never written so", what, key)
		}
	}
	if saved.lost != Unknown && saved.lost < missing {
		t.Errorf("%s: %d records lost, it says, and %d are missing", what, saved.lost, missing)
	}
}

// The same with files, through all of OpenBolt and Salvage.
func TestDamagedFileIsMended(t *testing.T) {
	s := newStory(t, 40)
	dir := t.TempDir()
	path := filepath.Join(dir, "registry.db")
	s.damages(4999, func(what string, file []byte) {
		for name, text := range map[string][]byte{path: file, markPath(path): s.mark} {
			if err := os.WriteFile(name, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		b, err := OpenBolt(path)
		if err == nil {
			b.Close()
			return
		}
		if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrOutdated) || !strings.Contains(err.Error(), "gantry mend "+path) {
			t.Errorf("%s: %v", what, err)
		}
		survey, err := Survey(path)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		r, err := Salvage(path)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if r.Damage == "" || r.Kept != survey.Kept || r.Lost != survey.Lost {
			t.Errorf("%s: survey %+v, salvage %+v", what, survey, r)
		}
		if r.SavedAs != "" {
			if kept, err := os.ReadFile(r.SavedAs); err != nil || !bytes.Equal(kept, file) {
				t.Errorf("%s: the damaged file is not at %s: %v", what, r.SavedAs, err)
			}
			os.Remove(r.SavedAs)
		}
		b, err = OpenBolt(path)
		if err != nil {
			t.Fatalf("%s: after it was mended: %v", what, err)
		}
		if entries, _, err := b.List(context.Background(), "", "", 0); err != nil || len(entries) != r.Kept {
			t.Errorf("%s: %d entries after mending, %v; %d were kept", what, len(entries), err, r.Kept)
		}
		b.Close()
	})
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 2 {
		t.Errorf("left in the folder: %v, %v", left, err)
	}
}

// A deleted record does not come back where nothing is missing: a damaged branch, root or
// list of free pages costs no record.
func TestDamagedStructureLosesNothing(t *testing.T) {
	s := newStory(t, 120)
	f, err := newPager(bytes.NewReader(s.file), int64(len(s.file)))
	if err != nil {
		t.Fatal(err)
	}
	h := f.heads[0]
	branch := uint64(0)
	for id := uint64(2); id < h.pages && branch == 0; id++ {
		if p, err := f.page(id, h.pages); err == nil && p.kind == branchPage {
			if free, _, err := f.freelist(h); err == nil && !free[id] {
				branch = id
			}
		}
	}
	for name, id := range map[string]uint64{"root": h.root, "free pages": h.freelist, "branch": branch, "newest head": h.txn % 2} {
		file := bytes.Clone(s.file)
		clear(file[id*4096:][:4096])
		f, err := newPager(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.verify("FILE"); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		saved := f.salvage()
		s.same(t, name, saved.records)
		if saved.lost != 0 || len(saved.doubted) != 0 {
			t.Errorf("%s: %d lost, %d doubtful", name, saved.lost, len(saved.doubted))
		}
	}
	if branch == 0 {
		t.Error("the file has no branch")
	}
}

func TestSalvageLeavesAGoodStoreAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	b := mustOpen(t, path)
	mustPut(t, b, "k", "v")
	_, err := Salvage(path)
	says(t, err, ErrLocked, path)
	b.Close()
	before, _ := os.ReadFile(path)
	r, err := Salvage(path)
	if err != nil || r.Damage != "" || r.Kept != 1 || r.SavedAs != "" {
		t.Errorf("%+v, %v", r, err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("the file was changed")
	}
	_, err = Salvage(path + ".none")
	says(t, err, os.ErrNotExist, path)
}

func TestRevisionsAreNotGivenOutAgainAfterALoss(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	b := mustOpen(t, path)
	for i := range 100 {
		mustPut(t, b, fmt.Sprint(i), strings.Repeat("v", 200))
	}
	last := b.committed
	b.Close()
	file, _ := os.ReadFile(path)
	os.WriteFile(path, file[:len(file)/4], 0o600)
	if r, err := Salvage(path); err != nil || r.Lost == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	b = mustOpen(t, path)
	res, err := b.Apply(context.Background(), Txn{Puts: []Entry{{Key: "k"}}})
	if err != nil || res.Revision <= last {
		t.Errorf("revision %d, %v, after %d", res.Revision, err, last)
	}
}

// A file that is whole is refused where it is not the one that was there.
func TestWrongFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	path, other := filepath.Join(dir, "a.db"), filepath.Join(dir, "b.db")
	mustOpen(t, other).Close()
	b := mustOpen(t, path)
	mustPut(t, b, "k", "1")
	b.Close()
	copyOf := func(path string) []byte {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	older := copyOf(path)
	b = mustOpen(t, path)
	mustPut(t, b, "k", "2")
	b.Close()
	newest := copyOf(path)
	for _, c := range []struct {
		name string
		make func() error
		want error
		text string
		kept int
	}{
		{"older", func() error { return os.WriteFile(path, older, 0o600) }, ErrOutdated, "opened", 1},
		{"another's", func() error { return os.WriteFile(path, copyOf(other), 0o600) }, ErrForeign, "mark", 0},
		{"gone", func() error { return os.Remove(path) }, ErrMissing, "revision 2", 0},
		{"damaged mark", func() error { return os.WriteFile(markPath(path), []byte("gantry-store"), 0o600) }, ErrCorrupt, "mark", 1},
		{"empty mark", func() error { return os.WriteFile(markPath(path), nil, 0o600) }, ErrCorrupt, "mark", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			os.WriteFile(path, newest, 0o600)
			if _, err := Salvage(path); err != nil { // whatever the last case has left
				t.Fatal(err)
			}
			if err := c.make(); err != nil {
				t.Fatal(err)
			}
			_, err := OpenBolt(path)
			says(t, err, c.want, path, c.text, "gantry mend "+path)
			r, err := Salvage(path)
			if err != nil || r.Damage == "" || r.Kept != c.kept {
				t.Fatalf("%+v, %v", r, err)
			}
			b := mustOpen(t, path)
			defer b.Close()
			if entries, _, err := b.List(context.Background(), "", "", 0); err != nil || len(entries) != c.kept {
				t.Errorf("%d entries, %v", len(entries), err)
			}
		})
	}
	// Without a mark a file is taken as it is: it may be from before there were any.
	os.Remove(markPath(path))
	mustOpen(t, path).Close()
}

// The file is cut off, replaced, moved away under an open store: an error and no more, for
// readers and writers, and no answer to a write that is lost.
func TestFileChangesWhileOpen(t *testing.T) {
	for name, change := range map[string]func(path string) error{
		"cut off":       func(path string) error { return os.Truncate(path, 0) },
		"cut in half":   func(path string) error { return os.Truncate(path, 16384) },
		"removed":       os.Remove,
		"moved away":    func(path string) error { return os.Rename(path, path+".moved") },
		"replaced":      func(path string) error { return errors.Join(os.Remove(path), os.WriteFile(path, nil, 0o600)) },
		"folder moved":  func(path string) error { return os.Rename(filepath.Dir(path), filepath.Dir(path)+".moved") },
		"made a folder": func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
	} {
		for _, first := range []string{"read", "write"} {
			t.Run(name+", then "+first, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "dir", "registry.db")
				b := mustOpen(t, path)
				for i := range 40 {
					mustPut(t, b, fmt.Sprint(i), strings.Repeat("v", 1000))
				}
				if err := change(path); err != nil {
					t.Fatal(err)
				}
				read := func() error {
					_, _, err := b.List(context.Background(), "", "", 0)
					return err
				}
				write := func() error {
					_, err := b.Apply(context.Background(), Txn{Puts: []Entry{{Key: "k", Value: []byte("v")}}})
					return err
				}
				steps := []func() error{read, write, read}
				if first == "write" {
					steps = []func() error{write, read, write}
				}
				for _, step := range steps {
					says(t, step(), ErrFailed, path, "while it was open")
				}
				b.Close() // what it says is of no matter, that it ends is
			})
		}
	}
}

// A page that is cut off in the middle of a read, after all looked well: the fault inside
// bbolt is an error, and Close does not wait for the locks that are lost with it.
func TestFaultInsideAWrite(t *testing.T) {
	b := mustOpen(t, filepath.Join(t.TempDir(), "registry.db"))
	for i := range 40 {
		mustPut(t, b, fmt.Sprint(i), strings.Repeat("v", 1000))
	}
	err := guard(func() error {
		tx, err := b.db.Begin(true)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		if err := os.Truncate(b.path, 8192); err != nil {
			return err
		}
		return tx.Bucket(entriesBucket).Put([]byte("1"), nil)
	})
	says(t, err, errFault)
	b.fail(err)
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// A file of this format, as it was written once, opens for good: it has thing/00 to thing/29,
// each with its own key as value, ten times.
func TestOldFileOpens(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	text, err := os.ReadFile("testdata/format1.db")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	entries, _, err := mustOpen(t, path).List(context.Background(), "", "", 0)
	if err != nil || len(entries) != 30 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	for i, e := range entries {
		if key := fmt.Sprintf("thing/%02d", i); e.Key != key || string(e.Value) != strings.Repeat(key, 10) {
			t.Errorf("entry %d is %q: %q", i, e.Key, e.Value)
		}
	}
}

// FuzzDamage writes over any part of a file, and makes its heads fit: whatever they say is
// believed, and must not lead out of the file, round in circles, or to anything that was
// never written.
func FuzzDamage(f *testing.F) {
	good, err := os.ReadFile("testdata/format1.db")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint32(0), uint64(0), uint32(0), uint64(0))
	f.Add(uint32(16+40), ^uint64(0), uint32(4096+16+40), ^uint64(0))  // more pages than any file has
	f.Add(uint32(4096+16+16), uint64(1), uint32(16+16), uint64(2))    // other roots
	f.Add(uint32(3*4096+8), ^uint64(0), uint32(4*4096+8), ^uint64(0)) // more items than fit, in pages without an end
	f.Fuzz(func(t *testing.T, at uint32, by uint64, at2 uint32, by2 uint64) {
		file := bytes.Clone(good)
		native.PutUint64(file[int(at)%(len(file)-8):], by)
		native.PutUint64(file[int(at2)%(len(file)-8):], by2)
		for _, head := range []int{0, 4096} {
			sum := fnv.New64a()
			sum.Write(file[head+pageHead : head+pageHead+headSize-8])
			native.PutUint64(file[head+pageHead+headSize-8:], sum.Sum64())
		}
		p, err := newPager(bytes.NewReader(file), int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.verify("FILE"); err == nil {
			return
		}
		for key, rec := range p.salvage().records {
			if string(rec.sealed[envelopeHead:]) != strings.Repeat(key, 10) {
				t.Errorf("%q was never written so", key)
			}
		}
	})
}

func BenchmarkOpen100k(b *testing.B) {
	path := filepath.Join(b.TempDir(), "registry.db")
	s, err := OpenBolt(path)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < 100_000; i += 1000 {
		var txn Txn
		for j := i; j < i+1000; j++ {
			txn.Puts = append(txn.Puts, Entry{Key: fmt.Sprintf("agent/%06d", j), Value: bytes.Repeat([]byte("v"), 300)})
		}
		if _, err := s.Apply(context.Background(), txn); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
	for b.Loop() {
		s, err := OpenBolt(path)
		if err != nil {
			b.Fatal(err)
		}
		s.Close()
	}
}
