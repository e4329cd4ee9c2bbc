package seccomp_test

import (
	"slices"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/gantry-project/gantry/isolators/seccomp"
)

func TestDefaultFollowsCapabilities(t *testing.T) {
	for _, tc := range []struct {
		syscall      string
		capabilities []string
		allowed      bool
	}{
		{"read", nil, true},
		{"mount", nil, false},
		{"mount", []string{"CAP_SYS_ADMIN"}, true},
		{"kexec_load", nil, false},
		{"kexec_load", []string{"CAP_SYS_ADMIN"}, false},
	} {
		p, err := seccomp.Default(tc.capabilities)
		if err != nil {
			t.Fatal(err)
		}
		if p.DefaultAction != specs.ActErrno {
			t.Errorf("what the profile does not name gets %s, not an error", p.DefaultAction)
		}
		if got := allows(p, tc.syscall); got != tc.allowed {
			t.Errorf("with %v: %s allowed = %v, want %v", tc.capabilities, tc.syscall, got, tc.allowed)
		}
	}
}

func allows(p *specs.LinuxSeccomp, syscall string) bool {
	return slices.ContainsFunc(p.Syscalls, func(s specs.LinuxSyscall) bool {
		return s.Action == specs.ActAllow && slices.Contains(s.Names, syscall)
	})
}
