#!/bin/sh
# build.sh OUT compiles tally to the file OUT. It needs clang, its linker and its runtime for WASM, and a C library for WASI
# (Debian: clang, lld, libclang-rt-14-dev-wasm32, wasi-libc; 14 is clang's version).
set -eu
here=$(dirname "$0")
exec clang --target=wasm32-wasi -std=c11 -O2 -Wall -Wextra -Werror -Wl,--strip-all -o "${1:?where to write the module}" "$here/tally.c"
