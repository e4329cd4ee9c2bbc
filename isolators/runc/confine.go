//go:build cgo

package runc

// The C part, confine.c, is bound to these numbers and words.

import "C"

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/opencontainers/runc/libcontainer"

	"github.com/gantry-project/gantry/isolators/internal/sys"
	"github.com/gantry-project/gantry/isolators/seccomp"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

const (
	// What libcontainer runs as a container's program is this program again, which loads
	// the container's seccomp filter and then becomes the container's program.
	// Libcontainer would do that itself, but compile the filter anew for every container,
	// which takes longer than all the rest of a start.
	selfPath, confineWord = "/proc/self/exe", "gantry-confine"
	// dot is put before each environment variable, so that C's library, which starts
	// before the filter is loaded, finds none that it obeys.
	dot = "."
	// stepFilter and stepRun are what can fail.
	stepFilter, stepRun = 1, 2
	// tellWithin is how long becoming the program may take; after that it is taken for
	// one that runs, and its end will tell the rest.
	tellWithin = 30 * time.Second
	// maxFilters bounds the sets of capabilities whose filters are kept.
	maxFilters = 64
)

// filters are the compiled filters, by capabilities.
type filters struct {
	mu   sync.Mutex
	made map[string]*os.File
}

// of is the filter for capabilities, in a file that cannot change.
func (f *filters) of(capabilities []string) (*os.File, error) {
	key := strings.Join(slices.Sorted(slices.Values(capabilities)), " ")
	f.mu.Lock()
	defer f.mu.Unlock()
	if file, ok := f.made[key]; ok {
		return file, nil
	}
	if len(f.made) >= maxFilters {
		return nil, fmt.Errorf("containers have had %d sets of capabilities, and no more are possible", maxFilters)
	}
	profile, err := seccomp.Default(capabilities)
	if err != nil {
		return nil, err
	}
	program, err := seccomp.Compile(profile)
	if err != nil {
		return nil, err
	}
	file, err := sys.Sealed("seccomp", program)
	if err != nil {
		return nil, fmt.Errorf("keep seccomp filter: %w", err)
	}
	if f.made == nil {
		f.made = make(map[string]*os.File)
	}
	f.made[key] = file
	return file, nil
}

// confined makes p load filter before it becomes its program. Its confinement is to be told when p has
// started, and then to be awaited; it is to be closed in any case.
func confined(p *libcontainer.Process, filter *os.File) (*confinement, error) {
	hear, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	c := &confinement{program: p.Args[0], hear: hear, tell: tell}
	p.Args = append([]string{selfPath, confineWord}, p.Args...)
	env := make([]string, len(p.Env))
	for i, v := range p.Env {
		env[i] = dot + v
	}
	p.Env = env
	p.ExtraFiles = []*os.File{filter, tell}
	return c, nil
}

// confinement is the way from libcontainer's first process to the container's program.
type confinement struct {
	program    string
	hear, tell *os.File
}

// started lets go of what is the process's.
func (c *confinement) started() error { return c.tell.Close() }

func (c *confinement) close() {
	_ = c.tell.Close()
	_ = c.hear.Close()
}

// await returns when the program runs, or why it does not.
func (c *confinement) await() error {
	if err := c.hear.SetReadDeadline(time.Now().Add(tellWithin)); err != nil {
		return err
	}
	var words [2]int32
	err := binary.Read(c.hear, binary.NativeEndian, &words)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err != nil:
		return fmt.Errorf("hear of the program's start: %w", err)
	}
	step, errno := words[0], syscall.Errno(words[1])
	switch {
	case step == stepFilter:
		return fmt.Errorf("load seccomp filter: %w", errno)
	case step == stepRun && errno == syscall.ENOENT:
		return fmt.Errorf("run %q: %w: it or what it is run by is missing in the container", c.program, errno)
	}
	return fmt.Errorf("run %q: %w", c.program, errno)
}

// findProgram is an error if the container whose first process is pid, and waits, lacks its
// program: most that cannot run is found before it is said to have begun.
func findProgram(pid int, spec *containerpb.Spec) error {
	root, err := sys.OpenRoot(pid)
	if err != nil {
		return fmt.Errorf("look for the program: %w", err)
	}
	defer root.Close()
	program := spec.GetArgv()[0]
	if strings.Contains(program, "/") {
		path := program
		if !filepath.IsAbs(path) {
			path = filepath.Join(spec.GetCwd(), path)
		}
		if root.Lacks(path) {
			return fmt.Errorf("run %q: there is no such program in the container", program)
		}
		return nil
	}
	var path string
	for _, v := range spec.GetEnv() {
		if value, ok := strings.CutPrefix(v, "PATH="); ok {
			path = value
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) && !root.Lacks(filepath.Join(dir, program)) {
			return nil
		}
	}
	return fmt.Errorf("run %q: no directory of the container's PATH %q has such a program", program, path)
}
