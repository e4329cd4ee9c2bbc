// Package v2test runs the tests of the isolators and of the keeper on a host that has
// nothing but cgroup v2, which the machine at hand may not be: on a stock kernel in a
// virtual machine, emulated in software, whose root filesystem is made for it of this
// machine's programs. Each test of the guest is one here.
//
//	make test-v2
//
// gets a kernel and an emulator, and tells the tests where the kernel is:
//
//	GANTRY_V2=/path/to/vmlinuz go test ./isolators/v2test
//
// Without that they skip.
package v2test
