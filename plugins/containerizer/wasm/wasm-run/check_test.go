package main

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	memory := imported("env", "memory", 2, 0, 1)
	for what, test := range map[string]struct {
		code []byte
		want string // "" if it can be run
	}{
		"nothing":          {nil, "no WASM module"},
		"garbage":          {[]byte("#!/bin/sh\n"), "no WASM module"},
		"cut off":          {assemble(guest{})[:60], "no WASM module"},
		"good":             {assemble(guest{}), ""},
		"large memory":     {assemble(guest{memory: []byte{1, 7, 0x80, 0x80, 4}}), ""},
		"sockets":          {assemble(guest{imports: [][]byte{imported(wasiName, "sock_shutdown", 0, 0)}}), "imports \"wasi_snapshot_preview1.sock_shutdown\""}, // by another type
		"function":         {assemble(guest{imports: [][]byte{imported("env", "system", 0, 0)}}), `imports "env.system"`},
		"other WASI":       {assemble(guest{imports: [][]byte{imported("wasi_unstable", "proc_exit", 0, 1)}}), `imports "wasi_unstable.proc_exit"`},
		"unknown function": {assemble(guest{imports: [][]byte{imported(wasiName, "proc_exec", 0, 1)}}), `imports "wasi_snapshot_preview1.proc_exec"`},
		"global":           {assemble(guest{imports: [][]byte{imported("env", "secret", 3, 0x7f, 0)}}), `imports "env.secret (a global)"`},
		"table":            {assemble(guest{imports: [][]byte{imported("env", "calls", 1, 0x70, 1, 1, 2)}}), `imports "env.calls (a table)"`},
		"memory":           {assemble(guest{memory: []byte{0, 1}, imports: [][]byte{memory}}), "no WASM module"}, // a second one
		"many imports":     {[]byte("\x00asm\x01\x00\x00\x00\x02\x05\xff\xff\xff\x7f0"), "section 2 has 5 bytes, and 268435455 entries are too many for that"},
		"library":          {assemble(guest{name: "_initialize"}), "does not export _start"},
		"hidden memory":    {assemble(guest{hidden: true}), "does not export its memory"},
		"bad code":         {assemble(guest{start: []byte{0x6a}}), "no WASM module"},
		"too much memory":  {assemble(guest{memory: []byte{0, 0x81, 0x80, 4}}), "no WASM module"},
	} {
		for _, interpret := range []bool{false, true} {
			o := options{pages: maxPages, interpret: interpret, compile: t.TempDir()}
			found, err := o.check(t.Context(), test.code)
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, %v, not %q", what, found, err, test.want)
			}
			if what == "large memory" && found.Pages != 7 {
				t.Errorf("%s: it begins with %d pages", what, found.Pages)
			}
		}
	}
	many := make([][]byte, 0, 9)
	for range 9 {
		many = append(many, imported("env", "f", 0, 0))
	}
	_, err := options{pages: maxPages, interpret: true}.check(t.Context(), assemble(guest{imports: many}))
	if err == nil || !strings.Contains(err.Error(), "and 4 more") {
		t.Error(err)
	}
}

// FuzzCheck: no module is too strange to be looked at.
func FuzzCheck(f *testing.F) {
	f.Add(assemble(guest{}))
	f.Add(assemble(guest{imports: [][]byte{imported("env", "calls", 1, 0x70, 1, 1, 2), imported("env", "secret", 3, 0x7f, 0)}}))
	f.Add(assemble(guest{start: []byte{0x41, 7, 0x10, 0}, table: []byte{0, 1}}))
	f.Fuzz(func(t *testing.T, code []byte) {
		_, _ = options{pages: maxPages, interpret: true}.check(t.Context(), code)
	})
}
