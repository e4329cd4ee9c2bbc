package rules

import (
	"regexp"
	"strings"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Image is what a task says of the root filesystem that it wants.
type Image struct {
	// Kind is that of a KIND:/PATH, and else "docker": a name in a registry.
	Kind string
	// Name is what the task says, with KIND: where it has that.
	Name string
	// Fresh asks to look at the image's source though the answer is known.
	Fresh bool
}

// maxImageName bounds a name.
const maxImageName = 1024

var imagePath = regexp.MustCompile(`^([a-z][a-z0-9-]{0,31}):/`)

// ImageOf is the image that a container is to have, and whether there is one.
func ImageOf(c *mesos.ContainerInfo) (Image, bool) {
	image := Image{Kind: "docker"}
	switch {
	case c == nil:
		return Image{}, false
	case c.GetType() == mesos.ContainerInfo_DOCKER:
		image.Name, image.Fresh = c.GetDocker().GetImage(), c.GetDocker().GetForcePullImage()
	case c.GetMesos().GetImage() != nil:
		of := c.GetMesos().GetImage()
		image.Name, image.Fresh = of.GetDocker().GetName(), of.Cached != nil && !of.GetCached()
	default:
		return Image{}, false
	}
	if m := imagePath.FindStringSubmatch(image.Name); m != nil {
		image.Kind = m[1]
	}
	return image, true
}

func supportedImage(c *mesos.ContainerInfo) error {
	if d := c.Docker; c.GetType() == mesos.ContainerInfo_DOCKER {
		switch {
		case d.GetPrivileged():
			return refuse("'container.docker.privileged' is not possible: no task gets more rights than others")
		case len(d.GetParameters()) > 0:
			return refuse("'container.docker.parameters' are not supported: there is no Docker engine to pass them to")
		case d.Network != nil && d.GetNetwork() != mesos.ContainerInfo_DockerInfo_HOST:
			return refuse("'container.docker.network' %s is not supported yet: tasks share the network of their agent's host, HOST", d.GetNetwork())
		case len(d.GetPortMappings()) > 0:
			return refuse("'container.docker.port_mappings' are not supported yet: tasks share the network of their agent's host")
		case d.VolumeDriver != nil:
			return refuse("'container.docker.volume_driver' is not supported: there is no Docker engine to load it")
		}
	}
	i := c.GetMesos().GetImage()
	switch {
	case c.GetType() == mesos.ContainerInfo_DOCKER || i == nil:
	case i.GetType() == mesos.Image_APPC:
		return refuse("Images of type APPC are not supported: use type DOCKER, whose name may also be oci:/PATH or docker-archive:/PATH")
	case i.Docker == nil:
		return refuse("'container.mesos.image.docker' is not set for an image of type DOCKER")
	case i.GetDocker().Credential != nil || i.GetDocker().Config != nil:
		return refuse("Credentials of an image are not supported yet: the registry must let anybody read")
	}
	image, ok := ImageOf(c)
	switch {
	case !ok:
		return nil
	case image.Name == "":
		return refuse("The container's image has no name")
	case len(image.Name) > maxImageName:
		return refuse("The name of the container's image has more than %d bytes", maxImageName)
	case strings.ContainsFunc(image.Name, func(r rune) bool { return r <= ' ' || r > '~' }):
		return refuse("The name of the container's image, %q, has characters that no name has", image.Name)
	}
	return nil
}
