package keeper

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errCorrupt says that a record does not have its checksum.
var errCorrupt = errors.New("record is corrupt")

// An ID names files, so it cannot start with a dot or hold a slash.
var validID = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}$`)

// records is a directory of messages by container id. Each id is written by one
// goroutine at a time.
type records struct {
	dir string
}

func openRecords(dir string) (records, error) {
	return records{dir}, os.MkdirAll(dir, 0o700)
}

// put replaces the record of id, at once. If it is durable it has reached the disk.
func (r records) put(id string, m proto.Message, durable bool) error {
	if err := r.write(id, m, durable); err != nil {
		return fmt.Errorf("write record of container %s: %w", id, err)
	}
	return nil
}

func (r records) write(id string, m proto.Message, durable bool) error {
	data, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 4), m)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(data, crc32.Checksum(data[4:], castagnoli))
	tmp := filepath.Join(r.dir, "."+id+".tmp")
	if err := writeFile(tmp, data, durable); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(r.dir, id)); err != nil {
		return err
	}
	if !durable {
		return nil
	}
	return syncDir(r.dir)
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

// get reads the record of id into m.
func (r records) get(id string, m proto.Message) error {
	data, err := os.ReadFile(filepath.Join(r.dir, id))
	if err != nil {
		return err
	}
	if len(data) < 4 || binary.BigEndian.Uint32(data) != crc32.Checksum(data[4:], castagnoli) {
		return fmt.Errorf("container %s: %w", id, errCorrupt)
	}
	if err := proto.Unmarshal(data[4:], m); err != nil {
		return fmt.Errorf("container %s: %w: %w", id, errCorrupt, err)
	}
	return nil
}

// since is when the record of id was written, or now if nobody knows.
func (r records) since(id string) time.Time {
	info, err := os.Stat(filepath.Join(r.dir, id))
	if err != nil {
		return time.Now()
	}
	return info.ModTime()
}

// remove removes the record of id; a missing one is no error. A crash of the host may
// bring it back: whoever asked for it asks again.
func (r records) remove(id string) error {
	err := os.Remove(filepath.Join(r.dir, id))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove record of container %s: %w", id, err)
	}
	return nil
}

// ids lists the records, and removes what writes that never finished left.
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
			if err := os.Remove(filepath.Join(r.dir, e.Name())); err != nil {
				return nil, fmt.Errorf("list records: %w", err)
			}
		}
	}
	return ids, nil
}
