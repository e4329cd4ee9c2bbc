#!/bin/sh
# build.sh OUT compiles firstfit to the file OUT. It needs clang and its linker for WASM (Debian: clang, lld).
set -eu
here=$(dirname "$0")
exec clang --target=wasm32 -std=c11 -O2 -ffreestanding -nostdlib -mbulk-memory -msign-ext \
	-Wall -Wextra -Werror -I"$here/../../sdk/guest/c" \
	-Wl,--no-entry -Wl,--stack-first -Wl,--strip-debug -o "${1:?where to write the module}" "$here/firstfit.c"
