package main

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"syscall"
	"time"

	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/sys"
)

// files are those of a folder, and of nothing else: the library's own would follow links out
// of it.
type files struct {
	experimentalsys.UnimplementedFS
	root *os.Root
}

// at is a path of a module's as the root wants it.
func at(path string) string {
	if path == "" || path == "/" {
		return "."
	}
	return path
}

// number is what a module is told of an error.
func number(err error) experimentalsys.Errno {
	if err == nil {
		return 0
	}
	if no, ok := errors.AsType[syscall.Errno](err); ok {
		return experimentalsys.UnwrapOSError(no)
	}
	// What leads out of the root has an error of its own, which becomes a general one.
	if no := experimentalsys.UnwrapOSError(err); no != experimentalsys.EIO {
		return no
	}
	return experimentalsys.EPERM
}

var flags = map[experimentalsys.Oflag]int{
	experimentalsys.O_RDWR: os.O_RDWR, experimentalsys.O_WRONLY: os.O_WRONLY,
	experimentalsys.O_APPEND: os.O_APPEND, experimentalsys.O_CREAT: os.O_CREATE,
	experimentalsys.O_DIRECTORY: syscall.O_DIRECTORY, experimentalsys.O_DSYNC: syscall.O_DSYNC,
	experimentalsys.O_EXCL: os.O_EXCL, experimentalsys.O_NONBLOCK: syscall.O_NONBLOCK,
	experimentalsys.O_RSYNC: syscall.O_RSYNC, experimentalsys.O_SYNC: os.O_SYNC, experimentalsys.O_TRUNC: os.O_TRUNC,
}

// OpenFile implements experimentalsys.FS.
func (f *files) OpenFile(path string, flag experimentalsys.Oflag, perm fs.FileMode) (experimentalsys.File, experimentalsys.Errno) {
	path = at(path)
	how := 0
	for theirs, ours := range flags { // any order: each is a bit of its own
		if flag&theirs != 0 {
			how |= ours
		}
	}
	if flag&experimentalsys.O_NOFOLLOW != 0 {
		if info, err := f.root.Lstat(path); err == nil && info.Mode()&fs.ModeSymlink != 0 {
			return nil, experimentalsys.ELOOP
		}
	}
	opened, err := f.root.OpenFile(path, how, perm.Perm())
	if err != nil {
		return nil, number(err)
	}
	return &file{File: opened, files: f, path: path, appends: flag&experimentalsys.O_APPEND != 0}, 0
}

// Lstat implements experimentalsys.FS.
func (f *files) Lstat(path string) (sys.Stat_t, experimentalsys.Errno) {
	info, err := f.root.Lstat(at(path))
	if err != nil {
		return sys.Stat_t{}, number(err)
	}
	return sys.NewStat_t(info), 0
}

// Stat implements experimentalsys.FS.
func (f *files) Stat(path string) (sys.Stat_t, experimentalsys.Errno) {
	info, err := f.root.Stat(at(path))
	if err != nil {
		return sys.Stat_t{}, number(err)
	}
	return sys.NewStat_t(info), 0
}

// Mkdir implements experimentalsys.FS.
func (f *files) Mkdir(path string, perm fs.FileMode) experimentalsys.Errno {
	return number(f.root.Mkdir(at(path), perm.Perm()))
}

// Chmod implements experimentalsys.FS.
func (f *files) Chmod(path string, perm fs.FileMode) experimentalsys.Errno {
	return number(f.root.Chmod(at(path), perm.Perm()))
}

// Rename implements experimentalsys.FS.
func (f *files) Rename(from, to string) experimentalsys.Errno {
	return number(f.root.Rename(at(from), at(to)))
}

// Rmdir implements experimentalsys.FS.
func (f *files) Rmdir(path string) experimentalsys.Errno {
	info, err := f.root.Lstat(at(path))
	switch {
	case err != nil:
		return number(err)
	case !info.IsDir():
		return experimentalsys.ENOTDIR
	}
	return number(f.root.Remove(at(path)))
}

// Unlink implements experimentalsys.FS.
func (f *files) Unlink(path string) experimentalsys.Errno {
	info, err := f.root.Lstat(at(path))
	switch {
	case err != nil:
		return number(err)
	case info.IsDir():
		return experimentalsys.EISDIR
	}
	return number(f.root.Remove(at(path)))
}

// Link implements experimentalsys.FS.
func (f *files) Link(from, to string) experimentalsys.Errno {
	return number(f.root.Link(at(from), at(to)))
}

// Symlink implements experimentalsys.FS.
func (f *files) Symlink(target, link string) experimentalsys.Errno {
	if path.IsAbs(target) {
		return experimentalsys.EPERM // as WASI has it
	}
	return number(f.root.Symlink(target, at(link)))
}

// Readlink implements experimentalsys.FS.
func (f *files) Readlink(path string) (string, experimentalsys.Errno) {
	target, err := f.root.Readlink(at(path))
	return target, number(err)
}

// Utimens implements experimentalsys.FS.
func (f *files) Utimens(path string, atim, mtim int64) experimentalsys.Errno {
	return number(f.root.Chtimes(at(path), moment(atim), moment(mtim)))
}

// moment is zero for a time that is to stay.
func moment(nanos int64) time.Time {
	if nanos == experimentalsys.UTIME_OMIT {
		return time.Time{}
	}
	return time.Unix(0, nanos)
}
