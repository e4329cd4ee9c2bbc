package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/gantry-project/gantry/sdk/proto/mesosjson"
)

const (
	jsonType     = "application/json"
	protobufType = "application/x-protobuf"
	recordioType = "application/recordio"

	// maxNesting is how deep protobuf messages may nest, as in other implementations.
	maxNesting = 100
)

// Reasons for which a body is no message.
var (
	errProtobuf = errors.New("not the protobuf of the message, or one without its required fields")
	errSyntax   = errors.New("not JSON")
)

// message is a v1 message.
type message = mesosjson.Message

// codec is one of the two forms of the v1 messages.
type codec interface {
	mediaType() string
	// encode appends m to dst.
	encode(dst []byte, m message) ([]byte, error)
	// decode fills m, and returns how much memory that takes: maxMessage at most. The error
	// wraps errProtobuf, errSyntax or errHeavy, or says where the JSON is not that of the
	// message.
	decode(body []byte, m message) (memBytes int, err error)
}

type protobufCodec struct{}

func (protobufCodec) mediaType() string { return protobufType }

func (protobufCodec) encode(dst []byte, m message) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

func (protobufCodec) decode(body []byte, m message) (int, error) {
	memBytes, err := weigh(body, m.ProtoReflect().Descriptor(), maxMessage)
	if err != nil {
		return 0, err
	}
	if err := (proto.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(body, m); err != nil {
		return 0, errProtobuf
	}
	if !readable(m.ProtoReflect()) || proto.CheckInitialized(m) != nil {
		return 0, errProtobuf
	}
	return memBytes, nil
}

// readable unsets every enum whose number has no name, as proto2 has it and Go does not,
// and tells whether all strings are UTF-8: in JSON neither could be said.
func readable(m protoreflect.Message) bool {
	ok := true
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap():
			v.Map().Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
				ok = ok && utf8.ValidString(key.String()) && readableValue(field.MapValue(), value)
				return ok
			})
		case field.IsList() && field.Enum() != nil:
			named := v.List()
			kept := 0
			for i := range named.Len() {
				if isNamed(field, named.Get(i)) {
					named.Set(kept, named.Get(i))
					kept++
				}
			}
			named.Truncate(kept)
		case field.IsList():
			for i := 0; ok && i < v.List().Len(); i++ {
				ok = readableValue(field, v.List().Get(i))
			}
		case field.Enum() != nil && !isNamed(field, v):
			m.Clear(field)
		default:
			ok = readableValue(field, v)
		}
		return ok
	})
	return ok
}

func isNamed(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	return field.Enum().Values().ByNumber(v.Enum()) != nil
}

func readableValue(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
	switch field.Kind() {
	case protoreflect.StringKind:
		return utf8.ValidString(v.String())
	case protoreflect.MessageKind, protoreflect.GroupKind:
		return readable(v.Message())
	default:
		return true
	}
}

type jsonCodec struct{}

func (jsonCodec) mediaType() string { return jsonType }

func (jsonCodec) encode(dst []byte, m message) ([]byte, error) { return mesosjson.Append(dst, m) }

func (jsonCodec) decode(body []byte, m message) (int, error) {
	memBytes, err := mesosjson.UnmarshalWithin(body, m, maxMessage)
	if memBytes > maxMessage {
		return 0, errHeavy
	}
	if err != nil && !json.Valid(body) {
		return 0, syntaxError{err}
	}
	return len(body) + memBytes, err
}

// syntaxError reads like the decoder's error and is errSyntax.
type syntaxError struct{ error }

func (syntaxError) Is(target error) bool { return target == errSyntax }

// contentCodec returns the codec of a Content-Type; parameters and other spellings are not
// known on this wire.
func contentCodec(contentType string) (codec, bool) {
	switch contentType {
	case jsonType:
		return jsonCodec{}, true
	case protobufType:
		return protobufCodec{}, true
	}
	return nil, false
}

// acceptCodec returns the codec for the answer: JSON wherever it is acceptable.
func acceptCodec(r *http.Request) (codec, bool) {
	for _, c := range []codec{jsonCodec{}, protobufCodec{}} {
		if accepts(r.Header, c.mediaType()) {
			return c, true
		}
	}
	return nil, false
}

// accepts tells whether an Accept header allows a media type. The most exact entry that
// matches decides; without the header everything is allowed.
func accepts(h http.Header, mediaType string) bool {
	if len(h.Values("Accept")) == 0 {
		return true
	}
	kind, _, _ := strings.Cut(mediaType, "/")
	entries := strings.Split(strings.Join(h.Values("Accept"), ","), ",")
	for _, candidate := range []string{mediaType, kind + "/*", "*/*"} {
		for _, entry := range entries {
			name, params, _ := strings.Cut(entry, ";")
			if strings.EqualFold(strings.TrimSpace(name), candidate) {
				return quality(params) > 0
			}
		}
	}
	return false
}

// quality is the q of an entry's parameters: 1 if there is none, 0 if it is no number.
func quality(params string) float64 {
	for param := range strings.SplitSeq(params, ";") {
		if name, value, _ := strings.Cut(param, "="); strings.TrimSpace(name) == "q" {
			q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				return 0
			}
			return q
		}
	}
	return 1
}
