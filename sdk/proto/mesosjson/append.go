package mesosjson

import (
	"encoding/base64"
	"maps"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
)

// The Append functions below write one field of an object. A key is the field's name as
// it stands in JSON, quotes and colon included. A field that is nil or empty is left out;
// each field that is written ends in a comma, of which Close makes the closing brace.

// Close ends the object whose opening brace and fields end dst.
func Close(dst []byte) []byte {
	if last := len(dst) - 1; dst[last] == ',' {
		dst[last] = '}'
		return dst
	}
	return append(dst, '}')
}

// AppendBool writes a bool field.
func AppendBool(dst []byte, key string, v *bool) []byte {
	if v == nil {
		return dst
	}
	return append(strconv.AppendBool(append(dst, key...), *v), ',')
}

// AppendInt writes a signed integer field.
func AppendInt[T int32 | int64](dst []byte, key string, v *T) []byte {
	if v == nil {
		return dst
	}
	return append(strconv.AppendInt(append(dst, key...), int64(*v), 10), ',')
}

// AppendUint writes an unsigned integer field.
func AppendUint[T uint32 | uint64](dst []byte, key string, v *T) []byte {
	if v == nil {
		return dst
	}
	return append(strconv.AppendUint(append(dst, key...), uint64(*v), 10), ',')
}

// AppendUints writes a list of unsigned integers.
func AppendUints[T uint32 | uint64](dst []byte, key string, list []T) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = append(append(dst, key...), '[')
	for _, v := range list {
		dst = append(strconv.AppendUint(dst, uint64(v), 10), ',')
	}
	return closeList(dst)
}

// AppendDouble writes a double field.
func AppendDouble(dst []byte, key string, v *float64) []byte {
	if v == nil {
		return dst
	}
	return append(appendFloat(append(dst, key...), *v), ',')
}

// AppendString writes a string field.
func AppendString(dst []byte, key string, v *string) []byte {
	if v == nil {
		return dst
	}
	return append(appendQuoted(append(dst, key...), *v), ',')
}

// AppendStrings writes a list of strings.
func AppendStrings(dst []byte, key string, list []string) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = append(append(dst, key...), '[')
	for _, v := range list {
		dst = append(appendQuoted(dst, v), ',')
	}
	return closeList(dst)
}

// AppendStringMap writes a map of strings.
func AppendStringMap(dst []byte, key string, entries map[string]string) []byte {
	if len(entries) == 0 {
		return dst
	}
	dst = append(append(dst, key...), '{')
	for _, k := range slices.Sorted(maps.Keys(entries)) {
		dst = append(appendQuoted(dst, k), ':')
		dst = append(appendQuoted(dst, entries[k]), ',')
	}
	return append(Close(dst), ',')
}

// AppendBytes writes a bytes field; an empty v that is not nil is set.
func AppendBytes(dst []byte, key string, v []byte) []byte {
	if v == nil {
		return dst
	}
	dst = append(append(dst, key...), '"')
	dst = base64.StdEncoding.AppendEncode(dst, v)
	return append(dst, '"', ',')
}

// AppendEnum writes an enum field; a number that has no name counts as unset.
func AppendEnum[E ~int32](dst []byte, key string, v *E, names map[int32]string) []byte {
	if v == nil {
		return dst
	}
	name, ok := names[int32(*v)]
	if !ok {
		return dst
	}
	return append(append(append(append(dst, key...), '"'), name...), '"', ',')
}

// AppendEnums writes a list of enums without the numbers that have no name.
func AppendEnums[E ~int32](dst []byte, key string, list []E, names map[int32]string) []byte {
	start := len(dst)
	dst = append(append(dst, key...), '[')
	open := len(dst)
	for _, v := range list {
		if name, ok := names[int32(v)]; ok {
			dst = append(append(append(dst, '"'), name...), '"', ',')
		}
	}
	if len(dst) == open {
		return dst[:start]
	}
	return closeList(dst)
}

// object is a pointer to a generated message.
type object[T any] interface {
	*T
	Message
}

// AppendObject writes a message field.
func AppendObject[T any, P object[T]](dst []byte, key string, v P) []byte {
	if v == nil {
		return dst
	}
	return append(v.AppendJSON(append(dst, key...)), ',')
}

// AppendObjects writes a list of messages.
func AppendObjects[T any, P object[T]](dst []byte, key string, list []P) []byte {
	if len(list) == 0 {
		return dst
	}
	dst = append(append(dst, key...), '[')
	for _, v := range list {
		dst = append(v.AppendJSON(dst), ',')
	}
	return closeList(dst)
}

// AppendObjectMap writes a map of messages.
func AppendObjectMap[T any, P object[T]](dst []byte, key string, entries map[string]P) []byte {
	if len(entries) == 0 {
		return dst
	}
	dst = append(append(dst, key...), '{')
	for _, k := range slices.Sorted(maps.Keys(entries)) {
		dst = append(appendQuoted(dst, k), ':')
		dst = append(entries[k].AppendJSON(dst), ',')
	}
	return append(Close(dst), ',')
}

// AppendDuration writes a google.protobuf.Duration field as an object of its parts that
// are not zero.
func AppendDuration(dst []byte, key string, v *durationpb.Duration) []byte {
	if v == nil {
		return dst
	}
	dst = append(append(dst, key...), '{')
	if v.Seconds != 0 {
		dst = AppendInt(dst, `"seconds":`, &v.Seconds)
	}
	if v.Nanos != 0 {
		dst = AppendInt(dst, `"nanos":`, &v.Nanos)
	}
	return append(Close(dst), ',')
}

// closeList makes the comma after the last element the end of the list.
func closeList(dst []byte) []byte {
	dst[len(dst)-1] = ']'
	return append(dst, ',')
}

const (
	infinity         = `"Infinity"`
	negativeInfinity = `"-Infinity"`
)

// appendFloat writes the shortest text that reads back as v, with an exponent where the
// reference has one.
func appendFloat(dst []byte, v float64) []byte {
	switch {
	case math.IsNaN(v):
		return append(dst, "null"...)
	case math.IsInf(v, 1):
		return append(dst, infinity...)
	case math.IsInf(v, -1):
		return append(dst, negativeInfinity...)
	}
	start := len(dst)
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return trimExponent(strconv.AppendFloat(dst, v, 'e', -1, 64), start)
	}
	dst = strconv.AppendFloat(dst, v, 'f', -1, 64)
	if !slices.Contains(dst[start:], '.') {
		dst = append(dst, '.', '0')
	}
	return dst
}

// trimExponent takes the plus sign or the leading zero out of the exponent of the number
// at dst[start:]: 1e+21 is written 1e21, and 1e-07 is written 1e-7.
func trimExponent(dst []byte, start int) []byte {
	sign := start + slices.Index(dst[start:], 'e') + 1
	if dst[sign] == '+' {
		return slices.Delete(dst, sign, sign+1)
	}
	if dst[sign+1] == '0' {
		return slices.Delete(dst, sign+1, sign+2)
	}
	return dst
}

// appendQuoted writes s as a JSON string.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	done := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				dst = append(append(dst, s[done:i]...), "\uFFFD"...)
				done = i + 1
			}
			i += size
			continue
		}
		if c < ' ' || c == '"' || c == '\\' {
			dst = appendEscape(append(dst, s[done:i]...), c)
			done = i + 1
		}
		i++
	}
	return append(append(dst, s[done:]...), '"')
}

func appendEscape(dst []byte, c byte) []byte {
	const hex = "0123456789ABCDEF"
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, '\\', 'b')
	case '\f':
		return append(dst, '\\', 'f')
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xF])
}
