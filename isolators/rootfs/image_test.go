package rootfs_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/gantry-project/gantry/isolators/rootfs"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// layer makes a directory of empty files; a name that has a target is a link.
func layer(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, target := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		var err error
		if target != "" {
			err = os.Symlink(target, path)
		} else {
			err = os.WriteFile(path, nil, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLayer(t *testing.T) {
	host, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Skip("this host has no /etc/hosts")
	}
	elsewhere := t.TempDir()
	for name, test := range map[string]struct {
		layers []string
		hosts  bool // the host's file is in the container's own layer
	}{
		"plain":           {[]string{layer(t, map[string]string{"etc/passwd": ""})}, true},
		"link in place":   {[]string{layer(t, map[string]string{"etc/hosts": elsewhere + "/hosts"})}, true},
		"no etc":          {[]string{layer(t, map[string]string{"x": ""})}, true},
		"etc is a link":   {[]string{layer(t, map[string]string{"etc": elsewhere}), layer(t, map[string]string{"etc/x": ""})}, false},
		"etc is a file":   {[]string{layer(t, map[string]string{"x": ""}), layer(t, map[string]string{"etc": ""})}, false},
		"upper one rules": {[]string{layer(t, map[string]string{"etc/x": ""}), layer(t, map[string]string{"etc": elsewhere})}, true},
	} {
		spec := &containerpb.Spec{Id: "c"}
		dir := filepath.Join(t.TempDir(), "own")
		if err := rootfs.Layer(spec, dir, "/sandbox", test.layers, false); err != nil {
			t.Fatal(err)
		}
		o := spec.GetOverlay()
		if !slices.Equal(o.GetLower(), test.layers) || !spec.GetWritableRootfs() || spec.GetRootfs() == o.GetUpper() {
			t.Errorf("%s: %v", name, spec)
		}
		for _, path := range []string{spec.GetRootfs(), o.GetUpper(), o.GetWork()} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 || filepath.Dir(path) != dir {
				t.Errorf("%s: %s: %v", name, path, err)
			}
		}
		got, err := os.ReadFile(filepath.Join(o.GetUpper(), "etc/hosts"))
		if (err == nil) != test.hosts || err == nil && string(got) != string(host) {
			t.Errorf("%s: hosts is %q, %v", name, got, err)
		}
		if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
			t.Errorf("%s: it wrote %v elsewhere", name, left)
		}
		if m := spec.GetMounts()[len(spec.GetMounts())-1]; m.GetSource() != "/sandbox" || m.GetTarget() != rootfs.Sandbox {
			t.Errorf("%s: the last mount is %v", name, m)
		}
		for _, m := range spec.GetMounts() {
			if m.GetType() == "bind" && m.GetTarget() != rootfs.Sandbox {
				t.Errorf("%s: %s of the host is mounted", name, m.GetSource())
			}
		}
		if err := rootfs.Layer(spec, dir, "/sandbox", test.layers, false); err == nil {
			t.Errorf("%s: a folder was used twice", name)
		}
	}
}

func TestReadOnlyLayer(t *testing.T) {
	spec := &containerpb.Spec{Id: "c", Limits: &containerpb.Limits{MemoryBytes: 1 << 20}}
	if err := rootfs.Layer(spec, filepath.Join(t.TempDir(), "own"), "/sandbox", []string{t.TempDir()}, true); err != nil {
		t.Fatal(err)
	}
	if spec.GetWritableRootfs() {
		t.Error("the root is writable")
	}
	if !slices.ContainsFunc(spec.GetMounts(), func(m *containerpb.Mount) bool {
		return m.GetTarget() == "/tmp" && slices.Contains(m.GetOptions(), "size=524288")
	}) {
		t.Errorf("there is no /tmp to write to: %v", spec.GetMounts())
	}
}
