// Package program decides what a container of an image runs: what the task says, and what the
// image says where the task does not.
//
//	argv, err := program.Argv(program.MESOS, command, config)
//	user, err := program.User(program.Files{...}, "daemon:staff")
//
// It is pure but for the reading of an image's lists of users.
package program

import (
	"errors"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// Argv is the program and its arguments. Clients know two ways, by the type of the container.
//
// With shell the command's value goes to /bin/sh, and the image has no say. Without, and
// without a value, the image's entrypoint runs, with the command's arguments or else with the
// image's own; where it has no entrypoint, its first word runs instead. With a value, a
// container of type MESOS runs that in place of the entrypoint, and its arguments begin with
// the program's name for itself; one of type DOCKER passes the value and all arguments to
// the entrypoint.
func Argv(kind mesos.ContainerInfo_Type, c *mesos.CommandInfo, image v1.Config) ([]string, error) {
	switch {
	case c.GetShell():
		return []string{"/bin/sh", "-c", c.GetValue()}, nil
	case c.GetValue() == "":
		return fromImage(c.GetArguments(), image)
	case kind == mesos.ContainerInfo_DOCKER:
		return slices.Concat(image.Entrypoint, []string{c.GetValue()}, c.GetArguments()), nil
	}
	argv := []string{c.GetValue()}
	if args := c.GetArguments(); len(args) > 1 {
		argv = append(argv, args[1:]...)
	}
	return argv, nil
}

func fromImage(arguments []string, image v1.Config) ([]string, error) {
	switch {
	case len(image.Entrypoint) > 0 && len(arguments) > 0:
		return slices.Concat(image.Entrypoint, arguments), nil
	case len(image.Entrypoint) > 0:
		return slices.Concat(image.Entrypoint, image.Cmd), nil
	case len(image.Cmd) == 0:
		return nil, errors.New("neither the task nor the image says what to run: give the command a 'value'")
	case len(arguments) > 0:
		return slices.Concat(image.Cmd[:1], arguments), nil
	}
	return image.Cmd, nil
}

// Env is the image's environment, without what is no variable.
func Env(image v1.Config) []string {
	return slices.DeleteFunc(slices.Clone(image.Env), func(v string) bool {
		return strings.Index(v, "=") < 1 || strings.ContainsRune(v, 0)
	})
}

// Cwd is the image's working directory, or empty.
func Cwd(image v1.Config) string {
	if image.WorkingDir == "" || strings.HasPrefix(image.WorkingDir, "/") {
		return image.WorkingDir
	}
	return "/" + image.WorkingDir
}
