package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// maxCompiles go on at once; others wait.
	maxCompiles = 2
	// compileWithin is how long one may take.
	compileWithin = 2 * time.Minute
	// maxWords bounds what a compile may say, and wordsWithin how long after its end.
	maxWords    = 4 << 10
	wordsWithin = time.Second
	// maxCodeBytes bounds the machine code of one module; the runner has the same bound.
	maxCodeBytes = 1 << 30
)

// compile makes the folder of a module. The module is hostile for all that is known: it is
// compiled by nobody, in a process of its own, which reaches one folder of this module's alone.
func (s *store) compile(name string, code *os.File) error {
	s.compiles <- struct{}{}
	defer func() { <-s.compiles }()
	dir, err := os.MkdirTemp(s.path(begunDir), "compile-")
	if err != nil {
		return fmt.Errorf("compile the module: %w", err)
	}
	defer os.RemoveAll(dir)
	layer := filepath.Join(dir, layerName)
	if err := os.Mkdir(layer, 0o755); err != nil {
		return fmt.Errorf("compile the module: %w", err)
	}
	m, err := s.machineCode(code, filepath.Join(layer, cacheName))
	if err != nil {
		return err
	}
	_, err = code.Seek(0, io.SeekStart)
	if err == nil {
		_, err = keep(filepath.Join(layer, moduleName), code, 0o444)
	}
	if err == nil {
		m.Bytes, err = size(layer)
	}
	var facts []byte
	if err == nil {
		facts, err = json.Marshal(m)
	}
	if err == nil {
		_, err = keep(filepath.Join(dir, factsName), bytes.NewReader(facts), 0o444)
	}
	if err == nil {
		err = place(dir, s.path(modulesDir, name))
	}
	if err != nil {
		return fmt.Errorf("keep the module's machine code: %w", err)
	}
	return nil
}

// machineCode has the module compiled into dir, which it makes.
func (s *store) machineCode(code *os.File, dir string) (module, error) {
	work, err := os.MkdirTemp(s.path(begunDir), "code-")
	if err != nil {
		return module{}, fmt.Errorf("compile the module: %w", err)
	}
	defer os.RemoveAll(work)
	m, err := s.runCompiler(code, work)
	if err != nil {
		return module{}, err
	}
	if err := adopt(work, dir); err != nil {
		return module{}, fmt.Errorf("keep the module's machine code: %w", err)
	}
	return m, nil
}

// runCompiler has the runner compile the module into work. Both are handed over open: nobody
// can go where they are.
func (s *store) runCompiler(code *os.File, work string) (module, error) {
	folder, err := os.Open(work)
	if err != nil {
		return module{}, fmt.Errorf("compile the module: %w", err)
	}
	defer folder.Close()
	runner, err := os.Open(s.path(s.runnerLayer(), runnerName))
	if err != nil {
		return module{}, fmt.Errorf("compile the module: %w", err)
	}
	defer runner.Close()
	if err := folder.Chown(nobody, nobody); err != nil {
		return module{}, fmt.Errorf("compile the module: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), compileWithin)
	defer cancel()
	var told, complained said
	cmd := exec.CommandContext(ctx, "/proc/self/fd/4", "-compile", "/proc/self/fd/3")
	cmd.Args[0], cmd.Dir, cmd.Env = runnerName, "/", []string{"GOMAXPROCS=1"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = code, &told, &complained, []*os.File{folder, runner}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	cmd.WaitDelay = wordsWithin
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if words := strings.TrimSpace(complained.String()); words != "" && exit.Exited() && exit.ExitCode() == 1 {
			return module{}, errors.New(words)
		}
		return module{}, fmt.Errorf("the module takes too much to compile: its compiler ended with %s", exit)
	}
	var m module
	if err == nil {
		err = json.Unmarshal(told.Bytes(), &m)
	}
	if err != nil {
		return module{}, fmt.Errorf("compile the module: %w", err)
	}
	return m, nil
}

// adopt copies what a compile left in work, which may be anything. What it left running, if it
// did, has no hold on the copy.
func adopt(work, dir string) error {
	from, err := os.OpenRoot(work)
	if err != nil {
		return err
	}
	defer from.Close()
	left := int64(maxCodeBytes)
	return fs.WalkDir(from.FS(), ".", func(path string, d fs.DirEntry, err error) error {
		to := filepath.Join(dir, path)
		switch {
		case err != nil:
			return err
		case d.IsDir():
			return errors.Join(os.Mkdir(to, 0o755), os.Chmod(to, 0o755))
		}
		in, err := from.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			return err
		}
		defer in.Close()
		info, err := in.Stat()
		if err == nil && !info.Mode().IsRegular() {
			err = fmt.Errorf("%s is no file", path)
		}
		if err == nil {
			if left -= info.Size(); left < 0 {
				err = fmt.Errorf("it is more than %d MB", maxCodeBytes>>20)
			}
		}
		if err != nil {
			return err
		}
		_, err = keep(to, io.LimitReader(in, info.Size()), 0o444)
		return err
	})
}

// said is what a compile has to say, within bounds.
type said struct{ bytes.Buffer }

// Write implements io.Writer.
func (s *said) Write(p []byte) (int, error) {
	if room := maxWords - s.Len(); room > 0 {
		s.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}
