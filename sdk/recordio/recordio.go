// Package recordio frames the records of a stream as Mesos v1 clients and servers do: the
// length of a record in decimal digits, a newline, the record itself.
//
//	body = recordio.Append(body, event) // "20\n" + 20 bytes
//
//	r := recordio.NewReader(response.Body, 8<<20)
//	for {
//		record, err := r.Next()
//		if err == io.EOF {
//			break // the stream ended between two records
//		}
//		...
//	}
package recordio

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// maxDigits is the length of the largest 64-bit length.
const maxDigits = 20

// Sentinels that errors of a Reader wrap. After either one the place of the next record is
// unknown, so the Reader gives the same error for ever.
var (
	ErrHeader   = errors.New("recordio: malformed record length")
	ErrTooLarge = errors.New("recordio: record too large")
)

// Append appends record, framed, to dst and returns the longer slice.
func Append(dst, record []byte) []byte {
	dst = strconv.AppendInt(dst, int64(len(record)), 10)
	dst = append(dst, '\n')
	return append(dst, record...)
}

// Reader takes records off a stream. It is not safe for concurrent use.
type Reader struct {
	r   *bufio.Reader
	max int
	err error
}

// NewReader returns a Reader that refuses records of more than max bytes.
func NewReader(r io.Reader, max int) *Reader {
	return &Reader{r: bufio.NewReader(r), max: max}
}

// Next returns the next record, which belongs to the caller. The error is io.EOF if the
// stream ends before it, io.ErrUnexpectedEOF if it ends within, wraps ErrHeader or
// ErrTooLarge, or is that of the stream; it stays.
func (r *Reader) Next() ([]byte, error) {
	if r.err != nil {
		return nil, r.err
	}
	record, err := r.next()
	r.err = err
	return record, err
}

func (r *Reader) next() ([]byte, error) {
	n, err := r.header()
	if err != nil {
		return nil, err
	}
	if n > uint64(r.max) {
		return nil, fmt.Errorf("%w: %d bytes, and %d is the limit", ErrTooLarge, n, r.max)
	}
	// The buffer grows with what arrives, not with what was announced.
	var record bytes.Buffer
	if _, err := io.CopyN(&record, r.r, int64(n)); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return record.Bytes(), nil
}

// header reads the digits and the newline before a record.
func (r *Reader) header() (uint64, error) {
	var digits []byte
	for {
		c, err := r.r.ReadByte()
		switch {
		case err == io.EOF && len(digits) > 0:
			return 0, io.ErrUnexpectedEOF
		case err != nil:
			return 0, err
		case c == '\n':
			n, err := strconv.ParseUint(string(digits), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("%w: %q", ErrHeader, digits)
			}
			return n, nil
		case c < '0' || c > '9' || len(digits) == maxDigits:
			return 0, fmt.Errorf("%w: %q after %q", ErrHeader, c, digits)
		}
		digits = append(digits, c)
	}
}
