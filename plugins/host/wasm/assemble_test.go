package main

import (
	"slices"
	"strings"
)

// guest is a module to be assembled by hand: one that does nothing, unless fields say
// otherwise.
type guest struct {
	imports []string // functions without parameters and results, as module.name
	logs    bool     // import gantry.log too, as the last function
	wasi    bool     // import proc_exit too, as the last function
	alloc   []byte   // body, with a size as local 0, for an address
	step    []byte   // body, with address and length, for a result
	start   []byte   // body of a start function
	chain   int      // functions (i32) -> i32 of which each calls the one before it twice
	pages   uint64   // of memory; 1 when not set
	rename  map[string]string
	table   bool // a function that grows a table
}

// Types of functions in assembled modules.
const (
	typeNothing = iota // () -> ()
	typeAlloc          // (i32) -> i32
	typeStep           // (i32, i32) -> i64
	typeLog            // (i32, i32, i32) -> ()
	typeExit           // (i32) -> ()
)

// Instructions.
const (
	trap   = 0x00
	loop   = 0x03
	br     = 0x0c
	end    = 0x0b
	call   = 0x10
	get    = 0x20
	grow   = 0x40
	i32    = 0x41
	i64    = 0x42
	extend = 0xac // i32, signed, to i64
	void   = 0x40
)

// forever is the body of a function that does not return, for any type.
var forever = []byte{loop, void, br, 0, end, trap}

func unsigned(v uint64) (b []byte) {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// signed is a constant's operand.
func signed(v int64) (b []byte) {
	for v < -64 || v > 63 {
		b = append(b, byte(v)|0x80)
		v >>= 7
	}
	return append(b, byte(v)&0x7f)
}

// op is an instruction with its operand.
func op(code byte, operand int64) []byte { return append([]byte{code}, signed(operand)...) }

// result is the body of a step that answers with length bytes at address at.
func result(at, length uint32) []byte { return op(i64, int64(uint64(at)<<32|uint64(length))) }

func name(s string) []byte { return append(unsigned(uint64(len(s))), s...) }

// vector is items with their number before them.
func vector(items [][]byte) []byte {
	return append(unsigned(uint64(len(items))), slices.Concat(items...)...)
}

func section(id byte, items ...[]byte) []byte {
	content := vector(items)
	return slices.Concat([]byte{id}, unsigned(uint64(len(content))), content)
}

func body(code []byte) []byte {
	b := slices.Concat([]byte{0}, code, []byte{end}) // no locals
	return append(unsigned(uint64(len(b))), b...)
}

// imported is an import section's entry.
func imported(function string, kind byte) []byte {
	module, field, _ := strings.Cut(function, ".")
	return slices.Concat(name(module), name(field), []byte{0, kind})
}

// assemble makes a module of g: functions are the imports, then abi, alloc, step, start,
// and the chain.
func assemble(g guest) []byte {
	if g.alloc == nil {
		g.alloc = op(i32, 1024)
	}
	if g.step == nil {
		g.step = result(0, 0)
	}
	types := [][]byte{
		{0x60, 0, 0}, {0x60, 1, 0x7f, 1, 0x7f}, {0x60, 2, 0x7f, 0x7f, 1, 0x7e},
		{0x60, 3, 0x7f, 0x7f, 0x7f, 0}, {0x60, 1, 0x7f, 0},
	}
	var imports [][]byte
	for _, f := range g.imports {
		imports = append(imports, imported(f, typeNothing))
	}
	if g.logs {
		imports = append(imports, imported("gantry.log", typeLog))
	}
	if g.wasi {
		imports = append(imports, imported("wasi_snapshot_preview1.proc_exit", typeExit))
	}
	first := byte(len(imports)) // number of the first function of our own
	functions := [][]byte{{typeNothing}, {typeAlloc}, {typeStep}, {typeNothing}}
	code := [][]byte{body(nil), body(g.alloc), body(g.step), body(g.start)}
	for i := range g.chain {
		functions = append(functions, []byte{typeAlloc})
		before := []byte{get, 0}
		if i > 0 {
			before = []byte{get, 0, call, first + 3 + byte(i), call, first + 3 + byte(i)}
		}
		code = append(code, body(before))
	}
	var exports [][]byte
	for i, f := range []string{"gantry_abi_1", "gantry_alloc", "gantry_allocator_step"} {
		exports = append(exports, g.export(f, 0, first+byte(i)))
	}
	exports = append(exports, g.export("memory", 2, 0))
	parts := [][]byte{[]byte("\x00asm\x01\x00\x00\x00"), section(1, types...), section(2, imports...), section(3, functions...)}
	if g.table {
		parts = append(parts, section(4, []byte{0x70, 0, 1}))
	}
	parts = append(parts, section(5, append([]byte{0}, unsigned(max(g.pages, 1))...)), section(7, exports...))
	if g.start != nil {
		parts = append(parts, []byte{8, 1, first + 3})
	}
	return slices.Concat(append(parts, section(10, code...))...)
}

func (g guest) export(f string, kind, index byte) []byte {
	if other, ok := g.rename[f]; ok {
		f = other
	}
	return append(name(f), kind, index)
}
