package main

import (
	"syscall"

	"github.com/tetratelabs/wazero/experimental"
)

// memory is a module's: reserved as a whole, and taken from the host where it is touched. So
// it grows without a copy, which would need twice as much.
type memory []byte

// reserve implements experimental.MemoryAllocatorFunc.
func reserve(_, max uint64) experimental.LinearMemory {
	if max == 0 {
		return memory(nil)
	}
	m, err := syscall.Mmap(-1, 0, int(max), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON|syscall.MAP_NORESERVE)
	if err != nil {
		return memory(nil) // the module does not begin, with a sentence
	}
	return memory(m)
}

// Reallocate implements experimental.LinearMemory.
func (m memory) Reallocate(size uint64) []byte {
	if size > uint64(len(m)) {
		return nil
	}
	return m[:size:size]
}

// Free leaves the memory to the end of the process, which is near.
func (m memory) Free() {}
