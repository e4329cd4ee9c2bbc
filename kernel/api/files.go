package api

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const (
	maxRead    = 16 * 4096 // bytes of a file in one answer
	maxEntries = 10_000    // of a folder; the others are left out
)

// errBadPath is wrapped by errors about what was asked, not about what is there.
var errBadPath = errors.New("bad path")

// files reads sandboxes, and nothing beside them: the host's kernel resolves each path
// below the sandbox that it names (os.Root), so that a link which leads out of it, or is
// exchanged for one in the middle, leads nowhere.
type files struct {
	root  *os.Root      // WORK/slaves
	agent func() string // the id of the agent as it is now
}

// part is some of a file.
type part struct {
	data []byte // never nil: READ_FILE requires it
	size int64  // of the whole file
}

// read returns at most length bytes from offset on, none behind the end of the file.
func (f files) read(name string, offset uint64, length int) (part, error) {
	sandbox, rest, err := f.open(name)
	if err != nil {
		return part{}, err
	}
	defer sandbox.Close()
	file, info, err := openRegular(sandbox, rest)
	if err != nil {
		return part{}, explain(name, err)
	}
	defer file.Close()
	size := info.Size()
	if offset >= uint64(size) || length == 0 {
		return part{[]byte{}, size}, nil
	}
	data := make([]byte, min(int64(length), size-int64(offset)))
	n, err := file.ReadAt(data, int64(offset))
	if err != nil && err != io.EOF { // it may have become shorter
		return part{}, explain(name, err)
	}
	return part{data[:n], size}, nil
}

// openRegular opens a file if it is a regular one. A FIFO or a device is not even opened
// unless it takes the place of a file just now, and then without waiting for its other end.
func openRegular(sandbox *os.Root, rest string) (*os.File, fs.FileInfo, error) {
	info, err := sandbox.Stat(rest)
	if err != nil {
		return nil, nil, err
	}
	if err := mustBeRegular(info); err != nil {
		return nil, nil, err
	}
	file, err := sandbox.OpenFile(rest, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	if info, err = file.Stat(); err == nil {
		err = mustBeRegular(info)
	}
	if err != nil {
		file.Close()
		return nil, nil, err
	}
	return file, info, nil
}

func mustBeRegular(info fs.FileInfo) error {
	switch {
	case info.IsDir():
		return fmt.Errorf("%w: Cannot read a directory", errBadPath)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%w: it is no regular file", errBadPath)
	}
	return nil
}

// list returns the entries of a folder by name, without following links; of a file, none.
func (f files) list(name string) ([]*mesos.FileInfo, error) {
	sandbox, rest, err := f.open(name)
	if err != nil {
		return nil, err
	}
	defer sandbox.Close()
	info, err := sandbox.Stat(rest)
	if err != nil {
		return nil, explain(name, err)
	}
	if !info.IsDir() {
		return nil, nil
	}
	dir, err := sandbox.OpenFile(rest, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, explain(name, err)
	}
	defer dir.Close()
	entries, err := dir.ReadDir(maxEntries)
	if err != nil && err != io.EOF {
		return nil, explain(name, err)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	owners := owners{users: map[uint32]string{}, groups: map[uint32]string{}}
	list := make([]*mesos.FileInfo, 0, len(entries))
	for _, entry := range entries {
		if info, err := sandbox.Lstat(path.Join(rest, entry.Name())); err == nil { // it may be gone
			list = append(list, fileInfo(path.Join(name, entry.Name()), info, owners))
		}
	}
	return list, nil
}

func fileInfo(name string, info fs.FileInfo, owners owners) *mesos.FileInfo {
	mtime, size := info.ModTime().UnixNano(), uint64(info.Size())
	out := &mesos.FileInfo{Path: &name, Size: &size, Mtime: &mesos.TimeInfo{Nanoseconds: &mtime}}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		nlink, uid, gid := int32(stat.Nlink), owners.user(stat.Uid), owners.group(stat.Gid)
		out.Nlink, out.Mode, out.Uid, out.Gid = &nlink, &stat.Mode, &uid, &gid
	}
	return out
}

// owners remembers names of users and groups while one folder is listed.
type owners struct{ users, groups map[uint32]string }

func (o owners) user(id uint32) string {
	name, ok := o.users[id]
	if !ok {
		name = strconv.Itoa(int(id))
		if u, err := user.LookupId(name); err == nil {
			name = u.Username
		}
		o.users[id] = name
	}
	return name
}

func (o owners) group(id uint32) string {
	name, ok := o.groups[id]
	if !ok {
		name = strconv.Itoa(int(id))
		if g, err := user.LookupGroupId(name); err == nil {
			name = g.Name
		}
		o.groups[id] = name
	}
	return name
}

// open opens the sandbox that a virtual path names, and returns the path within it.
func (f files) open(name string) (sandbox *os.Root, rest string, err error) {
	p, err := f.parse(name)
	if err != nil {
		return nil, "", err
	}
	runs := path.Join(p.agent, "frameworks", p.framework, "executors", p.executor, "runs")
	if p.run == "latest" {
		if p.run, err = newest(f.root, runs); err != nil {
			return nil, "", explain(name, err)
		}
	}
	sandbox, err = f.root.OpenRoot(path.Join(runs, p.run))
	if err != nil {
		return nil, "", explain(name, err)
	}
	return sandbox, p.rest, nil
}

// newest returns the name of the folder in runs that was made last; ties go to the higher
// name.
func newest(root *os.Root, runs string) (string, error) {
	dir, err := root.Open(runs)
	if err != nil {
		return "", err
	}
	defer dir.Close()
	entries, err := dir.ReadDir(maxEntries)
	if err != nil && err != io.EOF {
		return "", err
	}
	var best fs.FileInfo
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || !info.IsDir() {
			continue
		}
		if best == nil || info.ModTime().After(best.ModTime()) || info.ModTime().Equal(best.ModTime()) && info.Name() > best.Name() {
			best = info
		}
	}
	if best == nil {
		return "", os.ErrNotExist
	}
	return best.Name(), nil
}

// place is a virtual path, taken apart.
type place struct{ agent, framework, executor, run, rest string }

// parse accepts /frameworks/F/executors/E/runs/R[/...], that after /slaves/A, and the
// absolute path of a sandbox. R may be "latest".
func (f files) parse(name string) (place, error) {
	virtual := name
	if below, ok := strings.CutPrefix(name, f.root.Name()+"/"); ok && path.IsAbs(f.root.Name()) {
		virtual = "/slaves/" + below
	}
	parts := strings.Split(strings.TrimSuffix(virtual, "/"), "/")
	for i, p := range parts {
		if p == "." || p == ".." || p == "" && i > 0 || strings.ContainsRune(p, 0) {
			return place{}, fmt.Errorf("%w: %.200q must not have empty parts, '.', '..' or NUL", errBadPath, name)
		}
	}
	if parts[0] != "" {
		return place{}, fmt.Errorf("%w: %.200q does not begin with '/'", errBadPath, name)
	}
	parts = parts[1:]
	agent := f.agent()
	if len(parts) > 1 && parts[0] == "slaves" {
		agent, parts = parts[1], parts[2:]
	}
	if len(parts) < 6 || parts[0] != "frameworks" || parts[2] != "executors" || parts[4] != "runs" || agent == "" {
		return place{}, fmt.Errorf("nothing is at %.200q; sandboxes are at /frameworks/ID/executors/ID/runs/latest: %w", name, os.ErrNotExist)
	}
	return place{agent, parts[1], parts[3], parts[5], path.Join(parts[6:]...)}.whole(), nil
}

// whole names the sandbox itself when nothing in it is asked for.
func (p place) whole() place {
	if p.rest == "" {
		p.rest = "."
	}
	return p
}

// explain says what was wrong in terms of the virtual path: the host's own paths are
// nobody's business. What leads out of a sandbox is a bad path.
func explain(name string, err error) error {
	var cause *fs.PathError
	switch {
	case errors.Is(err, errBadPath):
		return err
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("nothing is at %.200q: %w", name, os.ErrNotExist)
	case errors.As(err, &cause) && !errors.As(cause.Err, new(syscall.Errno)), errors.Is(err, syscall.ELOOP):
		return fmt.Errorf("%w: %.200q is inaccessible", errBadPath, name) // os.Root's refusal has no type
	case errors.Is(err, syscall.ENAMETOOLONG):
		return fmt.Errorf("%w: %.40q... is too long", errBadPath, name)
	}
	return fmt.Errorf("read %.200q: %w", name, err)
}

// modeString is the first column of ls -l.
func modeString(mode uint32) string {
	kinds := map[uint32]byte{
		syscall.S_IFDIR: 'd', syscall.S_IFCHR: 'c', syscall.S_IFBLK: 'b',
		syscall.S_IFIFO: 'p', syscall.S_IFLNK: 'l', syscall.S_IFSOCK: 's',
	}
	text := []byte(fs.FileMode(mode & 0o777).String())
	if kind, ok := kinds[mode&syscall.S_IFMT]; ok {
		text[0] = kind
	}
	return string(text)
}
