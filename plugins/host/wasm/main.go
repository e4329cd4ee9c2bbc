// Command host-wasm is a plugin that runs a WASM module: it speaks the plugin contracts
// with the kernel, and with the module the ABI of sdk/guest/ABI.md, which carries the
// same messages. The kernel's host starts it for an entry with module = "FILE.wasm".
//
// A module is not trusted. It reaches its own memory and gantry.log, and no more; memory,
// messages and log lines are bounded. After a trap its instance is thrown away, and the
// conversation ends with the reason: the kernel begins another one, with a snapshot.
//
// A module that is late ends the whole process. Machine code can't be preempted from
// within: what wazero can do about it (checks in every loop) makes loops many times
// slower, and stops neither a chain of calls nor one long memory.fill.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"google.golang.org/grpc"

	"github.com/gantry-project/gantry/sdk/plugin"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

// maxModuleBytes bounds the file: the largest useful ones, of Go, have some 5 MB.
const maxModuleBytes = 32 << 20

func main() {
	file := flag.String("module", "", "`FILE` with the module")
	cache := flag.String("cache", "", "`DIR` that keeps machine code between starts; it is code that will be run, so nobody else may write there")
	memory := flag.Uint("memory-mb", 64, "memory of the module, in `MB`")
	deadline := flag.Duration("deadline", 2*time.Second, "`TIME` that the module has for one message")
	flag.Parse()
	// One thread beside the module's, so that the watchdog and health checks have their say.
	runtime.GOMAXPROCS(max(2, runtime.GOMAXPROCS(0)))
	log := os.Stderr // go-plugin puts something else there, that loses the last words of a process
	l := limits{memoryMB: uint32(*memory), deadline: *deadline, cacheDir: *cache, log: log, overrun: func(what string) {
		fmt.Fprintf(log, "the module did not %s within %s (module_deadline_ms)\n", what, *deadline)
		os.Exit(1)
	}}
	m, err := open(context.Background(), *file, l)
	if err != nil {
		fmt.Fprintln(log, err)
		os.Exit(1)
	}
	m.heap.own()
	plugin.Serve(func(s *grpc.Server) {
		allocatorpb.RegisterAllocatorServer(s, &server{module: m})
	})
}

// open loads the module in the file.
func open(ctx context.Context, path string, l limits) (*module, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the module: %w", err)
	}
	defer f.Close()
	code, err := io.ReadAll(io.LimitReader(f, maxModuleBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the module: %w", err)
	}
	if len(code) > maxModuleBytes {
		return nil, fmt.Errorf("the module has more than %d MB; strip it of debug information", maxModuleBytes>>20)
	}
	return load(ctx, code, l)
}
