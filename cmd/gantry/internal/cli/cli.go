package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
	"github.com/gantry-project/gantry/cmd/gantry/internal/version"
)

// The exit statuses of gantry, beside daemon.ExitRefused; `gantry run` has more, see its help.
const (
	exitFailed = 1
	exitUsage  = 2
	exitNobody = 3
)

// Daemons are the commands that other packages write: the supervisor, what it starts, what mends their stores, and what
// measures them.
type Daemons struct {
	Up, Master, Agent, Mend, Bench *cobra.Command

	// Refused says whether an error is the refusal of a store; nil: none is.
	Refused func(error) bool
}

// ExitStatus is an error that says nothing: the command has said all, and the process ends with this status.
type ExitStatus int

func (s ExitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// Main runs one command line and returns the exit status of the process. The command's context ends with the first
// SIGINT or SIGTERM; a second one ends the process unless the command has asked for signals itself.
func Main(args []string, daemons Daemons) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return run(ctx, args, daemons, os.Stdout, os.Stderr)
}

func run(ctx context.Context, args []string, daemons Daemons, out, errOut io.Writer) int {
	s := &session{out: out, err: errOut}
	root := s.root(daemons)
	root.SetArgs(args)
	root.SetOut(out)
	root.SetErr(errOut)
	command, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	var status ExitStatus
	if errors.As(err, &status) {
		return int(status)
	}
	text := terminal{w: errOut, on: isTerminal(errOut)}
	switch {
	case !s.started:
		fmt.Fprintf(text, "gantry: %v\nSee `%s --help`.\n", err, command.CommandPath())
		return exitUsage
	case errors.Is(err, client.ErrUnreachable):
		fmt.Fprintf(text, "gantry: no cluster answers at %s: start one with `gantry up` or name one with --master\n", s.address())
		return exitNobody
	}
	fmt.Fprintf(text, "gantry: %v\n", err)
	if daemons.Refused != nil && daemons.Refused(err) {
		return daemon.ExitRefused
	}
	return exitFailed
}

const rootHelp = `Gantry pools machines into one cluster and runs services and tasks on it.

Start here:
  gantry up                              a cluster on this machine, with a demo application
  gantry status                          what it has and what runs on it
  gantry run -- sh -c 'echo hi; exit 3'  one task: its output and its exit status become yours
  gantry app scale hello-web 5           more instances of a service
  gantry job add nightly --cron '0 3 * * *' -- ./backup    a command by the clock

Commands find the cluster of --work-dir by its addresses.json, or the one that --master names.
Exit status: 0 done, 1 refused or failed, 2 the command line is wrong, 3 no cluster answers,
4 a store was refused: the message says what to do, and starting again does not help.`

func (s *session) root(daemons Daemons) *cobra.Command {
	root := &cobra.Command{
		Use:           "gantry",
		Short:         "A cluster manager: services and tasks on a pool of machines",
		Long:          rootHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		// Whatever fails before this was wrong on the command line.
		PersistentPreRun: func(*cobra.Command, []string) { s.started = true },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	flags := root.PersistentFlags()
	flags.StringVar(&s.workDir, "work-dir", defaultWorkDir(), "folder of the cluster, also $GANTRY_WORK_DIR")
	flags.StringVar(&s.master, "master", "", "HOST:PORT of the master (default: read from the work dir)")

	root.AddGroup(
		&cobra.Group{ID: "work", Title: "What runs:"},
		&cobra.Group{ID: "cluster", Title: "The cluster:"},
		&cobra.Group{ID: "daemon", Title: "Its parts, one process each:"},
	)
	add := func(group string, commands ...*cobra.Command) {
		for _, c := range commands {
			if c != nil {
				c.GroupID = group
				root.AddCommand(c)
			}
		}
	}
	add("work", s.runCommand(), s.appCommand(), s.jobCommand(), s.taskCommand())
	add("cluster", daemons.Up, s.statusCommand(), s.pluginCommand(), daemons.Mend, daemons.Bench)
	add("daemon", daemons.Master, s.agentCommand(daemons.Agent))
	root.AddCommand(s.versionCommand())
	return root
}

// parent returns a command that only has commands below it; a word that is none of them is an error.
func parent(use, short string) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
}

func defaultWorkDir() string {
	if dir := os.Getenv("GANTRY_WORK_DIR"); dir != "" {
		return dir
	}
	return "/var/lib/gantry"
}

func (s *session) versionCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print the version of this binary",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			v := struct {
				Version string `json:"version"`
			}{version.String()}
			return s.show(v, func(t *table) { t.line("gantry %s", v.Version) })
		},
	}
	s.jsonFlag(c)
	return c
}
