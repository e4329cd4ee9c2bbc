package proto_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	quotapb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/quota"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
	"github.com/gantry-project/gantry/sdk/proto/mesosjson"
)

// TestRandomMessages takes random messages of every type through JSON and through the
// binary form and JSON, and compares the JSON with what the descriptors ask for.
func TestRandomMessages(t *testing.T) {
	for _, typ := range messageTypes(t) {
		for seed := range uint64(12) {
			rng := rand.New(rand.NewPCG(seed, 1))
			m := newMessage(t, typ)
			fill(rng, m.ProtoReflect(), 0)
			body, err := mesosjson.Marshal(m)
			if err != nil {
				t.Fatalf("%s, seed %d: %v", typ.Descriptor().FullName(), seed, err)
			}
			if got, want := parseTree(t, body), tree(m.ProtoReflect()); !reflect.DeepEqual(got, any(want)) {
				t.Fatalf("%s, seed %d: the JSON is %s\nwant %v", typ.Descriptor().FullName(), seed, body, want)
			}
			want := withDefaults(m)
			back := newMessage(t, typ)
			if err := mesosjson.Unmarshal(body, back); err != nil || !proto.Equal(back, want) {
				t.Fatalf("%s, seed %d: %v\n%s\nbecame %v\nwant   %v", typ.Descriptor().FullName(), seed, err, body, back, want)
			}
			if got := throughBinary(t, m); !bytes.Equal(got, body) {
				t.Fatalf("%s, seed %d: %s\nand after the binary form %s", typ.Descriptor().FullName(), seed, body, got)
			}
		}
	}
}

// parseTree reads JSON into the form that tree makes.
func parseTree(t *testing.T, body []byte) any {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return doubles(v)
}

// doubles makes float64 of the numbers that have a fraction or an exponent.
func doubles(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k := range v {
			v[k] = doubles(v[k])
		}
	case []any:
		for i := range v {
			v[i] = doubles(v[i])
		}
	case json.Number:
		if strings.ContainsAny(v.String(), ".e") {
			f, err := v.Float64()
			if err != nil {
				panic(err)
			}
			return f
		}
	}
	return v
}

// throughBinary is the JSON of m after it was marshaled to the binary form and back.
func throughBinary(t *testing.T, m mesosjson.Message) []byte {
	t.Helper()
	wire, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	back := newMessage(t, m.ProtoReflect().Type())
	if err := proto.Unmarshal(wire, back); err != nil {
		t.Fatal(err)
	}
	body, err := mesosjson.Marshal(back)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestMarshal holds the written form of each rule of the mapping.
func TestMarshal(t *testing.T) {
	tests := []struct {
		name string
		m    mesosjson.Message
		want string
	}{
		{"defaults are written, deprecated ones and empty lists are not",
			&mesos.FrameworkInfo{User: new("root"), Name: new("f")},
			`{"user":"root","name":"f","failover_timeout":0.0,"checkpoint":false}`},
		{"a deprecated field that is set is written",
			&mesos.FrameworkInfo{User: new("root"), Name: new("f"), Checkpoint: new(true), Role: new("*"), Roles: []string{"a", "b/c"}},
			`{"user":"root","name":"f","failover_timeout":0.0,"checkpoint":true,"role":"*","roles":["a","b/c"]}`},
		{"refuse_seconds", &mesos.Filters{}, `{"refuse_seconds":5.0}`},
		{"shell", &mesos.CommandInfo{Value: new("true")}, `{"shell":true,"value":"true"}`},
		{"health check", &mesos.HealthCheck{}, `{"delay_seconds":15.0,"interval_seconds":10.0,"timeout_seconds":20.0,"consecutive_failures":3,"grace_period_seconds":10.0}`},
		{"a string default", &mesos.CSIPluginInfo{Type: new("t")}, `{"type":"t","name":"default"}`},
		{"an enum default", &mesos.Environment_Variable{Name: new("A")}, `{"name":"A","type":"VALUE"}`},
		{"an empty message", &mesos.Resource_RevocableInfo{}, `{}`},
		{"enum and event", &schedulerpb.Event{Type: schedulerpb.Event_HEARTBEAT.Enum()}, `{"type":"HEARTBEAT"}`},
		{"bytes", &mesos.UUID{Value: []byte{0xfb, 0xff, 0}}, `{"value":"+/8A"}`},
		{"bytes that are set and empty", &mesos.UUID{Value: []byte{}}, `{"value":""}`},
		{"64-bit integers are numbers", &mesos.DurationInfo{Nanoseconds: new(int64(math.MinInt64))}, `{"nanoseconds":-9223372036854775808}`},
		{"unsigned", &mesos.Value_Range{Begin: new(uint64(0)), End: new(uint64(math.MaxUint64))}, `{"begin":0,"end":18446744073709551615}`},
		{"maps are sorted", &quotapb.QuotaConfig{Role: new("r"), Limits: map[string]*mesos.Value_Scalar{"mem": scalar(1024), "cpus": scalar(.5)}},
			`{"role":"r","limits":{"cpus":{"value":0.5},"mem":{"value":1024.0}}}`},
		{"escapes", &mesos.FrameworkID{Value: new("\"\\/\b\f\n\r\t\x01\x1f\x7f<é𝄞")},
			`{"value":"\"\\/\b\f\n\r\t\u0001\u001F` + "\x7f<é𝄞\"}"},
		{"bytes that are not UTF-8 are replaced", &mesos.FrameworkID{Value: new("a\xffb\xc3")}, `{"value":"a` + "\ufffdb\ufffd" + `"}`},
		{"an enum number without a name is unset", &schedulerpb.Event{Type: new(schedulerpb.Event_Type(99))}, `{}`},
		{"of a list only the named ones", &mesos.CapabilityInfo{Capabilities: []mesos.CapabilityInfo_Capability{mesos.CapabilityInfo_CHOWN, 7}}, `{"capabilities":["CHOWN"]}`},
		{"of a list none", &mesos.CapabilityInfo{Capabilities: []mesos.CapabilityInfo_Capability{7}}, `{}`},
		{"oneof", &schedulerpb.AttributeConstraint_Selector{Selector: &schedulerpb.AttributeConstraint_Selector_AttributeName{}}, `{"attribute_name":""}`},
		{"duration", drain(&durationpb.Duration{Seconds: 600}), `{"agent_id":{"value":"a"},"max_grace_period":{"seconds":600},"mark_gone":false}`},
		{"zero duration", drain(&durationpb.Duration{}), `{"agent_id":{"value":"a"},"max_grace_period":{},"mark_gone":false}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := mesosjson.Append([]byte("["), test.m)
			if err != nil || string(got) != "["+test.want {
				t.Errorf("got  %s (%v)\nwant [%s", got, err, test.want)
			}
		})
	}
}

func scalar(v float64) *mesos.Value_Scalar { return &mesos.Value_Scalar{Value: &v} }

func drain(grace *durationpb.Duration) *masterpb.Call_DrainAgent {
	return &masterpb.Call_DrainAgent{AgentId: &mesos.AgentID{Value: new("a")}, MaxGracePeriod: grace}
}

func TestMarshalDoubles(t *testing.T) {
	tests := map[float64]string{
		15: "15.0", -0.25: "-0.25", 1e-6: "0.000001", 1e-7: "1e-7", 1.5e-12: "1.5e-12",
		123456789012345680000: "123456789012345680000.0", 1e21: "1e21", 1.25e300: "1.25e300",
		math.Inf(1): `"Infinity"`, math.Inf(-1): `"-Infinity"`, 5e-324: "5e-324",
	}
	for v, want := range tests {
		got, err := mesosjson.Marshal(scalar(v))
		if err != nil || string(got) != `{"value":`+want+`}` {
			t.Errorf("got %s (%v), want %s", got, err, want)
		}
	}
	if got, err := mesosjson.Marshal(scalar(math.Copysign(0, -1))); string(got) != `{"value":-0.0}` {
		t.Errorf("got %s (%v)", got, err)
	}
	if got, err := mesosjson.Marshal(scalar(math.NaN())); string(got) != `{"value":null}` {
		t.Errorf("got %s (%v)", got, err)
	}
}

// TestUnmarshal holds what each rule of the mapping makes of a text, told in the written
// form.
func TestUnmarshal(t *testing.T) {
	tests := []struct {
		name string
		m    mesosjson.Message
		in   string
		want string
	}{
		{"white space", &mesos.Value_Range{}, " {\n\t\"begin\" : 1 ,\r\"end\":2 } \n", `{"begin":1,"end":2}`},
		{"unknown fields of every kind", &mesos.Filters{}, `{"x":[1,{"a":[],"b":{}},"\u00e9",null,true,false,-0.5e+3],"refuse_seconds":1,"y":{}}`, `{"refuse_seconds":1.0}`},
		{"null is unset", &mesos.FrameworkInfo{}, `{"user":"u","name":"n","id":null,"roles":null,"checkpoint":null,"failover_timeout":null,"offer_filters":null}`,
			`{"user":"u","name":"n","failover_timeout":0.0,"checkpoint":false}`},
		{"null in a list is left out", &mesos.FrameworkInfo{}, `{"user":"u","name":"n","roles":[null,"a",null]}`,
			`{"user":"u","name":"n","failover_timeout":0.0,"checkpoint":false,"roles":["a"]}`},
		{"unknown names of optional enums", &schedulerpb.Event{}, `{"type":"TELEPORT"}`, `{}`},
		{"unknown names in lists", &mesos.CapabilityInfo{}, `{"capabilities":["CHOWN","FLY","",null,"KILL"]}`, `{"capabilities":["CHOWN","KILL"]}`},
		{"numbers in strings", &mesos.HealthCheck{}, `{"delay_seconds":"1.5","consecutive_failures":" 7\n"}`,
			`{"delay_seconds":1.5,"interval_seconds":10.0,"timeout_seconds":20.0,"consecutive_failures":7,"grace_period_seconds":10.0}`},
		{"booleans in strings", &mesos.CommandInfo{}, `{"shell":"false"}`, `{"shell":false}`},
		{"infinities", &mesos.Filters{}, `{"refuse_seconds":"-Infinity"}`, `{"refuse_seconds":"-Infinity"}`},
		{"integers beyond 2^53", &mesos.Value_Range{}, `{"begin":9007199254740993,"end":"18446744073709551615"}`, `{"begin":9007199254740993,"end":18446744073709551615}`},
		{"the lowest integer", &mesos.DurationInfo{}, `{"nanoseconds":-9223372036854775808}`, `{"nanoseconds":-9223372036854775808}`},
		{"integers with exponents are exact", &mesos.Value_Range{}, `{"begin":1.8446744073709551615e19,"end":1844674407370955161500e-2}`, `{"begin":18446744073709551615,"end":18446744073709551615}`},
		{"fractions are cut off", &mesos.Value_Range{}, `{"begin":-0.999,"end":1.999}`, `{"begin":0,"end":1}`},
		{"tiny and zero with huge exponents", &mesos.Value_Range{}, `{"begin":1e-999999999999999999999,"end":0.0e999999999999999999999}`, `{"begin":0,"end":0}`},
		{"a bare value for a list", &mesos.FrameworkInfo{}, `{"user":"u","name":"n","roles":"a","capabilities":{"type":"MULTI_ROLE"}}`,
			`{"user":"u","name":"n","failover_timeout":0.0,"checkpoint":false,"roles":["a"],"capabilities":[{"type":"MULTI_ROLE"}]}`},
		{"lists in lists", &mesos.CommandInfo{}, `{"arguments":["a",["b",[],["c"]]]}`, `{"shell":true,"arguments":["a","b","c"]}`},
		{"of equal keys the last", &mesos.CommandInfo{}, `{"value":"a","arguments":["x"],"value":"b","arguments":["y"],"user":"u","user":null}`, `{"shell":true,"value":"b","arguments":["y"]}`},
		{"of equal messages the last", &quotapb.QuotaConfig{}, `{"role":"r","limits":{"a":{},"a":{"value":1}},"guarantees":{"x":{"value":1}},"guarantees":null}`, `{"role":"r","limits":{"a":{"value":1.0}}}`},
		{"oneof, the last", &schedulerpb.AttributeConstraint_Selector{}, `{"pseudoattribute_type":"HOSTNAME","attribute_name":"a"}`, `{"attribute_name":"a"}`},
		{"oneof, null and unknown leave the other", &schedulerpb.AttributeConstraint_Selector{}, `{"attribute_name":"a","pseudoattribute_type":null,"pseudoattribute_type":"X"}`, `{"attribute_name":"a"}`},
		{"oneof, null after a value", &schedulerpb.AttributeConstraint_Selector{}, `{"attribute_name":"a","attribute_name":null}`, `{}`},
		{"escapes", &mesos.FrameworkID{}, `{"\u0076\u0061lue":"\"\\\/\b\f\n\r\tA\u00e9\u20AC\ud834\uDD1E"}`, `{"value":"\"\\/\b\f\n\r\tAé€𝄞"}`},
		{"base64 without padding, with white space", &mesos.UUID{}, `{"value":" +/\r\n8 "}`, `{"value":"+/8="}`},
		{"empty base64", &mesos.UUID{}, `{"value":""}`, `{"value":""}`},
		{"lists of entries for a map", &quotapb.QuotaConfig{}, `{"role":"r","limits":[{"a":{"value":1}},{"b":{"value":2}}]}`, `{"role":"r","limits":{"a":{"value":1.0},"b":{"value":2.0}}}`},
		{"null in a map of strings", &mesos.Volume_Source_CSIVolume_StaticProvisioning{}, `{"volume_id":"v","volume_capability":{"access_mode":{"mode":"SINGLE_NODE_WRITER"}},"volume_context":{"k":null}}`,
			`{"volume_id":"v","volume_capability":{"access_mode":{"mode":"SINGLE_NODE_WRITER"}},"volume_context":{"k":""}}`},
		{"duration", &masterpb.Call_DrainAgent{}, `{"agent_id":{"value":"a"},"max_grace_period":{"seconds":"600","nanos":5,"x":1}}`,
			`{"agent_id":{"value":"a"},"max_grace_period":{"seconds":600,"nanos":5},"mark_gone":false}`},
		{"as deep as may be", &mesos.Filters{}, `{"x":` + strings.Repeat("[", mesosjson.MaxDepth-1) + strings.Repeat("]", mesosjson.MaxDepth-1) + `}`, `{"refuse_seconds":5.0}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if err := mesosjson.Unmarshal([]byte(test.in), test.m); err != nil {
				t.Fatal(err)
			}
			if got := string(test.m.AppendJSON(nil)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestUnmarshalReplaces(t *testing.T) {
	m := &mesos.CommandInfo{User: new("u"), Arguments: []string{"a"}}
	if err := mesosjson.Unmarshal([]byte(`{"value":"v"}`), m); err != nil || !proto.Equal(m, &mesos.CommandInfo{Value: new("v")}) {
		t.Errorf("got %v (%v)", m, err)
	}
}

// TestUnmarshalErrors holds the sentence for each kind of mistake.
func TestUnmarshalErrors(t *testing.T) {
	accept := func(rest string) string { return `{"accept":{"offer_ids":[{"value":"a"},` + rest + `]}}` }
	tests := []struct {
		name string
		m    mesosjson.Message
		in   string
		want string
	}{
		{"nothing", &schedulerpb.Call{}, " ", "want an object, found the end of the text (byte 1)"},
		{"a list", &schedulerpb.Call{}, "[]", "want an object, found a list (byte 0)"},
		{"null", &schedulerpb.Call{}, "null", "want an object, found null (byte 0)"},
		{"two objects", &mesos.Filters{}, "{} {}", "want nothing after the JSON object, found an object (byte 3)"},
		{"cut off", &mesos.Filters{}, `{"refuse_seconds"`, "refuse_seconds: want a colon after the field name, found the end of the text (byte 17)"},
		{"cut off in a value", &mesos.Filters{}, `{"x":[1`, `x[0]: want a comma or ']', found the end of the text (byte 7)`},
		{"a comma too many", &mesos.Filters{}, `{"refuse_seconds":1,}`, `refuse_seconds: want a field name in quotes, found '}' (byte 20)`},
		{"a comma too few", &mesos.Filters{}, `{"a":1 "b":2}`, `a: want a comma or '}', found a string (byte 7)`},
		{"no quotes", &mesos.Filters{}, `{a:1}`, `want a field name in quotes, found 'a' (byte 1)`},
		{"not a word", &mesos.Filters{}, `{"a":nul}`, `a: want null, found another word (byte 5)`},
		{"not a value", &mesos.Filters{}, `{"a":NaN}`, `a: want a JSON value, found 'N' (byte 5)`},
		{"a number for a string", &schedulerpb.Call{}, accept(`{"value":5}`), "accept.offer_ids[1].value: want a string, found a number (byte 47)"},
		{"a string for a message", &schedulerpb.Call{}, accept(`"b"`), "accept.offer_ids[1]: want an object, found a string (byte 38)"},
		{"a list for a string", &mesos.FrameworkID{}, `{"value":["a"]}`, "value: want a string, found a list (byte 9)"},
		{"an object for a number", &mesos.Filters{}, `{"refuse_seconds":{}}`, "refuse_seconds: want a number, found an object (byte 18)"},
		{"words for a number", &mesos.Filters{}, `{"refuse_seconds":"1 2"}`, "refuse_seconds: want a number, found a string (byte 18)"},
		{"no infinity among integers", &mesos.DurationInfo{}, `{"nanoseconds":"Infinity"}`, "nanoseconds: want an integer, found a string (byte 15)"},
		{"a number for an enum", &schedulerpb.Call{}, `{"type":1}`, "type: want a name in quotes, found a number (byte 8)"},
		{"an unknown name of a required enum", &mesos.TaskStatus{}, `{"task_id":{"value":"t"},"state":"TASK_BORED"}`, `state: no such value: "TASK_BORED" (byte 33)`},
		{"a number for a boolean", &mesos.CommandInfo{}, `{"shell":1}`, "shell: want true or false, found a number (byte 9)"},
		{"a word for a boolean", &mesos.CommandInfo{}, `{"shell":"TRUE"}`, "shell: want true or false, found a string (byte 9)"},
		{"base64", &mesos.UUID{}, `{"value":"a*b="}`, "value: not base64 (byte 9)"},
		{"a string for a duration", &masterpb.Call_DrainAgent{}, `{"max_grace_period":"10mins"}`, "max_grace_period: want an object, found a string (byte 20)"},
		{"too large an integer", &mesos.DurationInfo{}, `{"nanoseconds":9223372036854775808}`, "nanoseconds: the number does not fit into 64 bits with a sign (byte 15)"},
		{"far too large an integer", &mesos.DurationInfo{}, `{"nanoseconds":1e999999999999999999999}`, "nanoseconds: the number does not fit into 64 bits with a sign (byte 15)"},
		{"too large for 32 bits", &mesos.AgentInfo{}, `{"port":2147483648}`, "port: the number does not fit into 32 bits with a sign (byte 8)"},
		{"negative", &mesos.Value_Range{}, `{"begin":-1}`, "begin: the number does not fit into 64 bits without a sign (byte 9)"},
		{"too large a double", &mesos.Filters{}, `{"refuse_seconds":1e400}`, "refuse_seconds: the number does not fit into a double (byte 18)"},
		{"control characters", &mesos.FrameworkID{}, "{\"value\":\"a\nb\"}", "value: control characters in strings must be escaped (byte 11)"},
		{"an open string", &mesos.FrameworkID{}, `{"value":"é`, "value: the string does not end (byte 9)"},
		{"half a pair", &mesos.FrameworkID{}, `{"value":"\ud834x"}`, "value: not an escape of JSON, or half a surrogate pair (byte 10)"},
		{"the other half", &mesos.FrameworkID{}, `{"value":"\udd1e\ud834"}`, "value: not an escape of JSON, or half a surrogate pair (byte 10)"},
		{"not an escape", &mesos.FrameworkID{}, `{"value":"a\x"}`, "value: not an escape of JSON, or half a surrogate pair (byte 11)"},
		{"not UTF-8", &mesos.FrameworkID{}, "{\"value\":\"a\xff\"}", "value: strings must be UTF-8 (byte 11)"},
		{"not UTF-8 in what is skipped", &mesos.FrameworkID{}, "{\"\xc0\":1}", "strings must be UTF-8 (byte 2)"},
		{"a long name is cut in the error", &mesos.Filters{}, `{"` + strings.Repeat("é", 100) + `":x}`, strings.Repeat("é", 32) + ": want a JSON value, found 'x' (byte 204)"},
		{"a zero in front", &mesos.Value_Range{}, `{"begin":01}`, "begin: the number has a form that JSON does not allow (byte 9)"},
		{"a bare point", &mesos.Value_Range{}, `{"begin":1.}`, "begin: the number has a form that JSON does not allow (byte 9)"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := mesosjson.Unmarshal([]byte(test.in), test.m)
			var parse *mesosjson.ParseError
			if !errors.As(err, &parse) || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
}

func TestMissingFields(t *testing.T) {
	tests := []struct {
		name string
		m    mesosjson.Message
		in   string
		want string
	}{
		{"at the top", &mesos.FrameworkInfo{}, `{"user":null}`, "Missing required fields: user, name"},
		{"below", &schedulerpb.Call{}, `{"accept":{"offer_ids":[{"value":"a"},{}],"operations":[{"launch":{"task_infos":{"name":"t"}}}]}}`,
			"Missing required fields: accept.offer_ids[1].value, accept.operations[0].launch.task_infos[0].task_id, accept.operations[0].launch.task_infos[0].agent_id"},
		{"in maps", &quotapb.QuotaConfig{}, `{"role":"r","limits":{"mem":null,"cpus":{}}}`, "Missing required fields: limits.cpus.value, limits.mem.value"},
		{"in oneofs", &schedulerpb.AttributeConstraint{}, `{"selector":{},"predicate":{"text_equals":{}}}`, "Missing required fields: predicate.text_equals.value"},
		{"what a later equal key replaces does not count", &executorpb.Call{}, `{"executor_id":{},"executor_id":{"value":"e"},"framework_id":{"value":"f"},"update":{}}`, "Missing required fields: update.status"},
		{"many", &mesos.Offer{}, `{"id":{"value":"o"},"framework_id":{"value":"f"},"agent_id":{"value":"a"},"hostname":"h","executor_ids":[` + strings.Repeat("{},", 40) + `{}]}`,
			"Missing required fields: executor_ids[0].value, executor_ids[1].value, executor_ids[2].value, executor_ids[3].value, executor_ids[4].value, executor_ids[5].value, executor_ids[6].value, executor_ids[7].value, executor_ids[8].value, executor_ids[9].value, executor_ids[10].value, executor_ids[11].value, executor_ids[12].value, executor_ids[13].value, executor_ids[14].value, executor_ids[15].value and others"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := mesosjson.Unmarshal([]byte(test.in), test.m)
			var missing *mesosjson.MissingError
			if !errors.As(err, &missing) || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
		})
	}
	if out, err := mesosjson.Append([]byte("x"), &mesos.FrameworkID{}); string(out) != "x" || err == nil || err.Error() != "Missing required fields: value" {
		t.Errorf("Append gave %s and %v", out, err)
	}
}

// TestBombs feeds texts that are meant to exhaust a parser.
func TestBombs(t *testing.T) {
	const size = 1 << 20
	nested := strings.Repeat(`{"parent":`, size/10)
	tests := []struct {
		name string
		m    mesosjson.Message
		in   string
		want string
	}{
		{"lists", &mesos.Filters{}, `{"x":` + strings.Repeat("[", size), "nested deeper than 200 levels"},
		{"lists in a list field", &mesos.CommandInfo{}, `{"arguments":` + strings.Repeat("[", size), "nested deeper than 200 levels"},
		{"a message within itself", &mesos.ContainerID{}, nested, "nested deeper than 200 levels"},
		{"a long integer", &mesos.Value_Range{}, `{"begin":` + strings.Repeat("9", size) + `}`, "does not fit into 64 bits"},
		{"a long fraction", &mesos.Value_Range{}, `{"begin":1,"end":2.` + strings.Repeat("9", size) + `}`, ""},
		{"a long exponent", &mesos.Filters{}, `{"refuse_seconds":1e` + strings.Repeat("9", size) + `}`, "does not fit into a double"},
		{"a long double", &mesos.Filters{}, `{"refuse_seconds":0.` + strings.Repeat("3", size) + `}`, ""},
		{"a long key", &mesos.Filters{}, `{"` + strings.Repeat("k", size) + `":1}`, ""},
		{"many equal keys", &mesos.CommandInfo{}, `{` + strings.Repeat(`"arguments":["a"],`, size/18) + `"value":"v"}`, ""},
		{"escapes", &mesos.FrameworkID{}, `{"value":"` + strings.Repeat(`\u0041`, size/6) + `"}`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := mesosjson.Unmarshal([]byte(test.in), test.m)
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %.200v", err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %.200v\nwant %s", err, test.want)
			}
		})
	}
}

// TestIntegersAgreeWithStrconv reads random integers near the limits.
func TestIntegersAgreeWithStrconv(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for range 5000 {
		text := strconv.FormatUint(randomBits(rng), 10)
		if text != "0" && rng.IntN(3) == 0 {
			text += strconv.Itoa(rng.IntN(100))
		}
		if rng.IntN(2) == 0 {
			text = "-" + text
		}
		signed := &mesos.DurationInfo{}
		err := mesosjson.Unmarshal([]byte(`{"nanoseconds":`+text+`}`), signed)
		if want, wantErr := strconv.ParseInt(text, 10, 64); (err == nil) != (wantErr == nil) || err == nil && signed.GetNanoseconds() != want {
			t.Fatalf("%s read as %v (%v)", text, signed, err)
		}
		port := &mesos.Port{}
		err = mesosjson.Unmarshal([]byte(`{"number":`+text+`}`), port)
		want, wantErr := strconv.ParseUint(strings.Replace(text, "-0", "0", 1), 10, 32)
		if (err == nil) != (wantErr == nil) || err == nil && uint64(port.GetNumber()) != want {
			t.Fatalf("%s read as %v (%v)", text, port, err)
		}
	}
}
