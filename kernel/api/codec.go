package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

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
	// decode fills m. The error wraps errProtobuf or errSyntax, or says where the JSON is
	// not that of the message.
	decode(body []byte, m message) error
}

type protobufCodec struct{}

func (protobufCodec) mediaType() string { return protobufType }

func (protobufCodec) encode(dst []byte, m message) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend(dst, m)
}

func (protobufCodec) decode(body []byte, m message) error {
	if err := (proto.UnmarshalOptions{RecursionLimit: maxNesting}).Unmarshal(body, m); err != nil {
		return errProtobuf
	}
	return nil
}

type jsonCodec struct{}

func (jsonCodec) mediaType() string { return jsonType }

func (jsonCodec) encode(dst []byte, m message) ([]byte, error) { return mesosjson.Append(dst, m) }

func (jsonCodec) decode(body []byte, m message) error {
	err := mesosjson.Unmarshal(body, m)
	if err != nil && !json.Valid(body) {
		return syntaxError{err}
	}
	return err
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
