package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Names in the plugin's folder. What is below modules and runners is root's, and complete: it
// comes there by a rename.
const (
	modulesDir = "modules" // DIGEST-RUNNER/{layer,facts.json}
	runnersDir = "runners" // RUNNER/wasm-run
	heldDir    = "held"    // CONTAINER -> DIGEST-RUNNER
	begunDir   = "begun"

	layerName  = "layer"
	moduleName = "module.wasm"
	cacheName  = "cache"
	factsName  = "facts.json"
	runnerName = "wasm-run"
)

// store has the modules that were tasks, with their machine code, and the runner: root
// filesystems of containers in two layers.
type store struct {
	folder   string
	config   config
	runner   string // its digest
	log      *slog.Logger
	compiles chan struct{} // one in it for each that goes on

	mu   sync.Mutex
	busy map[string]*call // by digest
}

// call is a module being compiled.
type call struct {
	done chan struct{}
	err  error
}

// module is one that can be run.
type module struct {
	// Pages of memory that it begins with.
	Pages int64 `json:"pages"`
	// Bytes of it and its machine code.
	Bytes int64 `json:"bytes"`

	digest string // sha256 in hex
	name   string // of its folder
}

func (m module) layer() string { return filepath.Join(modulesDir, m.name, layerName) }

func (s *store) runnerLayer() string { return filepath.Join(runnersDir, s.runner) }

func (s *store) path(parts ...string) string {
	return filepath.Join(append([]string{s.folder}, parts...)...)
}

// openStore takes the folder as another left it, in the middle of anything. Containers are
// those whose modules must stay.
func openStore(folder, runner string, c config, containers []string, log *slog.Logger) (*store, error) {
	s := &store{folder: folder, config: c, log: log, compiles: make(chan struct{}, maxCompiles), busy: map[string]*call{}}
	err := os.RemoveAll(s.path(begunDir))
	for _, dir := range []string{modulesDir, runnersDir, heldDir, begunDir} {
		err = errors.Join(err, os.MkdirAll(s.path(dir), 0o755))
	}
	if err != nil {
		return nil, fmt.Errorf("open the store of modules: %w", err)
	}
	if s.runner, err = s.keepRunner(runner); err != nil {
		return nil, fmt.Errorf("keep the runner: %w", err)
	}
	held, err := os.ReadDir(s.path(heldDir))
	if err != nil {
		return nil, fmt.Errorf("open the store of modules: %w", err)
	}
	for _, h := range held {
		if !slices.Contains(containers, h.Name()) {
			if err := s.release(h.Name()); err != nil {
				return nil, err
			}
		}
	}
	if err := s.collectRunners(); err != nil {
		return nil, fmt.Errorf("collect runners: %w", err)
	}
	return s, s.collect()
}

// keepRunner copies the program to where it is a layer, and returns its digest.
func (s *store) keepRunner(from string) (string, error) {
	in, err := os.Open(from)
	if err != nil {
		return "", err
	}
	defer in.Close()
	dir, err := os.MkdirTemp(s.path(begunDir), "runner-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	digest, err := keep(filepath.Join(dir, runnerName), in, 0o555)
	if err != nil {
		return "", err
	}
	return digest, place(dir, s.path(runnersDir, digest))
}

// keep writes what it reads, durably, and returns its sha256.
func keep(path string, in io.Reader, mode fs.FileMode) (string, error) {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	err = errors.Join(err, out.Chmod(mode), out.Sync(), out.Close())
	return hex.EncodeToString(h.Sum(nil)), err
}

// place moves a finished folder to where others find it, unless it is there.
func place(dir, to string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	if err := os.Rename(dir, to); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// ensure has the module in the store, and holds it for the container.
func (s *store) ensure(ctx context.Context, container string, in io.Reader) (module, error) {
	dir, err := os.MkdirTemp(s.path(begunDir), "module-")
	if err != nil {
		return module{}, fmt.Errorf("keep the module: %w", err)
	}
	defer os.RemoveAll(dir)
	code := filepath.Join(dir, moduleName)
	digest, err := keep(code, io.LimitReader(in, s.config.MaxModuleMB<<20), 0o444)
	if err != nil {
		return module{}, fmt.Errorf("keep the module: %w", err)
	}
	m := module{digest: digest, name: digest + ofRunner(s.runner)}
	if err := s.hold(container, m.name); err != nil {
		return module{}, err
	}
	if err := s.compileOnce(ctx, m.name, code); err != nil {
		return module{}, err
	}
	text, err := os.ReadFile(s.path(modulesDir, m.name, factsName))
	if err == nil {
		err = json.Unmarshal(text, &m)
	}
	if err != nil {
		return module{}, fmt.Errorf("read what is known of the module: %w", err)
	}
	return m, nil
}

// compileOnce has a module compiled by the first that asks; others wait for that. It goes on
// when those who asked do not wait any more: another task may have the same.
func (s *store) compileOnce(ctx context.Context, name, code string) error {
	s.mu.Lock()
	c := s.busy[name]
	if c == nil {
		if s.has(name) {
			s.mu.Unlock()
			return nil
		}
		f, err := os.Open(code)
		if err != nil {
			s.mu.Unlock()
			return err
		}
		c = &call{done: make(chan struct{})}
		s.busy[name] = c
		go func() {
			defer f.Close()
			began := time.Now()
			c.err = s.compile(name, f)
			if c.err == nil {
				s.log.Info("a module was compiled", "module", name, "took", time.Since(began))
			}
			if err := s.collect(); err != nil {
				s.log.Warn("the store of modules may grow", "error", err)
			}
			s.mu.Lock()
			delete(s.busy, name)
			s.mu.Unlock()
			close(c.done)
		}()
	}
	s.mu.Unlock()
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// has says whether a module is complete, and that it was asked for.
func (s *store) has(name string) bool {
	now := time.Now()
	return os.Chtimes(s.path(modulesDir, name), now, now) == nil
}

// hold keeps a module, there or not yet, from being collected.
func (s *store) hold(container, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := s.path(heldDir, container)
	err := os.Remove(path)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Symlink(name, path)
	}
	if err != nil {
		return fmt.Errorf("hold the module: %w", err)
	}
	return nil
}

// release is the end of hold.
func (s *store) release(container string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.Remove(s.path(heldDir, container)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("let go of the module: %w", err)
	}
	return nil
}

// kept is a folder of modulesDir.
type kept struct {
	name  string
	bytes int64
	used  time.Time
}

// collect removes what no container holds, the longest unused first, until the rest is within
// its bound.
func (s *store) collect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.list()
	if err != nil {
		return fmt.Errorf("collect modules: %w", err)
	}
	held, err := s.held()
	if err != nil {
		return fmt.Errorf("collect modules: %w", err)
	}
	slices.SortFunc(all, func(a, b kept) int { return cmp.Or(a.used.Compare(b.used), cmp.Compare(a.name, b.name)) })
	var sum int64
	for _, k := range all {
		sum += k.bytes
	}
	for _, k := range all {
		if sum <= s.config.CacheMB<<20 {
			break
		}
		if slices.Contains(held, k.name) {
			continue
		}
		if err := s.discard(s.path(modulesDir, k.name)); err != nil {
			return fmt.Errorf("collect modules: %w", err)
		}
		sum -= k.bytes
	}
	return nil
}

// collectRunners removes those of earlier versions that no container has.
func (s *store) collectRunners() error {
	held, err := s.held()
	if err != nil {
		return err
	}
	runners, err := os.ReadDir(s.path(runnersDir))
	if err != nil {
		return err
	}
	for _, r := range runners {
		used := func(name string) bool { return strings.HasSuffix(name, ofRunner(r.Name())) }
		if r.Name() != s.runner && !slices.ContainsFunc(held, used) {
			err = errors.Join(err, s.discard(s.path(runnersDir, r.Name())))
		}
	}
	return err
}

// ofRunner is how the names of modules end that were compiled by a runner.
func ofRunner(digest string) string { return "-" + digest[:min(16, len(digest))] }

// held are the modules that containers hold, some of them more than once.
func (s *store) held() ([]string, error) {
	containers, err := os.ReadDir(s.path(heldDir))
	var names []string
	for _, c := range containers {
		name, failed := os.Readlink(s.path(heldDir, c.Name()))
		names, err = append(names, name), errors.Join(err, failed)
	}
	return names, err
}

// discard removes a folder, by a rename first, so that half of it is not found.
func (s *store) discard(path string) error {
	gone, err := os.MkdirTemp(s.path(begunDir), "gone-")
	if err != nil {
		return err
	}
	return errors.Join(os.Rename(path, filepath.Join(gone, "it")), os.RemoveAll(gone))
}

func (s *store) list() ([]kept, error) {
	entries, err := os.ReadDir(s.path(modulesDir))
	if err != nil {
		return nil, err
	}
	var all []kept
	for _, e := range entries {
		k := kept{name: e.Name()}
		info, err := e.Info()
		if err != nil {
			return nil, err
		}
		k.used = info.ModTime()
		if k.bytes, err = size(s.path(modulesDir, k.name)); err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

// size is how much the files below dir have.
func size(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}
