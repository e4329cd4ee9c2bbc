package agentd

import (
	"fmt"
	"math"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/rootfs"
	"github.com/gantry-project/gantry/kernel/node"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// defaultShutdownGrace is what an executor has whose framework names no other.
const defaultShutdownGrace = 5 * time.Second

const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// rootCapabilities are what root in a container can do that others can't: own and change
// its sandbox, become somebody else, listen on low ports.
var rootCapabilities = []string{
	"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL",
	"CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID",
}

// program is what a container is to run: a task's command, or an executor.
type program struct {
	command   *mesos.CommandInfo
	resources []*mesos.Resource
	labels    map[string]string
	// env is what the program can rely on beside what all can.
	env []variable
}

type variable struct{ name, value string }

// programOf is what a launch asks for.
func (c containers) programOf(l node.Launch) program {
	framework := l.Framework.GetId().GetValue()
	if l.Executor != nil {
		return program{
			command: l.Executor.GetCommand(), resources: l.Resources, env: c.executorEnv(l),
			labels: map[string]string{"framework": framework, "executor": l.Executor.GetExecutorId().GetValue()},
		}
	}
	task := l.Task.GetTaskId().GetValue()
	return program{
		command: l.Task.GetCommand(), resources: l.Task.GetResources(),
		labels: map[string]string{"framework": framework, "task": task},
		env: []variable{
			{"MESOS_TASK_ID", task}, {"MESOS_EXECUTOR_ID", task}, {"MESOS_AGENT_ID", l.Task.GetAgentId().GetValue()},
		},
	}
}

// specOf translates a program that is to run in sandbox, an absolute folder of the host; its
// user and its root filesystem are still to be found.
func (c containers) specOf(l node.Launch, sandbox string) *containerpb.Spec {
	p := c.programOf(l)
	return &containerpb.Spec{
		Id:         l.Container,
		Argv:       argv(p.command),
		Env:        environment(l, p, nil),
		Cwd:        rootfs.Sandbox,
		Cgroup:     c.cgroup + "/containers/" + l.Container,
		Limits:     limits(p.resources),
		StdoutPath: filepath.Join(sandbox, "stdout"),
		StderrPath: filepath.Join(sandbox, "stderr"),
		Hostname:   l.Container,
		Labels:     p.labels,
	}
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

// executorEnv is what an executor needs to find its agent, and to be known by it.
func (c containers) executorEnv(l node.Launch) []variable {
	grace := defaultShutdownGrace
	if own := l.Executor.GetShutdownGracePeriod(); own != nil {
		grace = time.Duration(own.GetNanoseconds())
	}
	env := []variable{
		{"MESOS_EXECUTOR_ID", l.Executor.GetExecutorId().GetValue()},
		{"MESOS_AGENT_ID", c.agentOf(l)},
		{"MESOS_DIRECTORY", rootfs.Sandbox},
		{"MESOS_AGENT_ENDPOINT", c.endpoint},
		{"MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD", strconv.FormatInt(int64(grace), 10) + "ns"},
		{"MESOS_EXECUTOR_AUTHENTICATION_TOKEN", c.door.token(l.Container)},
		{"MESOS_CHECKPOINT", "0"},
	}
	if l.Framework.GetCheckpoint() {
		env[len(env)-1].value = "1"
		env = append(env, variable{"MESOS_RECOVERY_TIMEOUT", "15mins"}, variable{"MESOS_SUBSCRIPTION_BACKOFF_MAX", "2secs"})
	}
	return env
}

// agentOf is the id of the agent, by which its sandboxes are filed.
func (c containers) agentOf(l node.Launch) string {
	_, rest, _ := strings.Cut(l.Sandbox, "/")
	agent, _, _ := strings.Cut(rest, "/")
	return agent
}

// environment has a path, what the image says, what every task can rely on, and then what its
// framework says: the last of a name wins.
func environment(l node.Launch, p program, image []string) []string {
	all := []variable{{"PATH", defaultPath}}
	for _, v := range image {
		name, value, _ := strings.Cut(v, "=")
		all = append(all, variable{name, value})
	}
	all = append(all,
		variable{"MESOS_SANDBOX", rootfs.Sandbox},
		variable{"MESOS_FRAMEWORK_ID", l.Framework.GetId().GetValue()},
		variable{"MESOS_CONTAINER_ID", l.Container},
	)
	all = append(all, p.env...)
	for _, v := range p.command.GetEnvironment().GetVariables() {
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

// userOf is whom a program runs as: its command's user, else its framework's, else root.
func userOf(l node.Launch, p program) string {
	for _, name := range []string{p.command.GetUser(), l.Framework.GetUser()} {
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
