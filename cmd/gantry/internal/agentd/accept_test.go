package agentd

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

// pluginFolder has a layer, a file, and what a plugin may not give.
func pluginFolder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "plugin")
	for _, path := range []string{"layers/a", "layers/b", "../secret"} {
		if err := os.MkdirAll(filepath.Join(dir, path), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"out": "/etc", "up": "../secret", "inside": "layers/b", "layers/loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAccept(t *testing.T) {
	type answer = containerizerpb.PrepareResponse
	mount := func(source, target string) func(*answer) {
		return func(a *answer) { a.Mounts = []*containerizerpb.Mount{{Source: source, Target: target}} }
	}
	layers := func(paths ...string) func(*answer) { return func(a *answer) { a.Layers = paths } }
	for name, test := range map[string]struct {
		change func(*answer)
		want   string // empty: accepted
	}{
		"plain":               {func(*answer) {}, ""},
		"link inside":         {layers("inside"), ""},
		"no layers":           {layers(), "0 layers"},
		"many layers":         {layers(make([]string, 129)...), "129 layers"},
		"empty layer":         {layers(""), "leaves"},
		"the folder itself":   {layers("layers/.."), "leaves"},
		"absolute layer":      {layers("/etc"), "leaves"},
		"layer above":         {layers("../secret"), "leaves"},
		"layer above, hidden": {layers("layers/../../secret"), "leaves"},
		"layer by a link":     {layers("out"), "leads out"},
		"layer by a link up":  {layers("layers/a", "up"), "leads out"},
		"layer by a loop":     {layers("layers/loop"), "layer"},
		"layer that is not":   {layers("layers/c"), "no such file"},
		"layer is a file":     {layers("file"), "no folder"},
		"no program":          {func(a *answer) { a.Argv = nil }, "no program"},
		"empty program":       {func(a *answer) { a.Argv = []string{""} }, "no program"},
		"zero byte":           {func(a *answer) { a.Argv = []string{"a\x00b"} }, "zero byte"},
		"many arguments":      {func(a *answer) { a.Argv = make([]string, 5000) }, "5000 arguments"},
		"long variable":       {func(a *answer) { a.Env = []string{"A=" + strings.Repeat("x", 1<<18)} }, "1 variables of"},
		"nameless variable":   {func(a *answer) { a.Env = []string{"=x"} }, "NAME=value"},
		"relative cwd":        {func(a *answer) { a.Cwd = "tmp" }, "not absolute"},
		"negative user":       {func(a *answer) { a.User = &containerizerpb.User{Uid: 1<<32 - 1} }, "user or group 4294967295"},
		"group":               {func(a *answer) { a.User = &containerizerpb.User{AdditionalGids: []uint32{1 << 31}} }, "user or group"},
		"long digest":         {func(a *answer) { a.Digest = strings.Repeat("x", 129) }, "digest"},
		"own file":            {mount("file", "/module"), ""},
		"programs":            {mount("/usr/bin", "/host/bin"), ""},
		"programs by a link":  {mount("/bin", "/bin"), ""},
		"host's etc":          {mount("/etc", "/etc"), "neither the plugin's"},
		"host's root":         {mount("/", "/host"), "neither the plugin's"},
		"programs and out":    {mount("/usr/../etc/shadow", "/x"), "neither the plugin's"},
		"pipe":                {mount("pipe", "/x"), "neither a file"},
		"link out":            {mount("out/shadow", "/x"), "leads out"},
		"over the root":       {mount("file", "/"), "none of its places"},
		"over proc":           {mount("file", "/proc/1"), "none of its places"},
		"over dev":            {mount("file", "/x/../dev"), "none of its places"},
		"over the sandbox":    {mount("file", "/mnt/mesos/sandbox/x"), "none of its places"},
		"above the sandbox":   {mount("layers/a", "/mnt"), "none of its places"},
		"relative target":     {mount("file", "x"), "none of its places"},
	} {
		t.Run(name, func(t *testing.T) {
			a := &answer{Layers: []string{"layers/a", "layers/b"}, Argv: []string{"/bin/true"}, Env: []string{"A=b"}}
			test.change(a)
			got, err := accept(pluginFolder(t), a)
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			case err == nil && (len(got.layers) != len(a.Layers) || len(got.mounts) != len(a.Mounts)):
				t.Errorf("got %v, %v", got.layers, got.mounts)
			}
		})
	}
}
