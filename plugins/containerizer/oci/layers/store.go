// Package layers keeps unpacked layers of images, each once, named by the digest of its tar.
//
//	store, err := layers.Open(dir, layers.Limits{}, living)
//	err = store.Hold(container, image) // from here on what it needs is not collected
//	paths, err := store.Ensure(ctx, image.Layers)
//	...
//	err = store.Release(container)
//
// A layer is unpacked beside the store and enters it by a rename when all of it is there, is
// what its digest says, and is on disk: whoever is killed in the middle leaves nothing that
// would be taken for a layer. Who wants a layer that another is unpacking waits for that one.
// Layers that no container holds stay for the next, until the store is larger than its limit;
// then the one used longest ago goes first.
package layers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/gantry-project/gantry/plugins/containerizer/oci/source"
)

// Limits bound a store.
type Limits struct {
	// CacheBytes is how large the store may be when all is collected that no container holds.
	CacheBytes int64
	// ImageBytes and ImageFiles are how much one image may unpack to.
	ImageBytes, ImageFiles int64
	// Pulls is how many layers are unpacked at once.
	Pulls int
	// Stall is how long nothing may come of a layer before it is given up; zero: for ever.
	Stall time.Duration
}

// ErrTooLarge says that an image does not fit in its limits, or not beside those in use.
var ErrTooLarge = errors.New("the image is too large")

// Store is a folder of layers. Its methods may be called from many goroutines.
type Store struct {
	dir    string
	limits Limits
	log    *slog.Logger
	slots  chan struct{} // of layers being unpacked

	mu      sync.Mutex
	layers  map[string]*entry   // by name
	held    map[string][]string // names by container
	flights map[string]*flight  // by name
}

// entry is a layer that is there.
type entry struct {
	Bytes int64 `json:"bytes"`
	Files int64 `json:"files"`
	used  time.Time
}

// The folders of a store. What is in begun belongs to nobody after a start.
const (
	layersDir = "layers"
	heldDir   = "held"
	begunDir  = "begun"
	infoExt   = ".json"
)

// Open takes the store in dir, for these containers only: what others held is released.
func Open(dir string, limits Limits, containers []string, log *slog.Logger) (*Store, error) {
	s := &Store{
		dir: dir, limits: limits, log: log, slots: make(chan struct{}, limits.Pulls),
		layers: map[string]*entry{}, held: map[string][]string{}, flights: map[string]*flight{},
	}
	err := os.RemoveAll(s.path(begunDir))
	for _, name := range []string{layersDir, heldDir, begunDir} {
		err = errors.Join(err, os.MkdirAll(s.path(name), 0o700))
	}
	if err == nil {
		err = errors.Join(s.findLayers(), s.findHeld(containers))
	}
	if err != nil {
		return nil, fmt.Errorf("open the store of layers: %w", err)
	}
	return s, s.collect()
}

func (s *Store) path(names ...string) string {
	return filepath.Join(append([]string{s.dir}, names...)...)
}

// findLayers finds the layers that have both a folder and what is known of it, and removes
// what is left of others.
func (s *Store) findLayers() error {
	found, err := os.ReadDir(s.path(layersDir))
	if err != nil {
		return err
	}
	for _, f := range found {
		name, info := strings.CutSuffix(f.Name(), infoExt)
		if info {
			if _, err := os.Lstat(s.path(layersDir, name)); errors.Is(err, fs.ErrNotExist) {
				if err := os.Remove(s.path(layersDir, f.Name())); err != nil {
					return err
				}
			}
			continue
		}
		e, err := s.readInfo(name)
		if err != nil {
			s.log.Warn("a layer is removed as nothing is known of it", "layer", name, "error", err)
			if err := os.RemoveAll(s.path(layersDir, name)); err != nil {
				return err
			}
			continue
		}
		s.layers[name] = e
	}
	return nil
}

func (s *Store) readInfo(name string) (*entry, error) {
	path := s.path(layersDir, name+infoExt)
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	e := &entry{used: info.ModTime()}
	return e, json.Unmarshal(raw, e)
}

// findHeld reads what containers hold.
func (s *Store) findHeld(containers []string) error {
	found, err := os.ReadDir(s.path(heldDir))
	if err != nil {
		return err
	}
	for _, f := range found {
		path := s.path(heldDir, f.Name())
		var names []string
		raw, err := os.ReadFile(path)
		if err == nil {
			err = json.Unmarshal(raw, &names)
		}
		if err != nil || !slices.Contains(containers, f.Name()) {
			if err := os.Remove(path); err != nil {
				return err
			}
			continue
		}
		s.held[f.Name()] = names
	}
	return nil
}

// Hold keeps the layers of an image for a container, those that are not there yet too. A
// container holds one image; a second one takes the place of the first.
func (s *Store) Hold(ctx context.Context, container string, ids []v1.Hash) error {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = nameOf(id)
	}
	raw, err := json.Marshal(names)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// Who gave up may have been cleaned up after already.
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err := s.writeSynced(raw, s.path(heldDir, container)); err != nil {
		return fmt.Errorf("note the layers of container %s: %w", container, err)
	}
	s.held[container] = names
	return nil
}

// writeSynced writes a file whole or not at all.
func (s *Store) writeSynced(raw []byte, path string) error {
	f, err := os.CreateTemp(s.path(begunDir), "note-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // once it is renamed this fails, as it should
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Release lets go of what a container held, and collects.
func (s *Store) Release(container string) error {
	s.mu.Lock()
	err := os.Remove(s.path(heldDir, container))
	delete(s.held, container)
	s.mu.Unlock()
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("release the layers of container %s: %w", container, err)
	}
	return s.collect()
}

// Has says whether all of the layers are there.
func (s *Store) Has(ids []v1.Hash) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !slices.ContainsFunc(ids, func(id v1.Hash) bool { return s.layers[nameOf(id)] == nil })
}

// Ensure has the layers of one image be there, and returns their paths in the store's folder,
// in the same order.
func (s *Store) Ensure(ctx context.Context, layers []source.Layer) ([]string, error) {
	paths := make([]string, len(layers))
	work, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	var sum entry
	for i, layer := range layers {
		work.Go(func() error {
			e, err := s.ensure(ctx, layer)
			if err != nil {
				return fmt.Errorf("layer %s: %w", layer.DiffID, err)
			}
			paths[i] = filepath.Join(layersDir, nameOf(layer.DiffID))
			mu.Lock()
			defer mu.Unlock()
			sum.Bytes, sum.Files = sum.Bytes+e.Bytes, sum.Files+e.Files
			return sum.fits(s.limits.ImageBytes, s.limits.ImageFiles)
		})
	}
	return paths, work.Wait()
}

func (e entry) fits(bytes, files int64) error {
	switch {
	case e.Bytes > bytes:
		return fmt.Errorf("%w: it unpacks to more than %d MB", ErrTooLarge, bytes>>20)
	case e.Files > files:
		return fmt.Errorf("%w: it has more than %d files", ErrTooLarge, files)
	}
	return nil
}

// ensure waits for one layer, which it unpacks if nobody else does.
func (s *Store) ensure(ctx context.Context, layer source.Layer) (*entry, error) {
	name := nameOf(layer.DiffID)
	for ctx.Err() == nil {
		if e := s.use(name); e != nil {
			return e, nil
		}
		f := s.board(name, layer)
		select {
		case <-f.done:
			s.leave(f)
			if f.err != nil {
				return nil, f.err
			}
		case <-ctx.Done():
			s.leave(f)
		}
	}
	return nil, ctx.Err()
}

// use finds a layer that is there, and notes that it was wanted.
func (s *Store) use(name string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.layers[name]
	if e == nil {
		return nil
	}
	e.used = time.Now()
	_ = os.Chtimes(s.path(layersDir, name+infoExt), e.used, e.used) // decides only what goes first
	return e
}

// flight is a layer on its way, for all who wait for it.
type flight struct {
	name    string
	waiting int
	cancel  context.CancelFunc
	done    chan struct{} // closed when err is known
	err     error
}

// board joins the flight of a layer, or begins one.
func (s *Store) board(name string, layer source.Layer) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[name]; f != nil {
		f.waiting++
		return f
	}
	// It ends when all who wait have gone, not with the first who asked.
	ctx, cancel := context.WithCancel(context.Background())
	f := &flight{name: name, waiting: 1, cancel: cancel, done: make(chan struct{})}
	s.flights[name] = f
	go func() {
		defer close(f.done)
		f.err = s.fetch(ctx, name, layer)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.flights[name] == f {
			delete(s.flights, name)
		}
	}()
	return f
}

func (s *Store) leave(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.waiting--; f.waiting > 0 {
		return
	}
	f.cancel()
	if s.flights[f.name] == f { // who comes now begins another
		delete(s.flights, f.name)
	}
}

// fetch unpacks a layer beside the store, and then adds it.
func (s *Store) fetch(ctx context.Context, name string, layer source.Layer) error {
	select {
	case s.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-s.slots }()
	begun, err := os.MkdirTemp(s.path(begunDir), "layer-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(begun) // it is not there any more if all is well
	e, err := s.unpack(ctx, layer, begun)
	if err != nil {
		return err
	}
	if err := s.add(name, begun, e); err != nil {
		return err
	}
	return s.collect()
}

// room is what a layer may take: no more than its image, nor than is left beside the layers
// in use.
func (s *Store) room() entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	room := entry{Bytes: s.limits.CacheBytes, Files: s.limits.ImageFiles}
	for name, e := range s.layers { // any order: a sum
		if s.inUse(name) {
			room.Bytes -= e.Bytes
		}
	}
	room.Bytes = min(room.Bytes, s.limits.ImageBytes)
	return room
}

func (s *Store) inUse(name string) bool {
	for _, names := range s.held { // any order: any will do
		if slices.Contains(names, name) {
			return true
		}
	}
	return false
}

// add makes what was unpacked in begun a layer, when it is on disk.
func (s *Store) add(name, begun string, e entry) error {
	if err := syncAll(begun); err != nil {
		return err
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.layers[name] != nil { // a flight that was left has arrived all the same
		return nil
	}
	if err := s.writeSynced(raw, s.path(layersDir, name+infoExt)); err != nil {
		return err
	}
	if err := os.Rename(begun, s.path(layersDir, name)); err != nil {
		return err
	}
	e.used = time.Now()
	s.layers[name] = &e
	return nil
}

// syncAll has all of the filesystem at dir on disk: cheaper than file by file.
func syncAll(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("write the layer to disk: %w", err)
	}
	return nil
}

// collect removes what no container holds, the least used first, while the store is too large.
func (s *Store) collect() error {
	for {
		gone, err := s.expel()
		if err == nil && gone != "" {
			err = os.RemoveAll(gone)
		}
		if err != nil {
			return fmt.Errorf("collect layers: %w", err)
		}
		if gone == "" {
			return nil
		}
	}
}

// expel moves one layer that is to go out of the store, and says where to; nowhere if none is.
func (s *Store) expel() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	total, oldest := int64(0), ""
	for name, e := range s.layers { // any order: the oldest of all
		total += e.Bytes
		if (oldest == "" || e.used.Before(s.layers[oldest].used)) && !s.inUse(name) {
			oldest = name
		}
	}
	if total <= s.limits.CacheBytes || oldest == "" {
		return "", nil
	}
	to, err := os.MkdirTemp(s.path(begunDir), "old-")
	if err != nil {
		return "", err
	}
	delete(s.layers, oldest)
	return to, errors.Join(
		os.Rename(s.path(layersDir, oldest), filepath.Join(to, "layer")),
		os.Remove(s.path(layersDir, oldest+infoExt)),
	)
}

// nameOf is the layer's name in the store.
func nameOf(id v1.Hash) string { return id.Hex }
