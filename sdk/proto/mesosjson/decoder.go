package mesosjson

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth is how deep objects and lists may nest.
const MaxDepth = 200

// maxNameBytes bounds what an error repeats of a name that a peer chose.
const maxNameBytes = 64

// Decoder walks over one JSON text. It stops at the first error: from then on every
// loop over an object ends and every Read function returns nothing, so that generated
// code need not look at errors.
type Decoder struct {
	data    []byte
	pos     int         // of the next byte to read
	opened  bool        // whether the byte read last opened an object or a list
	stack   []container // those that pos is in
	scratch []byte      // the last text that had escapes
	left    int         // how many bytes of memory the message may still take
	err     error       // a *ParseError, or nil
}

// container is an object or a list being read; its name or index leads to the value ahead.
type container struct {
	list  bool
	index int
	name  []byte
}

// Open enters the object ahead. Call Next until it returns false:
//
//	for d.Open(); d.Next(); {
//		switch string(d.Name()) {
//		case "value":
//			m.Value = mesosjson.ReadString(d)
//		default:
//			d.Skip()
//		}
//	}
func (d *Decoder) Open() {
	if c := d.peek(); c != '{' {
		d.failValue(d.pos, "an object")
		return
	}
	d.push(container{})
}

// Next moves to the next field of the object entered last and stands before its value,
// which must be read or skipped before Next is called again. At the end it leaves the
// object and returns false.
func (d *Decoder) Next() bool {
	if !d.more('}') {
		return false
	}
	if d.peek() != '"' {
		d.failf(d.pos, "want a field name in quotes, found %s", d.found())
		return false
	}
	name, escaped := d.text()
	if escaped {
		name = bytes.Clone(name)
	}
	if d.err != nil {
		return false
	}
	d.stack[len(d.stack)-1].name = name
	if d.peek() != ':' {
		d.failf(d.pos, "want a colon after the field name, found %s", d.found())
		return false
	}
	d.pos++
	return true
}

// Name is the name of the field that Next moved to, valid until Next is called again.
func (d *Decoder) Name() []byte {
	return d.stack[len(d.stack)-1].name
}

// Skip passes over the value ahead, checking only that it is JSON.
func (d *Decoder) Skip() {
	switch c := d.peek(); c {
	case '{':
		for d.Open(); d.Next(); {
			d.Skip()
		}
	case '[':
		for d.openList(); d.nextElement(); {
			d.Skip()
		}
	case '"':
		d.text()
	case 't':
		d.word("true")
	case 'f':
		d.word("false")
	case 'n':
		d.word("null")
	default:
		d.bareNumber()
	}
}

func (d *Decoder) openList() {
	d.push(container{list: true, index: -1})
}

// nextElement is Next for lists.
func (d *Decoder) nextElement() bool {
	if !d.more(']') {
		return false
	}
	d.stack[len(d.stack)-1].index++
	return true
}

// push reads an opening brace or bracket.
func (d *Decoder) push(c container) {
	if len(d.stack) == MaxDepth {
		d.failf(d.pos, "nested deeper than %d levels", MaxDepth)
		return
	}
	d.stack = append(d.stack, c)
	d.pos++
	d.opened = true
}

// more reads the comma before the next member of the innermost container, or its end,
// where it leaves the container and returns false.
func (d *Decoder) more(end byte) bool {
	c := d.peek()
	if d.err != nil {
		return false
	}
	if c == end {
		d.stack = d.stack[:len(d.stack)-1]
		d.pos++
		d.opened = false
		return false
	}
	if d.opened {
		d.opened = false
		return true
	}
	if c != ',' {
		d.failf(d.pos, "want a comma or %q, found %s", end, d.found())
		return false
	}
	d.pos++
	return true
}

// end checks that nothing follows the value read last.
func (d *Decoder) end() {
	if d.peek(); d.pos < len(d.data) {
		d.failf(d.pos, "want nothing after the JSON object, found %s", d.found())
	}
}

// peek passes over white space and returns the byte ahead, 0 at the end of the text.
func (d *Decoder) peek() byte {
	for d.pos < len(d.data) {
		c := d.data[d.pos]
		if c > ' ' || !isSpace(c) {
			return c
		}
		d.pos++
	}
	return 0
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\t' || c == '\r'
}

// null passes over a null ahead and tells whether there was one.
func (d *Decoder) null() bool {
	return d.peek() == 'n' && d.word("null")
}

// word passes over a literal whose first byte is ahead.
func (d *Decoder) word(word string) bool {
	if !bytes.HasPrefix(d.data[d.pos:], []byte(word)) {
		d.failf(d.pos, "want %s, found another word", word)
		return false
	}
	d.pos += len(word)
	return true
}

// bareNumber passes over the number ahead and returns its text, nil after an error.
func (d *Decoder) bareNumber() []byte {
	n := numberLen(d.data[d.pos:])
	if n == 0 {
		if startsNumber(d.peek()) {
			d.failf(d.pos, "the number has a form that JSON does not allow")
		} else {
			d.failValue(d.pos, "a JSON value")
		}
		return nil
	}
	raw := d.data[d.pos : d.pos+n]
	d.pos += n
	return raw
}

// text passes over the string ahead and returns what it says, valid until the next call,
// and whether that differs from the bytes between the quotes.
func (d *Decoder) text() (text []byte, escaped bool) {
	start := d.pos + 1
	for i := start; i < len(d.data); i++ {
		switch c := d.data[i]; {
		case c == '"':
			d.pos = i + 1
			return d.data[start:i], false
		case c == '\\' || c >= utf8.RuneSelf:
			return d.slowText(start, i)
		case c < ' ':
			d.failf(i, "control characters in strings must be escaped")
			return nil, false
		}
	}
	d.failf(start-1, "the string does not end")
	return nil, false
}

// slowText is text for strings of which the first plain bytes, from start to i, are known.
func (d *Decoder) slowText(start, i int) ([]byte, bool) {
	out := d.scratch[:0]
	done := start
	for i < len(d.data) {
		switch c := d.data[i]; {
		case c == '"':
			d.pos = i + 1
			if done == start {
				return d.data[start:i], false
			}
			d.scratch = append(out, d.data[done:i]...)
			return d.scratch, true
		case c == '\\':
			var n int
			if out, n = unescape(append(out, d.data[done:i]...), d.data[i:]); n == 0 {
				d.failf(i, "not an escape of JSON, or half a surrogate pair")
				return nil, false
			}
			i += n
			done = i
		case c < ' ':
			d.failf(i, "control characters in strings must be escaped")
			return nil, false
		case c < utf8.RuneSelf:
			i++
		default:
			r, size := utf8.DecodeRune(d.data[i:])
			if r == utf8.RuneError && size == 1 {
				d.failf(i, "strings must be UTF-8")
				return nil, false
			}
			i += size
		}
	}
	d.failf(start-1, "the string does not end")
	return nil, false
}

// unescape appends to out what the escape at the start of in means, and returns the
// escape's length, 0 when it means nothing.
func unescape(out, in []byte) ([]byte, int) {
	if len(in) < 2 {
		return out, 0
	}
	switch c := in[1]; c {
	case '"', '\\', '/':
		return append(out, c), 2
	case 'b':
		return append(out, '\b'), 2
	case 'f':
		return append(out, '\f'), 2
	case 'n':
		return append(out, '\n'), 2
	case 'r':
		return append(out, '\r'), 2
	case 't':
		return append(out, '\t'), 2
	}
	r, ok := hexRune(in)
	if !ok {
		return out, 0
	}
	if !utf16.IsSurrogate(r) {
		return utf8.AppendRune(out, r), 6
	}
	low, ok := hexRune(in[6:])
	if r = utf16.DecodeRune(r, low); !ok || r == utf8.RuneError {
		return out, 0
	}
	return utf8.AppendRune(out, r), 12
}

// hexRune reads an escape of the form \u12ab.
func hexRune(in []byte) (rune, bool) {
	if len(in) < 6 || in[0] != '\\' || in[1] != 'u' {
		return 0, false
	}
	var r rune
	for _, c := range in[2:6] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// spend counts memory that what is read takes, in bytes, and fails when it is too much.
func (d *Decoder) spend(bytes int) {
	if d.left -= bytes; d.left < 0 {
		d.failf(d.pos, "the message takes too much memory: send less at a time")
	}
}

// failValue reports the value that starts at pos to be of the wrong kind.
func (d *Decoder) failValue(pos int, want string) {
	d.pos = pos
	d.failf(pos, "want %s, found %s", want, d.found())
}

// failf keeps the first error and moves to the end of the text, where every loop ends.
func (d *Decoder) failf(pos int, format string, args ...any) {
	if d.err == nil {
		d.err = &ParseError{Path: d.path(), Offset: pos, Reason: fmt.Sprintf(format, args...)}
	}
	d.pos = len(d.data)
}

// found names the kind of value ahead.
func (d *Decoder) found() string {
	switch c := d.peek(); {
	case d.pos == len(d.data):
		return "the end of the text"
	case c == '{':
		return "an object"
	case c == '[':
		return "a list"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case startsNumber(c):
		return "a number"
	default:
		return fmt.Sprintf("%q", c)
	}
}

// path names the value ahead.
func (d *Decoder) path() string {
	var path []byte
	for _, c := range d.stack {
		switch {
		case c.list:
			path = append(strconv.AppendInt(append(path, '['), int64(max(c.index, 0)), 10), ']')
		case c.name != nil:
			if len(path) > 0 {
				path = append(path, '.')
			}
			path = append(path, c.name[:min(len(c.name), maxNameBytes)]...)
		}
	}
	return string(bytes.ToValidUTF8(path, nil)) // a cut may leave half a character
}
