package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// Garbage is collected once there is so much of it, and looked for so often.
const (
	maxGarbageBytes = 16 << 20
	heapPause       = 5 * time.Second
)

// heap is this process's own. Its garbage is collected only while no module runs: the
// collector stops every thread for a moment, and waits for the one that runs a module's
// machine code, which does not stop. So a module that never returns would hold up the
// watchdog, too.
type heap struct {
	module    sync.Mutex // held while a module runs
	collected uint64     // bytes that had been allocated by then
}

// own takes the heap from the runtime, for as long as the process lives.
func (h *heap) own() {
	debug.SetGCPercent(-1)
	debug.FreeOSMemory() // of compiling
	go func() {
		for range time.Tick(heapPause) {
			h.tend()
		}
	}()
}

// tend collects garbage if it is worth it.
func (h *heap) tend() {
	h.module.Lock()
	defer h.module.Unlock()
	allocated := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(allocated)
	if bytes := allocated[0].Value.Uint64(); bytes-h.collected > maxGarbageBytes {
		runtime.GC()
		h.collected = bytes
	}
}
