package jobs

import (
	"strconv"
	"strings"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// taskInfo is what the agent is asked to run.
func taskInfo(spec *definition.Job, r *Run, resources []*mesos.Resource) *mesos.TaskInfo {
	return &mesos.TaskInfo{
		Name:      new("ChronosTask:" + spec.Name),
		TaskId:    &mesos.TaskID{Value: new(r.Task)},
		AgentId:   &mesos.AgentID{Value: new(r.Agent)},
		Resources: resources,
		Command:   command(spec, r),
	}
}

func command(spec *definition.Job, r *Run) *mesos.CommandInfo {
	c := &mesos.CommandInfo{Shell: new(spec.Shell), Environment: environment(spec, r)}
	line := spec.Command
	if file, ok := fetched(line); ok {
		c.Uris = append(c.Uris, &mesos.CommandInfo_URI{Value: new(line), Executable: new(true), Extract: new(false)})
		line = "./" + file
	}
	if spec.Shell {
		if r.Arguments != "" {
			line += " " + r.Arguments
		}
	} else {
		c.Arguments = append(c.Arguments, spec.Arguments...)
		if len(c.Arguments) == 0 {
			c.Arguments = []string{line}
		}
		c.Arguments = append(c.Arguments, strings.Fields(r.Arguments)...)
	}
	c.Value = &line
	if spec.RunAsUser != "" {
		c.User = new(spec.RunAsUser)
	}
	for _, f := range spec.Fetch {
		uri := &mesos.CommandInfo_URI{Value: new(f.URI), Extract: new(f.Extract), Executable: new(f.Executable), Cache: new(f.Cache)}
		if f.OutputFile != "" {
			uri.OutputFile = new(f.OutputFile)
		}
		c.Uris = append(c.Uris, uri)
	}
	return c
}

// fetched is the file name of a command that is a URL, to be fetched and run.
func fetched(command string) (string, bool) {
	for _, scheme := range []string{"http://", "https://", "ftp://"} {
		if rest, ok := strings.CutPrefix(command, scheme); ok && !strings.ContainsAny(rest, " \t\n") {
			rest, _, _ = strings.Cut(rest, "?")
			file := rest[strings.LastIndexByte(rest, '/')+1:]
			return file, file != "" && strings.Contains(rest, "/")
		}
	}
	return "", false
}

// environment is what the task finds: what the job says, and about itself, which wins.
func environment(spec *definition.Job, r *Run) *mesos.Environment {
	own := []definition.Variable{
		{Name: "mesos_task_id", Value: r.Task},
		{Name: "MESOS_TASK_ID", Value: r.Task},
		{Name: "CHRONOS_JOB_OWNER", Value: spec.Owner},
		{Name: "CHRONOS_JOB_NAME", Value: spec.Name},
		{Name: "HOST", Value: r.Host},
		{Name: "CHRONOS_RESOURCE_MEM", Value: decimal(spec.Mem)},
		{Name: "CHRONOS_RESOURCE_CPU", Value: decimal(spec.CPUs)},
		{Name: "CHRONOS_RESOURCE_DISK", Value: decimal(spec.Disk)},
		{Name: "CHRONOS_JOB_RUN_TIME", Value: strconv.FormatInt(r.Due.UnixMilli(), 10)},
		{Name: "CHRONOS_JOB_RUN_ATTEMPT", Value: strconv.Itoa(r.Attempt)},
	}
	taken := map[string]bool{}
	env := &mesos.Environment{}
	for _, v := range append(own, spec.Env...) {
		if !taken[v.Name] {
			env.Variables = append(env.Variables, &mesos.Environment_Variable{Name: new(v.Name), Value: new(v.Value)})
		}
		taken[v.Name] = true
	}
	return env
}

// decimal always has a fraction: 128 is 128.0.
func decimal(value float64) string {
	text := strconv.FormatFloat(value, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}
