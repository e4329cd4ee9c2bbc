package layers

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/containerd/v2/pkg/archive"
	"github.com/klauspost/compress/zstd"

	"github.com/gantry-project/gantry/plugins/containerizer/oci/source"
)

// entryBytes is what a file counts for beside its content: a million empty ones fill a disk,
// too.
const entryBytes = 512

// xattrPrefix is how a tar names extended attributes.
const xattrPrefix = "SCHILY.xattr."

// unpack unpacks a layer into dir, within the room that there is. Nothing in it gives rights on the host: no
// devices, no set-user-id, no capabilities of files, and no attributes that overlayfs obeys
// but its own.
func (s *Store) unpack(ctx context.Context, layer source.Layer, dir string) (entry, error) {
	if err := os.Chmod(dir, 0o755); err != nil {
		return entry{}, err
	}
	compressed, err := layer.Open(ctx)
	if err != nil {
		return entry{}, err
	}
	defer compressed.Close()
	// A source that stalls does not know of ctx.
	stop := context.AfterFunc(ctx, func() { compressed.Close() })
	defer stop()
	w := s.watch(compressed)
	defer w.stop()
	plain, err := decompress(w)
	if w.stalled.Load() {
		return entry{}, w.err()
	}
	if err != nil {
		return entry{}, err
	}
	defer plain.Close()
	digest := sha256.New()
	m := &measure{room: s.room()}
	from := io.TeeReader(io.LimitReader(plain, m.room.Bytes+1), digest)
	_, err = archive.Apply(ctx, dir, from, archive.WithConvertWhiteout(archive.OverlayConvertWhiteout), archive.WithFilter(m.admit))
	if err == nil {
		_, err = io.Copy(io.Discard, from) // what follows the tar is part of the digest
	}
	switch got := hex.EncodeToString(digest.Sum(nil)); {
	case ctx.Err() != nil:
		return entry{}, ctx.Err()
	case w.stalled.Load():
		return entry{}, w.err()
	case m.err != nil:
		return entry{}, m.err
	case err != nil:
		return entry{}, fmt.Errorf("unpack: %w", err)
	case got != layer.DiffID.Hex:
		return entry{}, fmt.Errorf("%w: its content is sha256:%s", source.ErrMismatch, got)
	}
	return m.sum, nil
}

// watched is a source that is closed when nothing comes of it.
type watched struct {
	io.ReadCloser
	patience time.Duration
	timer    *time.Timer // nil for endless patience
	stalled  atomic.Bool
}

func (s *Store) watch(from io.ReadCloser) *watched {
	w := &watched{ReadCloser: from, patience: s.limits.Stall}
	if w.patience > 0 {
		w.timer = time.AfterFunc(w.patience, func() {
			w.stalled.Store(true)
			from.Close() // ends the reading
		})
	}
	return w
}

func (w *watched) Read(p []byte) (int, error) {
	n, err := w.ReadCloser.Read(p)
	if n > 0 && w.timer != nil && !w.stalled.Load() {
		w.timer.Reset(w.patience)
	}
	return n, err
}

func (w *watched) err() error { return fmt.Errorf("nothing more came for %s", w.patience) }

func (w *watched) stop() {
	if w.timer != nil {
		w.timer.Stop()
	}
}

// decompress reads gzip, zstd or neither, whichever it is.
func decompress(r io.Reader) (io.ReadCloser, error) {
	const window = 128 << 20 // of zstd: larger ones are for machines with much memory
	b := bufio.NewReaderSize(r, 64<<10)
	magic, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read: %w", err)
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(b)
	case bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}

// measure counts what a layer unpacks to, and says what of it is unpacked.
type measure struct {
	room, sum entry
	// err is why it was refused; the unpacker wraps it into words of its own.
	err error
}

// admit judges one file before it is unpacked, and takes from it what gives rights.
func (m *measure) admit(h *tar.Header) (bool, error) {
	m.sum.Bytes += max(h.Size, 0) + entryBytes
	m.sum.Files++
	if m.err = m.sum.fits(m.room.Bytes, m.room.Files); m.err != nil {
		return false, m.err
	}
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeDir, tar.TypeSymlink, tar.TypeLink, tar.TypeFifo:
	case tar.TypeChar, tar.TypeBlock, tar.TypeXGlobalHeader:
		return false, nil // the container has its own devices
	default:
		m.err = fmt.Errorf("%q is of a kind that no layer has: %q", h.Name, h.Typeflag)
		return false, m.err
	}
	if h.Typeflag != tar.TypeDir {
		h.Mode &^= 0o6000
	}
	if h.Uid < 0 || h.Gid < 0 || h.Uid > maxID || h.Gid > maxID {
		m.err = fmt.Errorf("%q belongs to user %d and group %d, and there are none such", h.Name, h.Uid, h.Gid)
		return false, m.err
	}
	for key := range h.PAXRecords { // any order: each by itself
		if attribute, ok := strings.CutPrefix(key, xattrPrefix); ok && !harmless(attribute) {
			delete(h.PAXRecords, key)
		}
	}
	return true, nil
}

// maxID is the largest id that no program takes for a negative one.
const maxID = 1<<31 - 1

// harmless says whether an attribute is for programs only.
func harmless(attribute string) bool {
	return strings.HasPrefix(attribute, "user.") && !strings.HasPrefix(attribute, "user.overlay.")
}
