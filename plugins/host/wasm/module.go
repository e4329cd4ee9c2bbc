package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	wasi "github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// Names of the ABI; see sdk/guest/ABI.md.
const (
	abiPrefix  = "gantry_abi_"
	abiVersion = abiPrefix + "1"
	allocName  = "gantry_alloc"
	stepName   = "gantry_allocator_step"
	ourImports = "gantry"
	logName    = "log"
)

// features that a module may use: what today's compilers emit, without SIMD and without
// reference types, by which a table could grow past all bounds.
const features = api.CoreFeaturesV1 | api.CoreFeatureBulkMemoryOperations | api.CoreFeatureMultiValue |
	api.CoreFeatureNonTrappingFloatToIntConversion | api.CoreFeatureSignExtensionOps

// wasiImports are what runtimes of languages need to start and to die. There is nothing
// behind them: no file, argument or variable, a clock that stands still but for ticking
// when asked, random numbers that are always the same.
var wasiImports = []string{
	"args_get", "args_sizes_get", "environ_get", "environ_sizes_get",
	"clock_res_get", "clock_time_get", "random_get",
	"fd_close", "fd_fdstat_get", "fd_fdstat_set_flags", "fd_prestat_dir_name", "fd_prestat_get",
	"fd_read", "fd_seek", "fd_write", "poll_oneoff", "proc_exit", "sched_yield",
}

// pagesPerMB counts WASM's units of memory.
const pagesPerMB = 16

// limits are what a module gets.
type limits struct {
	memoryMB uint32
	deadline time.Duration // for one call
	cacheDir string        // empty: none
	log      io.Writer
	// overrun is called when a call has taken too long, while it still goes on. It ends
	// the process: nothing else stops a module.
	overrun func(what string)
}

// watch has overrun called unless the result is, in time. what completes "did not".
func (l limits) watch(what string) (done func() bool) {
	return time.AfterFunc(l.deadline, func() { l.overrun(what) }).Stop
}

// module is compiled and found to speak our ABI.
type module struct {
	limits
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	heap     heap
}

// load compiles the module and checks what it imports and exports.
func load(ctx context.Context, code []byte, l limits) (*module, error) {
	config := wazero.NewRuntimeConfigCompiler().WithCoreFeatures(features).
		WithMemoryLimitPages(l.memoryMB * pagesPerMB).
		WithMemoryCapacityFromMax(true) // which is address space: no growth leaves garbage behind
	if l.cacheDir != "" {
		cache, err := wazero.NewCompilationCacheWithDir(l.cacheDir)
		if err != nil {
			return nil, fmt.Errorf("keep machine code in %s: %w", l.cacheDir, err)
		}
		config = config.WithCompilationCache(cache)
	}
	m := &module{limits: l, runtime: wazero.NewRuntimeWithConfig(ctx, config)}
	if err := m.prepare(ctx, code); err != nil {
		return nil, errors.Join(err, m.runtime.Close(ctx))
	}
	return m, nil
}

func (m *module) prepare(ctx context.Context, code []byte) (err error) {
	if m.compiled, err = m.runtime.CompileModule(ctx, code); err != nil {
		return fmt.Errorf("this is no WASM module that can run here (with %d MB of memory): %w", m.memoryMB, err)
	}
	if err := checkImports(m.compiled); err != nil {
		return err
	}
	if err := checkExports(m.compiled); err != nil {
		return err
	}
	if _, err := wasi.Instantiate(ctx, m.runtime); err != nil {
		return fmt.Errorf("prepare %s: %w", wasi.ModuleName, err)
	}
	i32 := api.ValueTypeI32
	_, err = m.runtime.NewHostModuleBuilder(ourImports).NewFunctionBuilder().
		WithGoModuleFunction(api.GoModuleFunc(guestLogs), []api.ValueType{i32, i32, i32}, nil).Export(logName).
		Instantiate(ctx)
	if err != nil {
		return fmt.Errorf("prepare %s: %w", ourImports, err)
	}
	return nil
}

// checkImports refuses a module that wants more than there is.
func checkImports(m wazero.CompiledModule) error {
	for _, f := range m.ImportedFunctions() {
		from, name, _ := f.Import()
		switch {
		case from == ourImports && name == logName:
		case from == wasi.ModuleName && slices.Contains(wasiImports, name):
		default:
			return fmt.Errorf("the module imports %s.%s, which it must not have; there are %s.%s and, of %s, %s",
				from, name, ourImports, logName, wasi.ModuleName, strings.Join(wasiImports, ", "))
		}
	}
	for _, memory := range m.ImportedMemories() {
		from, name, _ := memory.Import()
		return fmt.Errorf("the module imports its memory (%s.%s); it must have one of its own and export it", from, name)
	}
	return nil
}

// checkExports refuses a module that does not speak our ABI.
func checkExports(m wazero.CompiledModule) error {
	functions := m.ExportedFunctions()
	if _, ok := functions[abiVersion]; !ok {
		for name := range functions { // any order: there is at most one
			if version, ok := strings.CutPrefix(name, abiPrefix); ok {
				return fmt.Errorf("the module speaks version %s of the ABI, and this host version 1; build it against this version's sdk/guest", version)
			}
		}
		return fmt.Errorf("the module does not export %s, so it is no plugin of Gantry; see sdk/guest/ABI.md", abiVersion)
	}
	if _, ok := m.ExportedMemories()["memory"]; !ok {
		return errors.New("the module does not export its memory, under the name memory")
	}
	i32, i64 := api.ValueTypeI32, api.ValueTypeI64
	for _, want := range []struct {
		name            string
		params, results []api.ValueType
		text            string
	}{
		{allocName, []api.ValueType{i32}, []api.ValueType{i32}, "(i32) -> i32"},
		{stepName, []api.ValueType{i32, i32}, []api.ValueType{i64}, "(i32, i32) -> i64"},
	} {
		f, ok := functions[want.name]
		if !ok {
			return fmt.Errorf("the module does not export %s, which an allocator has", want.name)
		}
		if !slices.Equal(f.ParamTypes(), want.params) || !slices.Equal(f.ResultTypes(), want.results) {
			return fmt.Errorf("the module's %s is not of type %s", want.name, want.text)
		}
	}
	return nil
}
