package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/failpoint"
)

const (
	// recordVersion is that of all records; what a newer keeper wrote is not guessed at.
	recordVersion = 1
	// recordHead is what precedes the message: the CRC-32C of the rest, and the version.
	recordHead = 4 + 1
	// maxRecord bounds a record; a Spec, which a request held, is most of one.
	maxRecord = maxRequest + 4<<10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// errDamaged says that a record is not what was written.
	errDamaged = errors.New("record is damaged")
	// errNewer says that another version of the program wrote a record.
	errNewer = errors.New("record is of another version")
)

// An ID names files, so it cannot start with a dot or hold a slash.
var validID = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$`)

// records is a directory of messages by container id. Each id is written by one
// goroutine at a time.
type records struct {
	dir string
}

func openRecords(dir string) (records, error) {
	r := records{dir}
	return r, r.makeDir()
}

// makeDir makes the directory where it is missing, for good.
func (r records) makeDir() error {
	return errors.Join(os.MkdirAll(r.dir, 0o700), syncDir(filepath.Dir(r.dir)))
}

// put replaces the record of id, at once. If it is durable it has reached the disk.
// After an error the record that was there is still, or again.
func (r records) put(id string, m proto.Message, durable bool) error {
	data, err := encode(m)
	if err == nil {
		err = r.write(id, data, durable)
	}
	if errors.Is(err, fs.ErrNotExist) {
		// Somebody has removed the directory. Containers whose records went with it are
		// found by the next keeper: they live.
		err = r.makeDir()
		if err == nil {
			err = r.write(id, data, durable)
		}
	}
	if err != nil {
		return fmt.Errorf("write record of container %s: %w", id, err)
	}
	return nil
}

func (r records) write(id string, data []byte, durable bool) error {
	tmp := filepath.Join(r.dir, "."+id+".tmp")
	err := writeFile(tmp, data, durable)
	if err == nil {
		failpoint.Hit("keeper.written")
		err = os.Rename(tmp, r.path(id))
	}
	if err != nil {
		if left := os.Remove(tmp); left != nil && !errors.Is(left, fs.ErrNotExist) {
			err = errors.Join(err, left)
		}
		return err
	}
	if !durable {
		return nil
	}
	return syncDir(r.dir)
}

func encode(m proto.Message) ([]byte, error) {
	head := make([]byte, recordHead)
	head[4] = recordVersion
	data, err := proto.MarshalOptions{}.MarshalAppend(head, m)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint32(data, crc32.Checksum(data[4:], castagnoli))
	return data, nil
}

// decode reads a record into m: errDamaged or errNewer if it cannot be.
func decode(data []byte, m proto.Message) error {
	if len(data) < recordHead || binary.BigEndian.Uint32(data) != crc32.Checksum(data[4:], castagnoli) {
		return errDamaged
	}
	if v := data[4]; v != recordVersion {
		return fmt.Errorf("%w: %d, and this keeper knows %d", errNewer, v, recordVersion)
	}
	if err := proto.Unmarshal(data[recordHead:], m); err != nil {
		return fmt.Errorf("%w: %w", errDamaged, err)
	}
	return nil
}

func writeFile(path string, data []byte, durable bool) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// get reads the record of id into m. The error is errDamaged for whatever is no record,
// errNewer, or says why the file cannot be read.
func (r records) get(id string, m proto.Message) error {
	data, err := readRegular(r.path(id), maxRecord)
	if err == nil {
		err = decode(data, m)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", r.path(id), err)
	}
	return nil
}

// readRegular reads a file that nothing else is followed or waited for.
func readRegular(path string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) || errors.Is(err, syscall.ENXIO) {
		return nil, fmt.Errorf("%w: it is no regular file", errDamaged)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: it is no regular file", errDamaged)
	case info.Size() > limit:
		return nil, fmt.Errorf("%w: it has %d bytes", errDamaged, info.Size())
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// remove removes the record of id; a missing one is no error. A crash of the host may
// bring it back: whoever asked for it asks again.
func (r records) remove(id string) error {
	err := os.Remove(r.path(id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of container %s: %w", id, err)
	}
	return nil
}

// setAside keeps what stands in the place of id's record in the directory damaged, in
// place of what came there the same way before. What is no directory stays where it is,
// too, for put to replace at once.
func (r records) setAside(id string) error {
	dir := filepath.Join(filepath.Dir(r.dir), "damaged")
	to := filepath.Join(dir, filepath.Base(r.dir)+"."+id)
	err := errors.Join(os.MkdirAll(dir, 0o700), os.RemoveAll(to))
	if err == nil && os.Link(r.path(id), to) != nil {
		err = os.Rename(r.path(id), to)
	}
	if err != nil {
		return fmt.Errorf("set damaged record aside: %w", err)
	}
	return nil
}

func (r records) path(id string) string { return filepath.Join(r.dir, id) }

// ids lists the records, sorted, and removes what writes that never finished left.
func (r records) ids() ([]string, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("list records: %w", err)
	}
	var ids []string
	for _, e := range entries {
		switch {
		case validID.MatchString(e.Name()):
			ids = append(ids, e.Name())
		case strings.HasSuffix(e.Name(), ".tmp"):
			if err := os.RemoveAll(filepath.Join(r.dir, e.Name())); err != nil {
				return nil, fmt.Errorf("list records: %w", err)
			}
		}
	}
	return ids, nil
}
