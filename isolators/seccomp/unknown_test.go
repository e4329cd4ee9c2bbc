package seccomp

import (
	"encoding/binary"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func TestNewerSystemCallsLookUnknown(t *testing.T) {
	const rest = 42 // what the profile itself says
	program := append(denyUnknown([]newest{
		{unix.AUDIT_ARCH_X86_64, 450}, {unix.AUDIT_ARCH_I386, 440}, {unix.AUDIT_ARCH_X86_64, x32Bit | 547},
	}), bpf.RetConstant{Val: rest})
	machine, err := bpf.NewVM(program)
	if err != nil {
		t.Fatal(err)
	}
	const unknown = returnErrno | int(unix.ENOSYS)
	for _, tc := range []struct {
		audit, number uint32
		want          int
	}{
		{unix.AUDIT_ARCH_X86_64, 0, rest},
		{unix.AUDIT_ARCH_X86_64, 450, rest},
		{unix.AUDIT_ARCH_X86_64, 451, unknown},
		{unix.AUDIT_ARCH_X86_64, x32Bit - 1, unknown},
		{unix.AUDIT_ARCH_X86_64, x32Bit | 1, rest},
		{unix.AUDIT_ARCH_X86_64, x32Bit | 547, rest},
		{unix.AUDIT_ARCH_X86_64, x32Bit | 548, unknown},
		{unix.AUDIT_ARCH_X86_64, 1<<32 - 1, unknown},
		{unix.AUDIT_ARCH_I386, 440, rest},
		{unix.AUDIT_ARCH_I386, 441, unknown},
		{unix.AUDIT_ARCH_I386, x32Bit | 1, unknown},
		{unix.AUDIT_ARCH_AARCH64, 5000, rest},
	} {
		// The machine of the library reads words in the network's order, the kernel in its own.
		call := make([]byte, 64)
		binary.BigEndian.PutUint32(call[numberAt:], tc.number)
		binary.BigEndian.PutUint32(call[archAt:], tc.audit)
		if got, err := machine.Run(call); err != nil || got != tc.want {
			t.Errorf("call %#x of %#x: %#x, %v; want %#x", tc.number, tc.audit, got, err, tc.want)
		}
	}
}
