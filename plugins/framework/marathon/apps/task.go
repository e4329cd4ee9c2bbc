package apps

import (
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// taskInfo is what the agent is asked to run.
func (i *instance) taskInfo(resources []*mesos.Resource) *mesos.TaskInfo {
	spec := i.spec
	info := &mesos.TaskInfo{
		Name:      new(reversed(spec.ID)),
		TaskId:    &mesos.TaskID{Value: new(i.Task)},
		AgentId:   &mesos.AgentID{Value: new(i.Agent)},
		Resources: resources,
		Command:   i.command(),
		Container: container(spec.Container),
		Labels:    labels(spec.Labels),
		Discovery: i.discovery(),
	}
	if grace, ok := spec.Grace(); ok {
		info.KillPolicy = &mesos.KillPolicy{GracePeriod: &mesos.DurationInfo{Nanoseconds: new(grace.Nanoseconds())}}
	}
	return info
}

func (i *instance) command() *mesos.CommandInfo {
	spec := i.spec
	c := &mesos.CommandInfo{Environment: &mesos.Environment{}}
	switch {
	case spec.Cmd != "":
		c.Shell, c.Value = new(true), new(spec.Cmd)
	case spec.HasImage(): // the image says what runs, with these arguments if there are any
		c.Shell, c.Arguments = new(false), spec.Args
	default:
		c.Shell, c.Value, c.Arguments = new(false), new(spec.Args[0]), spec.Args
	}
	if spec.User != "" {
		c.User = new(spec.User)
	}
	for _, f := range spec.Fetch {
		uri := &mesos.CommandInfo_URI{
			Value: new(f.URI), Extract: new(f.Extract), Executable: new(f.Executable), Cache: new(f.Cache),
		}
		if f.DestPath != "" {
			uri.OutputFile = new(f.DestPath)
		}
		c.Uris = append(c.Uris, uri)
	}
	env := i.environment()
	for _, name := range sortedKeys(env) {
		c.Environment.Variables = append(c.Environment.Variables, &mesos.Environment_Variable{Name: new(name), Value: new(env[name])})
	}
	return c
}

// container asks for the image, if there is one.
func container(c *definition.Container) *mesos.ContainerInfo {
	switch {
	case c == nil || c.Docker == nil:
		return nil
	case c.Type == definition.DockerContainer:
		return &mesos.ContainerInfo{Type: mesos.ContainerInfo_DOCKER.Enum(), Docker: &mesos.ContainerInfo_DockerInfo{
			Image: new(c.Docker.Image), ForcePullImage: new(c.Docker.ForcePullImage),
			Network: mesos.ContainerInfo_DockerInfo_HOST.Enum(),
		}}
	}
	return &mesos.ContainerInfo{Type: mesos.ContainerInfo_MESOS.Enum(), Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{
		Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: new(c.Docker.Image)}, Cached: new(!c.Docker.ForcePullImage),
	}}}
}

// maxEnvironmentLabel bounds the labels that become variables.
const maxEnvironmentLabel = 512

var notInVariable = regexp.MustCompile(`[^a-zA-Z0-9_]+`)

// environment is what the task finds: about itself, its ports, and what the definition
// says, which wins.
func (i *instance) environment() map[string]string {
	spec := i.spec
	env := map[string]string{
		"HOST":                            i.Host,
		"MESOS_TASK_ID":                   i.Task,
		"MARATHON_APP_ID":                 spec.ID,
		"MARATHON_APP_VERSION":            i.Version,
		"MARATHON_APP_ENFORCE_GROUP_ROLE": "FALSE", // no group has a role of its own
		"MARATHON_APP_RESOURCE_CPUS":      decimal(spec.CPUs),
		"MARATHON_APP_RESOURCE_MEM":       decimal(spec.Mem),
		"MARATHON_APP_RESOURCE_DISK":      decimal(spec.Disk),
		"MARATHON_APP_RESOURCE_GPUS":      "0",
	}
	var names []string
	for _, label := range sortedKeys(spec.Labels) {
		const prefix = "MARATHON_APP_LABEL_"
		if len(label) < maxEnvironmentLabel-len(prefix) && len(spec.Labels[label]) < maxEnvironmentLabel {
			name := strings.ToUpper(notInVariable.ReplaceAllString(label, "_"))
			names = append(names, name)
			env[prefix+name] = spec.Labels[label]
		}
	}
	env["MARATHON_APP_LABELS"] = strings.Join(names, " ")
	if spec.HasImage() {
		env["MARATHON_APP_DOCKER_IMAGE"] = spec.Container.Docker.Image
	}
	i.portVariables(env)
	maps.Copy(env, spec.Env)
	return env
}

func (i *instance) portVariables(env map[string]string) {
	if len(i.Ports) == 0 {
		return
	}
	texts := make([]string, len(i.Ports))
	for n, port := range i.Ports {
		texts[n] = strconv.Itoa(port)
		env["PORT"+strconv.Itoa(n)] = texts[n]
		definition := i.spec.PortDefinitions[n]
		requested := definition.Port
		if requested == 0 {
			requested = port
		}
		env["PORT_"+strconv.Itoa(requested)] = texts[n]
		if definition.Name != "" {
			env["PORT_"+strings.ToUpper(notInVariable.ReplaceAllString(definition.Name, "_"))] = texts[n]
		}
	}
	env["PORT"] = texts[0]
	env["PORTS"] = strings.Join(texts, ",")
}

// decimal always has a fraction: 128 is 128.0.
func decimal(value float64) string {
	text := strconv.FormatFloat(value, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

func labels(from map[string]string) *mesos.Labels {
	if len(from) == 0 {
		return nil
	}
	l := &mesos.Labels{}
	for _, key := range sortedKeys(from) {
		l.Labels = append(l.Labels, &mesos.Label{Key: new(key), Value: new(from[key])})
	}
	return l
}

func (i *instance) discovery() *mesos.DiscoveryInfo {
	ports := &mesos.Ports{}
	for n, d := range i.spec.PortDefinitions {
		for protocol := range strings.SplitSeq(d.Protocol, ",") {
			port := &mesos.Port{Number: new(uint32(i.Ports[n])), Protocol: new(protocol), Labels: labels(d.Labels)}
			if d.Name != "" {
				port.Name = new(d.Name)
			}
			ports.Ports = append(ports.Ports, port)
		}
	}
	return &mesos.DiscoveryInfo{
		Visibility: mesos.DiscoveryInfo_FRAMEWORK.Enum(),
		Name:       new(reversed(i.spec.ID)),
		Ports:      ports,
	}
}

// reversed is the id as a host name: /prod/web is web.prod.
func reversed(id string) string {
	segments := strings.Split(strings.Trim(id, "/"), "/")
	slices.Reverse(segments)
	return strings.Join(segments, ".")
}
