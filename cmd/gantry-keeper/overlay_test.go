package main_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gantry-project/gantry/isolators/overlay"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// layered gives spec a root of layers: one of its own, and below the root that all have.
func (h *host) layered(t *testing.T, spec *containerpb.Spec) {
	t.Helper()
	dir := filepath.Join(h.work, "layers-of-"+spec.GetId())
	for _, name := range []string{"root", "upper", "work", "middle/opt"} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(dir+"/middle/opt/file", []byte("middle\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	spec.Overlay = &containerpb.Overlay{Lower: []string{dir + "/middle", spec.GetRootfs()}, Upper: dir + "/upper", Work: dir + "/work"}
	spec.Rootfs, spec.WritableRootfs = dir+"/root", true
}

// TestOverlay: what a container writes goes to its own layer, nobody else sees the mount, and it is gone with the container.
func TestOverlay(t *testing.T) {
	h := newHost(t)
	if err := overlay.Probe(h.work); errors.Is(err, overlay.ErrUnsupported) {
		t.Skip(err) // a kernel without overlayfs; agents find out in the same way
	}
	for _, tc := range []struct {
		id, script, stdout string
		readOnly           bool
	}{
		{"writes", "cat /opt/file; echo new >/new; echo changed >/opt/file; rm -r /opt; ls -d /opt /new 2>/dev/null; true", "middle\n/new\n", false},
		{"reads", "cat /opt/file; (: >/new) 2>/dev/null || echo refused", "middle\nrefused\n", true},
		{"confined", "grep -o 'NoNewPrivs.*1' /proc/self/status; awk '$5 == \"/\" { print $6 }' /proc/self/mountinfo | grep -c 'nosuid,nodev'", "NoNewPrivs:\t1\n1\n", false},
	} {
		spec := h.spec(t, tc.id, "sh", "-c", tc.script)
		h.layered(t, spec)
		spec.WritableRootfs = !tc.readOnly
		if exit := h.run(t, spec); exit.GetStatus() != 0 {
			t.Errorf("%s: %v", tc.id, exit)
		}
		if out := h.output(t, tc.id, "stdout"); out != tc.stdout {
			t.Errorf("%s wrote %q, want %q; stderr %q", tc.id, out, tc.stdout, h.output(t, tc.id, "stderr"))
		}
		if left, err := os.ReadDir(spec.GetRootfs()); err != nil || len(left) > 0 {
			t.Errorf("%s: outside, the root has %v, %v", tc.id, left, err)
		}
	}
	if _, err := os.Stat(filepath.Join(h.work, "layers-of-writes/upper/new")); err != nil {
		t.Errorf("what was written is not in the upper layer: %v", err)
	}
	if middle, err := os.ReadFile(filepath.Join(h.work, "layers-of-writes/middle/opt/file")); err != nil || string(middle) != "middle\n" {
		t.Errorf("a lower layer was changed: %q, %v", middle, err)
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil || strings.Contains(string(mounts), h.work+"/layers-of") {
		t.Errorf("a mount is left: %v", err)
	}
}

// TestOverlayThatIsBad: a start that fails leaves nothing.
func TestOverlayThatIsBad(t *testing.T) {
	h := newHost(t)
	for id, change := range map[string]func(*containerpb.Spec){
		"missing":  func(s *containerpb.Spec) { s.Overlay.Lower[0] += "-not" },
		"relative": func(s *containerpb.Spec) { s.Overlay.Lower[0] = "middle" },
		"none":     func(s *containerpb.Spec) { s.Overlay.Lower = nil },
		"link": func(s *containerpb.Spec) {
			link := s.Overlay.Upper + "-link"
			if err := os.Symlink("/etc", link); err != nil {
				t.Error(err)
			}
			s.Overlay.Lower[0] = link
		},
	} {
		spec := h.spec(t, id, "true")
		h.layered(t, spec)
		change(spec)
		if err := h.client.Start(within(t), spec); err != nil {
			t.Fatal(err)
		}
		if failed := h.next(t).GetStartFailed(); failed.GetContainerId() != id || !strings.Contains(failed.GetMessage(), "layer") && !strings.Contains(failed.GetMessage(), "root filesystem") {
			t.Errorf("%s: %v", id, failed)
		}
		if left := groups(t, spec.GetCgroup()); len(left) > 0 {
			t.Errorf("%s: cgroups are left: %v", id, left)
		}
	}
}
