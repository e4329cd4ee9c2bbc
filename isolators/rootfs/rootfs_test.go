package rootfs_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/gantry-project/gantry/isolators/rootfs"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

func compose(t *testing.T, limits *containerpb.Limits) *containerpb.Spec {
	t.Helper()
	spec := &containerpb.Spec{Id: "c", Limits: limits}
	if err := rootfs.Compose(spec, filepath.Join(t.TempDir(), "deep", "root"), t.TempDir()); err != nil {
		t.Fatal(err)
	}
	return spec
}

func TestOnlyTheSandboxIsWritable(t *testing.T) {
	spec := compose(t, nil)
	if spec.GetWritableRootfs() {
		t.Error("the root is writable")
	}
	for _, m := range spec.GetMounts() {
		if m.GetType() == "bind" && m.GetTarget() != rootfs.Sandbox && !slices.Contains(m.GetOptions(), "rro") {
			t.Errorf("%s of the host is writable", m.GetSource())
		}
		if !slices.ContainsFunc(m.GetOptions(), func(o string) bool { return o == "nosuid" || o == "rnosuid" }) {
			t.Errorf("set-user-ID programs work in %s", m.GetTarget())
		}
	}
}

func TestNothingSecretIsBound(t *testing.T) {
	for _, m := range compose(t, nil).GetMounts() {
		if m.GetType() != "bind" || m.GetTarget() == rootfs.Sandbox {
			continue
		}
		for _, secret := range []string{"/", "/etc", "/etc/shadow", "/etc/ssl", "/etc/ssl/private", "/root", "/home", "/var", "/run"} {
			if m.GetSource() == secret {
				t.Errorf("%s of the host is in the container", secret)
			}
		}
		if info, err := os.Stat(m.GetSource()); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o004 == 0 {
			t.Errorf("%s is not for everybody to read, and is in the container", m.GetSource())
		}
	}
}

func TestMountsHaveTheirPlace(t *testing.T) {
	spec := compose(t, nil)
	for _, m := range spec.GetMounts() {
		if strings.HasPrefix(m.GetTarget(), "/dev/") || strings.HasPrefix(m.GetTarget(), "/sys/") {
			continue
		}
		info, err := os.Lstat(filepath.Join(spec.GetRootfs(), m.GetTarget()))
		if err != nil {
			t.Error(err)
			continue
		}
		source, err := os.Stat(m.GetSource())
		if m.GetType() == "bind" && (err != nil || info.IsDir() != source.IsDir()) {
			t.Errorf("%s cannot be bound to its place: %v", m.GetSource(), err)
		}
	}
	if info, err := os.Stat(filepath.Join(spec.GetRootfs(), "bin")); err != nil && !os.IsNotExist(err) || info != nil && !info.IsDir() {
		t.Errorf("/bin is %v, %v", info, err)
	}
	if _, err := os.Lstat(filepath.Join(spec.GetRootfs(), "bin")); err != nil {
		t.Error("there is no /bin")
	}
}

func TestSmallFilesAreCopied(t *testing.T) {
	spec := compose(t, nil)
	for _, path := range []string{"/etc/passwd", "/etc/group", "/etc/nsswitch.conf"} {
		want, err := os.ReadFile(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(spec.GetRootfs(), path)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is %q, %v, and the host's %q", path, got, err, want)
		}
		if slices.ContainsFunc(spec.GetMounts(), func(m *containerpb.Mount) bool { return m.GetTarget() == path }) {
			t.Errorf("%s is copied, and mounted as well", path)
		}
	}
}

func TestRootIsShared(t *testing.T) {
	dir := t.TempDir()
	var roots []string
	for range 8 {
		roots = append(roots, "")
	}
	var group sync.WaitGroup
	for i := range roots {
		group.Go(func() {
			spec := new(containerpb.Spec)
			if err := rootfs.Compose(spec, dir, "/tmp"); err != nil {
				t.Error(err)
			}
			roots[i] = spec.GetRootfs()
		})
	}
	group.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || len(slices.Compact(roots)) != 1 {
		t.Errorf("the roots are %v; the directory has %v", roots, entries)
	}
}

func TestPrune(t *testing.T) {
	dir := t.TempDir()
	spec := new(containerpb.Spec)
	if err := rootfs.Compose(spec, dir, "/tmp"); err != nil {
		t.Fatal(err)
	}
	used, old := filepath.Join(dir, "used"), filepath.Join(dir, "old")
	for _, root := range []string{used, old} {
		if err := os.MkdirAll(filepath.Join(root, "usr"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := rootfs.Prune(dir, []string{used}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{spec.GetRootfs(): true, used: true, old: false} {
		if _, err := os.Stat(path); (err == nil) != want {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := rootfs.Prune(filepath.Join(dir, "missing"), nil); err != nil {
		t.Error(err)
	}
}

func TestTemporaryFilesAreBounded(t *testing.T) {
	for want, limits := range map[string]*containerpb.Limits{
		"size=67108864": nil,
		"size=16777216": {MemoryBytes: 32 << 20},
	} {
		for _, m := range compose(t, limits).GetMounts() {
			if m.GetTarget() == "/tmp" && !slices.Contains(m.GetOptions(), want) {
				t.Errorf("/tmp: %v, want %s", m.GetOptions(), want)
			}
		}
	}
}

func TestComposeRefuses(t *testing.T) {
	for _, dirs := range [][2]string{{"relative", "/tmp"}, {filepath.Join(t.TempDir(), "r"), "relative"}} {
		spec := new(containerpb.Spec)
		if err := rootfs.Compose(spec, dirs[0], dirs[1]); err == nil {
			t.Errorf("Compose(%q, %q) succeeds", dirs[0], dirs[1])
		}
		if spec.GetRootfs() != "" {
			t.Error("the spec was changed")
		}
	}
}

func TestRemove(t *testing.T) {
	spec := compose(t, nil)
	for range 2 {
		if err := rootfs.Remove(spec.GetRootfs()); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(spec.GetRootfs()); !os.IsNotExist(err) {
		t.Errorf("it is left: %v", err)
	}
	if err := rootfs.Remove("/proc"); err == nil || strings.Contains(err.Error(), fs.ErrPermission.Error()) {
		t.Errorf("Remove where something is mounted: %v", err)
	}
}
