package up

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Config is what a person can say about the cluster to start.
type Config struct {
	// WorkDir holds everything that the cluster keeps.
	WorkDir string

	// Listen is HOST:PORT of the master, on loopback. The link is one port below it, the agents are above it, and
	// further masters ten ports below one another; with port 0 every port of the cluster is ephemeral.
	Listen string

	// Masters is how many to start, of which one leads: 1, 3 or 5. It can't be changed later.
	Masters int

	// Agents is how many to start, 1 to maxAgents; the machine's resources are split between them.
	Agents int

	// Plugins is the path of plugins.toml; empty looks in WorkDir and beside the executable.
	Plugins string

	// NoDemo leaves the demo application out.
	NoDemo bool

	// KeepTasks leaves tasks running at the end; the next start finds them.
	KeepTasks bool

	// OfferTimeout is after what time the master takes back offers that nobody answers; zero is never.
	OfferTimeout time.Duration

	// Check has the master verify all its accounts after every step.
	Check bool

	// JSON announces the cluster as one JSON object instead of text.
	JSON bool

	// Executable is the gantry binary, absolute; the keeper, the plugins and the examples are beside it.
	Executable string
}

const maxAgents = 64

// Validate makes paths absolute, fills in what was left out, and refuses what can't work.
func (c *Config) Validate() error {
	if c.Agents < 1 || c.Agents > maxAgents {
		return fmt.Errorf("--agents %d: give 1 to %d", c.Agents, maxAgents)
	}
	if c.OfferTimeout < 0 {
		return fmt.Errorf("--offer-timeout %s: give a time such as 30s, or leave it out for none", c.OfferTimeout)
	}
	if c.Masters != 1 && c.Masters != 3 && c.Masters != 5 {
		return fmt.Errorf("--masters %d: give 1, 3 or 5, so that a majority outlives the loss of none, one or two", c.Masters)
	}
	if _, err := c.listeners(); err != nil {
		return err
	}
	workDir, err := filepath.Abs(c.WorkDir)
	if err != nil {
		return fmt.Errorf("--work-dir %s: %w", c.WorkDir, err)
	}
	c.WorkDir = workDir
	if _, err := os.Stat(c.keeper()); err != nil {
		return fmt.Errorf("%s, which runs the containers, is missing: `make build` makes it", c.keeper())
	}
	return c.findPlugins()
}

func (c *Config) findPlugins() error {
	candidates := []string{c.Plugins}
	if c.Plugins == "" {
		candidates = []string{
			filepath.Join(c.WorkDir, "plugins.toml"),
			filepath.Join(c.binDir(), "plugins.toml"),
			filepath.Join(filepath.Dir(c.binDir()), "plugins.toml"),
		}
	}
	for _, path := range candidates {
		if _, err := os.Stat(path); err == nil {
			c.Plugins, err = filepath.Abs(path)
			return err
		}
	}
	if c.Plugins != "" {
		return fmt.Errorf("--plugins %s: there is no such file", c.Plugins)
	}
	return fmt.Errorf("there is no plugins.toml in %s or beside %s: name one with --plugins", c.WorkDir, c.binDir())
}

func (c *Config) binDir() string { return filepath.Dir(c.Executable) }

func (c *Config) keeper() string { return filepath.Join(c.binDir(), "gantry-keeper") }

func (c *Config) path(elem ...string) string {
	return filepath.Join(append([]string{c.WorkDir}, elem...)...)
}

// ephemeral reports whether every port is to be chosen by the system.
func (c *Config) ephemeral() bool {
	_, port, err := net.SplitHostPort(c.Listen)
	return err == nil && port == "0"
}

// listeners are the addresses that the daemons are told to listen on.
type listeners struct {
	masters []masterPorts
	agents  []string
}

// masterPorts is where one master listens: for clients, for agents, and for the other masters.
type masterPorts struct{ api, link, peer string }

// masterStep is how far apart the ports of masters are.
const masterStep = 10

func (c *Config) listeners() (listeners, error) {
	host, portText, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return listeners{}, fmt.Errorf("--listen %q is not HOST:PORT, such as 127.0.0.1:5050", c.Listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return listeners{}, fmt.Errorf("--listen %s is reachable from other machines, and the API of this version has no authentication: use 127.0.0.1 or [::1]", c.Listen)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	below := 1
	if c.Masters > 1 {
		below = masterStep*(c.Masters-1) + 2
	}
	if err != nil || port != 0 && int(port) <= below || int(port)+c.Agents > 65535 {
		return listeners{}, fmt.Errorf("--listen %s: the port must be 0, or leave room for %d below it and %d above", c.Listen, below, c.Agents)
	}
	at := func(offset int) string {
		if port == 0 {
			return net.JoinHostPort(host, "0")
		}
		return net.JoinHostPort(host, strconv.Itoa(int(port)+offset))
	}
	var l listeners
	for i := range c.Masters {
		first := -masterStep * i
		l.masters = append(l.masters, masterPorts{at(first), at(first - 1), at(first - 2)})
	}
	for i := range c.Agents {
		l.agents = append(l.agents, at(1+i))
	}
	return l, nil
}
