package faultfs

import (
	"context"
	"path"
	"sync"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
)

// mount begins to serve.
func mount(dir, folder string, active *faults) (*fuse.Server, error) {
	var st syscall.Stat_t
	if err := syscall.Stat(folder, &st); err != nil {
		return nil, err
	}
	root := &fs.LoopbackRoot{Path: folder, Dev: uint64(st.Dev)}
	root.NewNode = func(data *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &node{fs.LoopbackNode{RootData: data}, active}
	}
	top := root.NewNode(root, nil, "", &st)
	root.RootNode = top
	never := time.Duration(0) // everything may change behind the kernel's back
	return fs.Mount(dir, top, &fs.Options{
		EntryTimeout: &never,
		AttrTimeout:  &never,
		MountOptions: fuse.MountOptions{DirectMountStrict: true, FsName: "gantry-faultfs", Name: "faultfs"},
	})
}

// node is a file or folder; what it opens obeys the faults.
type node struct {
	fs.LoopbackNode
	faults *faults
}

// Open implements fs.NodeOpener.
func (n *node) Open(ctx context.Context, flags uint32) (fs.FileHandle, uint32, syscall.Errno) {
	handle, flags, errno := n.LoopbackNode.Open(ctx, flags)
	return n.faulty(handle, path.Base(n.Path(nil))), flags, errno
}

// Create implements fs.NodeCreater.
func (n *node) Create(ctx context.Context, name string, flags, mode uint32, out *fuse.EntryOut) (*fs.Inode, fs.FileHandle, uint32, syscall.Errno) {
	inode, handle, flags, errno := n.LoopbackNode.Create(ctx, name, flags, mode, out)
	return inode, n.faulty(handle, name), flags, errno
}

func (n *node) faulty(handle fs.FileHandle, name string) fs.FileHandle {
	if f, ok := handle.(*fs.LoopbackFile); ok {
		return &file{f, name, n.faults}
	}
	return handle
}

// file is an open one, with the name that it had when it was opened.
type file struct {
	*fs.LoopbackFile
	name   string
	faults *faults
}

// PassthroughFd implements fs.FilePassthroughFder: the kernel must not go past us.
func (f *file) PassthroughFd() (int, bool) { return 0, false }

// Write implements fs.FileWriter.
func (f *file) Write(ctx context.Context, data []byte, off int64) (uint32, syscall.Errno) {
	fault, errno := f.faults.meet(f.name, Write)
	if errno == 0 {
		return f.LoopbackFile.Write(ctx, data, off)
	}
	if fault.Short {
		if n, half := f.LoopbackFile.Write(ctx, data[:len(data)/2], off); half != 0 {
			return n, half
		}
	}
	return 0, errno
}

// Setattr implements fs.FileSetattrer.
func (f *file) Setattr(ctx context.Context, in *fuse.SetAttrIn, out *fuse.AttrOut) syscall.Errno {
	if _, resized := in.GetSize(); resized {
		if _, errno := f.faults.meet(f.name, Write); errno != 0 {
			return errno
		}
	}
	return f.LoopbackFile.Setattr(ctx, in, out)
}

// Fsync implements fs.FileFsyncer.
func (f *file) Fsync(ctx context.Context, flags uint32) syscall.Errno {
	if _, errno := f.faults.meet(f.name, Sync); errno != 0 {
		return errno
	}
	return f.LoopbackFile.Fsync(ctx, flags)
}

// faults are those in force.
type faults struct {
	mu     sync.Mutex
	active []Fault
}

func (f *faults) set(active []Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active = active
}

// meet waits as long as an operation on a file is to take, and returns how it is to fail.
func (f *faults) meet(name string, on Op) (Fault, syscall.Errno) {
	fault := f.find(name, on)
	time.Sleep(fault.Delay)
	return fault, fault.Errno
}

func (f *faults) find(name string, on Op) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.active {
		fault := &f.active[i]
		if matched, err := path.Match(fault.Name, name); err != nil || !matched || fault.On != on {
			continue
		}
		if fault.After > 0 {
			fault.After--
			return Fault{}
		}
		return *fault
	}
	return Fault{}
}
