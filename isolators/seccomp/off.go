//go:build !cgo || !seccomp

package seccomp

import "github.com/opencontainers/runtime-spec/specs-go"

// Compile is ErrNotBuilt.
func Compile(*specs.LinuxSeccomp) ([]byte, error) { return nil, ErrNotBuilt }
