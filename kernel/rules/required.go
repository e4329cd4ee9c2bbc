package rules

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// initialized names every required field that is missing, by its path.
func initialized(m proto.Message) error {
	if proto.CheckInitialized(m) == nil {
		return nil
	}
	return refuse("Not initialized: %s", strings.Join(missing(m.ProtoReflect(), ""), ", "))
}

func missing(m protoreflect.Message, path string) []string {
	var all []string
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		at := path + string(field.Name())
		switch {
		case !m.Has(field):
			if field.Cardinality() == protoreflect.Required {
				all = append(all, at)
			}
		case field.IsMap():
			all = append(all, missingInMap(m.Get(field).Map(), field, at)...)
		case field.Message() == nil:
		case field.IsList():
			for j, list := 0, m.Get(field).List(); j < list.Len(); j++ {
				all = append(all, missing(list.Get(j).Message(), fmt.Sprintf("%s[%d].", at, j))...)
			}
		default:
			all = append(all, missing(m.Get(field).Message(), at+".")...)
		}
	}
	return all
}

func missingInMap(entries protoreflect.Map, field protoreflect.FieldDescriptor, at string) []string {
	var all []string
	if field.MapValue().Message() == nil {
		return nil
	}
	entries.Range(func(key protoreflect.MapKey, value protoreflect.Value) bool {
		all = append(all, missing(value.Message(), fmt.Sprintf("%s[%s].", at, key.String()))...)
		return true
	})
	slices.Sort(all) // maps have no order
	return all
}
