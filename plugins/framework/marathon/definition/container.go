package definition

import (
	"slices"
	"strings"
)

// Container says what root filesystem the instances have.
type Container struct {
	// Type is DOCKER or MESOS.
	Type string `json:"type"`
	// Docker names the image; nil for the programs of the agent's host, where Type is MESOS.
	Docker *Docker `json:"docker,omitempty"`
	// Volumes and PortMappings are empty, as ever: clients expect to find them.
	Volumes      []struct{} `json:"volumes"`
	PortMappings []struct{} `json:"portMappings"`
}

// Docker is an image.
type Docker struct {
	Image          string `json:"image"`
	ForcePullImage bool   `json:"forcePullImage"`
	// Privileged is false and Parameters empty, as ever.
	Privileged bool       `json:"privileged"`
	Parameters []struct{} `json:"parameters"`
}

// The types of containers.
const (
	DockerContainer = "DOCKER"
	MesosContainer  = "MESOS"
)

// HasImage says whether the instances run on an image's programs.
func (a *App) HasImage() bool { return a.Container != nil && a.Container.Docker != nil }

// refusedInContainer are members that pass while they say nothing, with what to do.
var refusedInContainer = map[string]string{
	"volumes":      "volumes are not supported yet; use the sandbox, and fetch for what it should hold",
	"portMappings": "only host networking is supported; leave it out, and use portDefinitions",
	"linuxInfo":    "it is not supported yet; leave it out",
}

var refusedInDocker = map[string]string{
	"privileged":   "no task gets more rights than others; leave it out",
	"parameters":   "there is no Docker engine to pass them to; leave them out",
	"portMappings": "only host networking is supported; leave it out, and use portDefinitions",
	"pullConfig":   "credentials for a registry are not supported yet; it must let anybody read",
}

// refuseContainer adds what a container asks for and does not get.
func refuseContainer(value any, bad *InvalidError) {
	container, _ := value.(map[string]any)
	refuseMembers(container, "/container", refusedInContainer, []string{"type", "docker"}, bad)
	docker, _ := container["docker"].(map[string]any)
	refuseMembers(docker, "/container/docker", refusedInDocker, []string{"image", "forcePullImage", "network"}, bad)
	if network, ok := docker["network"]; ok && network != "HOST" {
		bad.Add("/container/docker/network", "only host networking is supported; leave it out, or write HOST")
	}
}

func refuseMembers(object map[string]any, path string, refused map[string]string, known []string, bad *InvalidError) {
	for _, key := range sortedKeys(object) {
		text, ok := refused[key]
		switch {
		case ok && !blank(object[key]):
			bad.Add(path+"/"+key, "%s", text)
		case !ok && !slices.Contains(known, key):
			bad.Add(path+"/"+key, "there is no such member")
		}
	}
}

// containerOf is a container in its current form, or nil where it says nothing.
func containerOf(value any) any {
	container, ok := value.(map[string]any)
	if !ok || len(container) == 0 {
		if ok {
			return nil
		}
		return value // of a wrong type, which the decoder tells
	}
	tree := map[string]any{"type": DockerContainer, "volumes": []any{}, "portMappings": []any{}}
	if kind, ok := container["type"]; ok {
		tree["type"] = kind
	}
	docker, ok := container["docker"].(map[string]any)
	if !ok {
		if other, is := container["docker"]; is {
			tree["docker"] = other
		}
		return tree
	}
	image := map[string]any{"privileged": false, "parameters": []any{}}
	for _, key := range []string{"image", "forcePullImage"} {
		if member, ok := docker[key]; ok {
			image[key] = member
		}
	}
	tree["docker"] = image
	return tree
}

func (a *App) validateContainer(bad *InvalidError) {
	c := a.Container
	if c == nil {
		return
	}
	if c.Type != DockerContainer && c.Type != MesosContainer {
		bad.Add("/container/type", "must be %s or %s", DockerContainer, MesosContainer)
	}
	switch {
	case c.Docker == nil && c.Type == DockerContainer:
		bad.Add("/container/docker", "must name an image")
	case c.Docker == nil:
	case c.Docker.Image == "" || strings.ContainsFunc(c.Docker.Image, func(r rune) bool { return r <= ' ' || r > '~' }):
		bad.Add("/container/docker/image", "must be the name of an image, such as nginx:1")
	}
}
