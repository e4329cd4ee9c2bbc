package masterd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/host"
	"github.com/gantry-project/gantry/kernel/store/etcd/member"
)

// Config is what `gantry master` can be told.
type Config struct {
	// WorkDir is the master's alone. Validate makes it absolute, and so the other paths.
	WorkDir string
	// Listen is HOST:PORT of the API; port 0 means any.
	Listen string
	// LinkListen is HOST:PORT that agents dial; port 0 means any.
	LinkListen string
	// Insecure allows both to listen beyond loopback.
	Insecure bool
	// Hosts are further names, without port, that a request's Host may have.
	Hosts []string
	// Plugins is the path of plugins.toml; empty: no plugins.
	Plugins string
	// BinDir is the folder whose plugins/ has the plugins' programs; empty: this program's.
	BinDir string
	// EphemeralPlugins lets plugins listen on any free port.
	EphemeralPlugins bool
	// TokenFile has the secret that agents must know; empty: WorkDir/agent.token.
	TokenFile string
	// Cgroup is the parent of the plugins' control groups; empty: named after WorkDir.
	Cgroup string
	// Publish is where the master says that it is ready, and its addresses; empty: nowhere.
	Publish string
	// Store is "bolt", for a master alone; "etcd-embedded", or "etcd://HOST:PORT,...", for several.
	Store string
	// Name is this master's among Peers, the URLs at which embedded members hear each other.
	Name  string
	Peers map[string]string
	// OfferTimeout rescinds offers that nobody answers; zero: never.
	OfferTimeout time.Duration
	// Check verifies the machine's invariants after every step.
	Check bool

	// manifest is what Plugins says.
	manifest host.Manifest
	// endpoints are those of an etcd that runs by itself.
	endpoints []string
}

// What is in the work dir, by store.
const (
	boltFile  = "master.db"
	memberDir = "etcd"
)

// several says that there may be other masters.
func (c *Config) several() bool { return c.Store != "bolt" }

// checkStore understands --store, --name and --peers.
func (c *Config) checkStore() error {
	hosts, external := strings.CutPrefix(c.Store, "etcd://")
	if c.Store != "etcd-embedded" && (c.Name != "" || len(c.Peers) > 0) {
		return fmt.Errorf("--name and --peers are for --store etcd-embedded, and this is --store %s", c.Store)
	}
	switch {
	case c.Store == "etcd-embedded":
		if err := (member.Config{Name: c.Name, Peers: c.Peers}).Validate(); err != nil {
			return fmt.Errorf("--name and --peers: %w", err)
		}
	case external:
		for host := range strings.SplitSeq(hosts, ",") {
			name, port, err := net.SplitHostPort(host)
			if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || name == "" {
				return fmt.Errorf("--store %s: %q is not HOST:PORT: give etcd://HOST:PORT, further ones after commas", c.Store, host)
			}
			c.endpoints = append(c.endpoints, host)
		}
	case c.Store != "bolt":
		return fmt.Errorf("--store %q: give bolt, etcd-embedded or etcd://HOST:PORT", c.Store)
	}
	return c.checkLeftovers()
}

// checkLeftovers refuses a work dir whose registry is in another store: it would be forgotten.
func (c *Config) checkLeftovers() error {
	for file, store := range map[string]string{boltFile: "bolt", memberDir: "etcd-embedded"} {
		if _, err := os.Stat(filepath.Join(c.WorkDir, file)); err == nil && c.Store != store {
			return fmt.Errorf("the registry in %s was written with --store %s: go on with that, or use another work dir", filepath.Join(c.WorkDir, file), store)
		}
	}
	return nil
}

// Validate completes the configuration, or says what is wrong with it.
func (c *Config) Validate() error {
	if c.WorkDir == "" {
		return errors.New("no folder to work in: give --work-dir DIR")
	}
	if err := c.checkStore(); err != nil {
		return err
	}
	if c.OfferTimeout < 0 {
		return fmt.Errorf("--offer-timeout %s: give a time such as 30s, or leave it out for none", c.OfferTimeout)
	}
	for _, addr := range []string{c.Listen, c.LinkListen} {
		if err := api.CheckListen(addr, c.Insecure); err != nil {
			return err
		}
	}
	if c.BinDir == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find the plugins' programs: %w: give --bin-dir", err)
		}
		c.BinDir = filepath.Dir(self)
	}
	if c.TokenFile == "" {
		c.TokenFile = filepath.Join(c.WorkDir, "agent.token")
	}
	for _, path := range []*string{&c.WorkDir, &c.TokenFile, &c.BinDir, &c.Plugins} {
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("path %s: %w", *path, err)
		}
		*path = absolute
	}
	if c.Plugins != "" {
		var err error
		if c.manifest, err = host.Load(c.Plugins); err != nil {
			return err
		}
	}
	if c.Cgroup == "" {
		c.Cgroup = cgroup.Name(c.WorkDir)
	}
	if err := cgroup.Check(c.Cgroup); err != nil {
		return fmt.Errorf("--cgroup: %w", err)
	}
	return nil
}
