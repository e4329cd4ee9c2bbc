package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	endsName = "reaped"
	// maxEnds bounds the file; when it is full it is set aside, in place of the one before.
	maxEnds = 1 << 20
	// endSize is that of one record, in bytes: the CRC-32C of the rest, version, pid,
	// start ticks, wait status, time in nanoseconds, and the boot id.
	endSize = 4 + 1 + 4 + 8 + 4 + 8 + bootSize
	// bootSize is that of a boot id as the kernel writes it.
	bootSize = 36
)

// End is how a process ended whose parent was a keeper that died.
type End struct {
	Pid int
	// StartTicks is as in keeperpb.Started: with the pid it names one process of a boot.
	StartTicks uint64
	Status     syscall.WaitStatus
	// NeverRan says that it had not become the container's program yet.
	NeverRan bool
}

// neverRan is the bit of a record's wait status, which has 16, that says so.
const neverRan = 1 << 31

// ends is the file that a reaper appends to and its keepers read.
type ends struct {
	dir  string
	boot [bootSize]byte
}

// openEnds removes what stands in the place of the file and is none.
func openEnds(dir, boot string) (ends, error) {
	e := ends{dir: dir}
	copy(e.boot[:], boot)
	info, err := os.Lstat(e.path())
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Mode().IsRegular() {
		return e, nil
	}
	if err == nil {
		err = os.RemoveAll(e.path())
	}
	return e, err
}

// put appends a record. After an error none was, nor part of one.
func (e ends) put(end End, now time.Time) error {
	if err := e.append(e.encode(end, now)); err != nil {
		return fmt.Errorf("note the end of process %d: %w", end.Pid, err)
	}
	return nil
}

func (e ends) append(record []byte) (err error) {
	f, err := os.OpenFile(e.path(), os.O_WRONLY|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Size() >= maxEnds {
		if err := os.Rename(e.path(), e.path()+".1"); err != nil {
			return err
		}
		return e.append(record)
	}
	// Records lie one behind the other; what a dying writer left of one is cut off.
	whole := info.Size() / endSize * endSize
	if whole != info.Size() {
		if err := f.Truncate(whole); err != nil {
			return err
		}
	}
	if _, err := f.Write(record); err != nil {
		return errors.Join(err, f.Truncate(whole))
	}
	return nil
}

// find is how the process ended, if that is on record.
func (e ends) find(pid int, ticks uint64) (End, bool) {
	for _, path := range []string{e.path(), e.path() + ".1"} {
		data, err := readRegular(path, 2*maxEnds)
		if err != nil {
			continue
		}
		for ; len(data) >= endSize; data = data[endSize:] {
			if end, ok := e.decode(data[:endSize]); ok && end.Pid == pid && end.StartTicks == ticks {
				return end, true
			}
		}
	}
	return End{}, false
}

// clear forgets all ends, for when none will be asked for.
func (e ends) clear() error {
	for _, path := range []string{e.path(), e.path() + ".1"} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget ends that were told: %w", err)
		}
	}
	return nil
}

func (e ends) path() string { return filepath.Join(e.dir, endsName) }

func (e ends) encode(end End, now time.Time) []byte {
	b := make([]byte, 4, endSize)
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(end.Pid))
	b = binary.BigEndian.AppendUint64(b, end.StartTicks)
	status := uint32(end.Status)
	if end.NeverRan {
		status |= neverRan
	}
	b = binary.BigEndian.AppendUint32(b, status)
	b = binary.BigEndian.AppendUint64(b, uint64(now.UnixNano()))
	b = append(b, e.boot[:]...)
	binary.BigEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
	return b
}

// decode is false for a record that is damaged, or of another version or boot.
func (e ends) decode(b []byte) (End, bool) {
	if binary.BigEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) || b[4] != recordVersion ||
		[bootSize]byte(b[endSize-bootSize:]) != e.boot {
		return End{}, false
	}
	status := binary.BigEndian.Uint32(b[17:])
	return End{
		Pid:        int(binary.BigEndian.Uint32(b[5:])),
		StartTicks: binary.BigEndian.Uint64(b[9:]),
		Status:     syscall.WaitStatus(status &^ neverRan),
		NeverRan:   status&neverRan != 0,
	}, true
}
