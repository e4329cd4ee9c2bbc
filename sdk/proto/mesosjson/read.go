package mesosjson

import (
	"bytes"
	"encoding/base64"
	"math"
	"reflect"
	"strconv"

	"google.golang.org/protobuf/types/known/durationpb"
)

// What is spent beside the bytes of a message or a text.
const (
	stringBytes  = 16 // of the header
	elementBytes = 8  // of the pointer in a list
	entryBytes   = 64 // of the place in a map
)

// The Read functions below read the value ahead of d into the form that a generated
// struct has for it. They return nil for null, for an empty list and after an error.

// ReadBool reads a bool field.
func ReadBool(d *Decoder) *bool {
	c, start := d.peek(), d.pos
	switch c {
	case 'n':
		d.null()
		return nil
	case 't':
		d.word("true")
		return new(true)
	case 'f':
		d.word("false")
		return new(false)
	case '"':
		text, _ := d.text()
		switch string(trim(text)) {
		case "true":
			return new(true)
		case "false":
			return new(false)
		}
	}
	d.failValue(start, "true or false")
	return nil
}

// ReadInt reads a signed integer field.
func ReadInt[T int32 | int64](d *Decoder) *T {
	start, raw := d.number("an integer")
	if raw == nil {
		return nil
	}
	negative, magnitude, ok := integer(raw)
	limit := uint64(1) << (bits[T]() - 1)
	if !negative {
		limit--
	}
	if !ok || magnitude > limit {
		d.failf(start, "the number does not fit into %d bits with a sign", bits[T]())
		return nil
	}
	v := T(magnitude)
	if negative {
		v = -v
	}
	return &v
}

// ReadUint reads an unsigned integer field.
func ReadUint[T uint32 | uint64](d *Decoder) *T {
	if v, ok := readUint[T](d); ok {
		return &v
	}
	return nil
}

// ReadUints reads a list of unsigned integers.
func ReadUints[T uint32 | uint64](d *Decoder) []T {
	return readList(d, nil, readUint[T])
}

func readUint[T uint32 | uint64](d *Decoder) (T, bool) {
	start, raw := d.number("an integer")
	if raw == nil {
		return 0, false
	}
	negative, magnitude, ok := integer(raw)
	v := T(magnitude)
	if !ok || negative && magnitude != 0 || uint64(v) != magnitude {
		d.failf(start, "the number does not fit into %d bits without a sign", bits[T]())
		return 0, false
	}
	return v, true
}

// bits is the width of T.
func bits[T int32 | int64 | uint32 | uint64]() int {
	if wide := uint64(1) << 32; T(wide) == 0 {
		return 32
	}
	return 64
}

// ReadDouble reads a double field.
func ReadDouble(d *Decoder) *float64 {
	if d.peek() == '"' {
		if ahead := d.data[d.pos:]; bytes.HasPrefix(ahead, []byte(infinity)) {
			d.pos += len(infinity)
			return new(math.Inf(1))
		} else if bytes.HasPrefix(ahead, []byte(negativeInfinity)) {
			d.pos += len(negativeInfinity)
			return new(math.Inf(-1))
		}
	}
	start, raw := d.number("a number")
	if raw == nil {
		return nil
	}
	v, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		d.failf(start, "the number does not fit into a double")
		return nil
	}
	return &v
}

// number passes over the number ahead, which may stand in a string, and returns where
// it starts and its text, nil for null and after an error.
func (d *Decoder) number(want string) (start int, raw []byte) {
	c, start := d.peek(), d.pos
	switch {
	case c == 'n':
		d.null()
		return start, nil
	case c == '"':
		text, _ := d.text()
		text = trim(text)
		if n := numberLen(text); n > 0 && n == len(text) {
			return start, text
		}
	case startsNumber(c):
		return start, d.bareNumber()
	}
	d.failValue(start, want)
	return start, nil
}

func trim(text []byte) []byte {
	return bytes.Trim(text, " \t\r\n")
}

// ReadString reads a string field.
func ReadString(d *Decoder) *string {
	if v, ok := readString(d); ok {
		return &v
	}
	return nil
}

// ReadStrings reads a list of strings.
func ReadStrings(d *Decoder) []string {
	return readList(d, nil, readString)
}

func readString(d *Decoder) (string, bool) {
	text := d.stringText("a string")
	d.spend(stringBytes + len(text))
	return string(text), text != nil
}

// stringText returns what the string ahead says, valid until the next text is read, and
// nil for null and after an error.
func (d *Decoder) stringText(want string) []byte {
	if d.null() {
		return nil
	}
	if d.peek() != '"' {
		d.failValue(d.pos, want)
		return nil
	}
	text, _ := d.text()
	return text
}

// ReadStringMap reads a map of strings.
func ReadStringMap(d *Decoder) map[string]string {
	return readMap(d, nil, func(d *Decoder) string {
		v, _ := readString(d)
		return v
	})
}

// ReadBytes reads a bytes field. White space in the base64 and missing padding are fine.
func ReadBytes(d *Decoder) []byte {
	d.peek()
	start := d.pos
	text := d.stringText("a string of base64")
	if text == nil {
		return nil
	}
	if bytes.ContainsAny(text, " \t\r\n") {
		text = bytes.Join(bytes.Fields(text), nil)
	}
	text = bytes.TrimRight(text, "=")
	d.spend(len(text))
	out := make([]byte, base64.RawStdEncoding.DecodedLen(len(text)))
	n, err := base64.RawStdEncoding.Decode(out, text)
	if err != nil {
		d.failf(start, "not base64")
		return nil
	}
	return out[:n]
}

// ReadEnum reads an optional enum field; a name that values lacks counts as unset.
func ReadEnum[E ~int32](d *Decoder, values map[string]int32) *E {
	if v, ok := readEnum[E](d, values); ok {
		return &v
	}
	return nil
}

// ReadRequiredEnum reads a required enum field, where values must have the name.
func ReadRequiredEnum[E ~int32](d *Decoder, values map[string]int32) *E {
	d.peek()
	start := d.pos
	text := d.stringText("a name in quotes")
	if text == nil {
		return nil
	}
	v, ok := values[string(text)]
	if !ok {
		d.failf(start, "no such value: %.40q", text)
		return nil
	}
	return new(E(v))
}

// ReadEnums reads a list of enums without the names that values lacks.
func ReadEnums[E ~int32](d *Decoder, values map[string]int32) []E {
	return readList(d, nil, func(d *Decoder) (E, bool) { return readEnum[E](d, values) })
}

func readEnum[E ~int32](d *Decoder, values map[string]int32) (E, bool) {
	text := d.stringText("a name in quotes")
	v, ok := values[string(text)]
	return E(v), ok
}

// ReadObject reads a message field.
func ReadObject[T any, P object[T]](d *Decoder) P {
	if d.null() {
		return nil
	}
	d.spend(int(reflect.TypeFor[T]().Size()))
	if d.err != nil {
		return nil
	}
	m := P(new(T))
	m.ParseJSON(d)
	return m
}

// ReadObjects reads a list of messages.
func ReadObjects[T any, P object[T]](d *Decoder) []P {
	return readList(d, nil, func(d *Decoder) (P, bool) { return ReadObject[T, P](d), true })
}

// ReadObjectMap reads a map of messages.
func ReadObjectMap[T any, P object[T]](d *Decoder) map[string]P {
	return readMap(d, nil, func(d *Decoder) P {
		if m := ReadObject[T, P](d); m != nil {
			return m
		}
		return new(T)
	})
}

// ReadDuration reads a google.protobuf.Duration field, an object of seconds and nanos.
func ReadDuration(d *Decoder) *durationpb.Duration {
	if d.null() {
		return nil
	}
	v := &durationpb.Duration{}
	for d.Open(); d.Next(); {
		switch string(d.Name()) {
		case "seconds":
			v.Seconds = valueOf(ReadInt[int64](d))
		case "nanos":
			v.Nanos = valueOf(ReadInt[int32](d))
		default:
			d.Skip()
		}
	}
	return v
}

func valueOf[T any](v *T) (zero T) {
	if v == nil {
		return zero
	}
	return *v
}

// readList appends to list what one makes of the values ahead, leaving out nulls and
// those for which one is false.
func readList[T any](d *Decoder, list []T, one func(*Decoder) (T, bool)) []T {
	switch d.peek() {
	case 'n':
		d.null()
	case '[':
		for d.openList(); d.nextElement(); {
			list = readList(d, list, one)
		}
	default:
		if v, ok := one(d); ok {
			d.spend(elementBytes)
			list = append(list, v)
		}
	}
	return list
}

// readMap adds to entries those of the object ahead, or of a list of such objects. A null
// makes an entry with the value that one has for it.
func readMap[T any](d *Decoder, entries map[string]T, one func(*Decoder) T) map[string]T {
	switch d.peek() {
	case 'n':
		d.null()
	case '[':
		for d.openList(); d.nextElement(); {
			entries = readMap(d, entries, one)
		}
	default:
		for d.Open(); d.Next(); {
			if entries == nil {
				entries = map[string]T{}
			}
			d.spend(entryBytes + len(d.Name()))
			entries[string(d.Name())] = one(d)
		}
	}
	return entries
}
