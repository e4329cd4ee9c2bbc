//go:build cgo && seccomp

package seccomp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/seccomp/libseccomp-golang"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// maxInstructions is the kernel's bound of a program.
const maxInstructions = 4096

// architecture is one that filters can be made for.
type architecture struct {
	// word is the library's for it, and audit the kernel's.
	word  string
	audit uint32
}

var architectures = map[specs.Arch]architecture{
	specs.ArchX86_64:  {"amd64", unix.AUDIT_ARCH_X86_64},
	specs.ArchX32:     {"x32", unix.AUDIT_ARCH_X86_64},
	specs.ArchX86:     {"x86", unix.AUDIT_ARCH_I386},
	specs.ArchAARCH64: {"arm64", unix.AUDIT_ARCH_AARCH64},
	specs.ArchARM:     {"arm", unix.AUDIT_ARCH_ARM},
	specs.ArchRISCV64: {"riscv64", unix.AUDIT_ARCH_RISCV64},
}

var operators = map[specs.LinuxSeccompOperator]seccomp.ScmpCompareOp{
	specs.OpNotEqual: seccomp.CompareNotEqual, specs.OpLessThan: seccomp.CompareLess,
	specs.OpLessEqual: seccomp.CompareLessOrEqual, specs.OpEqualTo: seccomp.CompareEqual,
	specs.OpGreaterEqual: seccomp.CompareGreaterEqual, specs.OpGreaterThan: seccomp.CompareGreater,
	specs.OpMaskedEqual: seccomp.CompareMaskedEqual,
}

// Compile makes the program of p: an array of struct sock_filter, for the architectures
// that p names. A profile with more than names, actions Allow and Errno, and conditions
// is refused.
func Compile(p *specs.LinuxSeccomp) ([]byte, error) {
	program, err := compile(p)
	if err != nil {
		return nil, fmt.Errorf("seccomp: compile profile: %w", err)
	}
	return program, nil
}

func compile(p *specs.LinuxSeccomp) ([]byte, error) {
	if len(p.Flags) > 0 || p.ListenerPath != "" {
		return nil, fmt.Errorf("flags %v and listener %q are not supported", p.Flags, p.ListenerPath)
	}
	fallback, err := action(p.DefaultAction, p.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	filter, err := seccomp.NewFilter(fallback)
	if err != nil {
		return nil, err
	}
	defer filter.Release()
	if err := addArches(filter, p.Architectures); err != nil {
		return nil, err
	}
	// A tree of comparisons, not a list; older libraries can't, and it is only faster.
	_ = filter.SetOptimize(2)
	for _, call := range p.Syscalls {
		if err := allow(filter, call, fallback); err != nil {
			return nil, err
		}
	}
	rest, err := export(filter)
	if err != nil {
		return nil, err
	}
	news, err := known(p)
	if err != nil {
		return nil, err
	}
	head, err := bpf.Assemble(denyUnknown(news))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, i := range head {
		filter := unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K}
		if err := binary.Write(&out, binary.NativeEndian, filter); err != nil {
			return nil, err
		}
	}
	out.Write(rest)
	if n := out.Len() / binary.Size(unix.SockFilter{}); n > maxInstructions {
		return nil, fmt.Errorf("the program has %d instructions, and the kernel takes %d", n, maxInstructions)
	}
	return out.Bytes(), nil
}

func action(a specs.LinuxSeccompAction, errno *uint) (seccomp.ScmpAction, error) {
	switch a {
	case specs.ActAllow:
		return seccomp.ActAllow, nil
	case specs.ActErrno:
		number := uint(unix.EPERM)
		if errno != nil {
			number = *errno
		}
		return seccomp.ActErrno.SetReturnCode(int16(number)), nil
	}
	return seccomp.ActInvalid, fmt.Errorf("action %s is not supported", a)
}

// addArches adds those that p names; a filter has its own from the start.
func addArches(filter *seccomp.ScmpFilter, names []specs.Arch) error {
	for _, name := range names {
		arch, err := seccomp.GetArchFromString(architectures[name].word)
		if err == nil {
			err = filter.AddArch(arch)
		}
		if err != nil {
			return fmt.Errorf("architecture %s: %w", name, err)
		}
	}
	return nil
}

// allow adds the rules of one entry. System calls that the library does not know are left
// out: they get the profile's default, or look unknown to the container.
func allow(filter *seccomp.ScmpFilter, call specs.LinuxSyscall, fallback seccomp.ScmpAction) error {
	act, err := action(call.Action, call.ErrnoRet)
	if err != nil || act == fallback {
		return err
	}
	rules, err := conditions(call.Args)
	if err != nil {
		return err
	}
	for _, name := range call.Names {
		number, err := seccomp.GetSyscallFromName(name)
		if err != nil {
			continue
		}
		for _, rule := range rules {
			if err := filter.AddRuleConditional(number, act, rule); err != nil {
				return fmt.Errorf("rule for %s: %w", name, err)
			}
		}
	}
	return nil
}

// conditions are a rule in which all must hold, or where several are on one argument, a
// rule for each, as the profile's format has it.
func conditions(args []specs.LinuxSeccompArg) ([][]seccomp.ScmpCondition, error) {
	var all []seccomp.ScmpCondition
	var indices []uint
	for _, a := range args {
		operator, ok := operators[a.Op]
		if !ok {
			return nil, fmt.Errorf("comparison %s is not supported", a.Op)
		}
		c, err := seccomp.MakeCondition(a.Index, operator, a.Value, a.ValueTwo)
		if err != nil {
			return nil, err
		}
		all, indices = append(all, c), append(indices, a.Index)
	}
	slices.Sort(indices)
	if len(slices.Compact(indices)) == len(all) {
		return [][]seccomp.ScmpCondition{all}, nil
	}
	var each [][]seccomp.ScmpCondition
	for _, c := range all {
		each = append(each, []seccomp.ScmpCondition{c})
	}
	return each, nil
}

// known finds the newest system call that p names, for each architecture.
func known(p *specs.LinuxSeccomp) ([]newest, error) {
	var all []newest
	for _, name := range p.Architectures {
		arch, err := seccomp.GetArchFromString(architectures[name].word)
		if err != nil {
			return nil, err
		}
		var last seccomp.ScmpSyscall
		for _, call := range p.Syscalls {
			for _, syscall := range call.Names {
				if n, err := seccomp.GetSyscallFromNameByArch(syscall, arch); err == nil {
					last = max(last, n)
				}
			}
		}
		all = append(all, newest{architectures[name].audit, uint32(last)})
	}
	return all, nil
}

// export gets the program out of the library, which writes to files only.
func export(filter *seccomp.ScmpFilter) ([]byte, error) {
	from, to, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer from.Close()
	failed := make(chan error, 1)
	go func() {
		err := filter.ExportBPF(to)
		to.Close()
		failed <- err
	}()
	program, err := io.ReadAll(from)
	if failure := <-failed; failure != nil {
		return nil, failure
	}
	return program, err
}
