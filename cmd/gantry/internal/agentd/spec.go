package agentd

import (
	"fmt"
	"math"
	"os/user"
	"path/filepath"
	"strconv"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/rootfs"
	"github.com/gantry-project/gantry/kernel/node"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// rootCapabilities are what root in a container can do that others can't: own and change
// its sandbox, become somebody else, listen on low ports.
var rootCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID",
}

// specOf translates a task that is to run in sandbox, an absolute folder of the host; its
// root filesystem is still to be composed.
func specOf(l node.Launch, cgroupParent, sandbox string) (*containerpb.Spec, error) {
	spec := &containerpb.Spec{
		Id:         l.Container,
		Argv:       argv(l.Task.GetCommand()),
		Env:        environment(l),
		Cwd:        rootfs.Sandbox,
		Cgroup:     cgroupParent + "/containers/" + l.Container,
		Limits:     limits(l.Task.GetResources()),
		StdoutPath: filepath.Join(sandbox, "stdout"),
		StderrPath: filepath.Join(sandbox, "stderr"),
		Hostname:   l.Container,
		Labels: map[string]string{
			"framework": l.Framework.GetId().GetValue(),
			"task":      l.Task.GetTaskId().GetValue(),
		},
	}
	return spec, become(spec, userOf(l))
}

// argv is how a command is run: by a shell, or as a program and its arguments, of which
// the first is the program's own name for itself.
func argv(c *mesos.CommandInfo) []string {
	if c.GetShell() {
		return []string{"/bin/sh", "-c", c.GetValue()}
	}
	run := []string{c.GetValue()}
	if args := c.GetArguments(); len(args) > 1 {
		run = append(run, args[1:]...)
	}
	return run
}

// environment has what every task can rely on, and then what its framework says, which wins.
func environment(l node.Launch) []string {
	type variable struct{ name, value string }
	all := []variable{
		{"PATH", defaultPath},
		{"MESOS_SANDBOX", rootfs.Sandbox},
		{"MESOS_TASK_ID", l.Task.GetTaskId().GetValue()},
		{"MESOS_EXECUTOR_ID", l.Task.GetTaskId().GetValue()},
		{"MESOS_FRAMEWORK_ID", l.Framework.GetId().GetValue()},
		{"MESOS_AGENT_ID", l.Task.GetAgentId().GetValue()},
		{"MESOS_CONTAINER_ID", l.Container},
	}
	for _, v := range l.Task.GetCommand().GetEnvironment().GetVariables() {
		all = append(all, variable{v.GetName(), v.GetValue()})
	}
	last := map[string]int{}
	for i, v := range all {
		last[v.name] = i
	}
	var env []string
	for i, v := range all {
		if last[v.name] == i {
			env = append(env, v.name+"="+v.value)
		}
	}
	return env
}

// limits are what the task was given; a task without memory or CPU is not bound by them.
func limits(resources []*mesos.Resource) *containerpb.Limits {
	var cpuMilli, memBytes int64
	for _, r := range resources {
		switch r.GetName() {
		case "cpus":
			cpuMilli += int64(math.Round(r.GetScalar().GetValue() * 1000))
		case "mem":
			memBytes += int64(math.Round(r.GetScalar().GetValue() * (1 << 20)))
		}
	}
	return cgroup.Limits(cpuMilli, memBytes)
}

// userOf is whom a task runs as: its command's user, else its framework's, else root.
func userOf(l node.Launch) string {
	for _, name := range []string{l.Task.GetCommand().GetUser(), l.Framework.GetUser()} {
		if name != "" {
			return name
		}
	}
	return "root"
}

// become sets the user and groups of a container.
func become(spec *containerpb.Spec, name string) error {
	if name == "root" {
		spec.Capabilities = rootCapabilities
		return nil
	}
	u, err := user.Lookup(name)
	if err != nil {
		return fmt.Errorf("the task is to run as %q, and this host has no such user: name another in 'command.user'", name)
	}
	groups, err := u.GroupIds()
	if err != nil {
		return fmt.Errorf("find the groups of user %q: %w", name, err)
	}
	numbers := make([]uint32, 0, len(groups)+2)
	for _, text := range append([]string{u.Uid, u.Gid}, groups...) {
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return fmt.Errorf("find the ids of user %q: %w", name, err)
		}
		numbers = append(numbers, uint32(n))
	}
	spec.Uid, spec.Gid, spec.AdditionalGids = numbers[0], numbers[1], numbers[2:]
	if spec.Uid == 0 {
		spec.Capabilities = rootCapabilities
	}
	return nil
}
