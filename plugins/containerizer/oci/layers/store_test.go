package layers

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/klauspost/compress/zstd"

	"github.com/gantry-project/gantry/plugins/containerizer/oci/source"
)

// root skips where files cannot be given to others, unless this is to be root.
func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("GANTRY_REQUIRE_ROOT") != "" {
		t.Fatal("GANTRY_REQUIRE_ROOT is set, and this is not root")
	}
	t.Skip("only root can unpack layers")
}

// packed is a tar of these entries; one with a size has so many zeros.
func packed(t *testing.T, entries ...*tar.Header) []byte {
	t.Helper()
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for _, h := range entries {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(make([]byte, h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

func idOf(text []byte) v1.Hash {
	sum := sha256.Sum256(text)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// layer is one whose tar is text, and which its source has in the form of body.
func layer(text, body []byte) source.Layer {
	return source.Layer{DiffID: idOf(text), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(body)), nil
	}}
}

// small is a layer with one file of this name and size.
func small(t *testing.T, name string, size int64) source.Layer {
	text := packed(t, &tar.Header{Name: name, Mode: 0o644, Size: size})
	return layer(text, text)
}

var usual = Limits{CacheBytes: 1 << 20, ImageBytes: 1 << 19, ImageFiles: 100, Pulls: 2}

func open(t *testing.T, dir string, limits Limits, living ...string) *Store {
	t.Helper()
	s, err := Open(dir, limits, living, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hold has a container use layers.
func hold(t *testing.T, s *Store, container string, all ...source.Layer) []string {
	t.Helper()
	var ids []v1.Hash
	for _, l := range all {
		ids = append(ids, l.DiffID)
	}
	if err := s.Hold(t.Context(), container, ids); err != nil {
		t.Fatal(err)
	}
	paths, err := s.Ensure(t.Context(), all)
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// begun is what is being unpacked, or was left.
func begun(t *testing.T, dir string) []string {
	t.Helper()
	left, err := filepath.Glob(filepath.Join(dir, begunDir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

func TestLayersAreUnpackedOnce(t *testing.T) {
	root(t)
	dir := t.TempDir()
	s := open(t, dir, usual)
	var asked atomic.Int32
	l := small(t, "file", 10)
	plain := l.Open
	l.Open = func(ctx context.Context) (io.ReadCloser, error) {
		asked.Add(1)
		return plain(ctx)
	}
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() { hold(t, s, fmt.Sprint("c", i), l, l) })
	}
	all.Wait()
	if asked.Load() != 1 {
		t.Errorf("the layer was asked for %d times", asked.Load())
	}
	again := open(t, dir, usual, "c1")
	if !again.Has([]v1.Hash{l.DiffID}) || len(again.held) != 1 {
		t.Errorf("after a start: %v, held %v", again.layers, again.held)
	}
	if paths := hold(t, again, "c2", l); asked.Load() != 1 || paths[0] != "layers/"+l.DiffID.Hex {
		t.Errorf("asked %d times for %q", asked.Load(), paths)
	}
	if left := begun(t, dir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

func TestForms(t *testing.T) {
	root(t)
	text := packed(t, &tar.Header{Name: "file", Mode: 0o644, Size: 1000})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write(text); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	encoder, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, body := range map[string][]byte{"plain": text, "gzip": zipped.Bytes(), "zstd": encoder.EncodeAll(text, nil)} {
		dir := t.TempDir()
		paths := hold(t, open(t, dir, usual), "c", layer(text, body))
		if info, err := os.Stat(filepath.Join(dir, paths[0], "file")); err != nil || info.Size() != 1000 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestContentOfALayer(t *testing.T) {
	root(t)
	dir := t.TempDir()
	const acl = "SCHILY.xattr."
	text := packed(t,
		&tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755},
		&tar.Header{Name: "bin/su", Mode: 0o6755, Uid: 5, Gid: 6, PAXRecords: map[string]string{
			acl + "security.capability": "x", acl + "trusted.overlay.redirect": "/etc", acl + "user.overlay.opaque": "y", acl + "user.note": "kept",
		}},
		&tar.Header{Name: "bin/same", Typeflag: tar.TypeLink, Linkname: "bin/su", Mode: 0o6755, Uid: 5, Gid: 6},
		&tar.Header{Name: "disk", Typeflag: tar.TypeBlock, Devmajor: 8},
		&tar.Header{Name: "zero", Typeflag: tar.TypeChar},
		&tar.Header{Name: "out", Typeflag: tar.TypeSymlink, Linkname: "/../../../etc"},
		&tar.Header{Name: "out/through", Mode: 0o644},
		&tar.Header{Name: "../../above", Mode: 0o644},
		&tar.Header{Name: "/absolute", Mode: 0o644},
		&tar.Header{Name: ".wh.gone", Mode: 0o644},
		&tar.Header{Name: "bin/.wh..wh..opq", Mode: 0o644},
		&tar.Header{Name: "twice", Mode: 0o644, Size: 1}, &tar.Header{Name: "twice", Mode: 0o644, Size: 2},
		&tar.Header{Name: strings.Repeat("n", 255), Mode: 0o644},
	)
	paths := hold(t, open(t, filepath.Join(dir, "store"), usual), "c", layer(text, text))
	at := func(name string) string { return filepath.Join(dir, "store", paths[0], name) }
	su, err := os.Lstat(at("bin/su"))
	if err != nil || su.Mode() != 0o755 || su.Sys().(*syscall.Stat_t).Uid != 5 {
		t.Errorf("bin/su: %v, %v", su, err)
	}
	if same, err := os.Lstat(at("bin/same")); err != nil || !os.SameFile(su, same) {
		t.Errorf("bin/same: %v", err)
	}
	var value [100]byte
	for attribute, want := range map[string]string{"security.capability": "", "trusted.overlay.redirect": "", "user.overlay.opaque": "", "user.note": "kept"} {
		n, err := syscall.Getxattr(at("bin/su"), attribute, value[:])
		if got := string(value[:max(n, 0)]); got != want && !(attribute == "user.note" && errors.Is(err, syscall.ENOTSUP)) {
			t.Errorf("%s is %q, %v", attribute, got, err)
		}
	}
	for _, name := range []string{"disk", "zero"} {
		if _, err := os.Lstat(at(name)); err == nil {
			t.Errorf("the device %s is there", name)
		}
	}
	if gone, err := os.Lstat(at("gone")); err != nil || gone.Mode()&os.ModeCharDevice == 0 {
		t.Errorf("the whiteout: %v, %v", gone, err)
	}
	if n, err := syscall.Getxattr(at("bin"), "trusted.overlay.opaque", value[:]); err != nil || string(value[:n]) != "y" {
		t.Errorf("the opaque directory: %v", err)
	}
	for _, path := range []string{"/etc/through", filepath.Join(dir, "above"), filepath.Join(dir, "store", "above"), "/absolute"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is there", path)
		}
	}
	if twice, err := os.Stat(at("twice")); err != nil || twice.Size() != 2 {
		t.Errorf("of two files of one name the last counts: %v", err)
	}
}

func TestBadLayers(t *testing.T) {
	root(t)
	many := []*tar.Header{}
	for i := range 101 {
		many = append(many, &tar.Header{Name: fmt.Sprint(i), Mode: 0o644})
	}
	fits := packed(t, &tar.Header{Name: "file", Mode: 0o644, Size: 100})
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&tar.Header{Name: "zeros", Mode: 0o644, Size: 1 << 30}); err != nil {
		t.Fatal(err)
	}
	for range 64 {
		w.Write(make([]byte, 1<<20)) // of as much as is said; nobody gets there
	}
	z.Close()
	for what, test := range map[string]struct {
		layers []source.Layer
		want   string
	}{
		"another digest":    {[]source.Layer{layer([]byte("x"), fits)}, "not what its digest says"},
		"cut short":         {[]source.Layer{layer(fits, fits[:600])}, "unpack"},
		"no tar":            {[]source.Layer{layer(bytes.Repeat([]byte("x"), 2000), bytes.Repeat([]byte("x"), 2000))}, "unpack"},
		"empty":             {[]source.Layer{layer([]byte("x"), nil)}, "digest"},
		"more behind":       {[]source.Layer{layer(fits, append(bytes.Clone(fits), make([]byte, 1024)...))}, "digest"},
		"bad gzip":          {[]source.Layer{layer(fits, []byte{0x1f, 0x8b, 0, 0, 0})}, "layer"},
		"bad zstd":          {[]source.Layer{layer(fits, []byte{0x28, 0xb5, 0x2f, 0xfd, 0xff})}, "unpack"},
		"bomb":              {[]source.Layer{layer([]byte("x"), bomb.Bytes())}, "too large"},
		"many files":        {[]source.Layer{layer(packed(t, many...), packed(t, many...))}, "too large"},
		"large together":    {[]source.Layer{small(t, "a", 300<<10), small(t, "b", 300<<10)}, "too large"},
		"owner":             {[]source.Layer{layer(nil, packed(t, &tar.Header{Name: "a", Uid: -1, Format: tar.FormatGNU}))}, "there are none such"},
		"large owner":       {[]source.Layer{layer(nil, packed(t, &tar.Header{Name: "a", Uid: 1 << 32}))}, "there are none such"},
		"strange kind":      {[]source.Layer{layer(nil, packed(t, &tar.Header{Name: "a", Typeflag: tar.TypeCont}))}, "of a kind that no layer has"},
		"link out":          {[]source.Layer{layer(nil, packed(t, &tar.Header{Name: "a", Typeflag: tar.TypeLink, Linkname: "../../../../../../etc/passwd"}))}, "unpack"},
		"whiteout of above": {[]source.Layer{layer(nil, packed(t, &tar.Header{Name: ".wh...", Mode: 0o644}))}, "unpack"},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			s := open(t, dir, usual)
			if _, err := s.Ensure(t.Context(), test.layers); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, not %q", err, test.want)
			}
			if left := begun(t, dir); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
		})
	}
}

// stalled is a source that says when it is asked, and gives nothing until it is closed.
type stalled struct {
	asked  chan struct{}
	closed chan struct{}
	once   sync.Once
}

func (s *stalled) Read([]byte) (int, error) {
	<-s.closed
	return 0, errors.New("closed")
}

func (s *stalled) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// TestWhoWaits: a pull goes on while anybody waits for it, and no longer.
func TestWhoWaits(t *testing.T) {
	root(t)
	dir := t.TempDir()
	s := open(t, dir, usual)
	body := &stalled{asked: make(chan struct{}, 9), closed: make(chan struct{})}
	l := source.Layer{DiffID: idOf([]byte("never")), Open: func(context.Context) (io.ReadCloser, error) {
		body.asked <- struct{}{}
		return body, nil
	}}
	first, leaveFirst := context.WithCancel(t.Context())
	second, leaveSecond := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	wait := func(ctx context.Context) {
		_, err := s.Ensure(ctx, []source.Layer{l})
		ended <- err
	}
	go wait(first)
	<-body.asked
	go wait(second)
	for s.waiting(l) < 2 {
		runtime.Gosched()
	}
	leaveFirst()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("who left heard %v", err)
	}
	select {
	case <-body.closed:
		t.Error("the pull ended although one waits")
	default:
	}
	leaveSecond()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("who left last heard %v", err)
	}
	<-body.closed
	if err := s.Hold(second, "c", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("one who has left holds: %v", err)
	}
}

// TestStall: a source that gives nothing is given up, though somebody waits.
func TestStall(t *testing.T) {
	root(t)
	limits := usual
	limits.Stall = time.Millisecond
	s := open(t, t.TempDir(), limits)
	body := &stalled{closed: make(chan struct{})}
	l := source.Layer{DiffID: idOf([]byte("never")), Open: func(context.Context) (io.ReadCloser, error) { return body, nil }}
	if _, err := s.Ensure(t.Context(), []source.Layer{l}); err == nil || !strings.Contains(err.Error(), "nothing more came for 1ms") {
		t.Errorf("%v", err)
	}
}

// waiting is how many wait for a layer.
func (s *Store) waiting(l source.Layer) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[nameOf(l.DiffID)]; f != nil {
		return f.waiting
	}
	return 0
}

func TestCollection(t *testing.T) {
	root(t)
	dir := t.TempDir()
	limits := Limits{CacheBytes: 1000 << 10, ImageBytes: 1000 << 10, ImageFiles: 100, Pulls: 1}
	s := open(t, dir, limits)
	a, b, c, d := small(t, "a", 400<<10), small(t, "b", 400<<10), small(t, "c", 400<<10), small(t, "d", 900<<10)
	there := func(l source.Layer) bool { return s.Has([]v1.Hash{l.DiffID}) }
	hold(t, s, "1", a)
	hold(t, s, "2", b)
	if err := s.Release("2"); err != nil || !there(b) {
		t.Errorf("what fits stays: %v", err)
	}
	hold(t, s, "3", c)
	if !there(a) || there(b) || !there(c) {
		t.Error("what is not held goes, and what is held stays")
	}
	if _, err := s.Ensure(t.Context(), []source.Layer{d}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("what does not fit beside those in use: %v", err)
	}
	if err := errors.Join(s.Release("1"), s.Release("1"), s.Release("never")); err != nil {
		t.Error(err)
	}
	hold(t, s, "4", b)
	if there(a) || !there(b) || !there(c) {
		t.Error("the one used longest ago goes")
	}
	s = open(t, dir, Limits{CacheBytes: 1, ImageBytes: 1, ImageFiles: 1, Pulls: 1}, "3")
	if there(b) || !there(c) {
		t.Error("a start in which only 3 lives keeps what that holds, beyond the limit, and nothing else")
	}
	if left := begun(t, dir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
}

// TestWhatAKillLeaves: whatever is half there is none.
func TestWhatAKillLeaves(t *testing.T) {
	root(t)
	dir := t.TempDir()
	l := small(t, "file", 10)
	hold(t, open(t, dir, usual), "c", l)
	for what, harm := range map[string]func() error{
		"half unpacked": func() error { return os.MkdirAll(dir+"/begun/layer-1/bin", 0o755) },
		"no folder":     func() error { return os.WriteFile(dir+"/layers/abc.json", []byte(`{"bytes":1}`), 0o600) },
		"nothing known": func() error { return os.MkdirAll(dir+"/layers/abc/bin", 0o755) },
		"bad knowledge": func() error {
			return errors.Join(os.MkdirAll(dir+"/layers/abc", 0o755), os.WriteFile(dir+"/layers/abc.json", []byte(`{`), 0o600))
		},
		"bad note":    func() error { return os.WriteFile(dir+"/held/d", []byte(`{`), 0o600) },
		"note of one": func() error { return os.WriteFile(dir+"/held/e", []byte(`["abc"]`), 0o600) },
	} {
		if err := harm(); err != nil {
			t.Fatal(err)
		}
		s := open(t, dir, usual, "c", "d")
		if len(s.layers) != 1 || len(s.held) != 1 || !s.Has([]v1.Hash{l.DiffID}) || len(begun(t, dir)) > 0 {
			t.Errorf("%s: layers %v, held %v, begun %v", what, s.layers, s.held, begun(t, dir))
		}
	}
}
