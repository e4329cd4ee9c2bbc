package agentd

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/isolators/meter"
	"github.com/gantry-project/gantry/kernel/node"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func launch(command *mesos.CommandInfo) node.Launch {
	return node.Launch{
		Container: "c1-1",
		Sandbox:   "slaves/A/frameworks/F/executors/T/runs/c1-1",
		Framework: &mesos.FrameworkInfo{User: proto.String(""), Name: proto.String("f"), Id: &mesos.FrameworkID{Value: proto.String("F")}},
		Task: &mesos.TaskInfo{
			Name: proto.String("t"), TaskId: &mesos.TaskID{Value: proto.String("T")}, AgentId: &mesos.AgentID{Value: proto.String("A")},
			Command: command,
			Resources: []*mesos.Resource{
				{Name: proto.String("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(0.25)}},
				{Name: proto.String("cpus"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(0.25)}},
				{Name: proto.String("mem"), Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: proto.Float64(64)}},
			},
		},
	}
}

func TestArgv(t *testing.T) {
	for _, c := range []struct {
		command *mesos.CommandInfo
		want    []string
	}{
		{&mesos.CommandInfo{Value: proto.String("echo $X")}, []string{"/bin/sh", "-c", "echo $X"}},
		{&mesos.CommandInfo{Shell: proto.Bool(false), Value: proto.String("/bin/echo")}, []string{"/bin/echo"}},
		{&mesos.CommandInfo{Shell: proto.Bool(false), Value: proto.String("/bin/echo"), Arguments: []string{"echo"}}, []string{"/bin/echo"}},
		{&mesos.CommandInfo{Shell: proto.Bool(false), Value: proto.String("/bin/echo"), Arguments: []string{"echo", "a b", "c"}}, []string{"/bin/echo", "a b", "c"}},
	} {
		if got := argv(c.command); !slices.Equal(got, c.want) {
			t.Errorf("%v: got %q, want %q", c.command, got, c.want)
		}
	}
}

func TestSpec(t *testing.T) {
	l := launch(&mesos.CommandInfo{
		Value: proto.String("true"),
		Environment: &mesos.Environment{Variables: []*mesos.Environment_Variable{
			{Name: proto.String("A"), Value: proto.String("1")},
			{Name: proto.String("PATH"), Value: proto.String("/bin")},
			{Name: proto.String("A"), Value: proto.String("2")},
		}},
	})
	spec := containers{cgroup: "/gantry-00000000"}.specOf(l, "/work/box")
	if err := become(spec, "root"); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"A=2", "PATH=/bin", "MESOS_SANDBOX=/mnt/mesos/sandbox", "MESOS_TASK_ID=T", "MESOS_FRAMEWORK_ID=F"} {
		if !slices.Contains(spec.Env, want) {
			t.Errorf("%q is not in %q", want, spec.Env)
		}
	}
	if slices.Contains(spec.Env, "A=1") || slices.Contains(spec.Env, "PATH="+defaultPath) {
		t.Errorf("a variable is set twice: %q", spec.Env)
	}
	if l := spec.Limits; l.CpuMilli != 500 || l.CpuQuotaMilli != 500 || l.MemoryBytes != 64<<20 || l.Pids != 1024 {
		t.Errorf("limits are %v", l)
	}
	if spec.Uid != 0 || len(spec.Capabilities) == 0 || slices.Contains(spec.Capabilities, "CAP_SYS_ADMIN") {
		t.Errorf("runs as %d with %v", spec.Uid, spec.Capabilities)
	}
	if spec.Cgroup != "/gantry-00000000/containers/c1-1" || spec.StdoutPath != "/work/box/stdout" {
		t.Errorf("got %v", spec)
	}
}

func TestUser(t *testing.T) {
	l := launch(&mesos.CommandInfo{Value: proto.String("true")})
	l.Framework.User = proto.String("nobody")
	spec := &containerpb.Spec{}
	if err := become(spec, userOf(l, containers{}.programOf(l))); err != nil {
		t.Fatal(err)
	}
	if spec.Uid == 0 || spec.Gid == 0 || len(spec.Capabilities) != 0 {
		t.Errorf("nobody is %d:%d with %v", spec.Uid, spec.Gid, spec.Capabilities)
	}
	l.Task.Command.User = proto.String("nobody-of-this-name")
	if err := become(spec, userOf(l, containers{}.programOf(l))); err == nil || !strings.Contains(err.Error(), "nobody-of-this-name") {
		t.Errorf("an unknown user: %v", err)
	}
}

func TestResources(t *testing.T) {
	cfg := Config{WorkDir: filepath.Join(t.TempDir(), "not", "there"), Resources: "cpus:2;ports:[100-200]"}
	list, err := cfg.resources()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]*mesos.Resource{}
	for _, r := range list {
		got[r.GetName()] = r
	}
	if got["cpus"].GetScalar().GetValue() != 2 || got["ports"].GetRanges().GetRange()[0].GetEnd() != 200 {
		t.Errorf("what was named was not taken: %v", list)
	}
	if got["mem"].GetScalar().GetValue() <= 0 || got["disk"].GetScalar().GetValue() <= 0 {
		t.Errorf("what was not named was not found: %v", list)
	}
	cfg.Resources = "cpus"
	if _, err := cfg.resources(); err == nil {
		t.Error("no error for resources without an amount")
	}
}

func TestAttributes(t *testing.T) {
	list, err := parseAttributes(" rack:a b ; cores:8; span:[1-5,7-9];nothing:0;")
	if err != nil || len(list) != 4 {
		t.Fatal(list, err)
	}
	if list[0].GetText().GetValue() != "a b" || list[1].GetScalar().GetValue() != 8 || len(list[2].GetRanges().GetRange()) != 2 || list[3].GetType() != mesos.Value_SCALAR {
		t.Errorf("got %v", list)
	}
	for _, bad := range []string{"rack", ":a", "rack:", "span:[5-1]"} {
		if _, err := parseAttributes(bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}

func TestValidate(t *testing.T) {
	keeper := filepath.Join(t.TempDir(), "gantry-keeper")
	if err := os.WriteFile(keeper, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	good := func() Config {
		return Config{Masters: []string{"127.0.0.1:5050"}, WorkDir: t.TempDir(), Listen: "127.0.0.1:0", Keeper: keeper}
	}
	cfg := good()
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	if !cfg.ownCgroup || cfg.TokenFile != filepath.Join(cfg.WorkDir, "agent.token") {
		t.Errorf("not completed: %+v", cfg)
	}
	for _, c := range []struct {
		spoil func(*Config)
		says  string
	}{
		{func(c *Config) { c.Masters = nil }, "--master"},
		{func(c *Config) { c.WorkDir = "" }, "--work-dir"},
		{func(c *Config) { c.Listen = "0.0.0.0:5051" }, "--insecure"},
		{func(c *Config) { c.Resources = "cpus:many" }, "--resources"},
		{func(c *Config) { c.Attributes = "rack" }, "--attributes"},
		{func(c *Config) { c.GCDelay = -1 }, "--gc-delay"},
		{func(c *Config) { c.Keeper = "/no/such/keeper" }, "--keeper"},
		{func(c *Config) { c.Cgroup = "/system.slice" }, "--cgroup"},
	} {
		cfg := good()
		c.spoil(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("got %v; want %s named", err, c.says)
		}
	}
}

func TestHostname(t *testing.T) {
	for _, c := range []struct{ given, listen, want string }{
		{"", "127.0.0.1:5051", "127.0.0.1"},
		{"node7", "127.0.0.1:5051", "node7"},
	} {
		addr, err := net.ResolveTCPAddr("tcp", c.listen)
		if err != nil {
			t.Fatal(err)
		}
		cfg := Config{Hostname: c.given}
		if got, err := cfg.hostname(addr); got != c.want || err != nil {
			t.Errorf("%+v: got %q, %v", c, got, err)
		}
	}
}

// What a task brings into its sandbox, and what is left after it.
func TestPrepareAndCleanUp(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("sandboxes are given to their users, which takes root")
	}
	dir, from := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "hello"), []byte("hi"), 0o644); err != nil {
		t.Fatal(err)
	}
	features, err := cgroup.Probe()
	if err != nil {
		t.Fatal(err)
	}
	parent := cgroup.Name(dir)
	t.Cleanup(func() {
		if err := cgroup.Remove(context.Background(), parent); err != nil {
			t.Error(err)
		}
	})
	measure := func() *gauge {
		return &gauge{meter: meter.Files(features), parent: parent, log: slog.New(slog.NewTextHandler(t.Output(), nil))}
	}
	c := containers{workDir: dir, fetchRoot: from, cgroup: parent, gauge: measure(), images: new(images)}
	l := launch(&mesos.CommandInfo{
		Value: proto.String("cat hello"),
		Uris:  []*mesos.CommandInfo_URI{{Value: proto.String("file://" + from + "/hello")}},
	})
	spec, err := c.Prepare(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	hello := filepath.Join(dir, l.Sandbox, "hello")
	if text, err := os.ReadFile(hello); err != nil || string(text) != "hi" {
		t.Errorf("the sandbox holds %q, %v", text, err)
	}
	if info, err := os.Stat(spec.Rootfs); err != nil || !info.IsDir() || len(spec.Mounts) == 0 {
		t.Errorf("no root filesystem: %v", err)
	}
	if c.old, err = c.list(); err != nil || !slices.Equal(c.old, []string{"c1-1"}) || !c.live("c1-1") {
		t.Fatal(c.old, err)
	}
	if _, err := c.gauge.Sample("c1-1", time.Now()); errors.Is(err, meter.ErrUntracked) {
		t.Error(err)
	}
	c.gauge = measure() // of the next agent
	if err := c.Retain(t.Context(), map[string]bool{"c1-1": true}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.gauge.Sample("c1-1", time.Now()); errors.Is(err, meter.ErrUntracked) {
		t.Errorf("after a restart: %v", err)
	}
	if _, err := os.Stat(spec.Rootfs); err != nil {
		t.Errorf("what was to be kept is gone: %v", err)
	}
	box, long := filepath.Join(dir, l.Sandbox), time.Unix(1, 0)
	if err := os.Chtimes(box, long, long); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Cleanup(context.Background(), "c1-1"); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(box); err != nil || info.ModTime().Equal(long) || c.live("c1-1") {
		t.Errorf("when the container ended is not noted: %v, %v", info, err)
	}
	if _, err := c.gauge.Sample("c1-1", time.Now()); !errors.Is(err, meter.ErrUntracked) || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a container that ended is measured: %v", err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "containers")); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if _, err := os.Stat(hello); err != nil {
		t.Errorf("the sandbox is gone: %v", err)
	}
	l.Task.MaxCompletionTime = &mesos.DurationInfo{Nanoseconds: proto.Int64(1)}
	if _, err := c.Prepare(t.Context(), l); err == nil {
		t.Error("what is not supported was prepared")
	}
}
