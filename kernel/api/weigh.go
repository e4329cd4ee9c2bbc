package api

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// errHeavy is a message that would take more memory than one may.
var errHeavy = errors.New("the message takes too much memory: send less at a time")

// What a message takes in memory beside its texts, in bytes: estimates.
const (
	messageBytes = 64 // its own state and the pointer to it
	fieldBytes   = 8  // of each field that it may have
	valueBytes   = 16 // of a number or the header of a text
	entryBytes   = 64 // of the place in a map
)

// scale weighs protobuf without decoding it: a few bytes may ask for a large empty message,
// a million times.
type scale struct {
	left  int // bytes of memory that may still be taken
	depth int
}

// weigh says how much memory a message takes, or refuses one that takes more than most. What
// is not protobuf is not its business: it stops there.
func weigh(body []byte, m protoreflect.MessageDescriptor, most int) (int, error) {
	s := scale{left: most}
	s.message(body, m)
	if s.left < 0 {
		return 0, errHeavy
	}
	return most - s.left, nil
}

func (s *scale) message(body []byte, m protoreflect.MessageDescriptor) {
	fields := m.Fields()
	s.left -= messageBytes + fieldBytes*fields.Len()
	if s.depth++; s.depth > maxNesting {
		return // refused by the decoder
	}
	defer func() { s.depth-- }()
	for len(body) > 0 && s.left >= 0 {
		number, wire, n := protowire.ConsumeTag(body)
		if n < 0 {
			return
		}
		body = body[n:]
		n = protowire.ConsumeFieldValue(number, wire, body)
		if n < 0 {
			return
		}
		s.left -= valueBytes + n // unknown fields are kept, too
		if f := fields.ByNumber(number); f != nil {
			s.field(body[:n], wire, f)
		}
		body = body[n:]
	}
}

func (s *scale) field(value []byte, wire protowire.Type, f protoreflect.FieldDescriptor) {
	if f.IsMap() {
		s.left -= entryBytes
	}
	switch {
	case wire == protowire.StartGroupType && f.Message() != nil:
		s.message(value, f.Message())
	case wire != protowire.BytesType:
	case f.Message() != nil:
		inner, _ := protowire.ConsumeBytes(value)
		s.message(inner, f.Message())
	case f.IsList() && f.Kind() != protoreflect.StringKind && f.Kind() != protoreflect.BytesKind:
		s.left -= valueBytes * len(value) // packed: a byte may be a number
	}
}
