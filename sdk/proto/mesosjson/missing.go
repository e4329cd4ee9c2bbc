package mesosjson

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxMissing bounds the fields that one MissingError names.
const maxMissing = 16

// MissingError says that a message lacks fields that its schema requires.
type MissingError struct {
	Fields []string // paths such as task_infos[2].agent_id; the first 16
	More   bool     // whether there are others
}

// Error names the fields; clients look for its first words.
func (e *MissingError) Error() string {
	text := "Missing required fields: " + strings.Join(e.Fields, ", ")
	if e.More {
		text += " and others"
	}
	return text
}

// checkRequired is quick when nothing is missing; only then does it look for the names.
func checkRequired(m Message) error {
	if proto.CheckInitialized(m) == nil {
		return nil
	}
	e := &MissingError{}
	e.collect(m.ProtoReflect(), "")
	return e
}

// collect adds the missing fields of m, whose own path ends in a dot or is empty, and
// tells whether there is room for more.
func (e *MissingError) collect(m protoreflect.Message, path string) bool {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		name := path + string(field.Name())
		if field.Cardinality() == protoreflect.Required && !m.Has(field) {
			if len(e.Fields) == maxMissing {
				e.More = true
				return false
			}
			e.Fields = append(e.Fields, name)
			continue
		}
		if m.Has(field) && !e.collectIn(m.Get(field), field, name) {
			return false
		}
	}
	return true
}

func (e *MissingError) collectIn(v protoreflect.Value, field protoreflect.FieldDescriptor, name string) bool {
	switch {
	case field.IsMap():
		return field.MapValue().Message() == nil || e.collectInMap(v.Map(), name)
	case field.Message() == nil:
		return true
	case !field.IsList():
		return e.collect(v.Message(), name+".")
	}
	for i := range v.List().Len() {
		if !e.collect(v.List().Get(i).Message(), fmt.Sprintf("%s[%d].", name, i)) {
			return false
		}
	}
	return true
}

func (e *MissingError) collectInMap(entries protoreflect.Map, name string) bool {
	var keys []string
	entries.Range(func(k protoreflect.MapKey, _ protoreflect.Value) bool {
		keys = append(keys, k.String())
		return true
	})
	slices.Sort(keys)
	for _, k := range keys {
		value := entries.Get(protoreflect.ValueOfString(k).MapKey())
		if k = strings.ToValidUTF8(k[:min(len(k), maxNameBytes)], ""); !e.collect(value.Message(), name+"."+k+".") {
			return false
		}
	}
	return true
}
