package store

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gantry-project/gantry/kernel/failpoint"
)

// identity tells a store from others, and from older copies of itself.
type identity struct {
	name       string // of 32 hexadecimal digits, for life; empty in a file from before there were any
	generation uint64 // how often it was opened
	format     string // as in the file; here it is covered by a checksum
}

// next is the identity with which the store is opened the next time.
func (id identity) next() identity {
	if id.name == "" {
		name := make([]byte, 16)
		rand.Read(name) // never fails
		id.name = hex.EncodeToString(name)
	}
	return identity{id.name, id.generation + 1, format}
}

func (id identity) encode() []byte {
	return seal(identityKey, id.generation, []byte(id.name+" "+id.format))
}

// decodeIdentity returns the zero identity for a file that has none.
func decodeIdentity(rec []byte) (identity, error) {
	if rec == nil {
		return identity{}, nil
	}
	generation, body, err := unseal(identityKey, rec)
	if err != nil {
		return identity{}, err
	}
	id := identity{generation: generation}
	if _, err := fmt.Sscanf(string(body), "%32s %32s", &id.name, &id.format); err != nil {
		return identity{}, fmt.Errorf("the record of key %q is %.64q", identityKey, body)
	}
	return id, nil
}

// mark is what lies beside the store in FILE.mark: how far the store was at least. By it a
// file is noticed that has gone, that is an older copy, or that is another store's.
type mark struct {
	name       string
	generation uint64
	revision   uint64
}

// markFormat is the line that a mark is, but for its checksum.
const markFormat = "gantry-store %s opened %d revision %d"

// maxMark bounds what is read; a mark has about a hundred bytes.
const maxMark = 512

func markPath(path string) string { return path + ".mark" }

// readMark returns nil if there is none.
func readMark(path string) (*mark, error) {
	at := markPath(path)
	info, err := os.Lstat(at)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("open store %s: %w", path, err)
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s: its mark %s is no regular file: move it away", ErrUnfit, path, at)
	}
	f, err := os.Open(at)
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w", path, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxMark))
	if err != nil {
		return nil, fmt.Errorf("open store %s: read %s: %w", path, at, err)
	}
	m := &mark{}
	var sum uint32
	_, err = fmt.Sscanf(string(text), markFormat+" %08x\n", &m.name, &m.generation, &m.revision, &sum)
	if err != nil || string(text) != m.text() {
		return nil, damaged(path, fmt.Errorf("its mark, %s, is damaged", at))
	}
	return m, nil
}

func (m *mark) text() string {
	line := fmt.Sprintf(markFormat, m.name, m.generation, m.revision)
	return fmt.Sprintf("%s %08x\n", line, crc32.Checksum([]byte(line), castagnoli))
}

// write replaces the mark of the store at path.
func (m *mark) write(path string) error {
	if err := replaceFile(markPath(path), []byte(m.text())); err != nil {
		return fmt.Errorf("write the mark of store %s: %w", path, err)
	}
	return nil
}

// check says whether a file with this identity and revision is the one that was marked.
func (m *mark) check(path string, id identity, revision uint64) error {
	switch {
	case m == nil:
		return nil
	case m.name != id.name:
		return refused(ErrForeign, path, fmt.Errorf("its mark is that of store %s, and the file is %s", m.name, orNone(id.name)))
	case id.generation < m.generation:
		return refused(ErrOutdated, path, fmt.Errorf("it was opened %d times, and the file that was here %d times", id.generation, m.generation))
	case revision < m.revision:
		return refused(ErrOutdated, path, fmt.Errorf("it ends with revision %d, and the file that was here had %d", revision, m.revision))
	}
	return nil
}

func orNone(name string) string {
	if name == "" {
		return "of a version that had none"
	}
	return name
}

// replaceFile writes a file beside path and renames it, all of it durable.
func replaceFile(path string, text []byte) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // gone already when all went well
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	failpoint.Hit("store.mark")
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}
