package store

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// An entry's record in the file: CRC-32C of key, revision and value; revision; value.
// The key is in the sum so that a record can't pass for that of another key.
const envelopeHead = 4 + 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func seal(key string, revision uint64, value []byte) []byte {
	rec := make([]byte, envelopeHead, envelopeHead+len(value))
	binary.BigEndian.PutUint64(rec[4:], revision)
	rec = append(rec, value...)
	binary.BigEndian.PutUint32(rec, checksum(key, rec))
	return rec
}

// unseal returns the value inside rec, not a copy.
func unseal(key string, rec []byte) (revision uint64, value []byte, err error) {
	if len(rec) < envelopeHead {
		return 0, nil, fmt.Errorf("the record of key %q is too short", key)
	}
	if binary.BigEndian.Uint32(rec) != checksum(key, rec) {
		return 0, nil, fmt.Errorf("the record of key %q does not match its checksum", key)
	}
	return binary.BigEndian.Uint64(rec[4:]), rec[envelopeHead:], nil
}

func checksum(key string, rec []byte) uint32 {
	return crc32.Update(crc32.Checksum([]byte(key), castagnoli), castagnoli, rec[4:])
}

// tally is the store's account of itself: with it a record that has vanished is noticed,
// as one that has changed is by its checksum.
type tally struct {
	revision uint64 // of the last transaction that wrote
	entries  uint64 // how many there are
	sum      uint64 // of their checksums
}

func (t *tally) add(rec []byte) {
	t.entries++
	t.sum += uint64(binary.BigEndian.Uint32(rec))
}

func (t *tally) remove(rec []byte) {
	t.entries--
	t.sum -= uint64(binary.BigEndian.Uint32(rec))
}

func (t tally) encode() []byte {
	var body []byte
	body = binary.BigEndian.AppendUint64(body, t.entries)
	body = binary.BigEndian.AppendUint64(body, t.sum)
	return seal(tallyKey, t.revision, body)
}

func decodeTally(rec []byte) (tally, error) {
	revision, body, err := unseal(tallyKey, rec)
	if err != nil {
		return tally{}, err
	}
	if len(body) != 16 {
		return tally{}, fmt.Errorf("the record of key %q has %d bytes, not 16", tallyKey, len(body))
	}
	return tally{revision, binary.BigEndian.Uint64(body), binary.BigEndian.Uint64(body[8:])}, nil
}
