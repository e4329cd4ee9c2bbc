package rules

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"

	"github.com/gantry-project/gantry/kernel/ledger"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const (
	identity = `name: "n" task_id { value: "t" } agent_id { value: "A" } `
	one      = `resources { name: "cpus" type: SCALAR scalar { value: 1 } } `
	sleep    = `command { value: "sleep 1" } `
)

func task(t *testing.T, text string) *mesos.TaskInfo {
	t.Helper()
	info := &mesos.TaskInfo{}
	if err := prototext.Unmarshal([]byte(text), info); err != nil {
		t.Fatal(err)
	}
	return info
}

func context(t *testing.T) TaskContext {
	t.Helper()
	offered, err := ledger.Parse("cpus:2;mem:64;gpus:2;ports:[1-10]")
	if err != nil {
		t.Fatal(err)
	}
	return TaskContext{Agent: "A", Offered: offered, AllocationRole: "eng", Framework: framework(t, `id { value: "F" } role: "eng"`)}
}

func scalar(name, value string) string {
	return `resources { name: "` + name + `" type: SCALAR scalar { value: ` + value + ` } } `
}

func TestTask(t *testing.T) {
	volume := func(text string) string {
		return identity + sleep + `resources { name: "disk" type: SCALAR scalar { value: 1 } ` + text + `}`
	}
	const forEng = `reservations { type: STATIC role: "eng" } `
	const db = `disk { persistence { id: "db" } volume { container_path: "data" mode: RW } } `
	tests := map[string]struct{ task, want string }{
		"a command": {identity + one + sleep, ""},

		"id": {`name: "n" task_id { value: "a/b" } agent_id { value: "A" } ` + one + sleep, "'a/b' contains invalid characters"},
		"Task uses invalid agent %s while agent %s is expected":  {`name: "n" task_id { value: "t" } agent_id { value: "B" } ` + one + sleep, "Task uses invalid agent B while agent A is expected"},
		"Task's 'kill_policy.grace_period' must be non-negative": {identity + one + sleep + `kill_policy { grace_period { nanoseconds: -1 } }`, "Task's 'kill_policy.grace_period' must be non-negative"},
		"no grace": {identity + one + sleep + `kill_policy { grace_period { nanoseconds: 0 } }`, ""},
		"Task's `max_completion_time` must be non-negative": {identity + one + sleep + `max_completion_time { nanoseconds: -1 }`, "Task's `max_completion_time` must be non-negative"},
		"CheckInfo must specify 'type'":                     {identity + one + sleep + `check {}`, "Task uses invalid check: CheckInfo must specify 'type'"},
		"HealthCheck must specify 'type'":                   {identity + one + sleep + `health_check {}`, "Task uses invalid health check: HealthCheck must specify 'type'"},
		"Task uses no resources":                            {identity + sleep, "Task uses no resources"},
		"nothing at all":                                    {identity + sleep + scalar("cpus", "0"), "Task uses no resources"},
		"bad resources":                                     {identity + sleep + scalar("cpus", "-1"), "Task uses invalid resources: Invalid resources: Resource 'cpus' is invalid: Invalid scalar resource: value < 0"},
		"Total resources %s required by task and its executor is more than available %s": {identity + sleep + scalar("cpus", "2.001"), "Total resources cpus:2.001 required by task and its executor is more than available cpus:2; gpus:2; mem:64; ports:[1-10]"},
		"all there is": {identity + sleep + scalar("cpus", "2"), ""},
		"The 'gpus' resource must be an unsigned integer": {identity + sleep + scalar("gpus", "0.5"), "Task uses invalid resources: Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer"},
		"whole gpus":       {identity + sleep + scalar("gpus", "1"), ""},
		"allocated":        {identity + sleep + `resources { name: "cpus" type: SCALAR scalar { value: 1 } allocation_info { role: "eng" } }`, ""},
		"allocated to two": {identity + sleep + `resources { name: "cpus" type: SCALAR scalar { value: 1 } allocation_info { role: "eng" } } resources { name: "mem" type: SCALAR scalar { value: 1 } allocation_info { role: "ops" } }`, "Invalid task resources: The resources have multiple allocation roles ('ops' and 'eng') but only one allocation role is allowed"},
		"The resources are allocated to role '%s' but the offers to role '%s'": {identity + sleep + `resources { name: "cpus" type: SCALAR scalar { value: 1 } allocation_info { role: "ops" } }`,
			"Invalid task resources: The resources are allocated to role 'ops' but the offers to role 'eng'"},
		"Cannot use both revocable and non-revocable '%s' at the same time": {identity + sleep + scalar("cpus", "1") + `resources { name: "cpus" type: SCALAR scalar { value: 1 } revocable {} }`,
			"Task mixes revocable and non-revocable resources: Cannot use both revocable and non-revocable 'cpus' at the same time"},
		"Dynamically reserved resource %s cannot be created from revocable resources": {identity + sleep + `resources { name: "cpus" type: SCALAR scalar { value: 1 } revocable {} role: "eng" reservation {} }`,
			"Task uses invalid resources: Invalid ReservationInfo: Dynamically reserved resource cpus cannot be created from revocable resources"},

		"DiskInfo is set but empty":                                      {volume(`disk {}`), "Task uses invalid resources: Invalid DiskInfo: DiskInfo is set but empty"},
		"Non-persistent volume not supported":                            {volume(`disk { volume { container_path: "x" mode: RW } }`), "Task uses invalid resources: Invalid DiskInfo: Non-persistent volume not supported"},
		"Persistent volumes cannot be created from unreserved resources": {volume(db), "Task uses invalid resources: Invalid DiskInfo: Persistent volumes cannot be created from unreserved resources"},
		"Persistent volumes cannot be created from revocable resources":  {volume(db + forEng + `revocable {}`), "Task uses invalid resources: Invalid DiskInfo: Persistent volumes cannot be created from revocable resources"},
		"Expecting 'volume' to be set for persistent volume":             {volume(forEng + `disk { persistence { id: "db" } }`), "Task uses invalid resources: Invalid DiskInfo: Expecting 'volume' to be set for persistent volume"},
		"Expecting 'host_path' to be unset for persistent volume":        {volume(forEng + `disk { persistence { id: "db" } volume { container_path: "x" host_path: "/" mode: RW } }`), "Task uses invalid resources: Invalid DiskInfo: Expecting 'host_path' to be unset for persistent volume"},
		"volume with a bad id":                                           {volume(forEng + `disk { persistence { id: "a/b" } volume { container_path: "x" mode: RW } }`), "Task uses invalid resources: Invalid DiskInfo: Invalid persistence ID for persistent volume: 'a/b' contains invalid characters"},
		"%s uses duplicate persistence ID: Persistence ID '%s' is not unique": {volume(db+forEng) + `resources { name: "disk" type: SCALAR scalar { value: 2 } ` + db + forEng + `}`,
			"Task uses duplicate persistence ID: Persistence ID 'db' is not unique"},

		"Only cpus and mem may be included in a task's resource limits":             {identity + one + sleep + `limits { key: "disk" value { value: 1 } }`, "Only cpus and mem may be included in a task's resource limits"},
		"When a memory limit is specified, a memory request must also be specified": {identity + one + sleep + `limits { key: "mem" value { value: 1 } }`, "When a memory limit is specified, a memory request must also be specified"},
		"When a CPU limit is specified, a CPU request must also be specified":       {identity + scalar("mem", "1") + sleep + `limits { key: "cpus" value { value: 1 } }`, "When a CPU limit is specified, a CPU request must also be specified"},
		"The cpu limit must be greater than or equal to the cpu request":            {identity + one + sleep + `limits { key: "cpus" value { value: 0.999 } }`, "The cpu limit must be greater than or equal to the cpu request"},
		"The memory limit must be greater than or equal to the memory request":      {identity + scalar("mem", "8") + sleep + `limits { key: "mem" value { value: 7 } }`, "The memory limit must be greater than or equal to the memory request"},
		"limit that is no number": {identity + scalar("mem", "8") + sleep + `limits { key: "mem" value { value: nan } }`, "The memory limit must be greater than or equal to the memory request"},
		"limits":                  {identity + one + scalar("mem", "8") + sleep + `limits { key: "cpus" value { value: 1 } } limits { key: "mem" value { value: inf } }`, ""},

		"Only tasks in a task group may have 'share_cgroups' set to 'false'": {identity + one + sleep + `container { type: MESOS linux_info { share_cgroups: false } }`, "Only tasks in a task group may have 'share_cgroups' set to 'false'"},
		"cgroups": {identity + one + sleep + `container { type: MESOS linux_info { share_cgroups: true } }`, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { told(t, Task(task(t, test.task), context(t)), test.want) })
	}
}

func TestTaskRunner(t *testing.T) {
	executor := func(text string) string {
		return identity + one + `executor { executor_id { value: "e" } ` + text + `}`
	}
	tests := map[string]struct{ task, want string }{
		"Task should have at least one (but not both) of CommandInfo or ExecutorInfo present": {identity + one, "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"},
		"command and executor": {executor(``) + sleep, "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"},
		"executor":             {executor(sleep + `framework_id { value: "F" } type: CUSTOM`), ""},
		"executor id":          {identity + one + `executor { executor_id { value: "" } }`, "ID must not be empty"},
		"ExecutorInfo has an invalid FrameworkID (Actual: %s vs Expected: %s)": {executor(sleep + `framework_id { value: "G" }`), "ExecutorInfo has an invalid FrameworkID (Actual: G vs Expected: F)"},
		"'ExecutorInfo.command' must be set":                                   {executor(``), "'ExecutorInfo.command' must be set"},
		"'ExecutorInfo.type' must be 'CUSTOM'":                                 {executor(`type: DEFAULT`), "'ExecutorInfo.type' must be 'CUSTOM'"},
		"'ExecutorInfo.command' must be set for 'CUSTOM' executor":             {executor(`type: CUSTOM`), "'ExecutorInfo.command' must be set for 'CUSTOM' executor"},
		"'ExecutorInfo.command' must not be set for 'DEFAULT' executor":        {executor(`type: DEFAULT ` + sleep), "'ExecutorInfo.command' must not be set for 'DEFAULT' executor"},
		"'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor": {executor(`type: DEFAULT container { type: DOCKER }`), "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor"},
		"'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor": {executor(`type: DEFAULT container { type: MESOS mesos { image { type: DOCKER } } }`),
			"'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor"},
		"ExecutorInfo's 'shutdown_grace_period' must be non-negative": {executor(sleep + `shutdown_grace_period { nanoseconds: -1 }`), "ExecutorInfo's 'shutdown_grace_period' must be non-negative"},
		"executor's command":      {executor(`command { value: "x" environment { variables { name: "A" } } }`), "Executor's `CommandInfo` is invalid: Environment variable 'A' of type 'VALUE' must have a value set"},
		"executor's container":    {executor(sleep + `container { type: DOCKER }`), "Executor's `ContainerInfo` is invalid: DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"},
		"executor's resources":    {executor(sleep + scalar("mem", "-1")), "Executor uses invalid resources: Invalid resources: Resource 'mem' is invalid: Invalid scalar resource: value < 0"},
		"executor wants too much": {executor(sleep + scalar("cpus", "1.5")), "Total resources cpus:2.5 required by task and its executor is more than available cpus:2; gpus:2; mem:64; ports:[1-10]"},
		"There are overlapping resources in the task resources %s and executor resources %s": {executor(sleep+`resources { name: "ports" type: RANGES ranges { range { begin: 1 end: 2 } } } `) + `resources { name: "ports" type: RANGES ranges { range { begin: 2 end: 3 } } }`,
			"There are overlapping resources in the task resources cpus:1; ports:[2-3] and executor resources ports:[1-2]"},
		"executor is revocable": {executor(sleep + `resources { name: "cpus" type: SCALAR scalar { value: 1 } revocable {} }`),
			"Task and its executor mix revocable and non-revocable resources: Cannot use both revocable and non-revocable 'cpus' at the same time"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { told(t, Task(task(t, test.task), context(t)), test.want) })
	}
}

func TestTaskIDIsUsedOnce(t *testing.T) {
	c := context(t)
	c.Known = true
	t.Run("Task has duplicate ID: %s", func(t *testing.T) {
		told(t, Task(task(t, identity+one+sleep), c), "Task has duplicate ID: t")
	})
}

func TestTaskOfSeveralFaultsTellsTheFirst(t *testing.T) {
	told(t, Task(task(t, identity+`kill_policy { grace_period { nanoseconds: -1 } } check {}`), context(t)),
		"Task's 'kill_policy.grace_period' must be non-negative")
}

func TestCommand(t *testing.T) {
	variable := func(text string) string { return `command { environment { variables { ` + text + ` } } }` }
	const wrong = "Task's `CommandInfo` is invalid: "
	tests := map[string]struct{ command, want string }{
		"variable": {variable(`name: "A" value: ""`), ""},
		"Environment variable '%s' of type 'VALUE' must have a value set":      {variable(`name: "A"`), wrong + "Environment variable 'A' of type 'VALUE' must have a value set"},
		"Environment variable '%s' of type 'VALUE' must not have a secret set": {variable(`name: "A" value: "" secret {}`), wrong + "Environment variable 'A' of type 'VALUE' must not have a secret set"},
		"Environment variable of type 'UNKNOWN' is not allowed":                {variable(`name: "A" type: UNKNOWN`), wrong + "Environment variable of type 'UNKNOWN' is not allowed"},
		"Environment variable '%s' needs a name without '=' and null bytes":    {variable(`name: "" value: ""`), wrong + "Environment variable '' needs a name without '=' and null bytes"},
		"variable, odd name": {variable(`name: "A=B" value: ""`), wrong + "Environment variable 'A=B' needs a name without '=' and null bytes"},
		"Environment variable '%s' has a value containing null bytes, which is not allowed in the environment": {variable(`name: "A" value: "a\000b"`), wrong + "Environment variable 'A' has a value containing null bytes, which is not allowed in the environment"},
		"secret": {variable(`name: "A" type: SECRET secret { type: VALUE value { data: "x" } }`), ""},
		"Environment variable '%s' of type 'SECRET' must have a secret set":                                           {variable(`name: "A" type: SECRET`), wrong + "Environment variable 'A' of type 'SECRET' must have a secret set"},
		"Environment variable '%s' of type 'SECRET' must not have a value set":                                        {variable(`name: "A" type: SECRET value: "" secret {}`), wrong + "Environment variable 'A' of type 'SECRET' must not have a value set"},
		"Environment variable '%s' specifies a secret containing null bytes, which is not allowed in the environment": {variable(`name: "A" type: SECRET secret { type: VALUE value { data: "\000" } }`), wrong + "Environment variable 'A' specifies a secret containing null bytes, which is not allowed in the environment"},
		"Secret of type REFERENCE must have the 'reference' field set":                                                {variable(`name: "A" type: SECRET secret { type: REFERENCE }`), wrong + "Environment variable 'A' specifies an invalid secret: Secret of type REFERENCE must have the 'reference' field set"},
		"Secret '%s' of type REFERENCE must not have the 'value' field set": {variable(`name: "A" type: SECRET secret { type: REFERENCE reference { name: "r" } value { data: "" } }`),
			wrong + "Environment variable 'A' specifies an invalid secret: Secret 'r' of type REFERENCE must not have the 'value' field set"},
		"Secret of type VALUE must have the 'value' field set": {variable(`name: "A" type: SECRET secret { type: VALUE }`), wrong + "Environment variable 'A' specifies an invalid secret: Secret of type VALUE must have the 'value' field set"},
		"Secret of type VALUE must not have the 'reference' field set": {variable(`name: "A" type: SECRET secret { type: VALUE value { data: "" } reference { name: "r" } }`),
			wrong + "Environment variable 'A' specifies an invalid secret: Secret of type VALUE must not have the 'reference' field set"},
		"Neither 'value' nor 'arguments' may contain null bytes": {`command { value: "a\000b" }`, wrong + "Neither 'value' nor 'arguments' may contain null bytes"},
		"null bytes in a word": {`command { arguments: "a\000b" }`, wrong + "Neither 'value' nor 'arguments' may contain null bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { told(t, Task(task(t, identity+one+test.command), context(t)), test.want) })
	}
}

func TestContainer(t *testing.T) {
	const wrong, wrongVolume = "Task's `ContainerInfo` is invalid: ", "Task's `ContainerInfo` is invalid: Invalid volume: "
	source := func(text string) string {
		return `type: MESOS volumes { mode: RW container_path: "x" source { ` + text + ` } }`
	}
	tests := map[string]struct{ container, want string }{
		"mesos":  {`type: MESOS`, ""},
		"docker": {`type: DOCKER docker { image: "i" parameters { key: "hostname" value: "x" } }`, ""},
		"DockerInfo 'docker' is not set for DOCKER typed ContainerInfo": {`type: DOCKER`, wrong + "DockerInfo 'docker' is not set for DOCKER typed ContainerInfo"},
		"Parameter in DockerInfo must not be 'name'":                    {`type: DOCKER docker { image: "i" parameters { key: "name" value: "x" } }`, wrong + "Parameter in DockerInfo must not be 'name'"},
		"volume": {`type: MESOS volumes { mode: RW container_path: "x" host_path: "/x" }`, ""},
		"Only one of them should be set: 'host_path', 'image' and 'source'": {`type: MESOS volumes { mode: RW container_path: "x" }`, wrongVolume + "Only one of them should be set: 'host_path', 'image' and 'source'"},
		"volume of two":            {`type: MESOS volumes { mode: RW container_path: "x" host_path: "/x" source {} }`, wrongVolume + "Only one of them should be set: 'host_path', 'image' and 'source'"},
		"'source.type' is unknown": {source(``), wrongVolume + "'source.type' is unknown"},
		"'source.docker_volume' is not set for DOCKER_VOLUME volume": {source(`type: DOCKER_VOLUME`), wrongVolume + "'source.docker_volume' is not set for DOCKER_VOLUME volume"},
		"'source.host_path' is not set for HOST_PATH volume":         {source(`type: HOST_PATH`), wrongVolume + "'source.host_path' is not set for HOST_PATH volume"},
		"'source.sandbox_path' is not set for SANDBOX_PATH volume":   {source(`type: SANDBOX_PATH`), wrongVolume + "'source.sandbox_path' is not set for SANDBOX_PATH volume"},
		"source sandbox set":                                                {source(`type: SANDBOX_PATH sandbox_path { path: "x" }`), ""},
		"'source.secret' is not set for SECRET volume":                      {source(`type: SECRET`), wrongVolume + "'source.secret' is not set for SECRET volume"},
		"'source.csi_volume' is not set for CSI volume":                     {source(`type: CSI_VOLUME`), wrongVolume + "'source.csi_volume' is not set for CSI volume"},
		"'source.csi_volume.static_provisioning' is not set for CSI volume": {source(`type: CSI_VOLUME csi_volume { plugin_name: "p" }`), wrongVolume + "'source.csi_volume.static_provisioning' is not set for CSI volume"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			told(t, Task(task(t, identity+one+sleep+`container { `+test.container+` }`), context(t)), test.want)
		})
	}
}

func TestHealthCheck(t *testing.T) {
	const wrong = "Task uses invalid health check: "
	tests := map[string]struct{ check, want string }{
		"command": {`type: COMMAND command { value: "true" }`, ""},
		"Expecting 'command' to be set for COMMAND health check": {`type: COMMAND`, wrong + "Expecting 'command' to be set for COMMAND health check"},
		"%s must contain 'shell command'":                        {`type: COMMAND command {}`, wrong + "Command health check must contain 'shell command'"},
		"%s must contain 'executable path'":                      {`type: COMMAND command { shell: false }`, wrong + "Command health check must contain 'executable path'"},
		"bad environment":                                        {`type: COMMAND command { value: "true" environment { variables { name: "A" } } }`, wrong + "Health check's `CommandInfo` is invalid: Environment variable 'A' of type 'VALUE' must have a value set"},
		"http":                                                   {`type: HTTP http { port: 1 scheme: "https" path: "/" }`, ""},
		"Expecting 'http' to be set for HTTP health check":       {`type: HTTP`, wrong + "Expecting 'http' to be set for HTTP health check"},
		"Unsupported HTTP health check scheme: '%s'":             {`type: HTTP http { port: 1 scheme: "ftp" }`, wrong + "Unsupported HTTP health check scheme: 'ftp'"},
		"The path '%s' of %s must start with '/'":                {`type: HTTP http { port: 1 path: "x" }`, wrong + "The path 'x' of HTTP health check must start with '/'"},
		"tcp": {`type: TCP tcp { port: 1 }`, ""},
		"Expecting 'tcp' to be set for TCP health check": {`type: TCP`, wrong + "Expecting 'tcp' to be set for TCP health check"},
		"'%s' is not a valid health check type":          {`type: UNKNOWN`, wrong + "'UNKNOWN' is not a valid health check type"},
		"Expecting '%s' to be non-negative":              {`type: TCP tcp { port: 1 } delay_seconds: -1`, wrong + "Expecting 'delay_seconds' to be non-negative"},
		"grace period":                                   {`type: TCP tcp { port: 1 } grace_period_seconds: -1`, wrong + "Expecting 'grace_period_seconds' to be non-negative"},
		"interval":                                       {`type: TCP tcp { port: 1 } interval_seconds: -1`, wrong + "Expecting 'interval_seconds' to be non-negative"},
		"timeout":                                        {`type: TCP tcp { port: 1 } timeout_seconds: nan`, wrong + "Expecting 'timeout_seconds' to be non-negative"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			told(t, Task(task(t, identity+one+sleep+`health_check { `+test.check+` }`), context(t)), test.want)
		})
	}
}

func TestCheck(t *testing.T) {
	const wrong = "Task uses invalid check: "
	tests := map[string]struct{ check, want string }{
		"command": {`type: COMMAND command { command { value: "true" } }`, ""},
		"Expecting 'command' to be set for COMMAND check": {`type: COMMAND`, wrong + "Expecting 'command' to be set for COMMAND check"},
		"no shell command": {`type: COMMAND command { command {} }`, wrong + "Command check must contain 'shell command'"},
		"bad environment":  {`type: COMMAND command { command { value: "true" environment { variables { name: "A" } } } }`, wrong + "Check's `CommandInfo` is invalid: Environment variable 'A' of type 'VALUE' must have a value set"},
		"http":             {`type: HTTP http { port: 1 path: "/" }`, ""},
		"Expecting 'http' to be set for HTTP check": {`type: HTTP`, wrong + "Expecting 'http' to be set for HTTP check"},
		"path": {`type: HTTP http { port: 1 path: "x" }`, wrong + "The path 'x' of HTTP check must start with '/'"},
		"tcp":  {`type: TCP tcp { port: 1 }`, ""},
		"Expecting 'tcp' to be set for TCP check": {`type: TCP`, wrong + "Expecting 'tcp' to be set for TCP check"},
		"'%s' is not a valid check type":          {`type: UNKNOWN`, wrong + "'UNKNOWN' is not a valid check type"},
		"interval":                                {`type: TCP tcp { port: 1 } interval_seconds: -1`, wrong + "Expecting 'interval_seconds' to be non-negative"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			told(t, Task(task(t, identity+one+sleep+`check { `+test.check+` }`), context(t)), test.want)
		})
	}
}

func TestSupported(t *testing.T) {
	tests := map[string]struct{ task, want string }{
		"a command":       {sleep, ""},
		"a plain program": {`command { shell: false value: "/bin/true" arguments: "true" } container { type: MESOS mesos {} }`, ""},
		"variables":       {`command { value: "x" user: "nobody" uris { value: "file:///x" } environment { variables { name: "A" value: "b" } } }`, ""},
		"kill policy":     {sleep + `kill_policy { grace_period { nanoseconds: 1 } }`, ""},
		"The task's command has no 'value', and there is no image to say what to run": {`command {}`, "The task's command has no 'value', and there is no image to say what to run"},
		"Environment variable '%s' is a secret, which is not supported yet":           {`command { value: "x" environment { variables { name: "A" type: SECRET } } }`, "Environment variable 'A' is a secret, which is not supported yet"},
		"executor":        {`executor { executor_id { value: "e" } ` + sleep + `}`, ""},
		"executor, image": {`executor { executor_id { value: "e" } ` + sleep + `container { type: MESOS mesos { image { type: DOCKER docker { name: "a" } } } } }`, ""},
		"Checks by the agent are not supported yet: launch the task without 'check' and 'health_check'": {sleep + `check {}`, "Checks by the agent are not supported yet: launch the task without 'check' and 'health_check'"},
		"health check": {sleep + `health_check {}`, "Checks by the agent are not supported yet: launch the task without 'check' and 'health_check'"},
		"'max_completion_time' is not supported yet: kill the task when its time is over":             {sleep + `max_completion_time { nanoseconds: 1 }`, "'max_completion_time' is not supported yet: kill the task when its time is over"},
		"'limits' are not supported yet: what a task requests in 'resources' is its limit too":        {sleep + `limits { key: "cpus" value { value: 1 } }`, "'limits' are not supported yet: what a task requests in 'resources' is its limit too"},
		"Tasks with 'gpus' are not supported yet":                                                     {sleep + `resources { name: "gpus" type: SCALAR scalar { value: 1 } }`, "Tasks with 'gpus' are not supported yet"},
		"Tasks with persistent volumes or disks of their own are not supported yet: use plain 'disk'": {sleep + `resources { name: "disk" type: SCALAR scalar { value: 1 } disk {} }`, "Tasks with persistent volumes or disks of their own are not supported yet: use plain 'disk'"},
		"plain disk":      {sleep + `resources { name: "disk" type: SCALAR scalar { value: 1 } }`, ""},
		"docker":          {sleep + `container { type: DOCKER docker { image: "redis:7" network: HOST } }`, ""},
		"image":           {sleep + `container { type: MESOS mesos { image { type: DOCKER docker { name: "oci:/srv/x" } } } }`, ""},
		"image's command": {`command { shell: false arguments: "x" } container { type: DOCKER docker { image: "redis" } }`, ""},
		"The task's command has no 'value' for the shell: set 'shell' to false to run what the image says": {`command {} container { type: DOCKER docker { image: "redis" } }`, "The task's command has no 'value' for the shell: set 'shell' to false to run what the image says"},
		"The container's image has no name":                                                                                {sleep + `container { type: DOCKER docker { image: "" } }`, "The container's image has no name"},
		"The name of the container's image, %q, has characters that no name has":                                           {sleep + `container { type: DOCKER docker { image: "a b" } }`, `The name of the container's image, "a b", has characters that no name has`},
		"The name of the container's image has more than %d bytes":                                                         {sleep + `container { type: DOCKER docker { image: "` + strings.Repeat("a", 1025) + `" } }`, "The name of the container's image has more than 1024 bytes"},
		"Images of type APPC are not supported: use type DOCKER, whose name may also be oci:/PATH or docker-archive:/PATH": {sleep + `container { type: MESOS mesos { image { type: APPC } } }`, "Images of type APPC are not supported: use type DOCKER, whose name may also be oci:/PATH or docker-archive:/PATH"},
		"'container.mesos.image.docker' is not set for an image of type DOCKER":                                            {sleep + `container { type: MESOS mesos { image { type: DOCKER } } }`, "'container.mesos.image.docker' is not set for an image of type DOCKER"},
		"Credentials of an image are not supported yet: the registry must let anybody read":                                {sleep + `container { type: MESOS mesos { image { type: DOCKER docker { name: "a" config {} } } } }`, "Credentials of an image are not supported yet: the registry must let anybody read"},
		"'container.docker.privileged' is not possible: no task gets more rights than others":                              {sleep + `container { type: DOCKER docker { image: "a" privileged: true } }`, "'container.docker.privileged' is not possible: no task gets more rights than others"},
		"'container.docker.parameters' are not supported: there is no Docker engine to pass them to":                       {sleep + `container { type: DOCKER docker { image: "a" parameters { key: "a" value: "b" } } }`, "'container.docker.parameters' are not supported: there is no Docker engine to pass them to"},
		"'container.docker.network' %s is not supported yet: tasks share the network of their agent's host, HOST":          {sleep + `container { type: DOCKER docker { image: "a" network: BRIDGE } }`, "'container.docker.network' BRIDGE is not supported yet: tasks share the network of their agent's host, HOST"},
		"'container.docker.port_mappings' are not supported yet: tasks share the network of their agent's host":            {sleep + `container { type: DOCKER docker { image: "a" port_mappings { host_port: 1 container_port: 1 } } }`, "'container.docker.port_mappings' are not supported yet: tasks share the network of their agent's host"},
		"'container.docker.volume_driver' is not supported: there is no Docker engine to load it":                          {sleep + `container { type: DOCKER docker { image: "a" volume_driver: "x" } }`, "'container.docker.volume_driver' is not supported: there is no Docker engine to load it"},
		"Volumes in 'container' are not supported yet: use the sandbox, and 'uris' for what it should hold":                {sleep + `container { type: MESOS volumes { mode: RW container_path: "x" host_path: "/" } }`, "Volumes in 'container' are not supported yet: use the sandbox, and 'uris' for what it should hold"},
		"Networks in 'container' are not supported yet: tasks share the network of their agent's host":                     {sleep + `container { type: MESOS network_infos {} }`, "Networks in 'container' are not supported yet: tasks share the network of their agent's host"},
		"'container.hostname' is not supported yet":                                                                        {sleep + `container { type: MESOS hostname: "h" }`, "'container.hostname' is not supported yet"},
		"'container.linux_info' is not supported yet":                                                                      {sleep + `container { type: MESOS linux_info {} }`, "'container.linux_info' is not supported yet"},
		"'container.rlimit_info' is not supported yet":                                                                     {sleep + `container { type: MESOS rlimit_info {} }`, "'container.rlimit_info' is not supported yet"},
		"'container.tty_info' is not supported yet":                                                                        {sleep + `container { type: MESOS tty_info {} }`, "'container.tty_info' is not supported yet"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { told(t, Supported(task(t, identity+test.task)), test.want) })
	}
}
