package recordio

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

const limit = 100

// readAll returns the records of a stream, joined by "|", and the error that ended it.
func readAll(t *testing.T, in io.Reader) (string, error) {
	t.Helper()
	var records []string
	r := NewReader(in, limit)
	for {
		record, err := r.Next()
		if err != nil {
			if _, again := r.Next(); again != err {
				t.Errorf("after %v comes %v; want the same for ever", err, again)
			}
			return strings.Join(records, "|"), err
		}
		records = append(records, string(record))
	}
}

func TestNext(t *testing.T) {
	for _, c := range []struct {
		name, in, records string
		err               error
	}{
		{"nothing", "", "", io.EOF},
		{"one", "3\nabc", "abc", io.EOF},
		{"several, one empty, one with a newline", "3\nabc0\n4\na\nb\n", "abc||a\nb\n", io.EOF},
		{"leading zeros", "003\nabc", "abc", io.EOF},
		{"cut off in a record", "3\nabc3\nab", "abc", io.ErrUnexpectedEOF},
		{"cut off before a record", "3\n", "", io.ErrUnexpectedEOF},
		{"cut off in a length", "3\nabc12", "abc", io.ErrUnexpectedEOF},
		{"no length", "\nabc", "", ErrHeader},
		{"letters", "abc\n", "", ErrHeader},
		{"sign", "+3\nabc", "", ErrHeader},
		{"negative", "-3\nabc", "", ErrHeader},
		{"carriage return", "3\r\nabc", "", ErrHeader},
		{"space", " 3\nabc", "", ErrHeader},
		{"largest", "18446744073709551615\n", "", ErrTooLarge},
		{"beyond 64 bits", "18446744073709551616\n", "", ErrHeader},
		{"endless digits", strings.Repeat("1", 1000), "", ErrHeader},
		{"at the limit", "100\n" + strings.Repeat("x", 100), strings.Repeat("x", 100), io.EOF},
		{"over the limit", "101\n" + strings.Repeat("x", 101), "", ErrTooLarge},
		{"announced but not sent", "99\nx", "", io.ErrUnexpectedEOF},
	} {
		for how, in := range map[string]io.Reader{
			"at once":      strings.NewReader(c.in),
			"byte by byte": iotest.OneByteReader(strings.NewReader(c.in)),
		} {
			records, err := readAll(t, in)
			if records != c.records || !errors.Is(err, c.err) {
				t.Errorf("%s, %s: got %q, %v; want %q, %v", c.name, how, records, err, c.records, c.err)
			}
		}
	}
}

func TestErrorOfTheStreamComesThrough(t *testing.T) {
	broken := errors.New("broken")
	_, err := readAll(t, io.MultiReader(strings.NewReader("3\na"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}

// Whatever arrives, the reader does not panic, keeps its limit, and what it took off the
// stream is what Append makes of it again.
func FuzzNext(f *testing.F) {
	for _, s := range []string{"", "3\nabc", "0\n0\n", "3\nab", "99999999999999999999\n", "x", "007\n1234567"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		var again []byte
		r := NewReader(bytes.NewReader(in), limit)
		for {
			record, err := r.Next()
			if err != nil {
				break
			}
			if len(record) > limit {
				t.Fatalf("a record of %d bytes", len(record))
			}
			again = Append(again, record)
		}
		back, err := readAll(t, bytes.NewReader(again))
		if err != io.EOF {
			t.Fatalf("%q, %v from %q", back, err, again)
		}
	})
}
