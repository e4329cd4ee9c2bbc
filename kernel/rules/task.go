package rules

import (
	"math"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/id"
	"github.com/gantry-project/gantry/kernel/ledger"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// TaskContext is what the rules for a task depend on beside the task itself.
type TaskContext struct {
	Agent          id.Agent             // that the offers are of
	Offered        ledger.Resources     // what the offers have left
	AllocationRole string               // that the offers are for
	Known          bool                 // the framework has a task of this id already
	Framework      *mesos.FrameworkInfo // that launches
	// Running is the executor that the task names, if it runs on the agent already: then
	// it is not charged again.
	Running *mesos.ExecutorInfo
}

// Task tells whether a framework may launch the task on the resources that it was
// offered. Tests come in the order that clients know, so that of several faults the
// same one is told.
func Task(t *mesos.TaskInfo, c TaskContext) error {
	if err := taskIdentity(t, c); err != nil {
		return err
	}
	if err := taskTimes(t); err != nil {
		return err
	}
	if err := taskChecks(t); err != nil {
		return err
	}
	want, err := taskResources(t, c.AllocationRole)
	if err != nil {
		return err
	}
	if t.Command != nil {
		if err := command(t.Command); err != nil {
			return refuse("Task's `CommandInfo` is invalid: %w", err)
		}
	}
	if t.Container != nil {
		if err := container(t.Container); err != nil {
			return refuse("Task's `ContainerInfo` is invalid: %w", err)
		}
	}
	if err := limits(t.GetLimits(), want); err != nil {
		return err
	}
	if err := runner(t, c, want); err != nil {
		return err
	}
	if l := t.GetContainer().GetLinuxInfo(); l != nil && l.ShareCgroups != nil && !l.GetShareCgroups() {
		return refuse("Only tasks in a task group may have 'share_cgroups' set to 'false'")
	}
	return nil
}

func taskIdentity(t *mesos.TaskInfo, c TaskContext) error {
	if err := ID(t.GetTaskId().GetValue()); err != nil {
		return err
	}
	if c.Known {
		return refuse("Task has duplicate ID: %s", t.GetTaskId().GetValue())
	}
	if t.GetAgentId().GetValue() != string(c.Agent) {
		return refuse("Task uses invalid agent %s while agent %s is expected", t.GetAgentId().GetValue(), c.Agent)
	}
	return nil
}

func taskTimes(t *mesos.TaskInfo) error {
	if t.GetKillPolicy().GetGracePeriod().GetNanoseconds() < 0 {
		return refuse("Task's 'kill_policy.grace_period' must be non-negative")
	}
	if t.GetMaxCompletionTime().GetNanoseconds() < 0 {
		return refuse("Task's `max_completion_time` must be non-negative")
	}
	return nil
}

func taskChecks(t *mesos.TaskInfo) error {
	if t.Check != nil {
		if err := check(t.Check); err != nil {
			return refuse("Task uses invalid check: %w", err)
		}
	}
	if t.HealthCheck != nil {
		if err := healthCheck(t.HealthCheck); err != nil {
			return refuse("Task uses invalid health check: %w", err)
		}
	}
	return nil
}

func taskResources(t *mesos.TaskInfo, allocated string) (ledger.Resources, error) {
	if len(t.GetResources()) == 0 {
		return ledger.Resources{}, refuse("Task uses no resources")
	}
	want, err := resources("Task", t.GetResources(), allocated)
	if err == nil && want.Empty() {
		err = refuse("Task uses no resources")
	}
	return want, err
}

// limits are of cpus and mem only, and at least what is requested.
func limits(limits map[string]*mesos.Value_Scalar, want ledger.Resources) error {
	cpus, limitsCPU := limits["cpus"]
	mem, limitsMem := limits["mem"]
	for name := range limits { // any order: one answer for all
		if name != "cpus" && name != "mem" {
			return refuse("Only cpus and mem may be included in a task's resource limits")
		}
	}
	if limitsCPU && want.Scalar("cpus") == 0 {
		return refuse("When a CPU limit is specified, a CPU request must also be specified")
	}
	if limitsCPU && !atLeast(cpus.GetValue(), want.Scalar("cpus")) {
		return refuse("The cpu limit must be greater than or equal to the cpu request")
	}
	if limitsMem && want.Scalar("mem") == 0 {
		return refuse("When a memory limit is specified, a memory request must also be specified")
	}
	if limitsMem && !atLeast(mem.GetValue(), want.Scalar("mem")) {
		return refuse("The memory limit must be greater than or equal to the memory request")
	}
	return nil
}

// atLeast compares a limit, which may be infinite, with thousandths.
func atLeast(limit float64, milli int64) bool {
	return math.Round(limit*1000) >= float64(milli)
}

// runner wants a command or an executor, and the resources of both to be offered.
func runner(t *mesos.TaskInfo, c TaskContext, want ledger.Resources) error {
	if (t.Executor != nil) == (t.Command != nil) {
		return refuse("Task should have at least one (but not both) of CommandInfo or ExecutorInfo present")
	}
	if t.Executor != nil {
		more, err := executor(t.Executor, c)
		if err != nil {
			return err
		}
		both := want.Plus(more)
		if rest, ok := both.Minus(want); !ok || !rest.Equal(more) {
			return refuse("There are overlapping resources in the task resources %s and executor resources %s", want, more)
		}
		if err := unmixed(both); err != nil {
			return refuse("Task and its executor mix revocable and non-revocable resources: %w", err)
		}
		want = both
	}
	if !c.Offered.Contains(want) {
		return refuse("Total resources %s required by task and its executor is more than available %s", want, c.Offered)
	}
	return nil
}

// executor tells whether an executor of one task is sound, and what it wants.
func executor(e *mesos.ExecutorInfo, c TaskContext) (ledger.Resources, error) {
	none := ledger.Resources{}
	if err := ID(e.GetExecutorId().GetValue()); err != nil {
		return none, err
	}
	switch {
	case e.FrameworkId != nil && e.GetFrameworkId().GetValue() != c.Framework.GetId().GetValue():
		return none, refuse("ExecutorInfo has an invalid FrameworkID (Actual: %s vs Expected: %s)", e.GetFrameworkId().GetValue(), c.Framework.GetId().GetValue())
	case e.GetShutdownGracePeriod().GetNanoseconds() < 0:
		return none, refuse("ExecutorInfo's 'shutdown_grace_period' must be non-negative")
	}
	if err := executorType(e); err != nil {
		return none, err
	}
	if err := command(e.Command); err != nil {
		return none, refuse("Executor's `CommandInfo` is invalid: %w", err)
	}
	if e.Container != nil {
		if err := container(e.Container); err != nil {
			return none, refuse("Executor's `ContainerInfo` is invalid: %w", err)
		}
	}
	want, err := resources("Executor", e.GetResources(), c.AllocationRole)
	switch {
	case err != nil || c.Running == nil:
		return want, err
	case !sameExecutor(e, c):
		return none, refuse("ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID: executor %s runs with another; give this one an id of its own", e.GetExecutorId().GetValue())
	}
	return none, nil
}

// executorType wants an executor of the framework's own, whose command says what it is.
// Some clients say UNKNOWN where they mean to say nothing.
func executorType(e *mesos.ExecutorInfo) error {
	c := e.GetContainer()
	switch isDefault := e.GetType() == mesos.ExecutorInfo_DEFAULT; {
	case isDefault && e.Command != nil:
		return refuse("'ExecutorInfo.command' must not be set for 'DEFAULT' executor")
	case isDefault && c != nil && c.GetType() != mesos.ContainerInfo_MESOS:
		return refuse("'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor")
	case isDefault && c.GetMesos().GetImage() != nil:
		return refuse("'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor")
	case isDefault:
		return refuse("'ExecutorInfo.type' must be 'CUSTOM'")
	case e.Command == nil && e.GetType() == mesos.ExecutorInfo_CUSTOM:
		return refuse("'ExecutorInfo.command' must be set for 'CUSTOM' executor")
	case e.Command == nil:
		return refuse("'ExecutorInfo.command' must be set")
	}
	return nil
}

// sameExecutor compares an executor with the one that runs, in all that a framework says.
func sameExecutor(e *mesos.ExecutorInfo, c TaskContext) bool {
	want, err := ledger.FromMesos(e.GetResources())
	has, runningErr := ledger.FromMesos(c.Running.GetResources())
	if err != nil || runningErr != nil || !want.Equal(has) {
		return false
	}
	plain := func(e *mesos.ExecutorInfo) *mesos.ExecutorInfo {
		e = proto.CloneOf(e)
		e.FrameworkId, e.Resources, e.Type = nil, nil, nil
		return e
	}
	return proto.Equal(plain(e), plain(c.Running))
}
