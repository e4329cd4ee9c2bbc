// Package sandbox makes a container's working directory and fetches into it what its
// command names.
//
// Only files of this host can be fetched, and only from below one directory that the
// operator chose; without one nothing can. Links that lead out of it are not followed.
//
//	err := sandbox.Prepare(ctx, sandbox.Config{Dir: dir, FetchRoot: "/srv/artifacts"}, command.GetUris())
package sandbox

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gantry-project/gantry/isolators/internal/sys"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// MaxFetchBytes is the default of Config.MaxBytes.
const MaxFetchBytes = 4 << 30

// MaxURIs bounds what one command may fetch.
const MaxURIs = 128

var (
	// ErrDenied says that a URI is outside of what may be fetched.
	ErrDenied = errors.New("fetching this is not allowed")
	// ErrUnsupported says that this way of fetching does not exist here (yet).
	ErrUnsupported = errors.New("not supported")
)

// Config says where a sandbox is and what may be fetched into it.
type Config struct {
	// Dir is the absolute path of the sandbox; it must not exist.
	Dir string
	// FetchRoot is the absolute directory that files may be fetched from; empty: none.
	FetchRoot string
	// UID and GID own the sandbox and all that is fetched.
	UID, GID int
	// MaxBytes bounds the sum of what is fetched; zero is MaxFetchBytes.
	MaxBytes int64
}

// Prepare makes the sandbox and fetches uris into it. Its errors are sentences for the
// author of the command, and wrap ErrDenied or ErrUnsupported where those are the cause.
// After an error the sandbox stays, with what was fetched before.
func Prepare(ctx context.Context, c Config, uris []*mesos.CommandInfo_URI) error {
	if !filepath.IsAbs(c.Dir) {
		return fmt.Errorf("prepare sandbox: %q is not an absolute path", c.Dir)
	}
	if len(uris) > MaxURIs {
		return fmt.Errorf("prepare sandbox: %d URIs are too many: at most %d", len(uris), MaxURIs)
	}
	if err := makeDir(c.Dir); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	if err := os.Chown(c.Dir, c.UID, c.GID); err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	if len(uris) == 0 {
		return nil
	}
	f, err := newFetcher(c)
	if err != nil {
		return fmt.Errorf("prepare sandbox: %w", err)
	}
	defer f.close()
	for _, uri := range uris {
		if err := f.fetch(ctx, uri); err != nil {
			return fmt.Errorf("fetch %s: %w", uri.GetValue(), err)
		}
	}
	return nil
}

// makeDir makes dir, and what is missing above it, which somebody who removes old sandboxes
// may find empty and remove before dir is there.
func makeDir(dir string) error {
	var err error
	for range 3 {
		if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
			return err
		}
		if err = os.Mkdir(dir, 0o750); !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return err
}

type fetcher struct {
	config Config
	// from is nil where nothing may be fetched.
	from, to *os.Root
	// left is how many bytes may still be fetched.
	left int64
}

func newFetcher(c Config) (*fetcher, error) {
	f := &fetcher{config: c, left: c.MaxBytes}
	if f.left == 0 {
		f.left = MaxFetchBytes
	}
	var err error
	if f.to, err = os.OpenRoot(c.Dir); err != nil {
		return nil, err
	}
	if c.FetchRoot == "" {
		return f, nil
	}
	if f.from, err = os.OpenRoot(c.FetchRoot); err != nil {
		return nil, errors.Join(fmt.Errorf("directory to fetch from: %w", err), f.to.Close())
	}
	return f, nil
}

func (f *fetcher) close() {
	f.to.Close()
	if f.from != nil {
		f.from.Close()
	}
}

func (f *fetcher) fetch(ctx context.Context, uri *mesos.CommandInfo_URI) error {
	source, err := f.source(uri.GetValue())
	if err != nil {
		return err
	}
	if uri.GetExtract() && !uri.GetExecutable() && isArchive(source) {
		return fmt.Errorf("extracting archives is %w yet: set extract to false, and unpack it in the command", ErrUnsupported)
	}
	target, err := target(uri, source)
	if err != nil {
		return err
	}
	in, err := f.open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	mode := fs.FileMode(0o644)
	if uri.GetExecutable() {
		mode = 0o755
	}
	return f.copy(ctx, in, target, mode)
}

// source is the path below FetchRoot that value names.
func (f *fetcher) source(value string) (string, error) {
	path := value
	if !strings.HasPrefix(value, "/") {
		u, err := url.Parse(value)
		if err != nil {
			return "", fmt.Errorf("not a URI: %w", err)
		}
		if u.Scheme != "file" {
			return "", fmt.Errorf("scheme %q is %w yet: only file:// is", u.Scheme, ErrUnsupported)
		}
		if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(u.Path) {
			return "", fmt.Errorf("%w: name a file of this host, like file:///srv/file", ErrDenied)
		}
		path = u.Path
	}
	if f.from == nil {
		return "", fmt.Errorf("%w: this agent has no directory to fetch from", ErrDenied)
	}
	below, err := filepath.Rel(f.config.FetchRoot, path)
	if err != nil || !filepath.IsLocal(below) {
		return "", fmt.Errorf("%w: it is not below %s", ErrDenied, f.config.FetchRoot)
	}
	return below, nil
}

// open opens a regular file below FetchRoot.
func (f *fetcher) open(source string) (*os.File, error) {
	in, err := f.from.OpenFile(source, os.O_RDONLY|sys.Nonblock, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no such file: %w", fs.ErrNotExist)
	}
	if err != nil {
		// Root has one unexported error for links that lead out of it.
		return nil, fmt.Errorf("%w: %w", ErrDenied, err)
	}
	info, err := in.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: it is not a regular file", ErrDenied)
	}
	if err == nil && info.Size() > f.left {
		err = fmt.Errorf("%w: more than %d bytes to fetch", ErrDenied, f.left)
	}
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// copy writes in to a new file at target in the sandbox.
func (f *fetcher) copy(ctx context.Context, in io.Reader, target string, mode fs.FileMode) error {
	if dir := filepath.Dir(target); dir != "." {
		if err := f.makeDirs(dir); err != nil {
			return err
		}
	}
	out, err := f.to.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(reader{ctx, in}, f.left+1))
	f.left -= n
	if err == nil && f.left < 0 {
		err = fmt.Errorf("%w: it grew beyond what may be fetched", ErrDenied)
	}
	// The mode once more: the first was subject to umask.
	return errors.Join(err, out.Chmod(mode), out.Chown(f.config.UID, f.config.GID), out.Close())
}

func (f *fetcher) makeDirs(dir string) error {
	if err := f.to.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for ; dir != "."; dir = filepath.Dir(dir) {
		if err := f.to.Lchown(dir, f.config.UID, f.config.GID); err != nil {
			return err
		}
	}
	return nil
}

// target is the path in the sandbox that uri's file gets.
func target(uri *mesos.CommandInfo_URI, source string) (string, error) {
	name := filepath.Clean(uri.GetOutputFile())
	if uri.GetOutputFile() == "" {
		name = filepath.Base(source)
	}
	if !filepath.IsLocal(name) || name == "." {
		return "", fmt.Errorf("%w: output_file %q must be a path inside the sandbox", ErrDenied, name)
	}
	if name == "stdout" || name == "stderr" {
		return "", fmt.Errorf("%w: %s is the command's own output: set output_file to another name", ErrDenied, name)
	}
	return name, nil
}

// archives are the endings of names that clients expect to be extracted.
var archives = []string{".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".gz", ".zip"}

func isArchive(name string) bool {
	return slices.ContainsFunc(archives, func(ending string) bool { return strings.HasSuffix(name, ending) })
}

// reader ends with the context.
type reader struct {
	ctx context.Context
	io.Reader
}

func (r reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}
