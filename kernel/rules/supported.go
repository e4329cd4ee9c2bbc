package rules

import (
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Supported tells whether this kernel can run a task that Task accepts. What it can't
// run yet is refused with a sentence for the task's author; nothing is ignored that
// would change what the task does.
func Supported(t *mesos.TaskInfo) error {
	switch {
	case t.Check != nil || t.HealthCheck != nil:
		return refuse("Checks by the agent are not supported yet: launch the task without 'check' and 'health_check'")
	case t.MaxCompletionTime != nil:
		return refuse("'max_completion_time' is not supported yet: kill the task when its time is over")
	case len(t.GetLimits()) > 0:
		return refuse("'limits' are not supported yet: what a task requests in 'resources' is its limit too")
	}
	if err := supportedResources(t.GetResources()); err != nil {
		return err
	}
	if t.Container != nil {
		if err := supportedContainer(t.Container); err != nil {
			return err
		}
	}
	if t.Executor != nil {
		return SupportedExecutor(t.Executor)
	}
	return supportedCommand(t.GetCommand(), t.Container)
}

// SupportedExecutor is Supported for an executor.
func SupportedExecutor(e *mesos.ExecutorInfo) error {
	if err := supportedResources(e.GetResources()); err != nil {
		return err
	}
	if e.Container != nil {
		if err := supportedContainer(e.Container); err != nil {
			return err
		}
	}
	return supportedCommand(e.GetCommand(), e.Container)
}

func supportedResources(list []*mesos.Resource) error {
	for _, r := range list {
		switch {
		case r.GetName() == "gpus" && r.GetScalar().GetValue() != 0:
			return refuse("Tasks with 'gpus' are not supported yet")
		case r.GetDisk() != nil:
			return refuse("Tasks with persistent volumes or disks of their own are not supported yet: use plain 'disk'")
		}
	}
	return nil
}

func supportedContainer(c *mesos.ContainerInfo) error {
	if err := supportedImage(c); err != nil {
		return err
	}
	switch {
	case len(c.GetVolumes()) > 0:
		return refuse("Volumes in 'container' are not supported yet: use the sandbox, and 'uris' for what it should hold")
	case c.Hostname != nil:
		return refuse("'container.hostname' is not supported yet")
	case len(c.GetNetworkInfos()) > 0:
		return refuse("Networks in 'container' are not supported yet: tasks share the network of their agent's host")
	case c.LinuxInfo != nil:
		return refuse("'container.linux_info' is not supported yet")
	case c.RlimitInfo != nil:
		return refuse("'container.rlimit_info' is not supported yet")
	case c.TtyInfo != nil:
		return refuse("'container.tty_info' is not supported yet")
	}
	return nil
}

func supportedCommand(c *mesos.CommandInfo, in *mesos.ContainerInfo) error {
	_, image := ImageOf(in)
	switch {
	case c.GetValue() != "":
	case image && c.GetShell():
		return refuse("The task's command has no 'value' for the shell: set 'shell' to false to run what the image says")
	case !image:
		return refuse("The task's command has no 'value', and there is no image to say what to run")
	}
	for _, v := range c.GetEnvironment().GetVariables() {
		if v.GetType() == mesos.Environment_Variable_SECRET {
			return refuse("Environment variable '%s' is a secret, which is not supported yet", v.GetName())
		}
	}
	return nil
}

// MasterCapabilities are what clients may expect of a master: agents may come back with other
// resources than they had.
func MasterCapabilities() []*mesos.MasterInfo_Capability {
	return []*mesos.MasterInfo_Capability{{Type: mesos.MasterInfo_Capability_AGENT_UPDATE.Enum()}}
}

// AgentCapabilities are what clients may expect of every agent: tasks of frameworks with
// several roles, and of roles below others.
func AgentCapabilities() []*mesos.AgentInfo_Capability {
	return []*mesos.AgentInfo_Capability{
		{Type: mesos.AgentInfo_Capability_MULTI_ROLE.Enum()}, {Type: mesos.AgentInfo_Capability_HIERARCHICAL_ROLE.Enum()},
	}
}
