package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func TestPercentileIsByNearestRank(t *testing.T) {
	var all []time.Duration
	for i := 200; i > 0; i-- {
		all = append(all, time.Duration(i)*time.Millisecond)
	}
	for percent, want := range map[int]float64{50: 100, 90: 180, 99: 198, 100: 200} {
		if got := percentile(all, percent); got != want {
			t.Errorf("percentile %d is %v, want %v", percent, got, want)
		}
	}
	if got := percentile(all[:1], 50); got != 200 {
		t.Errorf("of one: %v", got)
	}
	if got := percentile(nil, 99); got != 0 {
		t.Errorf("of none: %v", got)
	}
}

func TestFits(t *testing.T) {
	d := &driver{load: load{cpus: 0.1, memMB: 32}}
	offer := func(cpus, mem float64) *mesos.Offer {
		scalar := func(name string, value float64) *mesos.Resource {
			return &mesos.Resource{
				Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(value)},
			}
		}
		return &mesos.Offer{Resources: []*mesos.Resource{scalar("cpus", cpus), scalar("mem", mem)}}
	}
	for _, tc := range []struct {
		cpus, mem float64
		want      int
	}{{2, 4096, 20}, {0.3, 4096, 3}, {2, 64, 2}, {0.09, 4096, 0}, {2, 31, 0}} {
		if got := d.fits(offer(tc.cpus, tc.mem)); got != tc.want {
			t.Errorf("%v cpus and %v MB have room for %d, want %d", tc.cpus, tc.mem, got, tc.want)
		}
	}
	if got := d.fits(new(mesos.Offer)); got != 0 {
		t.Errorf("an empty offer has room for %d", got)
	}
}

func TestName(t *testing.T) {
	for want, tc := range map[string]struct {
		args   []string
		cgroup string
	}{
		"master":   {[]string{"/x/gantry", "master", "--listen"}, "4:cpu:/\n"},
		"keeper":   {[]string{"gantry-keeper", "--part", "keeper"}, "4:cpu:/gantry-00000000/keeper\n"},
		"marathon": {[]string{"/x/abc"}, "4:cpu:/gantry-00000000/plugins/marathon\n3:pids:/\n"},
		"alone":    {[]string{"alone"}, ""},
	} {
		if got := name(tc.args, tc.cgroup); got != want {
			t.Errorf("name of %v in %q is %q", tc.args, tc.cgroup, got)
		}
	}
}

// Where no plugins.toml is beside the binary, the one that is named gets to the cluster.
func TestPluginsAreThoseOfTheCluster(t *testing.T) {
	program := filepath.Join(t.TempDir(), "gantry")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"$@\" >&2\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, plugins := range []string{"", "some/plugins.toml"} {
		cmd := launchCommand()
		if err := cmd.ParseFlags([]string{"--plugins", plugins}); err != nil {
			t.Fatal(err)
		}
		l := Launch{Executable: program, Plugins: cmd.Flag("plugins").Value.String()}
		_, err := l.Run(t.Context(), func(string, ...any) {})
		named := strings.Contains(fmt.Sprint(err), "--plugins "+plugins)
		if err == nil || named != (plugins != "") {
			t.Errorf("with --plugins %q the cluster was started so: %v", plugins, err)
		}
	}
}
