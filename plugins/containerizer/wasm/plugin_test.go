package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// code is the smallest command; with a number it is another one that does the same.
func code(number int) []byte {
	note := fmt.Sprintf("\x04note%04d", number)
	return append([]byte("\x00asm\x01\x00\x00\x00\x01\x04\x01\x60\x00\x00\x03\x02\x01\x00\x05\x03\x01\x00\x02"+
		"\x07\x13\x02\x06_start\x00\x00\x06memory\x02\x00\x0a\x04\x01\x02\x00\x0b\x00"), append([]byte{byte(len(note))}, note...)...)
}

// runner is the built runner.
var runner = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gantry-wasm-run-")
	if err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-o", dir+"/run", "./wasm-run")
	build.Env, build.Stderr = append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	return dir + "/run", build.Run()
})

func TestMain(m *testing.M) {
	status := m.Run()
	if path, err := runner(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(status)
}

// start opens the plugin in folder, where it may have been before.
func start(t *testing.T, folder, config string, living ...string) *plugin {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("GANTRY_REQUIRE_ROOT") != "" {
			t.Fatal("GANTRY_REQUIRE_ROOT is set, and this is not root")
		}
		t.Skip("only root can compile as somebody else")
	}
	path, err := runner()
	if err != nil {
		t.Fatal(err)
	}
	p, err := open(&containerizerpb.OpenRequest{Folder: folder, ConfigJson: []byte(config), Containers: living}, path, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// request is that of a task whose sandbox holds files.
func request(t *testing.T, container string, files map[string][]byte) *containerizerpb.PrepareRequest {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return &containerizerpb.PrepareRequest{
		Container: container, Kind: "wasm", Image: "wasm:/m.wasm", Sandbox: "/mnt/box", SandboxFolder: dir,
		Command: &mesos.CommandInfo{Shell: new(false), Arguments: []string{"-x", "y z"}},
		Limits:  &containerpb.Limits{MemoryBytes: 32 << 20},
	}
}

func (p *plugin) names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(p.store.path(dir))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func TestPrepare(t *testing.T) {
	folder := t.TempDir()
	p := start(t, folder, "")
	answer, err := p.Prepare(t.Context(), request(t, "c1", map[string][]byte{"m.wasm": code(1)}))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/wasm-run", "-pages", "350", "-root", "/mnt/box", "-cache", "/cache", "/module.wasm", "m.wasm", "-x", "y z"}; !slices.Equal(answer.Argv, want) &&
		!slices.Equal(slices.Concat(answer.Argv[:2], answer.Argv[3:]), slices.Concat(want[:2], want[3:])) {
		t.Errorf("it runs %q", answer.Argv)
	}
	if u := answer.User; u.GetUid() != nobody || u.GetGid() != nobody || len(u.GetAdditionalGids()) > 0 || !answer.ReadOnly || len(answer.Mounts) > 0 {
		t.Error(answer)
	}
	if len(answer.Layers) != 2 || !strings.HasPrefix(answer.Digest, "sha256:") {
		t.Fatal(answer)
	}
	top := filepath.Join(folder, answer.Layers[0])
	if text, err := os.ReadFile(filepath.Join(top, "module.wasm")); err != nil || !bytes.Equal(text, code(1)) {
		t.Errorf("the module is %q, %v", text, err)
	}
	// Whoever runs a module can read it and its machine code, and nobody can change that.
	var found int
	for _, layer := range answer.Layers {
		err := filepath.WalkDir(filepath.Join(folder, layer), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			found++
			stat := info.Sys().(*syscall.Stat_t)
			if stat.Uid != 0 || stat.Gid != 0 || info.Mode().Perm()&0o222 != 0 && !d.IsDir() || info.Mode().Perm()&0o022 != 0 || info.Mode().Perm()&0o004 == 0 {
				t.Errorf("%s: %s of %d:%d", path, info.Mode(), stat.Uid, stat.Gid)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	if found != 7 { // two layers, the runner, the module, and one file in two folders
		t.Errorf("%d files", found)
	}

	// Again, by another plugin, and by a module that interprets: it is compiled no more.
	stored := p.names(t, modulesDir)
	before, err := os.Stat(filepath.Join(top, "module.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	p = start(t, folder, `{"interpret": true}`, "c1")
	again, err := p.Prepare(t.Context(), request(t, "c2", map[string][]byte{"m.wasm": code(1)}))
	if err != nil || !slices.Equal(again.Layers, answer.Layers) || !slices.Contains(again.Argv, "-interpret") {
		t.Errorf("%v, %v", again, err)
	}
	if after, err := os.Stat(filepath.Join(top, "module.wasm")); err != nil || !os.SameFile(before, after) {
		t.Error("it was made again", err)
	}
	if got := p.names(t, heldDir); !slices.Equal(got, []string{"c1", "c2"}) || !slices.Equal(p.names(t, modulesDir), stored) {
		t.Error(got)
	}
	for range 2 {
		if err := p.Cleanup(t.Context(), "c1"); err != nil {
			t.Error(err)
		}
	}
	// One that does not live any more is forgotten at the next start, and so is a runner that nobody has.
	mustDo(t, os.Mkdir(p.store.path(runnersDir, strings.Repeat("0", 64)), 0o755))
	mustDo(t, os.Mkdir(p.store.path(runnersDir, strings.Repeat("1", 64)), 0o755))
	mustDo(t, p.store.hold("c3", strings.Repeat("7", 64)+ofRunner(strings.Repeat("1", 64))))
	p = start(t, folder, "", "c3")
	if got := p.names(t, runnersDir); len(got) != 2 || slices.Contains(got, strings.Repeat("0", 64)) {
		t.Error(got)
	}
	p = start(t, folder, "")
	if got := p.names(t, heldDir); len(got) > 0 {
		t.Error(got)
	}
	if got := p.names(t, begunDir); len(got) > 0 {
		t.Error(got)
	}
}

func TestRefusals(t *testing.T) {
	p := start(t, t.TempDir(), `{"max_module_mb": 1}`)
	secret := filepath.Join(t.TempDir(), "secret.wasm")
	if err := os.WriteFile(secret, code(7), 0o644); err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		change func(r *containerizerpb.PrepareRequest)
		text   []byte
		want   string
	}{
		"shell":       {func(r *containerizerpb.PrepareRequest) { r.Command = &mesos.CommandInfo{Value: new("ls")} }, code(1), "set 'shell' to false"},
		"value":       {func(r *containerizerpb.PrepareRequest) { r.Command.Value = new("ls") }, code(1), "leave the command's 'value' out"},
		"root":        {func(r *containerizerpb.PrepareRequest) { r.Command.User = new("root") }, code(1), `not as "root"`},
		"other kind":  {func(r *containerizerpb.PrepareRequest) { r.Kind = "oci" }, code(1), `"oci" are not for this plugin`},
		"no file":     {func(r *containerizerpb.PrepareRequest) { r.Image = "wasm:/" }, code(1), "names no file"},
		"not fetched": {func(r *containerizerpb.PrepareRequest) { r.Image = "wasm:/n.wasm" }, code(1), "have one of the command's uris fetch it"},
		"dots":        {func(r *containerizerpb.PrepareRequest) { r.Image = "wasm:/../.." + secret }, code(1), "there is no "},
		"folder": {func(r *containerizerpb.PrepareRequest) {
			mustDo(t, os.Mkdir(r.SandboxFolder+"/d", 0o755))
			r.Image = "wasm:/d"
		}, code(1), "is no file"},
		"link out": {func(r *containerizerpb.PrepareRequest) {
			mustDo(t, os.Symlink(secret, r.SandboxFolder+"/l"))
			r.Image = "wasm:/l"
		}, code(1), "open the module"},
		"pipe": {func(r *containerizerpb.PrepareRequest) {
			mustDo(t, syscall.Mkfifo(r.SandboxFolder+"/p", 0o644))
			r.Image = "wasm:/p"
		}, code(1), "is no file"},
		"garbage":      {nil, []byte("garbage"), "this is no WASM module"},
		"cut off":      {nil, code(1)[:30], "this is no WASM module"},
		"large":        {nil, make([]byte, 1<<20+1), "may have 1"},
		"small task":   {func(r *containerizerpb.PrepareRequest) { r.Limits.MemoryBytes = 8 << 20 }, code(1), "the task has 8: give it more 'mem'"},
		"library":      {nil, bytes.Replace(code(1), []byte("_start"), []byte("_begin"), 1), "does not export _start"},
		"another file": {func(r *containerizerpb.PrepareRequest) { r.SandboxFolder = "/nothing/there" }, code(1), "open the sandbox"},
	} {
		r := request(t, "c-"+strings.ReplaceAll(what, " ", "-"), map[string][]byte{"m.wasm": test.text})
		if test.change != nil {
			test.change(r)
		}
		_, err := p.Prepare(t.Context(), r)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, not %q", what, err, test.want)
		}
		if err := p.Cleanup(t.Context(), r.Container); err != nil {
			t.Error(err)
		}
	}
	if held, begun := p.names(t, heldDir), p.names(t, begunDir); len(held)+len(begun) > 0 {
		t.Error(held, begun)
	}
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Many tasks of few modules at once: each module is compiled once, and one that gives up takes nobody with it.
func TestAtOnce(t *testing.T) {
	p := start(t, t.TempDir(), "")
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	var group sync.WaitGroup
	for i := range 12 {
		r := request(t, fmt.Sprint("c", i), map[string][]byte{"m.wasm": code(i % 3)})
		ctx := t.Context()
		if i < 3 {
			ctx = gone
		}
		group.Go(func() {
			if _, err := p.Prepare(ctx, r); err != nil && !errors.Is(err, context.Canceled) || err != nil && ctx != gone {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if got := p.names(t, modulesDir); len(got) != 3 {
		t.Error(got)
	}
}

// What no container holds goes when there is too much, the longest unused first.
func TestCollect(t *testing.T) {
	p := start(t, t.TempDir(), `{"cache_mb": 1}`)
	for i := range 3 { // each by far smaller than that, with what stands for its size
		if _, err := p.Prepare(t.Context(), request(t, fmt.Sprint("c", i), map[string][]byte{"m.wasm": code(i)})); err != nil {
			t.Fatal(err)
		}
	}
	all := p.names(t, modulesDir)
	for _, name := range all {
		mustDo(t, os.WriteFile(p.store.path(modulesDir, name, "weight"), make([]byte, 600<<10), 0o600))
	}
	mustDo(t, p.store.collect())
	if got := p.names(t, modulesDir); len(got) != 3 {
		t.Errorf("what is held went: %v", got)
	}
	mustDo(t, p.Cleanup(t.Context(), "c0"))
	mustDo(t, p.Cleanup(t.Context(), "c2"))
	kept, err := os.Readlink(p.store.path(heldDir, "c1"))
	mustDo(t, err)
	mustDo(t, p.store.collect())
	if got := p.names(t, modulesDir); !slices.Equal(got, []string{kept}) {
		t.Errorf("%v are kept, and %s is held", got, kept)
	}
}

func TestConfig(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "{}": "", `{"max_module_mb": 9, "cache_mb": 1, "interpret": true}`: "",
		`{"max_module": 9}`:    "its keys are max_module_mb",
		`{"max_module_mb": 0}`: "max_module_mb = 0",
		`{"cache_mb": -1}`:     "cache_mb = -1",
		`{} {}`:                "something follows it",
	} {
		_, err := parseConfig([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", text, err, want)
		}
	}
	_, err := open(&containerizerpb.OpenRequest{Folder: t.TempDir()}, "", nil)
	if err == nil || !strings.Contains(err.Error(), "runner = ") {
		t.Error(err)
	}
}
