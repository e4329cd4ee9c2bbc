package mesosjson

import (
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"
)

// Message is a protobuf message with a generated JSON codec. Every message of the
// mesos.v1 packages is one; no other type is expected to be.
type Message interface {
	proto.Message

	// AppendJSON appends the message as one JSON object to dst and returns the longer slice.
	AppendJSON(dst []byte) []byte

	// ParseJSON sets the fields that the JSON object ahead of d names and leaves the
	// others alone. What goes wrong is kept in d.
	ParseJSON(d *Decoder)
}

// Marshal returns m as one JSON object. It fails only with a [MissingError].
func Marshal(m Message) ([]byte, error) {
	return Append(nil, m)
}

// Append appends m as one JSON object to dst and returns the longer slice. When required
// fields are missing it returns dst as it was and a [MissingError].
func Append(dst []byte, m Message) ([]byte, error) {
	if err := checkRequired(m); err != nil {
		return dst, err
	}
	return m.AppendJSON(dst), nil
}

// Unmarshal replaces the contents of m with the one JSON object in data, of which it
// keeps nothing. The error is a [ParseError] or a [MissingError]; after one the contents
// of m mean nothing.
func Unmarshal(data []byte, m Message) error {
	_, err := UnmarshalWithin(data, m, math.MaxInt)
	return err
}

// UnmarshalWithin is Unmarshal for a text that nobody vouches for: a few bytes of text may
// ask for a large empty message, a million times. It refuses what takes more than so many
// bytes of memory, and returns how many were taken: an estimate, right within a factor of two.
func UnmarshalWithin(data []byte, m Message, memBytes int) (taken int, err error) {
	proto.Reset(m)
	d := &Decoder{data: data, left: memBytes}
	m.ParseJSON(d)
	d.end()
	if d.err != nil {
		return memBytes - d.left, d.err
	}
	return memBytes - d.left, checkRequired(m)
}

// ParseError says where a text stopped being the JSON of the message asked for.
type ParseError struct {
	Path   string // the field, such as accept.offer_ids[0].value; "" is the message itself
	Offset int    // bytes before the offending value
	Reason string
}

// Error joins path, reason and offset into one sentence.
func (e *ParseError) Error() string {
	if e.Path == "" {
		return fmt.Sprintf("%s (byte %d)", e.Reason, e.Offset)
	}
	return fmt.Sprintf("%s: %s (byte %d)", e.Path, e.Reason, e.Offset)
}
