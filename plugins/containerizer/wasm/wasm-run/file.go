package main

import (
	"errors"
	"io"
	"io/fs"
	"os"

	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
	"github.com/tetratelabs/wazero/sys"
	"golang.org/x/sys/unix"
)

// file is an open file or folder of files.
type file struct {
	*os.File
	files   *files
	path    string
	appends bool
}

var _ experimentalsys.File = (*file)(nil)

// Dev implements experimentalsys.File.
func (f *file) Dev() (uint64, experimentalsys.Errno) {
	st, no := f.Stat()
	return st.Dev, no
}

// Ino implements experimentalsys.File.
func (f *file) Ino() (sys.Inode, experimentalsys.Errno) {
	st, no := f.Stat()
	return st.Ino, no
}

// IsDir implements experimentalsys.File.
func (f *file) IsDir() (bool, experimentalsys.Errno) {
	st, no := f.Stat()
	return st.Mode.IsDir(), no
}

// IsAppend implements experimentalsys.File.
func (f *file) IsAppend() bool { return f.appends }

// SetAppend implements experimentalsys.File.
func (f *file) SetAppend(enable bool) experimentalsys.Errno {
	conn, err := f.SyscallConn()
	if err != nil {
		return number(err)
	}
	var failed error
	err = conn.Control(func(fd uintptr) {
		flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
		if err == nil && enable {
			_, err = unix.FcntlInt(fd, unix.F_SETFL, flags|unix.O_APPEND)
		} else if err == nil {
			_, err = unix.FcntlInt(fd, unix.F_SETFL, flags&^unix.O_APPEND)
		}
		failed = err
	})
	if no := number(errors.Join(err, failed)); no != 0 {
		return no
	}
	f.appends = enable
	return 0
}

// Stat implements experimentalsys.File.
func (f *file) Stat() (sys.Stat_t, experimentalsys.Errno) {
	info, err := f.File.Stat()
	if err != nil {
		return sys.Stat_t{}, number(err)
	}
	return sys.NewStat_t(info), 0
}

// ended is that what there was to read has been read, which is no error to a module.
func ended(n int, err error) (int, experimentalsys.Errno) {
	if errors.Is(err, io.EOF) {
		return n, 0
	}
	return n, number(err)
}

// Read implements experimentalsys.File.
func (f *file) Read(b []byte) (int, experimentalsys.Errno) { return ended(f.File.Read(b)) }

// Pread implements experimentalsys.File.
func (f *file) Pread(b []byte, offset int64) (int, experimentalsys.Errno) {
	return ended(f.ReadAt(b, offset))
}

// position is in bytes. By this name go vet does not take Seek for io.Seeker's.
type position = int64

// Seek implements experimentalsys.File. A folder can only be begun again.
func (f *file) Seek(offset position, whence int) (position, experimentalsys.Errno) {
	if dir, _ := f.IsDir(); dir && (offset != 0 || whence != io.SeekStart) {
		return 0, experimentalsys.EISDIR
	}
	at, err := f.File.Seek(offset, whence)
	return at, number(err)
}

// Readdir implements experimentalsys.File.
func (f *file) Readdir(n int) ([]experimentalsys.Dirent, experimentalsys.Errno) {
	infos, err := f.File.Readdir(n)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, number(err)
	}
	entries := make([]experimentalsys.Dirent, 0, len(infos))
	for _, info := range infos {
		entries = append(entries, experimentalsys.Dirent{
			Name: info.Name(), Ino: sys.NewStat_t(info).Ino, Type: info.Mode() & fs.ModeType,
		})
	}
	return entries, 0
}

// Write implements experimentalsys.File.
func (f *file) Write(b []byte) (int, experimentalsys.Errno) { return ended(f.File.Write(b)) }

// Pwrite implements experimentalsys.File.
func (f *file) Pwrite(b []byte, offset int64) (int, experimentalsys.Errno) {
	return ended(f.WriteAt(b, offset))
}

// Truncate implements experimentalsys.File.
func (f *file) Truncate(size int64) experimentalsys.Errno { return number(f.File.Truncate(size)) }

// Sync implements experimentalsys.File.
func (f *file) Sync() experimentalsys.Errno { return number(f.File.Sync()) }

// Datasync implements experimentalsys.File.
func (f *file) Datasync() experimentalsys.Errno { return f.Sync() }

// Utimens implements experimentalsys.File.
func (f *file) Utimens(atim, mtim int64) experimentalsys.Errno {
	return f.files.Utimens(f.path, atim, mtim)
}

// Close implements experimentalsys.File.
func (f *file) Close() experimentalsys.Errno { return number(f.File.Close()) }
