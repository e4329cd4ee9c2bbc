package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
)

func (s *session) appCommand() *cobra.Command {
	group := parent("app", "Services: applications kept running by Marathon")
	group.Example = `  gantry app list
  gantry app show hello-web
  gantry app scale hello-web 5`
	group.AddCommand(s.appListCommand(), s.appShowCommand(), s.appScaleCommand(), s.appRemoveCommand())
	for _, c := range group.Commands() {
		s.jsonFlag(c)
	}
	return group
}

// onMarathon calls do with a client of Marathon and says what a failure means.
func (s *session) onMarathon(ctx context.Context, do func(*client.Client) error) error {
	c, err := s.marathon(ctx)
	if err != nil {
		return err
	}
	return elsewhere("Marathon", do(c))
}

func (s *session) appListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "Every application, and how many instances run",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return s.onMarathon(cmd.Context(), func(c *client.Client) error {
				apps, err := c.Apps(cmd.Context())
				if err != nil {
					return err
				}
				return s.show(apps, func(t *table) {
					t.row("APP", "RUNNING", "WANTED", "CPUS", "MB", "COMMAND")
					for _, a := range apps {
						t.row(name(a.ID), strconv.Itoa(a.TasksRunning), strconv.Itoa(a.Instances),
							number(a.CPUs), number(a.Mem), a.Cmd)
					}
				})
			})
		},
	}
}

// name is how a person types an application's id.
func name(id string) string { return strings.TrimPrefix(id, "/") }

func (s *session) appShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show APP",
		Short: "One application and its instances",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.onMarathon(cmd.Context(), func(c *client.Client) error {
				app, err := c.App(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return s.show(app, func(t *table) { drawApp(t, app) })
			})
		},
	}
}

func drawApp(t *table, app client.App) {
	t.line("%s\t%s of %s running", name(app.ID), strconv.Itoa(app.TasksRunning), strconv.Itoa(app.Instances))
	t.line("each\t%s cpus, %s MB", number(app.CPUs), number(app.Mem))
	t.line("command\t%s", app.Cmd)
	if f := app.LastFailure; f != nil {
		t.line("last failure\t%s %s: %s", f.Timestamp, f.State, f.Message)
	}
	if len(app.Tasks) == 0 {
		return
	}
	t.line("")
	t.row("TASK", "STATE", "HOST", "PORTS", "STARTED")
	for _, task := range app.Tasks {
		ports := make([]string, len(task.Ports))
		for i, p := range task.Ports {
			ports[i] = strconv.Itoa(p)
		}
		t.row(task.ID, stateWord(task.State), task.Host, strings.Join(ports, ","), task.StartedAt)
	}
}

func (s *session) appScaleCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "scale APP INSTANCES",
		Short:   "Set how many instances an application has",
		Example: "  gantry app scale hello-web 5",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(2)(cmd, args); err != nil {
				return err
			}
			if n, err := strconv.Atoi(args[1]); err != nil || n < 0 {
				return fmt.Errorf("%q is no number of instances: give 0 or more", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			instances, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			return s.onMarathon(cmd.Context(), func(c *client.Client) error {
				if err := c.ScaleApp(cmd.Context(), args[0], instances); err != nil {
					return err
				}
				v := map[string]any{"app": args[0], "instances": instances}
				return s.show(v, func(t *table) {
					t.line("%s is to have %s instances; `gantry app show %s` tells how far it is", name(args[0]), args[1], name(args[0]))
				})
			})
		},
	}
}

func (s *session) appRemoveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "remove APP",
		Short: "Remove an application and end its instances",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return s.onMarathon(cmd.Context(), func(c *client.Client) error {
				if err := c.RemoveApp(cmd.Context(), args[0]); err != nil {
					return err
				}
				return s.show(map[string]any{"app": args[0], "removed": true}, func(t *table) {
					t.line("%s is removed; its instances are ending", name(args[0]))
				})
			})
		},
	}
}
