package program

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// TestArgv: each row of the table that clients know, for containers of both types.
func TestArgv(t *testing.T) {
	shell, plain := true, false
	value := "V"
	for _, c := range []struct {
		command         *mesos.CommandInfo
		entrypoint, cmd string
		mesos, docker   string // parted by spaces; empty: refused
	}{
		{&mesos.CommandInfo{Shell: &shell, Value: &value}, "E e", "C c", "/bin/sh -c V", "/bin/sh -c V"},
		{&mesos.CommandInfo{Shell: &plain}, "", "", "", ""},
		{&mesos.CommandInfo{Shell: &plain}, "", "C c", "C c", "C c"},
		{&mesos.CommandInfo{Shell: &plain}, "E e", "", "E e", "E e"},
		{&mesos.CommandInfo{Shell: &plain}, "E e", "C c", "E e C c", "E e C c"},
		{&mesos.CommandInfo{Shell: &plain, Arguments: []string{"a", "b"}}, "", "", "", ""},
		{&mesos.CommandInfo{Shell: &plain, Arguments: []string{"a", "b"}}, "", "C c", "C a b", "C a b"},
		{&mesos.CommandInfo{Shell: &plain, Arguments: []string{"a", "b"}}, "E e", "", "E e a b", "E e a b"},
		{&mesos.CommandInfo{Shell: &plain, Arguments: []string{"a", "b"}}, "E e", "C c", "E e a b", "E e a b"},
		{&mesos.CommandInfo{Shell: &plain, Value: &value}, "E e", "C c", "V", "E e V"},
		{&mesos.CommandInfo{Shell: &plain, Value: &value, Arguments: []string{"a", "b"}}, "E e", "C c", "V b", "E e V a b"},
		{&mesos.CommandInfo{Shell: &plain, Value: &value, Arguments: []string{"a", "b"}}, "", "", "V b", "V a b"},
	} {
		image := v1.Config{Entrypoint: strings.Fields(c.entrypoint), Cmd: strings.Fields(c.cmd)}
		for kind, want := range map[mesos.ContainerInfo_Type]string{mesos.ContainerInfo_MESOS: c.mesos, mesos.ContainerInfo_DOCKER: c.docker} {
			got, err := Argv(kind, c.command, image)
			if (err != nil) != (want == "") || strings.Join(got, " ") != want {
				t.Errorf("%s of %v, %q, %q: %q, %v, not %q", kind, c.command, c.entrypoint, c.cmd, got, err, want)
			}
		}
		if strings.Join(image.Entrypoint, " ") != c.entrypoint || strings.Join(image.Cmd, " ") != c.cmd {
			t.Error("the image was changed")
		}
	}
}

func TestEnvAndCwd(t *testing.T) {
	image := v1.Config{Env: []string{"A=1", "nonsense", "=x", "B=", "C=a\x00b"}, WorkingDir: "srv/x"}
	if got := Env(image); !slices.Equal(got, []string{"A=1", "B="}) {
		t.Errorf("%q", got)
	}
	if got := Cwd(image); got != "/srv/x" {
		t.Errorf("%q", got)
	}
}

// layersOf makes layers of files, the topmost first.
func layersOf(t *testing.T, layers ...map[string]string) Files {
	t.Helper()
	var files Files
	for _, layer := range layers {
		dir := t.TempDir()
		for path, content := range layer {
			full := filepath.Join(dir, path)
			if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
				t.Fatal(err)
			}
			var err error
			if target, link := strings.CutPrefix(content, "-> "); link {
				err = os.Symlink(target, full)
			} else {
				err = os.WriteFile(full, []byte(content), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		files = append(files, dir)
	}
	return files
}

func TestUser(t *testing.T) {
	const (
		passwd = "root:x:0:0::/:\nteller:x:12:34::/:\nbad:x:99999999999:1::/:\nshort\n"
		group  = "users:x:34:\nstaff:x:50:other,teller\nowners:x:51:teller\nbad:x:-1:teller\n"
	)
	usual := layersOf(t, map[string]string{"x": ""}, map[string]string{"etc/passwd": passwd, "etc/group": group})
	for _, c := range []struct {
		files Files
		text  string
		want  string // empty: refused
	}{
		{usual, "teller", "12:34 [50 51]"},
		{usual, "12", "12:34 [50 51]"},
		{usual, "teller:staff", "12:50 []"},
		{usual, "teller:7", "12:7 []"},
		{usual, "77", "77:0 []"},
		{usual, "77:users", "77:34 []"},
		{usual, "0", "0:0 []"},
		{usual, "stranger", ""},
		{usual, "teller:strangers", ""},
		{usual, "bad", ""},
		{usual, "teller:bad", ""},
		{usual, "-1", ""},
		{usual, "+1", ""},
		{usual, "4294967295", ""},
		{usual, "2147483648", ""},
		{usual, "1:4294967296", ""},
		{nil, "root", "0:0 []"},
		{nil, "daemon", ""},
		{nil, "5:6", "5:6 []"},
		{layersOf(t, map[string]string{"etc/passwd": "teller:x:1:1::/:\n"}, map[string]string{"etc/passwd": passwd}), "teller", "1:1 []"},
		{layersOf(t, map[string]string{"etc": "no folder"}, map[string]string{"etc/passwd": passwd}), "teller", ""},
		{layersOf(t, map[string]string{"etc/passwd": "-> /etc/passwd"}), "daemon", ""},
		{layersOf(t, map[string]string{"etc/passwd": "-> ../../../../../../etc/passwd"}), "daemon", ""},
		{layersOf(t, map[string]string{"etc/passwd": "-> list", "etc/list": passwd}), "teller", "12:34 []"},
		{layersOf(t, map[string]string{"etc/passwd": "-> passwd"}), "teller", ""},
		{layersOf(t, map[string]string{"etc/passwd": strings.Repeat("x", maxList+1)}), "5", ""},
	} {
		u, err := User(c.files, c.text)
		got := ""
		if err == nil {
			got = fmt.Sprintf("%d:%d %v", u.GetUid(), u.GetGid(), u.GetAdditionalGids())
		}
		if got != c.want {
			t.Errorf("%q is %q (%v), not %q", c.text, got, err, c.want)
		}
	}
}

// TestHiddenLists: what an upper layer hides is not read from a lower one, nor is what would block.
func TestHiddenLists(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make whiteouts")
	}
	below := map[string]string{"etc/passwd": "teller:x:12:34::/:\n"}
	whiteout := func(name string) Files {
		files := layersOf(t, map[string]string{"etc2/x": ""}, below)
		if name == "etc/passwd" {
			if err := os.Mkdir(files[0]+"/etc", 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := syscall.Mknod(files[0]+"/"+name, syscall.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
		return files
	}
	opaque := layersOf(t, map[string]string{"etc/x": ""}, below)
	if err := syscall.Setxattr(opaque[0]+"/etc", "trusted.overlay.opaque", []byte("y"), 0); err != nil {
		t.Fatal(err)
	}
	pipe := layersOf(t, map[string]string{"etc/x": ""}, below)
	if err := syscall.Mkfifo(pipe[0]+"/etc/passwd", 0o644); err != nil {
		t.Fatal(err)
	}
	for name, files := range map[string]Files{"etc": whiteout("etc"), "passwd": whiteout("etc/passwd"), "opaque": opaque, "pipe": pipe} {
		if u, err := User(files, "teller"); err == nil {
			t.Errorf("%s: found %v", name, u)
		}
	}
	if u, err := User(layersOf(t, map[string]string{"etc/x": ""}, below), "teller"); err != nil || u.GetUid() != 12 {
		t.Errorf("where nothing hides it: %v, %v", u, err)
	}
}

func FuzzUser(f *testing.F) {
	f.Add("teller:staff", "teller:x:1:2::/:\n", "staff:x:3:teller\n")
	f.Add("1:2", ":::\n", "\n\n")
	f.Fuzz(func(t *testing.T, text, passwd, group string) {
		u, err := User(layersOf(t, map[string]string{"etc/passwd": passwd, "etc/group": group}), text)
		if err != nil {
			return
		}
		for _, id := range append([]uint32{u.GetUid(), u.GetGid()}, u.GetAdditionalGids()...) {
			if id > maxID {
				t.Errorf("%q is %v", text, u)
			}
		}
		if len(u.GetAdditionalGids()) > maxGroups {
			t.Errorf("%d groups", len(u.GetAdditionalGids()))
		}
	})
}
