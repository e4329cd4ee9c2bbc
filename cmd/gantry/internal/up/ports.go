package up

import (
	"bufio"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// portRange is a range of the host's ports that a cluster may give to its tasks, both ends included.
type portRange struct{ low, high int }

// usual is the range that agents offer unless they are told otherwise.
var usual = portRange{31000, 32000}

const (
	blockPorts = 200 // in a block of a cluster with ephemeral ports
	firstBlock = 20000
	blocks     = 50 // all below the usual range
)

func (p portRange) String() string { return fmt.Sprintf("[%d-%d]", p.low, p.high) }

// part returns the i-th of n equal parts.
func (p portRange) part(i, n int) portRange {
	size := (p.high - p.low + 1) / n
	return portRange{p.low + i*size, p.low + (i+1)*size - 1}
}

// portsFile has the range of the last start. Tasks that outlive a supervisor hold ports of it, and an agent that had others
// could not hold those tasks.
const portsFile = "ports"

func readPorts(workDir string) (portRange, bool) {
	text, err := os.ReadFile(filepath.Join(workDir, portsFile))
	if err != nil {
		return portRange{}, false
	}
	var r portRange
	n, err := fmt.Sscanf(string(text), "[%d-%d]\n", &r.low, &r.high)
	return r, err == nil && n == 2 && r.low > 1024 && r.low < r.high && r.high < 1<<16
}

func writePorts(workDir string, r portRange) error {
	if last, found := readPorts(workDir); found && last == r {
		return nil
	}
	return replace(workDir, portsFile, fmt.Sprintln(r))
}

// replace writes a file of the work dir at once and for good: tasks must not lose their ports, nor executors their agent, to
// a crash in the middle of a start.
func replace(workDir, name, text string) error {
	path := filepath.Join(workDir, name)
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	dir, err := os.Open(workDir)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// claimPorts finds a range of ports that no other cluster on this host gives out, so that several can run side by
// side. A cluster with well-known ports has the usual range where it is free; others take a block that is chosen by
// the work dir, to be the same at the next start. The claim is a bound UDP socket just below the range: it goes with the
// process, and needs no file that all clusters would share.
func claimPorts(workDir string, ephemeral bool) (portRange, net.PacketConn, error) {
	var candidates []portRange
	if last, found := readPorts(workDir); found {
		candidates = append(candidates, last)
	}
	if !ephemeral {
		candidates = append(candidates, usual)
	}
	hash := fnv.New32a()
	hash.Write([]byte(workDir))
	for i := range blocks {
		low := firstBlock + (int(hash.Sum32()%blocks)+i)%blocks*blockPorts
		candidates = append(candidates, portRange{low + 1, low + blockPorts - 1})
	}
	for _, r := range candidates {
		claim, err := net.ListenPacket("udp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(r.low-1)))
		if err != nil {
			continue
		}
		if err := writePorts(workDir, r); err != nil {
			return portRange{}, nil, errors.Join(fmt.Errorf("remember the ports of tasks: %w", err), claim.Close())
		}
		return r, claim, nil
	}
	return portRange{}, nil, errors.New("every range of ports for tasks is taken by another cluster on this host")
}

// agentResources returns the --resources of agent i of n; empty lets the agent find all by itself. Names that
// are not given are found by the agent.
func agentResources(i, n int, ports portRange) (string, error) {
	text := "ports:" + ports.part(i, n).String()
	if n == 1 {
		if ports == usual {
			return "", nil
		}
		return text, nil
	}
	mem, err := hostMemoryMB()
	if err != nil {
		return "", fmt.Errorf("split the memory between %d agents: %w", n, err)
	}
	cpus := strconv.FormatFloat(float64(runtime.NumCPU()*1000/n)/1000, 'f', -1, 64)
	return fmt.Sprintf("cpus:%s;mem:%d;%s", cpus, offeredMB(mem)/n, text), nil
}

// offeredMB leaves 1 GB to the system, or half of it where there is little.
func offeredMB(total int) int {
	return max(total-1024, total/2)
}

// hostMemoryMB reads how much memory the machine has.
func hostMemoryMB() (int, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, found := strings.CutPrefix(lines.Text(), "MemTotal:"); found {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(rest, "kB")))
			return kib / 1024, err
		}
	}
	return 0, errors.Join(errors.New("/proc/meminfo has no MemTotal"), lines.Err())
}
