package overlay_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-project/gantry/isolators/overlay"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// root skips where mounting is not for this user, unless that is said to be root.
func root(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("GANTRY_REQUIRE_ROOT") != "" {
		t.Fatal("GANTRY_REQUIRE_ROOT is set, and this is not root")
	}
	t.Skip("only root can mount")
}

func TestProbe(t *testing.T) {
	root(t)
	dir := t.TempDir()
	if err := overlay.Probe(dir); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
	if err := overlay.Probe(filepath.Join(dir, "missing")); err == nil || errors.Is(err, overlay.ErrUnsupported) {
		t.Errorf("a missing folder: %v", err)
	}
}

// tree makes directories and files below a new folder; a path that ends in / is a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for path, content := range files {
		full := filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(path, "/") {
			if err := os.MkdirAll(full, 0o755); err != nil {
				t.Fatal(err)
			}
		} else if err := os.WriteFile(full, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestWithinMountsForItsProcessesOnly(t *testing.T) {
	root(t)
	dir := tree(t, map[string]string{
		"a:b,c/one": "low", "a:b,c/two": "low", // characters that mean something to the filesystem
		"top/one": "top", "upper/": "", "work/": "", "root/": "",
	})
	path := func(name string) string { return filepath.Join(dir, name) }
	spec := &containerpb.Spec{Rootfs: path("root"), Overlay: &containerpb.Overlay{
		Lower: []string{path("top"), path("a:b,c")}, Upper: path("upper"), Work: path("work"),
	}}
	var seen []byte
	err := overlay.Within(spec, func() error {
		var err error
		seen, err = exec.Command("sh", "-c", "cd "+path("root")+" && cat one two && echo new > three && grep -c "+path("root")+" /proc/self/mountinfo").Output()
		return err
	})
	if err != nil || string(seen) != "toplow1\n" {
		t.Errorf("inside: %q, %v", seen, err)
	}
	if left, err := os.ReadDir(path("root")); err != nil || len(left) > 0 {
		t.Errorf("outside there are %v, %v", left, err)
	}
	if new, err := os.ReadFile(path("upper/three")); err != nil || string(new) != "new\n" {
		t.Errorf("what was written: %q, %v", new, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), dir) {
		t.Errorf("there is a mount left: %s, %v", mounts, err)
	}
}

func TestManyLayersFit(t *testing.T) {
	root(t)
	dir := tree(t, map[string]string{"upper/": "", "work/": "", "root/": ""})
	spec := &containerpb.Spec{Rootfs: dir + "/root", Overlay: &containerpb.Overlay{Upper: dir + "/upper", Work: dir + "/work"}}
	for range overlay.MaxLayers {
		spec.Overlay.Lower = append(spec.Overlay.Lower, tree(t, map[string]string{strings.Repeat("long", 50) + "/": ""}))
	}
	if err := overlay.Check(spec.Overlay); err != nil {
		t.Error(err)
	}
	if err := overlay.Within(spec, func() error { return nil }); err != nil {
		t.Error(err)
	}
	spec.Overlay.Lower = append(spec.Overlay.Lower, dir)
	if err := overlay.Check(spec.Overlay); err == nil {
		t.Error("one more layer is too many")
	}
}

func TestALayerIsNoLink(t *testing.T) {
	root(t)
	dir := tree(t, map[string]string{"upper/": "", "work/": "", "root/": "", "real/": ""})
	if err := os.Symlink("/etc", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	spec := &containerpb.Spec{Rootfs: dir + "/root", Overlay: &containerpb.Overlay{
		Lower: []string{dir + "/link", dir + "/real"}, Upper: dir + "/upper", Work: dir + "/work",
	}}
	if err := overlay.Within(spec, func() error { return nil }); err == nil {
		t.Error("a link was taken for a layer")
	}
}

func TestCheck(t *testing.T) {
	for name, o := range map[string]*containerpb.Overlay{
		"no layers":      {Upper: "/u", Work: "/w"},
		"relative layer": {Lower: []string{"l"}, Upper: "/u", Work: "/w"},
		"no upper":       {Lower: []string{"/l"}, Work: "/w"},
		"relative work":  {Lower: []string{"/l"}, Upper: "/u", Work: "w"},
	} {
		if overlay.Check(o) == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
