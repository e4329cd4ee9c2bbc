package up

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

// peersFile has the addresses at which several masters hear each other. Their store knows them by these, so they are
// the same at every start.
const peersFile = "peers.json"

// masterName also names the master's folder and its log.
func (u *cluster) masterName(i int) string {
	if u.Masters == 1 {
		return "master"
	}
	return fmt.Sprintf("master-%d", i+1)
}

// findPeers remembers or chooses where masters hear each other, and refuses another number of masters than the work
// dir was begun with: their stores would not have the same registry.
func (u *cluster) findPeers() error {
	text, err := os.ReadFile(u.path(peersFile))
	switch {
	case err == nil:
		if err := json.Unmarshal(text, &u.peers); err != nil {
			return fmt.Errorf("read %s: %w", u.path(peersFile), err)
		}
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	begunWith := len(u.peers)
	if _, err := os.Stat(u.path("master")); err == nil {
		begunWith = 1
	}
	switch {
	case begunWith != 0 && begunWith != u.Masters:
		return fmt.Errorf("--masters %d: %s was begun with --masters %d, and the registry is theirs: start with as many, or use another work dir", u.Masters, u.WorkDir, begunWith)
	case u.Masters == 1 || begunWith != 0:
		return nil
	}
	for _, ports := range u.listens.masters {
		peer, err := free(ports.peer)
		if err != nil {
			return err
		}
		u.peers = append(u.peers, peer)
	}
	if text, err = json.Marshal(u.peers); err != nil {
		return err
	}
	return os.WriteFile(u.path(peersFile), append(text, '\n'), 0o644)
}

// free checks that an address can be listened on, and chooses the port if it is 0.
func free(address string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("find where masters hear each other: %w", err)
	}
	return l.Addr().String(), l.Close()
}

func (u *cluster) masterArgs(i int, listen, link string) []string {
	name, cgroup := u.masterName(i), u.cgroup
	if u.Masters > 1 {
		cgroup += "/" + name // each has plugins of its own
	}
	args := []string{
		"master",
		"--work-dir", u.path(name),
		"--listen", listen,
		"--link-listen", link,
		"--plugins", u.Plugins,
		"--bin-dir", u.binDir(),
		"--cgroup", cgroup,
		"--token-file", u.path("agent.token"),
		"--publish", u.path("run", name+".json"),
	}
	if u.Masters > 1 {
		var peers []string
		for j, peer := range u.peers {
			peers = append(peers, u.masterName(j)+"=http://"+peer)
		}
		args = append(args, "--store", "etcd-embedded", "--name", name, "--peers", strings.Join(peers, ","))
	}
	if u.ephemeral() || i > 0 { // the ports of plugins.toml are the first master's, on one machine
		args = append(args, "--ephemeral-plugins")
	}
	if u.OfferTimeout > 0 {
		args = append(args, "--offer-timeout", u.OfferTimeout.String())
	}
	if u.Check {
		args = append(args, "--check")
	}
	return args
}

// startMasters starts them all and returns where their APIs are.
func (u *cluster) startMasters(masters *group) error {
	for i, at := range u.listens.masters {
		c, err := u.newChild(u.masterName(i), u.say)
		if err != nil {
			return err
		}
		c.setArgs(u.masterArgs(i, at.api, at.link))
		u.masters = append(u.masters, c)
		masters.start(c)
	}
	return nil
}

// masterURLs is every master's, for an agent.
func (u *cluster) masterURLs() string {
	var urls []string
	for _, c := range u.masters {
		at, _ := c.published()
		urls = append(urls, "http://"+at.Listen)
	}
	return strings.Join(urls, ",")
}

// leader returns the addresses of the master that was last in office, all masters' APIs, and whether both are known.
func (u *cluster) leader() (leader daemon.Addresses, masters []string, complete bool) {
	complete = len(u.masters) == u.Masters
	var known []daemon.Addresses
	for _, c := range u.masters {
		at, ready := c.published()
		masters, known, complete = append(masters, at.Listen), append(known, at), complete && ready
	}
	if len(known) == 0 {
		return leader, masters, false
	}
	leader = slices.MaxFunc(known, func(a, b daemon.Addresses) int {
		switch {
		case a.Epoch < b.Epoch:
			return -1
		case a.Epoch > b.Epoch:
			return 1
		}
		return 0
	})
	return leader, masters, complete && (u.Masters == 1 || leader.Epoch > 0)
}
