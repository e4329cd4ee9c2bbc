package agentd

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/ledger"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const (
	// The host keeps reservedMemMB and reservedDiskMB for itself, but at most half.
	reservedMemMB, reservedDiskMB = 1024, 5 * 1024
	usualPorts                    = "[31000-32000]"
)

// resources are those that the operator named, and what the host has of the others.
func (c *Config) resources() ([]*mesos.Resource, error) {
	named, err := ledger.Parse(c.Resources)
	if err != nil {
		return nil, err
	}
	given := map[string]bool{}
	for r := range named.All() {
		given[r.Name] = true
	}
	found, err := c.detect(given)
	if err != nil {
		return nil, err
	}
	return named.Plus(found).Mesos(""), nil
}

// detect finds what the host has of the usual resources that are not given.
func (c *Config) detect(given map[string]bool) (ledger.Resources, error) {
	var text []string
	for _, usual := range []struct {
		name  string
		probe func() (string, error)
	}{
		{"cpus", func() (string, error) { return strconv.Itoa(runtime.NumCPU()), nil }},
		{"mem", memory},
		{"disk", c.disk},
		{"ports", func() (string, error) { return usualPorts, nil }},
	} {
		if given[usual.name] {
			continue
		}
		amount, err := usual.probe()
		if err != nil {
			return ledger.Resources{}, fmt.Errorf("find out how much %s there is: %w: name it in --resources", usual.name, err)
		}
		text = append(text, usual.name+":"+amount)
	}
	return ledger.Parse(strings.Join(text, ";"))
}

func memory() (string, error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(rest, "kB")))
			return strconv.Itoa(max(kib/1024-reservedMemMB, kib/1024/2)), err
		}
	}
	return "", errors.New("/proc/meminfo has no MemTotal")
}

// disk measures the filesystem of the work dir, which need not exist yet.
func (c *Config) disk() (string, error) {
	dir, err := filepath.Abs(c.WorkDir)
	if err != nil {
		return "", err
	}
	var fs syscall.Statfs_t
	for err = syscall.Statfs(dir, &fs); errors.Is(err, syscall.ENOENT) && dir != "/"; err = syscall.Statfs(dir, &fs) {
		dir = filepath.Dir(dir)
	}
	if err != nil {
		return "", err
	}
	total := int(fs.Blocks * uint64(fs.Bsize) >> 20)
	return strconv.Itoa(max(total-reservedDiskMB, total/2)), nil
}

// parseAttributes reads "rack:a;cores:8;span:[1-5]".
func parseAttributes(text string) ([]*mesos.Attribute, error) {
	var list []*mesos.Attribute
	for part := range strings.SplitSeq(text, ";") {
		part = strings.TrimSpace(part)
		if part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, ":")
		name, value = strings.TrimSpace(name), strings.TrimSpace(value)
		if !ok || name == "" || value == "" {
			return nil, fmt.Errorf("%q is no attribute: write NAME:VALUE, as in rack:a", part)
		}
		a, err := attribute(name, value)
		if err != nil {
			return nil, fmt.Errorf("attribute %q: %w", part, err)
		}
		list = append(list, a)
	}
	return list, nil
}

// attribute is a number, ranges or a text, as its value looks. Numbers and ranges are
// written as those of resources are.
func attribute(name, value string) (*mesos.Attribute, error) {
	_, err := strconv.ParseFloat(value, 64)
	if err != nil && !strings.HasPrefix(value, "[") {
		return &mesos.Attribute{
			Name: &name, Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: proto.String(value)},
		}, nil
	}
	read, err := ledger.Parse(name + ":" + value)
	if err != nil {
		return nil, err
	}
	a := &mesos.Attribute{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(0)}}
	for _, r := range read.Mesos("") { // one, or none for zero
		a.Type, a.Scalar, a.Ranges = r.Type, r.Scalar, r.Ranges
	}
	return a, nil
}

// bootID names the host's current boot.
func bootID() (string, error) {
	text, err := os.ReadFile(failpoint.Path("/proc/sys/kernel/random/boot_id"))
	if err != nil {
		return "", fmt.Errorf("find the boot id: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}
