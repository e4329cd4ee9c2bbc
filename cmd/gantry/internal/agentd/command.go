package agentd

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"github.com/gantry-project/gantry/isolators/sandbox"
)

const help = `Offers this machine's resources to a cluster, and runs the tasks that its frameworks launch.

Each task runs in a container of its own: namespaces, limits on CPU, memory and processes, a read-only
root of the host's programs, and a sandbox that stays when the task has ended. The containers belong to
the keeper, a small process beside the agent, so that the agent may be restarted under them: it finds
them again, and reports what happened meanwhile.

SIGTERM ends the tasks, the keeper and the agent; with --keep-tasks only the agent.`

// Command returns `gantry agent`.
func Command() *cobra.Command {
	var c Config
	cmd := &cobra.Command{
		Use:   "agent --master HOST:PORT --work-dir DIR",
		Short: "Run an agent: it offers this machine to a cluster",
		Long:  help,
		Example: `  gantry agent --master 127.0.0.1:5050 --work-dir /var/lib/gantry/agent --token-file /var/lib/gantry/agent.token
  gantry agent --master 127.0.0.1:5050 --work-dir /srv/agent --resources 'cpus:2;mem:4096' --attributes 'rack:a'`,
		// Judged with the command line: who starts this again need not try.
		Args: cobra.MatchAll(cobra.NoArgs, func(*cobra.Command, []string) error { return c.Validate() }),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			if err := serve(cmd.Context(), &c, log); err != nil {
				return fmt.Errorf("agent: %w", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&c.Masters, "master", nil, "HOST:PORT of each master, separated by commas")
	flags.StringVar(&c.WorkDir, "work-dir", "", "folder of this agent alone")
	flags.StringVar(&c.Listen, "listen", "127.0.0.1:5051", "HOST:PORT of the agent's API; port 0 means any")
	flags.BoolVar(&c.Insecure, "insecure", false, "listen beyond loopback although nothing authenticates callers yet")
	flags.StringVar(&c.Hostname, "hostname", "", "what others call this machine (default: the host of --listen)")
	flags.StringVar(&c.Resources, "resources", "", "what to offer, as in 'cpus:2;mem:4096;ports:[31000-32000]' (default: what there is)")
	flags.StringVar(&c.Attributes, "attributes", "", "what frameworks can tell this machine by, as in 'rack:a;zone:b'")
	flags.StringVar(&c.TokenFile, "token-file", "", "secret of the master's link (default: agent.token in the work dir)")
	flags.StringVar(&c.FetchRoot, "fetch-root", "", "folder that tasks may fetch files from (default: none)")
	flags.Int64Var(&c.FetchBytes, "fetch-bytes", sandbox.MaxFetchBytes, "how much one task may fetch and unpack")
	flags.StringVar(&c.Keeper, "keeper", "", "path of gantry-keeper (default: beside this program)")
	flags.StringVar(&c.Plugins, "plugins", "", "path of plugins.toml, whose containerizers prepare tasks with images (default: none)")
	flags.StringVar(&c.BinDir, "bin-dir", "", "folder whose plugins/ has the plugins' programs (default: this program's)")
	flags.StringVar(&c.Cgroup, "cgroup", "", "parent of the control groups (default: named after the work dir)")
	flags.DurationVar(&c.GCDelay, "gc-delay", 7*24*time.Hour, "how long the sandbox of a task that ended stays; less when the disk is nearly full")
	flags.BoolVar(&c.KeepTasks, "keep-tasks", false, "leave tasks running when the agent is stopped")
	flags.StringVar(&c.Publish, "publish", "", "file to write the agent's address to when it is ready")
	return cmd
}
