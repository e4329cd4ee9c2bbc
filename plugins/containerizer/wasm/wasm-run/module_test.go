package main

import "slices"

// guest is a module assembled by hand, with proc_exit as its function 0 and a page of memory.
type guest struct {
	imports [][]byte // further ones
	start   []byte   // body
	name    string   // of what it exports in place of _start
	memory  []byte   // limits, in place of 1 page
	hidden  bool     // its memory is not exported
	table   []byte   // limits of a table
}

func number7(n int) (b []byte) {
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

func word(s string) []byte { return append(number7(len(s)), s...) }

func list(items ...[]byte) []byte { return append(number7(len(items)), slices.Concat(items...)...) }

func section(id byte, content []byte) []byte {
	return slices.Concat([]byte{id}, number7(len(content)), content)
}

// imported is an import of a kind, with what follows that.
func imported(module, name string, kind ...byte) []byte {
	return slices.Concat(word(module), word(name), kind)
}

const wasiName = "wasi_snapshot_preview1"

func assemble(g guest) []byte {
	if g.name == "" {
		g.name = "_start"
	}
	if g.memory == nil {
		g.memory = []byte{0, 1}
	}
	functions := 1
	for _, i := range g.imports {
		if i[len(i)-2] == 0 {
			functions++
		}
	}
	types := list([]byte{0x60, 0, 0}, []byte{0x60, 1, 0x7f, 0})
	imports := list(append([][]byte{imported(wasiName, "proc_exit", 0, 1)}, g.imports...)...)
	exports := [][]byte{slices.Concat(word(g.name), []byte{0}, number7(functions))}
	if !g.hidden {
		exports = append(exports, append(word("memory"), 2, 0))
	}
	body := slices.Concat([]byte{0}, g.start, []byte{0x0b})
	parts := [][]byte{[]byte("\x00asm\x01\x00\x00\x00"), section(1, types), section(2, imports), section(3, list([]byte{0}))}
	if g.table != nil {
		parts = append(parts, section(4, list(append([]byte{0x70}, g.table...))))
	}
	parts = append(parts, section(5, list(g.memory)), section(7, list(exports...)), section(10, list(append(number7(len(body)), body...))))
	return slices.Concat(parts...)
}
