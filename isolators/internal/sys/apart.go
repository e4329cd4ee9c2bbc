package sys

import (
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Apart runs f on a thread with a mount namespace of its own. What f mounts there is seen by
// f and by the processes that it starts, and by nobody else; it is gone with the last of them.
func Apart(f func() error) error {
	result := make(chan error)
	go apart(f, result)
	return <-result
}

func apart(f func() error, result chan<- error) {
	// The thread ends with the goroutine, as it is never unlocked.
	runtime.LockOSThread()
	if unix.Gettid() == os.Getpid() {
		// The first thread does not end. While it is held here another goroutine gets another.
		defer runtime.UnlockOSThread()
		done := make(chan error)
		go apart(f, done)
		result <- <-done
		return
	}
	err := unix.Unshare(unix.CLONE_NEWNS)
	if err == nil {
		// The host's own mounts may still come and go, and nothing goes back to it.
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, "")
	}
	if err != nil {
		result <- fmt.Errorf("make a mount namespace: %w", err)
		return
	}
	result <- f()
}

// Overlay mounts an overlay filesystem of directories at at, nosuid and nodev. The lower
// ones come topmost first. No directory may be a symbolic link.
func Overlay(lower []string, upper, work, at string) error {
	dirs := append([]string{upper, work}, lower...)
	names := make([]string, len(dirs))
	for i, dir := range dirs {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: dir, Err: err}
		}
		defer unix.Close(fd)
		// So no path is too long, or has characters that mean something to the filesystem.
		names[i] = fmt.Sprintf("/proc/self/fd/%d", fd)
	}
	options := "redirect_dir=nofollow,metacopy=off,index=off,upperdir=" + names[0] + ",workdir=" + names[1] + ",lowerdir="
	for i, name := range names[2:] {
		if i > 0 {
			options += ":"
		}
		options += name
	}
	if err := unix.Mount("overlay", at, "overlay", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount %d layers at %s: %w", len(lower), at, err)
	}
	return nil
}
