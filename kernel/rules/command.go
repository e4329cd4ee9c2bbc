package rules

import (
	"bytes"
	"strings"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func command(c *mesos.CommandInfo) error {
	for _, v := range c.GetEnvironment().GetVariables() {
		if err := variable(v); err != nil {
			return err
		}
	}
	if strings.ContainsRune(c.GetValue(), 0) || strings.ContainsRune(strings.Join(c.GetArguments(), ""), 0) {
		return refuse("Neither 'value' nor 'arguments' may contain null bytes")
	}
	return nil
}

func variable(v *mesos.Environment_Variable) error {
	name := v.GetName()
	if name == "" || strings.ContainsAny(name, "=\x00") {
		return refuse("Environment variable '%s' needs a name without '=' and null bytes", name)
	}
	switch v.GetType() {
	case mesos.Environment_Variable_SECRET:
		return secretVariable(v)
	case mesos.Environment_Variable_VALUE:
		switch {
		case v.Value == nil:
			return refuse("Environment variable '%s' of type 'VALUE' must have a value set", name)
		case v.Secret != nil:
			return refuse("Environment variable '%s' of type 'VALUE' must not have a secret set", name)
		case strings.ContainsRune(v.GetValue(), 0):
			return refuse("Environment variable '%s' has a value containing null bytes, which is not allowed in the environment", name)
		}
		return nil
	default:
		return refuse("Environment variable of type 'UNKNOWN' is not allowed")
	}
}

func secretVariable(v *mesos.Environment_Variable) error {
	name := v.GetName()
	if v.Secret == nil {
		return refuse("Environment variable '%s' of type 'SECRET' must have a secret set", name)
	}
	if v.Value != nil {
		return refuse("Environment variable '%s' of type 'SECRET' must not have a value set", name)
	}
	if err := secret(v.Secret); err != nil {
		return refuse("Environment variable '%s' specifies an invalid secret: %w", name, err)
	}
	if bytes.IndexByte(v.GetSecret().GetValue().GetData(), 0) >= 0 {
		return refuse("Environment variable '%s' specifies a secret containing null bytes, which is not allowed in the environment", name)
	}
	return nil
}

func secret(s *mesos.Secret) error {
	switch s.GetType() {
	case mesos.Secret_REFERENCE:
		if s.Reference == nil {
			return refuse("Secret of type REFERENCE must have the 'reference' field set")
		}
		if s.Value != nil {
			return refuse("Secret '%s' of type REFERENCE must not have the 'value' field set", s.GetReference().GetName())
		}
	case mesos.Secret_VALUE:
		if s.Value == nil {
			return refuse("Secret of type VALUE must have the 'value' field set")
		}
		if s.Reference != nil {
			return refuse("Secret of type VALUE must not have the 'reference' field set")
		}
	}
	return nil
}

func container(c *mesos.ContainerInfo) error {
	for _, v := range c.GetVolumes() {
		if err := volume(v); err != nil {
			return refuse("Invalid volume: %w", err)
		}
	}
	if c.GetType() != mesos.ContainerInfo_DOCKER {
		return nil
	}
	if c.Docker == nil {
		return refuse("DockerInfo 'docker' is not set for DOCKER typed ContainerInfo")
	}
	for _, p := range c.GetDocker().GetParameters() {
		if p.GetKey() == "name" {
			return refuse("Parameter in DockerInfo must not be 'name'")
		}
	}
	return nil
}

func volume(v *mesos.Volume) error {
	set := 0
	for _, is := range []bool{v.HostPath != nil, v.Image != nil, v.Source != nil} {
		if is {
			set++
		}
	}
	if set != 1 {
		return refuse("Only one of them should be set: 'host_path', 'image' and 'source'")
	}
	if v.Source == nil {
		return nil
	}
	return volumeSource(v.Source)
}

func volumeSource(s *mesos.Volume_Source) error {
	switch s.GetType() {
	case mesos.Volume_Source_DOCKER_VOLUME:
		if s.DockerVolume == nil {
			return refuse("'source.docker_volume' is not set for DOCKER_VOLUME volume")
		}
	case mesos.Volume_Source_HOST_PATH:
		if s.HostPath == nil {
			return refuse("'source.host_path' is not set for HOST_PATH volume")
		}
	case mesos.Volume_Source_SANDBOX_PATH:
		if s.SandboxPath == nil {
			return refuse("'source.sandbox_path' is not set for SANDBOX_PATH volume")
		}
	case mesos.Volume_Source_SECRET:
		if s.Secret == nil {
			return refuse("'source.secret' is not set for SECRET volume")
		}
	case mesos.Volume_Source_CSI_VOLUME:
		if s.CsiVolume == nil {
			return refuse("'source.csi_volume' is not set for CSI volume")
		}
		if s.CsiVolume.StaticProvisioning == nil {
			return refuse("'source.csi_volume.static_provisioning' is not set for CSI volume")
		}
	default:
		return refuse("'source.type' is unknown")
	}
	return nil
}
