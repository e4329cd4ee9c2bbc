// Command wasm-run runs one WASM module inside a container, and compiles modules outside of one.
// It is the runner of the containerizer wasm, which puts it into every container of a module:
//
//	wasm-run [-pages N] [-cache DIR] [-interpret] -root DIR MODULE NAME [ARGUMENT...]
//
// runs the file MODULE as a command of WASI preview 1 that is called NAME. It has arguments,
// environment, clocks, random numbers, stdout and stderr, and the files of DIR as its /, of
// which no link leads out. There is nothing else: what else a module imports is not there.
//
// Its exit status is the module's. A module that traps ends with 134, as a program that aborts
// does, and with the trap on stderr; one that can't be run at all with 126.
//
//	wasm-run -compile DIR <MODULE
//
// checks that the module on stdin can be run, keeps its machine code in DIR, and tells what it
// needs on stdout. If it can't be run a sentence on stderr says why, and the exit status is 1.
// The module is not trusted: whoever compiles it bounds this process.
package main
