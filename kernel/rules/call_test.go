package rules

import (
	"testing"

	"google.golang.org/protobuf/encoding/prototext"

	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

const sixteen = `uuid: "0123456789abcdef"`

func TestCall(t *testing.T) {
	const id = `framework_id { value: "F" } `
	tests := map[string]struct{ call, want string }{
		"Not initialized: %s": {
			`framework_id {} type: ACCEPT accept { offer_ids {} operations { launch { task_infos { name: "n" limits { key: "b" value {} } limits { key: "a" value {} } } } } }`,
			"Not initialized: framework_id.value, accept.offer_ids[0].value, accept.operations[0].launch.task_infos[0].task_id, " +
				"accept.operations[0].launch.task_infos[0].agent_id, accept.operations[0].launch.task_infos[0].limits[a].value, " +
				"accept.operations[0].launch.task_infos[0].limits[b].value"},
		"Expecting 'type' to be present":         {id, "Expecting 'type' to be present"},
		"Expecting 'framework_id' to be present": {`type: TEARDOWN`, "Expecting 'framework_id' to be present"},
		"unknown type":                           {id + `type: UNKNOWN`, ""},

		"Expecting 'subscribe' to be present":                       {`type: SUBSCRIBE`, "Expecting 'subscribe' to be present"},
		"SUBSCRIBE of a new framework":                              {`type: SUBSCRIBE subscribe { framework_info { user: "u" name: "n" } }`, ""},
		"SUBSCRIBE of a known framework":                            {id + `type: SUBSCRIBE subscribe { framework_info { user: "u" name: "n" id { value: "F" } } }`, ""},
		"'framework_id' differs from 'subscribe.framework_info.id'": {id + `type: SUBSCRIBE subscribe { framework_info { user: "u" name: "n" id { value: "G" } } }`, "'framework_id' differs from 'subscribe.framework_info.id'"},
		"SUBSCRIBE with an id once":                                 {id + `type: SUBSCRIBE subscribe { framework_info { user: "u" name: "n" } }`, "'framework_id' differs from 'subscribe.framework_info.id'"},
		"SUBSCRIBE suppressing no role":                             {`type: SUBSCRIBE subscribe { framework_info { user: "u" name: "n" } suppressed_roles: "" }`, "Role names cannot be the empty string"},
		"TEARDOWN":                                                  {id + `type: TEARDOWN`, ""},
		"ACCEPT":                                                    {id + `type: ACCEPT accept {}`, ""},
		"Expecting '%s' to be present":                              {id + `type: ACCEPT decline {}`, "Expecting 'accept' to be present"},
		"DECLINE":                                                   {id + `type: DECLINE decline { offer_ids { value: "O" } }`, ""},
		"DECLINE without part":                                      {id + `type: DECLINE`, "Expecting 'decline' to be present"},
		"ACCEPT_INVERSE_OFFERS":                                     {id + `type: ACCEPT_INVERSE_OFFERS`, "Expecting 'accept_inverse_offers' to be present"},
		"DECLINE_INVERSE_OFFERS":                                    {id + `type: DECLINE_INVERSE_OFFERS`, "Expecting 'decline_inverse_offers' to be present"},
		"REVIVE all":                                                {id + `type: REVIVE`, ""},
		"REVIVE some":                                               {id + `type: REVIVE revive { roles: "a" }`, ""},
		"REVIVE no role":                                            {id + `type: REVIVE revive { roles: "a//b" }`, "Role 'a//b' cannot contain two adjacent slashes"},
		"SUPPRESS all":                                              {id + `type: SUPPRESS`, ""},
		"SUPPRESS no role":                                          {id + `type: SUPPRESS suppress { roles: "/a" }`, "Role '/a' cannot start with a slash"},
		"KILL":                                                      {id + `type: KILL kill { task_id { value: "t" } }`, ""},
		"KILL without part":                                         {id + `type: KILL`, "Expecting 'kill' to be present"},
		"SHUTDOWN":                                                  {id + `type: SHUTDOWN`, "Expecting 'shutdown' to be present"},
		"ACKNOWLEDGE":                                               {id + `type: ACKNOWLEDGE acknowledge { agent_id { value: "a" } task_id { value: "t" } ` + sixteen + `}`, ""},
		"ACKNOWLEDGE without part":                                  {id + `type: ACKNOWLEDGE`, "Expecting 'acknowledge' to be present"},
		"Not a valid UUID":                                          {id + `type: ACKNOWLEDGE acknowledge { agent_id { value: "a" } task_id { value: "t" } uuid: "0123" }`, "Not a valid UUID"},
		"operation status acknowledged":                             {id + `type: ACKNOWLEDGE_OPERATION_STATUS acknowledge_operation_status { agent_id { value: "a" } operation_id { value: "o" } ` + sixteen + `}`, ""},
		"operation status, no part":                                 {id + `type: ACKNOWLEDGE_OPERATION_STATUS`, "Expecting 'acknowledge_operation_status' to be present"},
		"Expecting 'agent_id' to be present":                        {id + `type: ACKNOWLEDGE_OPERATION_STATUS acknowledge_operation_status { operation_id { value: "o" } ` + sixteen + `}`, "Expecting 'agent_id' to be present"},
		"operation status, no uuid":                                 {id + `type: ACKNOWLEDGE_OPERATION_STATUS acknowledge_operation_status { operation_id { value: "o" } uuid: "" }`, "Not a valid UUID"},
		"RECONCILE":                                                 {id + `type: RECONCILE reconcile {}`, ""},
		"RECONCILE without part":                                    {id + `type: RECONCILE`, "Expecting 'reconcile' to be present"},
		"RECONCILE_OPERATIONS":                                      {id + `type: RECONCILE_OPERATIONS`, "Expecting 'reconcile_operations' to be present"},
		"MESSAGE":                                                   {id + `type: MESSAGE`, "Expecting 'message' to be present"},
		"REQUEST":                                                   {id + `type: REQUEST`, "Expecting 'request' to be present"},
		"UPDATE_FRAMEWORK without part":                             {id + `type: UPDATE_FRAMEWORK`, "Expecting 'update_framework' to be present"},
		"'framework_id' differs from 'update_framework.framework_info.id'": {id + `type: UPDATE_FRAMEWORK update_framework { framework_info { user: "u" name: "n" } }`, "'framework_id' differs from 'update_framework.framework_info.id'"},
		"UPDATE_FRAMEWORK of a framework":                                  {id + `type: UPDATE_FRAMEWORK update_framework { framework_info { user: "u" name: "n" id { value: "F" } } }`, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var call schedulerpb.Call
			if err := (prototext.UnmarshalOptions{AllowPartial: true}).Unmarshal([]byte(test.call), &call); err != nil {
				t.Fatal(err)
			}
			told(t, Call(&call), test.want)
		})
	}
}

// TestEveryTypeOfCallIsKnown: a type that the schema gains needs a decision here.
func TestEveryTypeOfCallIsKnown(t *testing.T) {
	without := map[schedulerpb.Call_Type]bool{
		schedulerpb.Call_UNKNOWN: true, schedulerpb.Call_SUBSCRIBE: true, schedulerpb.Call_TEARDOWN: true,
		schedulerpb.Call_REVIVE: true, schedulerpb.Call_SUPPRESS: true,
	}
	for n := range schedulerpb.Call_Type_name {
		kind := schedulerpb.Call_Type(n)
		if part, has := partOf(&schedulerpb.Call{Type: &kind}); has != without[kind] {
			t.Errorf("%v needs %q: %t", kind, part, !has)
		}
	}
}

func TestSupportedCall(t *testing.T) {
	const offered = `type: ACCEPT accept { offer_ids { value: "o" } `
	tests := map[string]struct{ call, want string }{
		"ACCEPT of nothing":             {offered + `}`, ""},
		"ACCEPT with LAUNCH":            {offered + `operations { type: LAUNCH } }`, ""},
		"ACCEPT with two operations":    {offered + `operations { type: LAUNCH } operations { type: RESERVE } }`, "ACCEPT with RESERVE is not supported yet"},
		"ACCEPT of an operation's id":   {offered + `operations { type: UNKNOWN id { value: "x" } } }`, "ACCEPT with UNKNOWN is not supported yet"},
		"SUBSCRIBE":                     {`type: SUBSCRIBE subscribe { offer_constraints {} }`, ""},
		"SUBSCRIBE with constraints":    {`type: SUBSCRIBE subscribe { offer_constraints { role_constraints { key: "*" value {} } } }`, "SUBSCRIBE with offer_constraints is not supported yet"},
		"UPDATE_FRAMEWORK, constrained": {`type: UPDATE_FRAMEWORK update_framework { offer_constraints { role_constraints { key: "*" value {} } } }`, "UPDATE_FRAMEWORK with offer_constraints is not supported yet"},
		"REQUEST":                       {`type: REQUEST`, ""},
		"UNKNOWN":                       {`type: UNKNOWN`, "UNKNOWN is not supported yet"},
		"%s is not supported yet":       {`type: RECONCILE_OPERATIONS`, "RECONCILE_OPERATIONS is not supported yet"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var call schedulerpb.Call
			if err := (prototext.UnmarshalOptions{AllowPartial: true}).Unmarshal([]byte(test.call), &call); err != nil {
				t.Fatal(err)
			}
			told(t, SupportedCall(&call), test.want)
		})
	}
}
