package up

import (
	"context"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// Parts are what the supervisor borrows from the isolators.
type Parts struct {
	// CgroupName returns the cgroup that holds everything of the cluster of a work dir.
	CgroupName func(workDir string) string

	// RemoveCgroup kills what is left in a cgroup and removes it.
	RemoveCgroup func(ctx context.Context, group string) error
}

const help = `Starts a cluster on this machine and keeps it up: a master, agents and the plugins of plugins.toml,
each a process of its own. A small web application is deployed on it, so that there is something to see.

Prints where to look and then "gantry: ready". Ctrl-C or SIGTERM ends it all, tasks included unless
--keep-tasks says otherwise; a second Ctrl-C does so at once. What the cluster knows stays in the work
dir: the next start continues there.`

// Command returns `gantry up`. The work dir comes from the root's flag of that name.
func Command(parts Parts) *cobra.Command {
	var c Config
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start a whole cluster on this machine, and keep it up",
		Long:  help,
		Example: `  gantry up
  gantry up --work-dir /tmp/two --listen 127.0.0.1:0   beside another one`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			executable, err := os.Executable()
			if err != nil {
				return err
			}
			if c.Executable, err = filepath.EvalSymlinks(executable); err != nil {
				return err
			}
			if c.WorkDir, err = cmd.Flags().GetString("work-dir"); err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			return runWithSignals(cmd.Context(), c, parts, out, cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.Listen, "listen", "127.0.0.1:5050", "HOST:PORT of the master; the other ports are beside it, and with port 0 all are ephemeral")
	flags.IntVar(&c.Masters, "masters", 1, "how many masters there are, of which one leads: 1, 3 or 5")
	flags.IntVar(&c.Agents, "agents", 1, "how many agents share this machine")
	flags.StringVar(&c.Plugins, "plugins", "", "plugins.toml (default: in the work dir, or beside the binary)")
	flags.BoolVar(&c.NoDemo, "no-demo", false, "do not deploy the demo application")
	flags.DurationVar(&c.OfferTimeout, "offer-timeout", 0, "take back offers that a scheduler neither uses nor declines for so long (default: never)")
	flags.BoolVar(&c.KeepTasks, "keep-tasks", false, "leave tasks running at the end")
	flags.BoolVar(&c.Check, "check", false, "have the master verify all its accounts after every step, and stop if one is wrong")
	flags.BoolVar(&c.JSON, "json", false, "print the addresses as JSON when ready")
	return cmd
}

// runWithSignals turns a second signal into force; the first one ends ctx.
func runWithSignals(ctx context.Context, c Config, parts Parts, out, errOut io.Writer) error {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	force, kill := context.WithCancel(context.WithoutCancel(ctx))
	defer kill()
	over := make(chan struct{})
	defer close(over)
	go func() {
		for range 2 {
			select {
			case <-signals:
			case <-over:
				return
			}
		}
		kill()
	}()
	u := &cluster{Config: c, parts: parts, out: out, errOut: errOut, force: force}
	return u.run(ctx)
}
