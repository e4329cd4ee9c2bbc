package seccomp

import (
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	// Where a filter finds what it decides on (struct seccomp_data).
	numberAt, archAt = 0, 4
	wordBytes        = 4
	// x32Bit is set in the numbers of x86-64's second table of system calls.
	x32Bit = 0x4000_0000

	returnErrno = 0x0005_0000
)

// newest is the highest number of a system call that a profile knows of an architecture.
type newest struct {
	audit, number uint32
}

// denyUnknown is the beginning of a filter: system calls that are newer than the profile
// fail as they do on a kernel that lacks them (ENOSYS), because C libraries then try an
// older one, where an EPERM would be final.
func denyUnknown(all []newest) []bpf.Instruction {
	deny := bpf.RetConstant{Val: returnErrno | uint32(unix.ENOSYS)}
	var program []bpf.Instruction
	for _, n := range all {
		var table []bpf.Instruction
		switch {
		case n.number >= x32Bit:
			table = []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: x32Bit, SkipFalse: 2}}
		case n.audit == unix.AUDIT_ARCH_X86_64:
			table = []bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpLessThan, Val: x32Bit, SkipFalse: 2}}
		}
		program = append(program,
			bpf.LoadAbsolute{Off: archAt, Size: wordBytes},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: n.audit, SkipFalse: uint8(3 + len(table))},
			bpf.LoadAbsolute{Off: numberAt, Size: wordBytes},
		)
		program = append(program, table...)
		program = append(program, bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: n.number, SkipTrue: 1}, deny)
	}
	return program
}
