// Package faultfs is a filesystem for tests whose disk fails on demand: writes and syncs of chosen files are refused, cut
// short or slow, and all else goes to a folder behind it.
//
//	func TestMain(m *testing.M) {
//		faultfs.Main() // returns, but in the process that serves a filesystem
//		os.Exit(m.Run())
//	}
//
//	disk, err := faultfs.Mount(mountPoint, folder)
//	err = disk.Set(faultfs.Fault{Name: "*.db", On: faultfs.Sync, Errno: syscall.EIO})
//	...
//	err = disk.Unmount()
//
// A filesystem is served by a process of its own, for one that maps files of a filesystem that it serves itself can wait
// for itself forever. That process unmounts it and ends when its parent does.
package faultfs

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Op is a kind of operation that can fail.
type Op string

// The operations. A change of a file's size counts as a write.
const (
	Write Op = "write"
	Sync  Op = "sync"
)

// Fault is what becomes of some operations. The first one that fits counts.
type Fault struct {
	// Name is a pattern (path.Match) that the last element of the file's path has to match.
	Name string
	// On is the operation.
	On Op
	// After is how many of these operations succeed first.
	After int
	// Delay is how long the operation takes, whether it fails or not.
	Delay time.Duration
	// Errno is how it fails; 0: it does not.
	Errno syscall.Errno
	// Short has a write that fails write half of its bytes first.
	Short bool
}

// Disk is a mounted filesystem.
type Disk struct {
	dir     string
	mu      sync.Mutex
	process *exec.Cmd
	in      io.WriteCloser
	out     *bufio.Reader
}

const environment = "GANTRY_FAULTFS" // MOUNTPOINT:FOLDER, for the process that serves

// answerWithin bounds waiting for the serving process.
const answerWithin = 30 * time.Second

// Mount shows folder at dir, both of which must exist, without faults. It needs root.
func Mount(dir, folder string) (*Disk, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	d := &Disk{dir: dir, process: exec.Command(self)}
	d.process.Env = append(os.Environ(), environment+"="+dir+":"+folder)
	d.process.Stderr = os.Stderr
	if d.in, err = d.process.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := d.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	d.out = bufio.NewReader(out)
	if err := d.process.Start(); err != nil {
		return nil, err
	}
	if err := d.answer(); err != nil {
		return nil, errors.Join(fmt.Errorf("mount %s: %w", dir, err), d.Unmount())
	}
	return d, nil
}

// Set replaces the faults; without any the disk is sound again.
func (d *Disk) Set(faults ...Fault) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	text, err := json.Marshal(faults)
	if err != nil {
		return err
	}
	if _, err := d.in.Write(append(text, '\n')); err != nil {
		return fmt.Errorf("set faults: %w", err)
	}
	return d.answer()
}

// answer reads one line of the serving process: ok, or what is wrong.
func (d *Disk) answer() error {
	line, err := d.out.ReadString('\n')
	if err != nil {
		return err
	}
	if line = strings.TrimSpace(line); line != "ok" {
		return errors.New(line)
	}
	return nil
}

// Unmount ends the filesystem, even while files of it are open: who has them gets errors.
func (d *Disk) Unmount() error {
	err := d.in.Close()
	timer := time.AfterFunc(answerWithin, func() { d.process.Process.Kill() })
	defer timer.Stop()
	return errors.Join(err, d.process.Wait())
}

// Main serves a filesystem until its standard input ends, in the process that Mount has started for that; in every other
// it returns at once.
func Main() {
	dir, folder, found := strings.Cut(os.Getenv(environment), ":")
	if !found {
		return
	}
	if err := serve(dir, folder, os.Stdin, os.Stdout); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Exit(0)
}

func serve(dir, folder string, in io.Reader, out io.Writer) error {
	active := new(faults)
	server, err := mount(dir, folder, active)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ok")
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var set []Fault
		err := json.Unmarshal(lines.Bytes(), &set)
		for _, f := range set {
			_, bad := filepath.Match(f.Name, "")
			err = errors.Join(err, bad)
		}
		if err != nil {
			fmt.Fprintln(out, strings.ReplaceAll(err.Error(), "\n", "; "))
			continue
		}
		active.set(set)
		fmt.Fprintln(out, "ok")
	}
	active.set(nil)
	if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", dir, err)
	}
	server.Wait()
	return nil
}
