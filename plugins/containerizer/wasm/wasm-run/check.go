package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	wasi "github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// What a module may take to be compiled.
const (
	compileSeconds = 60 // of processor time
	compileBytes   = 1 << 30
)

// facts are what is known of a module once it is compiled.
type facts struct {
	// Pages are those of the memory that it begins with.
	Pages uint32 `json:"pages"`
}

// bound bounds this process before it looks at anything that is not trusted: in time, in what it
// writes, and by being the first to go when memory is short.
func bound() error {
	for resource, most := range map[int]uint64{syscall.RLIMIT_CPU: compileSeconds, syscall.RLIMIT_FSIZE: compileBytes} {
		if err := syscall.Setrlimit(resource, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
			return fmt.Errorf("bound what a compile takes: %w", err)
		}
	}
	if err := os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0); err != nil {
		return fmt.Errorf("bound the memory to compile: %w", err)
	}
	return nil
}

// runtime has a module's memory limited to the option's.
func (o options) runtime(ctx context.Context, cache string) (wazero.Runtime, error) {
	config := wazero.NewRuntimeConfigCompiler()
	if o.interpret {
		config, cache = wazero.NewRuntimeConfigInterpreter(), ""
	}
	config = config.WithMemoryLimitPages(uint32(o.pages))
	if cache != "" {
		c, err := wazero.NewCompilationCacheWithDir(cache)
		if err != nil {
			return nil, fmt.Errorf("keep machine code in %s: %w", cache, err)
		}
		config = config.WithCompilationCache(c)
	}
	return wazero.NewRuntimeWithConfig(ctx, config), nil
}

// check compiles the module and finds out whether it is a command that could run.
func (o options) check(ctx context.Context, code []byte) (facts, error) {
	r, err := o.runtime(ctx, o.compile)
	if err != nil {
		return facts{}, err
	}
	if err := checkCounts(code); err != nil {
		return facts{}, fmt.Errorf("this is no WASM module that can run here: %w", err)
	}
	compiled, err := r.CompileModule(ctx, code)
	if err != nil {
		return facts{}, fmt.Errorf("this is no WASM module that can run here: %w", err)
	}
	there, err := wasi.NewBuilder(r).Compile(ctx)
	if err != nil {
		return facts{}, fmt.Errorf("prepare %s: %w", wasi.ModuleName, err)
	}
	if err := errors.Join(checkFunctions(compiled, there), checkOthers(code), checkCommand(compiled)); err != nil {
		return facts{}, err
	}
	var found facts
	for _, m := range compiled.ExportedMemories() { // any order: there is at most one memory
		found.Pages = m.Min()
	}
	return found, nil
}

// headerBytes come before the sections.
const headerBytes = 8

// checkCounts refuses sections that say that they have more entries than they have bytes: the
// library would make room for them before it looks.
func checkCounts(code []byte) error {
	for rest := code[min(headerBytes, len(code)):]; len(rest) > 0; {
		size, n := binary.Uvarint(rest[1:])
		if n <= 0 || size > uint64(len(rest)-1-n) {
			return fmt.Errorf("section %d is cut off", rest[0])
		}
		id, section := rest[0], rest[1+n:][:size]
		rest = rest[1+n:][size:]
		if id == customSection || id == startSection || id == countSection {
			continue // these begin otherwise
		}
		if entries, _ := binary.Uvarint(section); entries > size {
			return fmt.Errorf("section %d has %d bytes, and %d entries are too many for that", id, size, entries)
		}
	}
	return nil
}

// Sections, as they are numbered.
const (
	customSection = 0
	importSection = 2
	startSection  = 8
	countSection  = 12
)

// maxNamed bounds how many imports an error names.
const maxNamed = 5

// checkFunctions refuses what is not in WASI preview 1.
func checkFunctions(m, there wazero.CompiledModule) error {
	var missing []string
	for _, f := range m.ImportedFunctions() {
		module, name, _ := f.Import()
		is, ok := there.ExportedFunctions()[name]
		if module == wasi.ModuleName && ok && slices.Equal(is.ParamTypes(), f.ParamTypes()) && slices.Equal(is.ResultTypes(), f.ResultTypes()) {
			continue
		}
		missing = append(missing, fmt.Sprintf("%s.%s", module, name))
	}
	return refuse(missing)
}

// refuse is nil if nothing is missing.
func refuse(missing []string) error {
	if len(missing) == 0 {
		return nil
	}
	more := ""
	if n := len(missing) - maxNamed; n > 0 {
		missing, more = missing[:maxNamed], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Errorf("the module imports %q%s, which a task does not have: it has the functions of WASI preview 1 (%s) and nothing else",
		strings.Join(missing, " "), more, wasi.ModuleName)
}

// checkCommand refuses what can't be started.
func checkCommand(m wazero.CompiledModule) error {
	f, ok := m.ExportedFunctions()[startName]
	switch {
	case !ok:
		return fmt.Errorf("the module does not export %s, so it is no command: build a program, not a library", startName)
	case len(f.ParamTypes())+len(f.ResultTypes()) > 0:
		return fmt.Errorf("the module's %s has parameters or results, so it is no command of WASI preview 1", startName)
	}
	if _, ok := m.ExportedMemories()["memory"]; !ok && len(m.ImportedFunctions()) > 0 {
		return errors.New("the module does not export its memory, by the name memory, so it can't call what it imports")
	}
	return nil
}

const startName = "_start"

// kinds of imports, as they are numbered.
var kinds = []string{"function", "table", "memory", "global", "tag"}

// checkOthers refuses imports that are no functions, which the library does not list. The code
// is valid: it has been compiled.
func checkOthers(code []byte) error {
	var missing []string
	r := reader{code: code, at: headerBytes}
	for !r.done() {
		id, size := r.byte(), r.number()
		if id != importSection {
			r.at += size
			continue
		}
		for n := r.number(); n > 0; n-- {
			module, name := r.name(), r.name()
			if kind := r.importKind(); kind != 0 {
				missing = append(missing, fmt.Sprintf("%s.%s (a %s)", module, name, kinds[kind]))
			}
		}
		break
	}
	return refuse(missing)
}

// reader reads a valid module.
type reader struct {
	code []byte
	at   int
}

func (r *reader) done() bool { return r.at >= len(r.code) }

func (r *reader) byte() byte {
	r.at++
	return r.code[r.at-1]
}

func (r *reader) number() int {
	n, shift := 0, 0
	for {
		b := r.byte()
		n |= int(b&0x7f) << shift
		if shift += 7; b < 0x80 {
			return n
		}
	}
}

func (r *reader) name() string {
	n := r.number()
	r.at += n
	return string(r.code[r.at-n : r.at])
}

// importKind reads what follows an import's names.
func (r *reader) importKind() byte {
	kind := r.byte()
	switch api.ExternType(kind) {
	case api.ExternTypeFunc:
		r.number()
	case api.ExternTypeTable:
		r.byte()
		r.limits()
	case api.ExternTypeMemory:
		r.limits()
	case api.ExternTypeGlobal:
		r.byte()
		r.byte()
	default:
		r.byte()
		r.number()
	}
	return kind
}

func (r *reader) limits() {
	flags := r.byte()
	r.number()
	if flags&1 != 0 {
		r.number()
	}
}
