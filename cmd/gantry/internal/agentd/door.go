package agentd

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/auth"
	"github.com/gantry-project/gantry/kernel/failpoint"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// doorkeeper knows the executors that call the agent. All containers share the host's
// network, so an address says nothing: an executor brings the token of its container, or
// is found to hold the calling socket from inside its control group, as executors must
// that were written before there were tokens.
type doorkeeper struct {
	secret  string
	cgroups cgroup.Features
	parent  string // of the containers' groups
}

// openDoor reads the agent's secret, or makes one.
func openDoor(file, parent string) (doorkeeper, error) {
	secret, err := auth.Token(file)
	if err != nil {
		return doorkeeper{}, fmt.Errorf("secret of the executors: %w", err)
	}
	failpoint.Hit("agent.secret.known")
	features, err := cgroup.Probe()
	return doorkeeper{secret: secret, cgroups: features, parent: parent}, err
}

// token is a container's own. It needs no record: it follows from the agent's secret.
func (d doorkeeper) token(container string) string {
	mac := hmac.New(sha256.New, []byte(d.secret))
	mac.Write([]byte(container))
	return hex.EncodeToString(mac.Sum(nil))
}

// Admit is nil if the caller is the container.
func (d doorkeeper) Admit(container string, caller api.ExecutorCaller) error {
	if caller.Token != "" {
		if auth.Check(d.token(container), caller.Token) {
			return nil
		}
		return errors.New("the token is not that of the executor: send the one in MESOS_EXECUTOR_AUTHENTICATION_TOKEN")
	}
	inside, err := d.inside(container, caller)
	if err != nil {
		return fmt.Errorf("the call brings no token, and where it comes from is not known: %w", err)
	}
	if !inside {
		return errors.New("the call does not come from the container of the executor that it names: send the token in MESOS_EXECUTOR_AUTHENTICATION_TOKEN")
	}
	return nil
}

// inside says whether a process of the container holds the caller's end of the connection.
func (d doorkeeper) inside(container string, caller api.ExecutorCaller) (bool, error) {
	socket, err := findSocket(caller)
	if err != nil || socket == "" {
		return false, err
	}
	pids, err := d.cgroups.Members(cgroup.Container(d.parent, container))
	if err != nil {
		return false, err
	}
	for _, pid := range pids {
		dir := filepath.Join("/proc", strconv.Itoa(pid), "fd")
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // it has ended
		}
		for _, entry := range entries {
			if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil && target == socket {
				return true, nil
			}
		}
	}
	return false, nil
}

// findSocket names the caller's end of its connection as /proc/PID/fd does, "socket:[N]",
// or not at all if this host has no such end.
func findSocket(caller api.ExecutorCaller) (string, error) {
	remote, err := netip.ParseAddrPort(caller.Remote)
	if err != nil {
		return "", err
	}
	local, err := netip.ParseAddrPort(caller.Local)
	if err != nil {
		return "", err
	}
	// What is remote for the agent is local for the caller.
	for table, form := range map[string]func(netip.AddrPort) string{"/proc/net/tcp": inet4, "/proc/net/tcp6": inet6} { // any order: one has it
		inode, err := findInode(table, form(remote), form(local))
		if inode != "" || err != nil && !errors.Is(err, os.ErrNotExist) {
			return "socket:[" + inode + "]", err
		}
	}
	return "", nil
}

// findInode looks for a connection in a table of the kernel: the second and third field of
// a line are its ends, the tenth its inode.
func findInode(table, local, remote string) (string, error) {
	f, err := os.Open(table)
	if err != nil {
		return "", err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[1] == local && fields[2] == remote && fields[9] != "0" {
			return fields[9], nil
		}
	}
	return "", lines.Err()
}

// inet4 and inet6 write an address as the kernel's tables do: words of the host's order.
func inet4(a netip.AddrPort) string {
	if !a.Addr().Unmap().Is4() {
		return ""
	}
	b := a.Addr().Unmap().As4()
	return fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(b[:]), a.Port())
}

func inet6(a netip.AddrPort) string {
	b := a.Addr().As16()
	var text strings.Builder
	for i := 0; i < len(b); i += 4 {
		fmt.Fprintf(&text, "%08X", binary.NativeEndian.Uint32(b[i:]))
	}
	return fmt.Sprintf("%s:%04X", text.String(), a.Port())
}

// endpoint is where a container finds the agent's API.
func endpoint(listening net.Addr) string {
	if tcp, ok := listening.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return net.JoinHostPort("127.0.0.1", strconv.Itoa(tcp.Port))
	}
	return listening.String()
}

// Resize sets the limits of a running container; see run.Resizer.
func (c containers) Resize(container string, resources []*mesos.Resource) error {
	return c.door.cgroups.Resize(cgroup.Container(c.cgroup, container), limits(resources))
}
