package masterd

import (
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
)

const help = `Keeps the accounts of a cluster: agents offer it machines, schedulers ask it for resources.

Schedulers speak HTTP at --listen (POST /api/v1/scheduler), operators at POST /api/v1, agents dial
--link-listen with the secret of --token-file. Who is offered what is decided by the allocator of
plugins.toml; frameworks of plugins.toml run beside it. What must outlive the master is in its work dir;
tasks do not depend on it.

Of several masters with a store in common one leads. The others redirect schedulers, operators and agents
to it, forward what comes for its plugins, and take over when it is gone.`

// Command returns `gantry master`.
func Command() *cobra.Command {
	var c Config
	cmd := &cobra.Command{
		Use:   "master --work-dir DIR",
		Short: "Run a master: it keeps the accounts of a cluster",
		Long:  help,
		Example: `  gantry master --work-dir /var/lib/gantry/master --plugins plugins.toml
  gantry master --work-dir /srv/master --listen 127.0.0.1:6050 --link-listen 127.0.0.1:6049 --plugins plugins.toml
  gantry master --work-dir /srv/a --store etcd-embedded --name a --peers a=http://127.0.0.1:5048,b=http://127.0.0.1:6048,c=http://127.0.0.1:7048`,
		// Judged with the command line: who starts this again need not try.
		Args: cobra.MatchAll(cobra.NoArgs, func(*cobra.Command, []string) error { return c.Validate() }),
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			if err := serve(cmd.Context(), &c, log); err != nil {
				return fmt.Errorf("master: %w", err)
			}
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&c.WorkDir, "work-dir", "", "folder of this master alone")
	flags.StringVar(&c.Listen, "listen", "127.0.0.1:5050", "HOST:PORT of the API; port 0 means any")
	flags.StringVar(&c.LinkListen, "link-listen", "127.0.0.1:5049", "HOST:PORT that agents dial; port 0 means any")
	flags.BoolVar(&c.Insecure, "insecure", false, "listen beyond loopback although nothing authenticates callers yet")
	flags.StringSliceVar(&c.Hosts, "allow-host", nil, "further names that clients may call this machine by")
	flags.StringVar(&c.Plugins, "plugins", "", "path of plugins.toml (default: no plugins, so no offers)")
	flags.StringVar(&c.BinDir, "bin-dir", "", "folder whose plugins/ has the plugins' programs (default: this program's)")
	flags.StringVar(&c.Store, "store", "bolt", "where the registry is: bolt (a file), or for several masters etcd-embedded or etcd://HOST:PORT,...")
	flags.StringVar(&c.Name, "name", "", "this master's name among --peers")
	flags.StringToStringVar(&c.Peers, "peers", nil, "every master's NAME=URL for the embedded etcd, such as a=http://127.0.0.1:5048; loopback only")
	flags.BoolVar(&c.EphemeralPlugins, "ephemeral-plugins", false, "plugins listen on any free port instead of those of plugins.toml")
	flags.StringVar(&c.TokenFile, "token-file", "", "secret that agents must know; made if missing (default: agent.token in the work dir)")
	flags.StringVar(&c.Cgroup, "cgroup", "", "parent of the plugins' control groups (default: named after the work dir)")
	flags.StringVar(&c.Publish, "publish", "", "file to write the master's addresses to when it is ready")
	flags.DurationVar(&c.OfferTimeout, "offer-timeout", 0, "take back offers that a scheduler neither uses nor declines for so long (default: never)")
	flags.BoolVar(&c.Check, "check", false, "verify all accounts after every step and stop if one is wrong; slow in large clusters")
	return cmd
}
