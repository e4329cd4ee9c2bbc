package agentd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/host"
)

// Config is what `gantry agent` can be told.
type Config struct {
	// Masters are the HTTP addresses of the masters, HOST:PORT or http://HOST:PORT.
	Masters []string
	// WorkDir is the agent's alone. Validate makes it absolute, and so the other paths.
	WorkDir string
	// Listen is HOST:PORT of the agent's API; port 0 means any.
	Listen string
	// Insecure allows to listen beyond loopback.
	Insecure bool
	// Hostname is what masters and frameworks call the host; empty: the host of Listen,
	// or the machine's name where that is not one.
	Hostname string
	// Resources are as in "cpus:2;mem:4096;ports:[31000-32000]"; those that are not named
	// are found out.
	Resources string
	// Attributes are as in "rack:a;zone:b".
	Attributes string
	// TokenFile has the secret of the master's link; empty: WorkDir/agent.token.
	TokenFile string
	// FetchRoot is the folder that tasks may fetch files from; empty: they can't.
	FetchRoot string
	// FetchBytes is how much one task may fetch and unpack; zero: sandbox.MaxFetchBytes.
	FetchBytes int64
	// Keeper is the path of gantry-keeper; empty: beside this program.
	Keeper string
	// Plugins is the path of plugins.toml, of which the agent runs the containerizers; empty: none.
	Plugins string
	// BinDir is the folder whose plugins/ has the plugins' programs; empty: this program's.
	BinDir string
	// Cgroup is the parent of the agent's control groups; empty: named after WorkDir.
	Cgroup string
	// GCDelay is how long the sandbox of a task that ended stays, if there is room.
	GCDelay time.Duration
	// KeepTasks leaves tasks and keeper running when the agent is stopped.
	KeepTasks bool
	// Publish is where the agent says that it is ready, and its address; empty: nowhere.
	Publish string

	// ownCgroup says that the parent group is this agent's to remove.
	ownCgroup bool
	// manifest is the agents' part of what Plugins says.
	manifest host.Manifest
}

// Validate completes the configuration, or says what is wrong with it.
func (c *Config) Validate() error {
	if len(c.Masters) == 0 {
		return errors.New("no master is named: give --master HOST:PORT")
	}
	if c.WorkDir == "" {
		return errors.New("no folder to work in: give --work-dir DIR")
	}
	if err := api.CheckListen(c.Listen, c.Insecure); err != nil {
		return err
	}
	if _, err := c.resources(); err != nil {
		return fmt.Errorf("--resources: %w", err)
	}
	if _, err := parseAttributes(c.Attributes); err != nil {
		return fmt.Errorf("--attributes: %w", err)
	}
	if c.FetchBytes < 0 {
		return fmt.Errorf("--fetch-bytes: %d is no size", c.FetchBytes)
	}
	if c.GCDelay < 0 {
		return fmt.Errorf("--gc-delay: %s is in the past: give a time like 168h", c.GCDelay)
	}
	if err := c.completePaths(); err != nil {
		return err
	}
	if c.Plugins != "" {
		manifest, err := host.Load(c.Plugins)
		if err != nil {
			return err
		}
		c.manifest = manifest.On(host.OnAgent)
	}
	if c.Cgroup == "" {
		c.Cgroup, c.ownCgroup = cgroup.Name(c.WorkDir), true
	}
	if err := cgroup.Check(c.Cgroup); err != nil {
		return fmt.Errorf("--cgroup: %w", err)
	}
	return nil
}

func (c *Config) completePaths() error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find gantry-keeper and the plugins: %w", err)
	}
	if c.Keeper == "" {
		c.Keeper = filepath.Join(filepath.Dir(self), "gantry-keeper")
	}
	if c.BinDir == "" {
		c.BinDir = filepath.Dir(self)
	}
	if _, err := os.Stat(c.Keeper); err != nil {
		return fmt.Errorf("--keeper: %w: build it with make, or say where it is", err)
	}
	if c.TokenFile == "" {
		c.TokenFile = filepath.Join(c.WorkDir, "agent.token")
	}
	for _, path := range []*string{&c.WorkDir, &c.TokenFile, &c.FetchRoot, &c.Keeper, &c.BinDir, &c.Plugins} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("path %s: %w", *path, err)
		}
		*path = absolute
	}
	return nil
}

func (c *Config) path(elements ...string) string {
	return filepath.Join(append([]string{c.WorkDir}, elements...)...)
}

// hostname is what the host is called, given the address that the API listens on.
func (c *Config) hostname(listening net.Addr) (string, error) {
	if c.Hostname != "" {
		return c.Hostname, nil
	}
	if tcp, ok := listening.(*net.TCPAddr); ok && !tcp.IP.IsUnspecified() {
		return tcp.IP.String(), nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the host's name: %w: give --hostname", err)
	}
	return name, nil
}
