// Package seccomp says which system calls a container may make: Docker's default
// profile, less what the container's capabilities do not cover.
//
//	profile, err := seccomp.Default(spec.GetCapabilities())
package seccomp

import (
	"fmt"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

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
