// Package sandbox makes a container's working directory and fetches into it what its
// command names.
//
// Files come from web servers, by http and https, or from this host: from below one
// directory that the operator chose; without one nothing of the host can be fetched. Links
// that lead out of it are not followed. Archives are unpacked where the command says so.
//
//	err := sandbox.Prepare(ctx, sandbox.Config{Dir: dir, FetchRoot: "/srv/artifacts"}, command.GetUris())
package sandbox

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/gantry-project/gantry/isolators/internal/sys"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// MaxFetchBytes is the default of Config.MaxBytes.
const MaxFetchBytes = 2 << 30

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
	// MaxBytes bounds the sum of what is fetched and unpacked; zero is MaxFetchBytes.
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
			return fmt.Errorf("failed to fetch %s: %w", uri.GetValue(), err)
		}
	}
	return nil
}

// Give makes the sandbox dir and all that was fetched into it a user's. Links in it are not
// followed.
func Give(dir string, uid, gid int) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("give away the sandbox: %w", err)
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, root.Lchown(path, uid, gid))
	})
	if err != nil {
		return fmt.Errorf("give away the sandbox: %w", err)
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
	// left is how many bytes may still be written.
	left int64
	web  *http.Client
}

func newFetcher(c Config) (*fetcher, error) {
	f := &fetcher{config: c, web: newClient()}
	f.left = f.limit()
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

func (f *fetcher) limit() int64 { return cmp.Or(f.config.MaxBytes, MaxFetchBytes) }

func (f *fetcher) close() {
	f.web.CloseIdleConnections()
	f.to.Close()
	if f.from != nil {
		f.from.Close()
	}
}

func (f *fetcher) fetch(ctx context.Context, uri *mesos.CommandInfo_URI) error {
	from, err := f.source(uri.GetValue())
	if err != nil {
		return err
	}
	target, err := target(uri, from.name)
	if err != nil {
		return err
	}
	unpack, err := unpacker(uri, target)
	if err != nil {
		return err
	}
	in, err := from.open(ctx)
	if err != nil {
		return err
	}
	defer in.Close()
	mode := fs.FileMode(0o644)
	if uri.GetExecutable() {
		mode = 0o755
	}
	if err := f.copy(in, target, mode); err != nil || unpack == nil {
		return err
	}
	if err := f.unpack(ctx, target, unpack); err != nil {
		return fmt.Errorf("unpack %s: %w", target, err)
	}
	return nil
}

// source is where a file comes from.
type source struct {
	// name is the path or URL path that it has there.
	name string
	open func(context.Context) (io.ReadCloser, error)
}

func (f *fetcher) source(value string) (source, error) {
	if u, err := url.Parse(value); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return source{u.Path, func(ctx context.Context) (io.ReadCloser, error) { return f.get(ctx, u) }}, nil
	}
	path, err := f.local(value)
	return source{path, func(ctx context.Context) (io.ReadCloser, error) {
		in, err := f.open(path)
		if err != nil {
			return nil, err
		}
		return struct {
			io.Reader
			io.Closer
		}{reader{ctx, in}, in}, nil
	}}, err
}

// local is the path below FetchRoot that value names.
func (f *fetcher) local(value string) (string, error) {
	path := value
	if !strings.HasPrefix(value, "/") {
		u, err := url.Parse(value)
		if err != nil {
			return "", fmt.Errorf("not a URI: %w", err)
		}
		if u.Scheme != "file" {
			return "", fmt.Errorf("scheme %q is %w yet: only http, https and file are", u.Scheme, ErrUnsupported)
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
		err = fmt.Errorf("%w: more than %d bytes to fetch", ErrDenied, f.limit())
	}
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// copy writes in to a new file at target in the sandbox.
func (f *fetcher) copy(in io.Reader, target string, mode fs.FileMode) error {
	if dir := filepath.Dir(target); dir != "." {
		if err := f.makeDirs(dir); err != nil {
			return err
		}
	}
	out, err := f.to.OpenFile(target, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	n, err := io.Copy(out, io.LimitReader(in, f.left+1))
	f.left -= n
	if err == nil && f.left < 0 {
		err = fmt.Errorf("%w: more than %d bytes to fetch", ErrDenied, f.limit())
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
