package meter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"syscall"
	"time"
)

// Source says how numbers came to be.
type Source int

const (
	// FromFiles are numbers that the kernel keeps in a group's files.
	FromFiles Source = iota
	// FromEBPF are numbers that the meter's programs counted.
	FromEBPF
)

// String is "cgroup files" or "eBPF".
func (s Source) String() string {
	if s == FromEBPF {
		return "eBPF"
	}
	return "cgroup files"
}

// Usage is what one group used since it was made, so far as it was counted. No field
// ever gets smaller, but those of traffic are zero where Source is FromFiles.
type Usage struct {
	// User and System are the CPU time of programs and of the kernel on their behalf;
	// their sum is as exact as Source tells, their proportion is sampled.
	User, System time.Duration
	// RxBytes and RxPackets arrived at the group's sockets.
	RxBytes, RxPackets uint64
	// TxBytes and TxPackets left them.
	TxBytes, TxPackets uint64
	// Source says who counted.
	Source Source
}

// CPU is all CPU time.
func (u Usage) CPU() time.Duration { return u.User + u.System }

// plus adds the traffic that was counted; CPU time is the caller's.
func (u Usage) plus(c count) Usage {
	return Usage{
		RxBytes: u.RxBytes + c.RxBytes, RxPackets: u.RxPackets + c.RxPackets,
		TxBytes: u.TxBytes + c.TxBytes, TxPackets: u.TxPackets + c.TxPackets,
		Source: FromEBPF,
	}
}

// keeping is u, with the traffic that was told while somebody counted it.
func (u Usage) keeping(told Usage) Usage {
	if u.Source == FromFiles {
		u.RxBytes, u.RxPackets, u.TxBytes, u.TxPackets = told.RxBytes, told.RxPackets, told.TxBytes, told.TxPackets
	}
	return u
}

// account is what the meter knows of one group.
type account struct {
	dir     string // has the record of what was told
	counted counted
	// base is what was told, and baseCPU what was used, before counting began.
	base    Usage
	baseCPU time.Duration
	told    Usage
}

// times is CPU time by a group's files. User and system need not add up to total, in
// whatever unit they are.
type times struct {
	total        time.Duration
	user, system uint64
}

// split divides total in the proportion of t, such that neither part is less than what
// was told.
func (t times) split(total time.Duration, told Usage) (user, system time.Duration) {
	total = max(total, told.CPU())
	if sum := t.user + t.system; sum > 0 {
		high, low := bits.Mul64(uint64(total), t.system)
		share, _ := bits.Div64(high, low, sum) // at most total: it can't overflow
		system = time.Duration(share)
	}
	system = min(max(system, told.System), told.System+total-told.CPU())
	return total - system, system
}

// attribute has the record on a group's directory. Only root may write it: names that
// begin otherwise can be had by whoever owns the directory.
const attribute = "trusted.gantry.meter"

// recordForm is the first byte of a record and says what follows: the fields of Usage
// but Source, 64 bits each, least byte first.
const recordForm = 1

const recordBytes = 1 + 6*8

// record writes u on the group whose directory is dir.
func record(dir string, u Usage) error {
	data := append(make([]byte, 0, recordBytes), recordForm)
	for _, n := range [...]uint64{
		uint64(u.User), uint64(u.System), u.RxBytes, u.RxPackets, u.TxBytes, u.TxPackets,
	} {
		data = binary.LittleEndian.AppendUint64(data, n)
	}
	if err := syscall.Setxattr(dir, attribute, data, 0); err != nil {
		return &fs.PathError{Op: "set " + attribute + " of", Path: dir, Err: err}
	}
	return nil
}

// recall reads what record wrote; zero if nothing was.
func recall(dir string) (Usage, error) {
	data := make([]byte, recordBytes+1)
	n, err := syscall.Getxattr(dir, attribute, data)
	if errors.Is(err, syscall.ENODATA) {
		return Usage{}, nil
	}
	if err != nil {
		return Usage{}, &fs.PathError{Op: "get " + attribute + " of", Path: dir, Err: err}
	}
	if n != recordBytes || data[0] != recordForm {
		return Usage{}, fmt.Errorf("%s of %s was written by another version of the meter: % x", attribute, dir, data[:n])
	}
	field := func(i int) uint64 { return binary.LittleEndian.Uint64(data[1+8*i:]) }
	return Usage{
		User: time.Duration(field(0)), System: time.Duration(field(1)),
		RxBytes: field(2), RxPackets: field(3), TxBytes: field(4), TxPackets: field(5),
	}, nil
}
