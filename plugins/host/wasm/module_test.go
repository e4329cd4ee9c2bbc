package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

func TestModulesThatAreRefused(t *testing.T) {
	for _, test := range []struct {
		name string
		code []byte
		want string
	}{
		{"empty", nil, "this is no WASM module that can run here"},
		{"no module", []byte("#!/bin/sh\n"), "this is no WASM module that can run here (with 64 MB of memory): invalid magic number"},
		{"cut short", assemble(guest{})[:60], "this is no WASM module"},
		{"code of the wrong type", assemble(guest{step: op(i32, 1)}), "this is no WASM module"},
		{"nothing in it", []byte("\x00asm\x01\x00\x00\x00"), "does not export gantry_abi_1, so it is no plugin of Gantry"},
		{"forbidden import", assemble(guest{imports: []string{"gantry.open"}}), "the module imports gantry.open, which it must not have; there are gantry.log and"},
		{"unknown import", assemble(guest{imports: []string{"env.system"}}), "the module imports env.system, which it must not have"},
		{"files", assemble(guest{imports: []string{"wasi_snapshot_preview1.path_open"}}), "the module imports wasi_snapshot_preview1.path_open, which"},
		{"no marker", assemble(guest{rename: map[string]string{"gantry_abi_1": "abi"}}), "does not export gantry_abi_1"},
		{"later version", assemble(guest{rename: map[string]string{"gantry_abi_1": "gantry_abi_2"}}), "speaks version 2 of the ABI, and this host version 1"},
		{"no alloc", assemble(guest{rename: map[string]string{"gantry_alloc": "malloc"}}), "does not export gantry_alloc, which an allocator has"},
		{"no step", assemble(guest{rename: map[string]string{"gantry_allocator_step": "step"}}), "does not export gantry_allocator_step"},
		{"wrong type", assemble(guest{rename: map[string]string{
			"gantry_alloc": "gantry_allocator_step", "gantry_allocator_step": "gantry_alloc"}}), "the module's gantry_alloc is not of type (i32) -> i32"},
		{"no memory", assemble(guest{rename: map[string]string{"memory": "mem"}}), "does not export its memory"},
		{"too much memory", assemble(guest{pages: 1025}), "(with 64 MB of memory): section memory: min 1025 pages (64 Mi) over limit of 1024 pages (64 Mi)"},
		{"tables that grow", assemble(guest{table: true, step: slices.Concat(
			[]byte{0xd0, 0x70}, op(i32, 1), []byte{0xfc, 15, 0, extend})}), `feature "reference-types" is disabled`},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := load(context.Background(), test.code, unlimited(t, nil))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestLargeFileIsRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "large.wasm")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, maxModuleBytes+1); err != nil {
		t.Fatal(err)
	}
	if _, err := open(context.Background(), file, unlimited(t, nil)); err == nil || !strings.Contains(err.Error(), "more than 32 MB") {
		t.Fatal(err)
	}
}

// What a module does when it is called costs it its instance, and nothing else.
func TestModulesThatMisbehave(t *testing.T) {
	for _, test := range []struct {
		name  string
		guest guest
		want  string
	}{
		{"trap", guest{step: []byte{trap}}, "the module failed: wasm error: unreachable"},
		{"trap in alloc", guest{alloc: []byte{trap}}, "the module failed: wasm error: unreachable"},
		{"trap at start", guest{start: []byte{trap}}, "start the module: the module failed: "},
		{"recursion", guest{step: []byte{get, 0, get, 1, call, 2}}, "stack overflow"},
		{"no room", guest{alloc: op(i32, 0)}, "has no memory left for a message of 2 bytes; it has 0 MB of 64 (module_memory_mb)"},
		{"room at the end", guest{alloc: op(i32, 65535)}, "wants a message of 2 bytes at 0xffff, and its memory ends at 0x10000"},
		{"room nowhere", guest{alloc: op(i32, -1)}, "wants a message of 2 bytes at 0xffffffff"},
		{"answer beyond memory", guest{step: result(65536, 1)}, "answers with 1 bytes at 0x10000, and its memory ends at 0x10000"},
		{"answer across the end", guest{step: result(65000, 1000)}, "answers with 1000 bytes at 0xfde8"},
		{"giant answer", guest{step: result(0, maxAnswerBytes+1)}, "answers with 16777217 bytes; at most 16777216 are allowed"},
		{"giant error", guest{step: result(0, 1<<32-1)}, "answers with 2147483647 bytes"},
		{"more memory than allowed", guest{step: slices.Concat(op(i32, 1024), []byte{grow, 0, extend})}, "answers with 2147483647 bytes"},
		{"no message", guest{step: result(0, 100)}, "the module's answer of 100 bytes is no FromAllocator"},
		{"error", guest{step: result(1024, 2|failed)}, "the module says: \x08\x07"}, // our own message
		{"end", guest{wasi: true, step: slices.Concat(op(i32, 7), []byte{call, 0, trap})}, "the module ended itself with status 7"},
		{"log beyond memory", guest{logs: true, step: slices.Concat(op(i32, 1), op(i32, 65535), op(i32, 2), []byte{call, 0, trap})},
			"gantry.log of 2 bytes at 0xffff, and the memory ends at 0x10000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := loaded(t, assemble(test.guest), unlimited(t, &bytes.Buffer{}))
			ctx := context.Background()
			i, err := m.instantiate(ctx)
			if err == nil {
				defer i.close()
				_, err = i.apply(ctx, &allocatorpb.ToAllocator{Epoch: 7})
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("got %v\nwant %s", err, test.want)
			}
		})
	}
}

// A module that says nothing wrong, and one that says too much.
func TestLog(t *testing.T) {
	log := &bytes.Buffer{}
	say := slices.Concat(op(i32, 2), op(i32, 1024), op(i32, 4), []byte{call, 0})
	m := loaded(t, assemble(guest{logs: true, step: slices.Concat(say, result(0, 0))}), unlimited(t, log))
	k := newKernel(t, m)
	if grants := k.tell(&allocatorpb.ToAllocator{Epoch: 'A', Revision: 'B'}); len(grants) != 0 || log.String() != "warning: \bA\x10B\n" {
		t.Fatalf("%v, and logged %q", grants, log)
	}
	log.Reset()
	d := diary{out: log, left: 5}
	for range 3 {
		if n, err := d.Write([]byte("abc")); n != 3 || err != nil {
			t.Fatal(n, err)
		}
	}
	d.close()
	if log.String() != "abcab4 bytes that the module logged were dropped\n" {
		t.Fatalf("%q", log)
	}
}

// Machine code is found again by the next process.
func TestCache(t *testing.T) {
	l := unlimited(t, &bytes.Buffer{})
	l.cacheDir = t.TempDir()
	for range 2 {
		k := newKernel(t, loaded(t, assemble(guest{}), l))
		k.tell(&allocatorpb.ToAllocator{})
	}
	var files int
	err := filepath.WalkDir(l.cacheDir, func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			files++
		}
		return err
	})
	if err != nil || files == 0 {
		t.Fatal(files, err)
	}
}
