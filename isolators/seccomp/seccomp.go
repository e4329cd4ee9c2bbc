// Package seccomp says which system calls a container may make: Docker's default
// profile, less what the container's capabilities do not cover. A profile is compiled
// once, and the program is loaded into every container that has it.
//
//	profile, err := seccomp.Default(spec.GetCapabilities())
//	program, err := seccomp.Compile(profile)
package seccomp

import (
	"errors"
	"fmt"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ErrNotBuilt says that the program was built without the tag seccomp, or without cgo.
var ErrNotBuilt = errors.New("this program was built without seccomp: build it with -tags seccomp")

// Default is the profile for a container that keeps capabilities (CAP_...): some system
// calls are allowed only together with a capability.
func Default(capabilities []string) (*specs.LinuxSeccomp, error) {
	// The profile looks at nothing of the container but this.
	container := &specs.Spec{Process: &specs.Process{
		Capabilities: &specs.LinuxCapabilities{Bounding: capabilities},
	}}
	p, err := profile.GetDefaultProfile(container)
	if err != nil {
		return nil, fmt.Errorf("seccomp: default profile: %w", err)
	}
	return p, nil
}
