package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	goruntime "runtime"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/experimental"
	"github.com/tetratelabs/wazero/experimental/sysfs"
	wasi "github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"
)

// run runs the module in a file until it ends, and returns the exit status and what there is to
// say of it.
func (o options) run(ctx context.Context, file string, args []string) (int, error) {
	endOn(syscall.SIGTERM)
	code, err := os.ReadFile(file)
	if err != nil {
		return statusNotRun, fmt.Errorf("read the module: %w", err)
	}
	root, err := os.OpenRoot(o.root)
	if err != nil {
		return statusNotRun, fmt.Errorf("open the sandbox: %w", err)
	}
	r, compiled, err := o.load(ctx, code)
	if err != nil {
		return statusNotRun, err
	}
	if _, err := wasi.Instantiate(ctx, r); err != nil {
		return statusNotRun, fmt.Errorf("prepare %s: %w", wasi.ModuleName, err)
	}
	debug.FreeOSMemory() // what it took to load the module is the module's now
	files := wazero.NewFSConfig().(sysfs.FSConfig).WithSysFSMount(&files{root: root}, "/")
	config := wazero.NewModuleConfig().WithName("").WithArgs(args...).
		WithStdout(os.Stdout).WithStderr(os.Stderr).WithFSConfig(files).
		WithSysWalltime().WithSysNanotime().WithSysNanosleep().WithOsyield(goruntime.Gosched).WithRandSource(rand.Reader)
	for _, v := range environment(os.Environ()) {
		name, value, _ := strings.Cut(v, "=")
		config = config.WithEnv(name, value)
	}
	_, err = r.InstantiateModule(experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(reserve)), compiled, config)
	return ending(err)
}

// endOn ends this process with the status that a shell tells of one that a signal ended: in a
// container, where it is the first, its own handling would be another status. A module that is
// busy may hold this up for a collection of garbage; then it is killed, as all who don't end are.
func endOn(s syscall.Signal) {
	goruntime.GOMAXPROCS(max(2, goruntime.GOMAXPROCS(0))) // one beside the module's
	told := make(chan os.Signal, 1)
	signal.Notify(told, s)
	go func() {
		<-told
		os.Exit(128 + int(s))
	}()
}

// load compiles the module, or finds its machine code. Where there is none for this processor,
// the module is compiled for this once: the cache is not for this process to change.
func (o options) load(ctx context.Context, code []byte) (wazero.Runtime, wazero.CompiledModule, error) {
	var failed error
	for _, cache := range []string{o.cache, ""} {
		r, err := o.runtime(ctx, cache)
		if err != nil {
			failed = err
			continue
		}
		compiled, err := r.CompileModule(ctx, code)
		if err == nil {
			return r, compiled, nil
		}
		failed = fmt.Errorf("compile the module: %w", err)
	}
	return nil, nil, failed
}

// environment is the module's: to it, the sandbox is all that there is. WASI has no working
// directory; by PWD some languages have one.
func environment(outside []string) []string {
	env := []string{"MESOS_SANDBOX=/", "PWD=/"}
	for _, v := range outside {
		if !strings.HasPrefix(v, "MESOS_SANDBOX=") && !strings.HasPrefix(v, "PWD=") {
			env = append(env, v)
		}
	}
	return env
}

// ending is what became of a module.
func ending(err error) (int, error) {
	if exit, ok := errors.AsType[*sys.ExitError](err); ok {
		return int(min(exit.ExitCode(), statusMax)), nil
	}
	if err != nil {
		return statusTrapped, fmt.Errorf("the module was ended by a fault: %w", err)
	}
	return 0, nil
}
