package rules

import (
	"testing"

	"google.golang.org/protobuf/encoding/prototext"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

func TestExecutorCall(t *testing.T) {
	const id = `framework_id { value: "F" } executor_id { value: "e" } `
	update := func(status string) string {
		return id + `type: UPDATE update { status { task_id { value: "t" } ` + status + ` } }`
	}
	const said = sixteen + ` source: SOURCE_EXECUTOR `
	tests := map[string]struct{ call, want string }{
		"required fields are named":         {`executor_id { value: "e" }`, "Not initialized: framework_id"},
		"type":                              {id, "Expecting 'type' to be present"},
		"SUBSCRIBE":                         {id + `type: SUBSCRIBE subscribe {}`, ""},
		"SUBSCRIBE without part":            {id + `type: SUBSCRIBE`, "Expecting 'subscribe' to be present"},
		"MESSAGE":                           {id + `type: MESSAGE message { data: "x" }`, ""},
		"Expecting 'message' to be present": {id + `type: MESSAGE`, "Expecting 'message' to be present"},
		"HEARTBEAT":                         {id + `type: HEARTBEAT`, ""},
		"UPDATE":                            {update(said + `state: TASK_RUNNING`), ""},
		"Expecting 'update' to be present":  {id + `type: UPDATE`, "Expecting 'update' to be present"},
		"Expecting 'uuid' to be present":    {update(`source: SOURCE_EXECUTOR state: TASK_RUNNING`), "Expecting 'uuid' to be present"},
		"UPDATE with a short uuid":          {update(`uuid: "x" source: SOURCE_EXECUTOR state: TASK_RUNNING`), "Not a valid UUID"},
		"Received Call with an invalid source, expecting 'SOURCE_EXECUTOR'": {update(sixteen + `state: TASK_RUNNING`), "Received Call with an invalid source, expecting 'SOURCE_EXECUTOR'"},
		"UPDATE as the agent":                              {update(sixteen + `source: SOURCE_AGENT state: TASK_RUNNING`), "Received Call with an invalid source, expecting 'SOURCE_EXECUTOR'"},
		"Received %s, which is not for an executor to say": {update(said + `state: TASK_STAGING`), "Received TASK_STAGING, which is not for an executor to say"},
		"UPDATE to unreachable":                            {update(said + `state: TASK_UNREACHABLE`), "Received TASK_UNREACHABLE, which is not for an executor to say"},
		"UPDATE of its own":                                {update(said + `state: TASK_RUNNING executor_id { value: "e" }`), ""},
		"ExecutorID in Call: %s does not match ExecutorID in TaskStatus: %s": {update(said + `state: TASK_RUNNING executor_id { value: "f" }`), "ExecutorID in Call: e does not match ExecutorID in TaskStatus: f"},
		"calls of the future are left":                                       {id + `type: UNKNOWN`, ""},
		"unacknowledged without a part":                                      {id + `type: SUBSCRIBE subscribe { unacknowledged_updates {} }`, "Not initialized: subscribe.unacknowledged_updates[0].status"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			call := &executorpb.Call{}
			if err := (prototext.UnmarshalOptions{AllowPartial: true}).Unmarshal([]byte(test.call), call); err != nil {
				t.Fatal(err)
			}
			told(t, ExecutorCall(call), test.want)
		})
	}
}

// What runs is not charged again, and must be what the framework says that it is.
func TestRunningExecutor(t *testing.T) {
	executor := func(text string) string {
		return identity + one + `executor { executor_id { value: "e" } ` + sleep + text + `}`
	}
	c := context(t)
	c.Running = &mesos.ExecutorInfo{}
	text := `type: CUSTOM executor_id { value: "e" } framework_id { value: "F" } ` + sleep + scalar("cpus", "2")
	if err := prototext.Unmarshal([]byte(text), c.Running); err != nil {
		t.Fatal(err)
	}
	const another = "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID: executor e runs with another; give this one an id of its own"
	for name, test := range map[string]struct{ task, want string }{
		"the same":                {executor(`type: CUSTOM framework_id { value: "F" } ` + scalar("cpus", "2")), ""},
		"in two parts":            {executor(scalar("cpus", "1.5") + scalar("cpus", "0.5")), ""},
		"of a type that says not": {executor(`type: UNKNOWN ` + scalar("cpus", "2")), ""},
		"ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID: executor %s runs with another; give this one an id of its own": {executor(scalar("cpus", "1")), another},
		"with a name": {executor(`name: "n" ` + scalar("cpus", "2")), another},
	} {
		t.Run(name, func(t *testing.T) { told(t, Task(task(t, test.task), c), test.want) })
	}
}
