package bench

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

const launchHelp = `Starts a cluster of its own in a temporary work dir and launches tasks on it over the scheduler API: one after the
other, for the time from ACCEPT to RUNNING; as many at once as offers have room for, beside a loop of the runc
command with an equal bundle; and many that stay, for the memory of each. Counts afterwards on the agent's disk what
really ran, and removes everything. A count of 0 leaves that part out.

With --master it measures the cluster there, and knows less.`

// Command returns `gantry bench`. The address of a master comes from the root's flag of that name.
func Command() *cobra.Command {
	group := &cobra.Command{
		Use:   "bench",
		Short: "Measure a cluster on this machine",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	group.AddCommand(launchCommand())
	return group
}

func launchCommand() *cobra.Command {
	var l Launch
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "launch",
		Short: "How fast tasks start, how many in a second, and what each costs",
		Long:  launchHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			executable, err := os.Executable()
			if err != nil {
				return err
			}
			if l.Executable, err = filepath.EvalSymlinks(executable); err != nil {
				return err
			}
			if l.Master, err = cmd.Flags().GetString("master"); err != nil {
				return err
			}
			report, err := l.Run(cmd.Context(), func(format string, args ...any) {
				fmt.Fprintf(cmd.ErrOrStderr(), "gantry: "+format+"\n", args...)
			})
			if err != nil {
				return err
			}
			if asJSON {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(report)
			}
			return report.Text(cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.IntVar(&l.Tasks, "tasks", 200, "tasks one after the other")
	flags.IntVar(&l.Burst, "burst", 500, "tasks at once, as offers allow")
	flags.IntVar(&l.Live, "live", 1000, "tasks that stay")
	flags.StringVar(&l.Plugins, "plugins", "", "plugins.toml of the cluster to start (default: beside the binary)")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}
