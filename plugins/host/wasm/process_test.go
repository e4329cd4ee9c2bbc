package main

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-project/gantry/kernel/host"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

// binaries is a folder with this plugin, built as the product's is.
var binaries string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "gantry-host-wasm-test-")
	if err != nil {
		panic(err)
	}
	build := exec.Command("go", "build", "-o", filepath.Join(dir, "host-wasm"), ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		panic(err)
	}
	binaries = dir
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// office is the kernel's side of the conversations with an allocator: it tells each one
// the same, and passes on what it hears.
type office struct {
	message *allocatorpb.ToAllocator
	answers chan *allocatorpb.FromAllocator
}

func (o office) ServeAllocator(ctx context.Context, _ string, _ []byte, s host.AllocatorStream) error {
	if err := s.Send(o.message); err != nil {
		return fmt.Errorf("tell the allocator: %w", err)
	}
	for {
		m, err := s.Recv()
		if err != nil {
			return fmt.Errorf("hear the allocator: %w", err)
		}
		select {
		case o.answers <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// hosted is the kernel's host with one plugin, which is a module.
type hosted struct {
	*host.Host
	t *testing.T
	office
}

// launch starts the module as plugins.toml would have it.
func launch(t *testing.T, code []byte, toml string) *hosted {
	t.Helper()
	dir := t.TempDir()
	module, plugins := filepath.Join(dir, "x.wasm"), filepath.Join(dir, "plugins.toml")
	text := fmt.Sprintf("[plugin.policy]\nkind = \"allocator\"\nmodule = %q\n%s\n", module, toml)
	if err := os.WriteFile(module, code, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(plugins, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	manifest, err := host.Load(plugins)
	if err != nil {
		t.Fatal(err)
	}
	snapshot := full(3)
	snapshot.Epoch, snapshot.Revision = 7, 8
	o := office{snapshot, make(chan *allocatorpb.FromAllocator)}
	h, err := host.New(host.Config{
		Manifest: manifest, BinDir: binaries, Dir: filepath.Join(dir, "run"), Allocators: o, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return &hosted{h, t, o}
}

// await waits until the plugin is as it should be.
func (h *hosted) await(what string, is func(host.Status) bool) host.Status {
	h.t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		s := h.Status()[0]
		if is(s) {
			return s
		}
		select {
		case <-deadline:
			h.t.Fatalf("not %s: %+v", what, s)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

func (h *hosted) hear() *allocatorpb.FromAllocator {
	h.t.Helper()
	select {
	case m := <-h.answers:
		return m
	case <-time.After(30 * time.Second):
		h.t.Fatalf("no answer: %+v", h.Status()[0])
		return nil
	}
}

// The same contract, through every process that the product has.
func TestModuleIsAnAllocator(t *testing.T) {
	h := launch(t, firstfitCode(t), "")
	for range 2 {
		m := h.hear()
		if m.Epoch != 7 || m.Revision != 8 || shown(m.Grants) != "f0000@s00002 f0000@s00001 f0000@s00000" {
			t.Fatal(m)
		}
		pid := h.await("running", func(s host.Status) bool { return s.State == host.Running }).Pid
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil { // and all over again
			t.Fatal(err)
		}
	}
}

// Whatever a module does, its plugin is started again, and the operator is told why.
func TestHostSurvivesItsModules(t *testing.T) {
	const late = "the module did not take a message of "
	fill := slices.Concat(op(i32, 0), op(i32, 0), op(i32, 64<<20), []byte{0xfc, 11, 0}) // memory.fill
	for _, test := range []struct {
		name string
		code []byte
		want string
	}{
		{"loop", assemble(guest{step: forever}), late},
		{"loop in alloc", assemble(guest{alloc: forever}), late},
		{"loop at start", assemble(guest{start: forever}), "the module did not start within 300ms"},
		{"calls that multiply", assemble(guest{chain: 60, step: slices.Concat(op(i32, 1), []byte{call, 63, extend})}), late},
		{"fills that multiply", assemble(guest{pages: 1024, step: slices.Concat(bytes.Repeat(fill, 2000), result(0, 0))}), late},
		{"memory, then a loop", assemble(guest{step: slices.Concat(op(i32, 900), []byte{grow, 0}, forever)}), late},
		{"trap", assemble(guest{step: []byte{trap}}), "the module failed: wasm error: unreachable"},
		{"recursion", assemble(guest{step: []byte{get, 0, get, 1, call, 2}}), "stack overflow"},
		{"nonsense", assemble(guest{step: result(1<<31, 9)}), "answers with 9 bytes at 0x80000000"},
		{"import", assemble(guest{imports: []string{"env.system"}}), "imports env.system, which it must not have"},
		{"no module", []byte("MZ"), "this is no WASM module"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			h := launch(t, test.code, "module_deadline_ms = 300")
			h.await("ended because "+test.want, func(s host.Status) bool { return strings.Contains(s.Message, test.want) })
			h.await("started again", func(s host.Status) bool { return s.Restarts > 0 })
		})
	}
}
