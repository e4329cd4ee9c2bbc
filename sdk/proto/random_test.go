package proto_test

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/gantry-project/gantry/sdk/proto/mesosjson"
)

// messageTypes are all message types of the v1 schema, in the order of the files.
func messageTypes(t testing.TB) []protoreflect.MessageType {
	t.Helper()
	var types []protoreflect.MessageType
	var add func(protoreflect.MessageDescriptors)
	add = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			m := messages.Get(i)
			if m.IsMapEntry() {
				continue
			}
			typ, err := protoregistry.GlobalTypes.FindMessageByName(m.FullName())
			if err != nil {
				t.Fatal(err)
			}
			types = append(types, typ)
			add(m.Messages())
		}
	}
	for _, file := range files {
		add(file.Messages())
	}
	return types
}

// newMessage makes an empty message of a v1 type.
func newMessage(t testing.TB, typ protoreflect.MessageType) mesosjson.Message {
	t.Helper()
	m, ok := typ.New().Interface().(mesosjson.Message)
	if !ok {
		t.Fatalf("%s has no JSON codec", typ.Descriptor().FullName())
	}
	return m
}

// fill sets every required field of m and some of the others to random values. Deeper
// messages get fewer of the others, and from level 6 on none, so that it ends.
func fill(rng *rand.Rand, m protoreflect.Message, level int) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if f.Cardinality() != protoreflect.Required && (level >= 6 || rng.IntN(level+2) > 0) {
			continue
		}
		switch {
		case f.IsMap():
			entries := m.Mutable(f).Map()
			for range 1 + rng.IntN(3) {
				key := protoreflect.ValueOfString(randomString(rng)).MapKey()
				entries.Set(key, randomValue(rng, f.MapValue(), entries.NewValue, level))
			}
		case f.IsList():
			list := m.Mutable(f).List()
			for range 1 + rng.IntN(3) {
				list.Append(randomValue(rng, f, list.NewElement, level))
			}
		default:
			m.Set(f, randomValue(rng, f, func() protoreflect.Value { return m.NewField(f) }, level))
		}
	}
}

func randomValue(rng *rand.Rand, f protoreflect.FieldDescriptor, empty func() protoreflect.Value, level int) protoreflect.Value {
	switch f.Kind() {
	case protoreflect.MessageKind:
		v := empty()
		fill(rng, v.Message(), level+1)
		return v
	case protoreflect.EnumKind:
		values := f.Enum().Values()
		return protoreflect.ValueOfEnum(values.Get(rng.IntN(values.Len())).Number())
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(rng.IntN(2) == 0)
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(int32(randomBits(rng)))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(int64(randomBits(rng)))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(randomBits(rng)))
	case protoreflect.Uint64Kind:
		return protoreflect.ValueOfUint64(randomBits(rng))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(randomDouble(rng))
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(randomString(rng))
	case protoreflect.BytesKind:
		b := make([]byte, rng.IntN(9))
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return protoreflect.ValueOfBytes(b)
	}
	panic("no random value of kind " + f.Kind().String())
}

// randomBits favours the limits of the integer types.
func randomBits(rng *rand.Rand) uint64 {
	limits := []uint64{0, 1, 1 << 31, 1<<31 - 1, 1<<32 - 1, 1 << 53, 1<<53 + 1, 1<<63 - 1, 1 << 63, 1<<64 - 1}
	if rng.IntN(2) == 0 {
		return limits[rng.IntN(len(limits))]
	}
	return rng.Uint64() >> rng.IntN(64)
}

func randomDouble(rng *rand.Rand) float64 {
	special := []float64{
		0, math.Copysign(0, -1), 15, 0.1, 1e-6, 9.99e-7, 1e21, 9.99e20, 1e300,
		math.MaxFloat64, math.SmallestNonzeroFloat64, math.Inf(1), math.Inf(-1), math.Pi,
	}
	if rng.IntN(2) == 0 {
		return special[rng.IntN(len(special))]
	}
	if v := math.Float64frombits(rng.Uint64()); !math.IsNaN(v) {
		return v
	}
	return rng.NormFloat64()
}

func randomString(rng *rand.Rand) string {
	letters := []rune("ab/.-\"\\\x00\x01\b\f\n\r\t\x1f\x7f<&é€\u2028\ufffd𝄞")
	s := make([]rune, rng.IntN(8))
	for i := range s {
		s[i] = letters[rng.IntN(len(letters))]
	}
	return string(s)
}

// withDefaults returns a copy of m in which every unset field that has an explicit default
// and is not deprecated is set to it: what m is after a journey through JSON.
func withDefaults(m proto.Message) proto.Message {
	out := proto.Clone(m)
	setDefaults(out.ProtoReflect())
	return out
}

func setDefaults(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		if f := fields.Get(i); f.HasDefault() && !isDeprecated(f) && !m.Has(f) {
			m.Set(f, f.Default())
		}
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.IsMap() && f.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				setDefaults(v.Message())
				return true
			})
		case f.IsMap() || f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				setDefaults(v.List().Get(i).Message())
			}
		default:
			setDefaults(v.Message())
		}
		return true
	})
}

// tree is what the mapping makes of m, told by its descriptor alone: the values are those
// of encoding/json with numbers as json.Number for integers and float64 for doubles.
func tree(m protoreflect.Message) map[string]any {
	object := map[string]any{}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := string(f.Name())
		if !m.Has(f) && (!f.HasDefault() || isDeprecated(f)) {
			continue
		}
		switch v := m.Get(f); {
		case f.IsMap():
			entries := map[string]any{}
			v.Map().Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
				entries[k.String()] = treeValue(f.MapValue(), v)
				return true
			})
			object[name] = entries
		case f.IsList():
			list := []any{}
			for i := range v.List().Len() {
				list = append(list, treeValue(f, v.List().Get(i)))
			}
			object[name] = list
		default:
			object[name] = treeValue(f, v)
		}
	}
	return object
}

func treeValue(f protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch f.Kind() {
	case protoreflect.MessageKind:
		return tree(v.Message())
	case protoreflect.EnumKind:
		return string(f.Enum().Values().ByNumber(v.Enum()).Name())
	case protoreflect.BytesKind:
		return base64.StdEncoding.EncodeToString(v.Bytes())
	case protoreflect.DoubleKind:
		if math.IsInf(v.Float(), 0) {
			return map[bool]string{true: "Infinity", false: "-Infinity"}[v.Float() > 0]
		}
		return v.Float()
	case protoreflect.BoolKind, protoreflect.StringKind:
		return v.Interface()
	default:
		return json.Number(v.String())
	}
}
