package proto_test

import (
	"encoding/json"
	"testing"

	"google.golang.org/protobuf/proto"

	agentpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/agent"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
	maintenancepb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/maintenance"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	quotapb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/quota"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
	"github.com/gantry-project/gantry/sdk/proto/mesosjson"
)

// roots are the messages that a text from the network may be.
var roots = []mesosjson.Message{
	&schedulerpb.Call{}, &schedulerpb.Event{}, &masterpb.Call{}, &masterpb.Response{}, &masterpb.Event{},
	&agentpb.Call{}, &agentpb.Response{}, &executorpb.Call{}, &executorpb.Event{},
	&quotapb.QuotaRequest{}, &quotapb.QuotaStatus{}, &maintenancepb.Schedule{},
}

// FuzzUnmarshal reads any text as any root: whatever is accepted is JSON, and what is
// written of it reads back as the same message.
func FuzzUnmarshal(f *testing.F) {
	for _, text := range []string{
		`{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"f","roles":["a"],"failover_timeout":"1e2","capabilities":{"type":"MULTI_ROLE"}},"suppressed_roles":null}}`,
		`{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n","offer_filters":{"r":{"min_allocatable_resources":{"quantities":[{"quantities":{"cpus":{"value":0.1}}}]}}}},"offer_constraints":{"role_constraints":{"a":{"groups":[{"attribute_constraints":[{"selector":{"attribute_name":"rack"},"predicate":{"text_equals":{"value":"1"}}}]}]}}}}}`,
		`{"framework_id":{"value":"f"},"type":"ACCEPT","accept":{"offer_ids":[{"value":"o"}],"operations":[{"type":"LAUNCH","launch":{"task_infos":[{"name":"t","task_id":{"value":"t"},"agent_id":{"value":"a"},"command":{"shell":"true","value":"\u00e9\ud834\udd1e"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":"Infinity"}},{"name":"ports","type":"RANGES","ranges":{"range":[{"begin":31000,"end":3.2e4}]}}],"data":"aGk="}]}}],"filters":{"refuse_seconds":-0.0}}}`,
		`{"type":"ACKNOWLEDGE","acknowledge":{"agent_id":{"value":"a"},"task_id":{"value":"t"},"uuid":"+/8A"}}`,
		`{"type":"DRAIN_AGENT","drain_agent":{"agent_id":{"value":"a"},"max_grace_period":{"seconds":600,"nanos":"1"}}}`,
		`{"type":"LAUNCH_CONTAINER","launch_container":{"container_id":{"value":"c","parent":{"value":"p"}},"limits":{"cpus":{"value":1},"cpus":{"value":2}}}}`,
		`{"windows":[{"machine_ids":{"hostname":"h"},"unavailability":{"start":{"nanoseconds":9223372036854775807}}}]}`,
		`{"":[[[{}]]],"x":[null,true,false,1.5E-3,"\/\b\f\n\r\t\\\""]}`,
		`{"accept":[]}`, `{"type":1}`, "{\"a\":\"\xff\"}", `[{"a":`,
	} {
		for i := range roots {
			f.Add(uint8(i), []byte(text))
		}
	}
	f.Fuzz(func(t *testing.T, root uint8, data []byte) {
		typ := roots[int(root)%len(roots)].ProtoReflect().Type()
		m := newMessage(t, typ)
		if err := mesosjson.Unmarshal(data, m); err != nil {
			_ = err.Error()
			return
		}
		if !json.Valid(data) {
			t.Fatalf("not JSON, yet accepted: %q", data)
		}
		body, err := mesosjson.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if !json.Valid(body) {
			t.Fatalf("not JSON, yet written: %q", body)
		}
		back := newMessage(t, typ)
		if err := mesosjson.Unmarshal(body, back); err != nil || !proto.Equal(back, withDefaults(m)) {
			t.Fatalf("%v\n%s\nbecame %v\nwant   %v", err, body, back, m)
		}
	})
}

// FuzzMarshal writes whatever the binary form can hold: the text is JSON, even of strings
// that are not UTF-8, of NaNs and of enum numbers without names.
func FuzzMarshal(f *testing.F) {
	f.Add(uint8(1), []byte{8, 99, 58, 7, 10, 1, 0xff})
	f.Add(uint8(1), []byte{8, 2, 26, 0})
	f.Fuzz(func(t *testing.T, root uint8, wire []byte) {
		m := newMessage(t, roots[int(root)%len(roots)].ProtoReflect().Type())
		if err := proto.Unmarshal(wire, m); err != nil {
			return
		}
		body, err := mesosjson.Marshal(m)
		if err != nil || !json.Valid(body) {
			t.Fatalf("%v: %q", err, body)
		}
	})
}
