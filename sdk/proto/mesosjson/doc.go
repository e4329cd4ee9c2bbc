// Package mesosjson is the run-time half of the JSON codec of the v1 messages: the
// generated *_json.go files beside the .pb.go files call it once per field.
//
//	body, err := mesosjson.Marshal(event)   // {"type":"HEARTBEAT"}
//	err = mesosjson.Unmarshal(body, call)   // "task_infos[2].name: want a string, found a number (byte 214)"
//
// The mapping is the one Mesos v1 clients speak, which is not the proto3 mapping.
//
// Written: fields in the order of the schema under their schema names, enums by name,
// bytes in base64, all integers as numbers, doubles always with a fraction or an exponent,
// maps with sorted keys. Empty lists and maps are left out. An unset field with an explicit
// default is written with that default unless it is deprecated. Infinities are the strings
// "Infinity" and "-Infinity".
//
// Writing never fails on what a peer sent: bytes that are not UTF-8 become U+FFFD, a NaN
// becomes null, an enum number without a name is left out.
//
// Read: unknown fields are skipped, null leaves a field unset, an unknown enum name is
// dropped unless the field is required, numbers and booleans may stand in strings, a bare
// value stands for a list of one, lists within lists are flattened, and of equal keys the
// last wins. Integers are read exactly, a fraction being cut off; what lies outside the
// field's range is refused. Text must be UTF-8 and nest at most [MaxDepth] deep. Memory
// is proportional to the text, in the worst case a hundred times as much: whoever reads the
// text from a network bounds it, and uses [UnmarshalWithin].
package mesosjson
