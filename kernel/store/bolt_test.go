package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	bolt "go.etcd.io/bbolt"
)

func mustOpen(t testing.TB, path string) *Bolt {
	t.Helper()
	b, err := OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

func mustPut(t *testing.T, b *Bolt, key, value string) {
	t.Helper()
	if _, err := b.Apply(context.Background(), Txn{Puts: []Entry{{Key: key, Value: []byte(value)}}}); err != nil {
		t.Fatal(err)
	}
}

func TestModes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master", "registry.db")
	mustOpen(t, path).Close()
	for p, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if info, err := os.Stat(p); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: mode %v, %v; want %04o", p, info.Mode(), err, want)
		}
	}
	left, _ := os.ReadDir(filepath.Dir(path))
	if len(left) != 2 { // the file and its mark
		t.Errorf("creation leaves %v", left)
	}
	os.Chmod(path, 0o640)
	_, err := OpenBolt(path)
	says(t, err, ErrUnfit, "chmod 600", path)
	os.Chmod(path, 0o600)
	os.Chmod(filepath.Dir(path), 0o770)
	_, err = OpenBolt(path)
	says(t, err, ErrUnfit, "chmod 700", path)
}

func TestRefusedFiles(t *testing.T) {
	dir := t.TempDir()
	os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600)
	os.WriteFile(filepath.Join(dir, "text"), []byte(strings.Repeat("not a store\n", 1000)), 0o600)
	os.WriteFile(filepath.Join(dir, "short"), []byte("x"), 0o600)
	os.Mkdir(filepath.Join(dir, "folder"), 0o700)
	os.Symlink("empty", filepath.Join(dir, "link"))
	for name, want := range map[string]string{
		"empty":  "of its 0 bytes neither head",
		"text":   "of its 12000 bytes neither head",
		"short":  "of its 1 bytes neither head",
		"folder": "no regular file",
		"link":   "no regular file",
	} {
		_, err := OpenBolt(filepath.Join(dir, name))
		says(t, err, nil, want, filepath.Join(dir, name))
		if !Refused(err) {
			t.Errorf("%s is refused, and that is said to be something else: %v", name, err)
		}
	}
}

func TestLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	mustOpen(t, path)
	_, err := OpenBolt(path)
	says(t, err, ErrLocked, "another process", path)
	if Refused(err) {
		t.Error("a store that another has open now is said to be refused for good")
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	b := mustOpen(t, path)
	err := b.db.Update(func(tx *bolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		return errors.Join(meta.Put([]byte(formatKey), []byte("2")), meta.Put([]byte(identityKey), identity{b.mark.name, 1, "2"}.encode()))
	})
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	_, err = OpenBolt(path)
	says(t, err, ErrFormat, `format "2"`, path)
}

func TestFlippedByteInAValueNamesItsKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	b := mustOpen(t, path)
	mustPut(t, b, "agents/S0", "precious cargo")
	b.Close()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data = []byte(strings.ReplaceAll(string(data), "precious cargo", "precious carg0"))
	os.WriteFile(path, data, 0o600)
	_, err = OpenBolt(path)
	says(t, err, ErrCorrupt, `"agents/S0"`, path, "(byte ", "gantry mend "+path)
}

// A record that goes bad while the store is open is found by readers and by conditions.
func TestDamageWhileOpen(t *testing.T) {
	b := mustOpen(t, filepath.Join(t.TempDir(), "registry.db"))
	mustPut(t, b, "k", "value")
	if err := b.db.Update(func(tx *bolt.Tx) error {
		rec := seal("k", 1, []byte("value"))
		rec[len(rec)-1] ^= 1
		return tx.Bucket(entriesBucket).Put([]byte("k"), rec)
	}); err != nil {
		t.Fatal(err)
	}
	_, _, err := b.List(context.Background(), "", "", 0)
	says(t, err, ErrCorrupt, `"k"`, b.path)
	_, err = b.Apply(context.Background(), Txn{Conditions: []Condition{{Key: "k", Revision: 1}}})
	says(t, err, ErrCorrupt, `"k"`, b.path)
	mustPut(t, b, "other", "still writable")
}

func TestVanishedRecordIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "registry.db")
	b := mustOpen(t, path)
	mustPut(t, b, "a", "1")
	mustPut(t, b, "b", "2")
	if err := b.db.Update(func(tx *bolt.Tx) error { return tx.Bucket(entriesBucket).Delete([]byte("a")) }); err != nil {
		t.Fatal(err)
	}
	b.Close()
	_, err := OpenBolt(path)
	says(t, err, ErrCorrupt, "1 records", path)
}

// While the writer can't begin a commit, 100 transactions gather; it needs one commit for
// those that it had taken by then, and one more for all the others.
func TestOneCommitServesManyTransactions(t *testing.T) {
	b := mustOpen(t, filepath.Join(t.TempDir(), "registry.db"))
	hold, err := b.db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	before := hold.ID() - 1
	requests := make([]*request, 100)
	for i := range requests {
		requests[i] = &request{txn: Txn{Puts: []Entry{{Key: fmt.Sprint(i)}}}, done: make(chan struct{})}
		b.queue <- requests[i]
	}
	if err := hold.Rollback(); err != nil {
		t.Fatal(err)
	}
	for i, r := range requests {
		<-r.done
		if want := (Result{true, uint64(i) + 1}); r.err != nil || r.res != want {
			t.Errorf("request %d: %+v, %v; want %+v", i, r.res, r.err, want)
		}
	}
	tx, err := b.db.Begin(false)
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback()
	if commits := tx.ID() - before; commits > 2 {
		t.Errorf("%d commits for %d transactions, want at most 2", commits, len(requests))
	}
}

func TestContextEndsWhileWaiting(t *testing.T) {
	b := mustOpen(t, filepath.Join(t.TempDir(), "registry.db"))
	hold, err := b.db.Begin(true)
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan error, 1)
	go func() {
		_, err := b.Apply(context.Background(), Txn{Puts: []Entry{{Key: "first"}}})
		first <- err
	}()
	// The writer may have taken the second or not when its context ends: either way Apply
	// tells what became of it.
	ctx, cancel := context.WithCancel(context.Background())
	second := make(chan error, 1)
	go func() {
		_, err := b.Apply(ctx, Txn{Puts: []Entry{{Key: "second"}}})
		second <- err
	}()
	cancel()
	hold.Rollback()
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	err = <-second
	entries, _, _ := b.List(context.Background(), "second", "", 0)
	if applied := len(entries) == 1; applied != (err == nil) {
		t.Errorf("Apply said %v, and the entry is there: %v", err, applied)
	}
}

func TestNoWriteAfterAFailedOne(t *testing.T) {
	b := mustOpen(t, filepath.Join(t.TempDir(), "registry.db"))
	mustPut(t, b, "k", "v")
	b.db.MaxSize = 1 // the file can't grow
	large := Txn{Puts: []Entry{{Key: "large", Value: make([]byte, MaxValue)}}}
	_, err := b.Apply(context.Background(), large)
	says(t, err, ErrFailed, b.path)
	b.db.MaxSize = 0
	_, err = b.Apply(context.Background(), Txn{Puts: []Entry{{Key: "small"}}})
	says(t, err, ErrFailed, b.path)
	_, _, err = b.List(context.Background(), "", "", 0) // it could show what is not on disk
	says(t, err, ErrFailed, b.path)
	b.Close()
	mustPut(t, mustOpen(t, b.path), "small", "again")
}

// A process that writes and reports each answered write is killed in the middle; whatever
// it reported is there.
func TestReopenAfterKill(t *testing.T) {
	if path := os.Getenv("STORE_TO_FILL"); path != "" {
		fill(path)
		return
	}
	path := filepath.Join(t.TempDir(), "registry.db")
	cmd := exec.Command(os.Args[0], "-test.run=^TestReopenAfterKill$")
	cmd.Env = append(os.Environ(), "STORE_TO_FILL="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var answered uint64
	for answered < 200 {
		if err := binary.Read(out, binary.BigEndian, &answered); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Process.Kill()
	for binary.Read(out, binary.BigEndian, &answered) == nil { // what it said before it died
	}
	cmd.Wait()
	entries, _, err := mustOpen(t, path).List(context.Background(), "", "", 0)
	if err != nil || len(entries) != 8 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	var last uint64
	for _, e := range entries {
		last = max(last, e.Revision)
	}
	if last < answered {
		t.Errorf("the store is at revision %d, and %d had been answered", last, answered)
	}
}

func fill(path string) {
	b, err := OpenBolt(path)
	if err != nil {
		panic(err)
	}
	for i := 0; ; i++ {
		res, err := b.Apply(context.Background(), Txn{Puts: []Entry{{Key: fmt.Sprint(i % 8), Value: make([]byte, i%5000)}}})
		if err != nil {
			panic(err)
		}
		if binary.Write(os.Stdout, binary.BigEndian, res.Revision) != nil {
			return
		}
	}
}

// says checks an error's kind (nil: any) and that it names what it must.
func says(t *testing.T, err, kind error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error; want one about %q", parts)
		return
	}
	if kind != nil && !errors.Is(err, kind) {
		t.Errorf("error %q is not %q", err, kind)
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}
