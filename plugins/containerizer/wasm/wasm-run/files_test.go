package main

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	experimentalsys "github.com/tetratelabs/wazero/experimental/sys"
)

// box is a sandbox next to a file that is not in it.
func box(t *testing.T) (*files, string) {
	t.Helper()
	top := t.TempDir()
	dir := filepath.Join(top, "box")
	for _, err := range []error{
		os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(top, "secret"), []byte("secret"), 0o644),
		os.Symlink("../secret", filepath.Join(dir, "out")), os.Symlink(filepath.Join(top, "secret"), filepath.Join(dir, "absolute")),
		os.Symlink("..", filepath.Join(dir, "up")), os.Symlink("/proc/self", filepath.Join(dir, "self")),
		os.Mkdir(filepath.Join(dir, "sub"), 0o755), os.Symlink("../file", filepath.Join(dir, "sub", "in")),
		os.WriteFile(filepath.Join(dir, "file"), []byte("0123456789"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return &files{root: root}, top
}

func TestNothingLeadsOut(t *testing.T) {
	f, top := box(t)
	if no := f.Symlink("../../secret", "sub/made"); no != 0 {
		t.Error("a link may be made, wherever it leads:", no)
	}
	if no := f.Symlink("/etc", "etc"); no != experimentalsys.EPERM {
		t.Error("an absolute link:", no)
	}
	for _, path := range []string{"out", "absolute", "up/secret", "self/mem", "sub/made", "../secret", "sub/../../secret", "/../secret"} {
		for _, flag := range []experimentalsys.Oflag{experimentalsys.O_RDONLY, experimentalsys.O_RDWR, experimentalsys.O_WRONLY | experimentalsys.O_CREAT | experimentalsys.O_TRUNC} {
			if opened, no := f.OpenFile(path, flag, 0o644); no == 0 {
				t.Errorf("%s is opened", path)
				opened.Close()
			}
		}
		if _, no := f.Stat(path); no == 0 {
			t.Errorf("%s is looked at", path)
		}
		for what, no := range map[string]experimentalsys.Errno{
			"chmod": f.Chmod(path, 0o777), "utimens": f.Utimens(path, 1, 1), "link": f.Link("file", "../"+path), "rename": f.Rename("file", "../"+path),
			"mkdir": f.Mkdir("up/"+path, 0o755), "symlink": f.Symlink("x", "up/"+path), "unlink": f.Unlink("up/secret"), "rmdir": f.Rmdir("up/box"),
		} {
			if no == 0 {
				t.Errorf("%s of %s", what, path)
			}
		}
	}
	if text, err := os.ReadFile(filepath.Join(top, "secret")); err != nil || string(text) != "secret" {
		t.Errorf("the secret is %q, %v", text, err)
	}
	if entries, err := os.ReadDir(top); err != nil || len(entries) != 2 {
		t.Errorf("outside of the box: %v, %v", entries, err)
	}
}

func TestFiles(t *testing.T) {
	f, top := box(t)
	opened, no := f.OpenFile("sub/in", experimentalsys.O_RDWR, 0)
	if no != 0 {
		t.Fatal(no)
	}
	defer opened.Close()
	b := make([]byte, 4)
	read := func(want string, n int, no experimentalsys.Errno) {
		t.Helper()
		if no != 0 || string(b[:n]) != want {
			t.Errorf("%q, %v, not %q", b[:n], no, want)
		}
	}
	n, no := opened.Read(b)
	read("0123", n, no)
	n, no = opened.Pread(b, 8)
	read("89", n, no)
	n, no = opened.Pread(b, 80)
	read("", n, no)
	if at, no := opened.Seek(-2, io.SeekEnd); at != 8 || no != 0 {
		t.Error(at, no)
	}
	for _, step := range []experimentalsys.Errno{
		opened.SetAppend(true), opened.Truncate(2), opened.Sync(), opened.Datasync(), opened.Utimens(experimentalsys.UTIME_OMIT, 5e9),
	} {
		if step != 0 {
			t.Error(step)
		}
	}
	if n, no := opened.Write([]byte("ab")); n != 2 || no != 0 || !opened.IsAppend() {
		t.Error(n, no)
	}
	if no := opened.SetAppend(false); no != 0 || opened.IsAppend() {
		t.Error(no)
	}
	if n, no := opened.Pwrite([]byte("c"), 0); n != 1 || no != 0 {
		t.Error(n, no)
	}
	st, no := f.Stat("file")
	if ino, other := opened.Ino(); ino != st.Ino || no != 0 || other != 0 || st.Size != 4 {
		t.Errorf("%+v %v %d %v", st, no, ino, other)
	}
	if text, err := os.ReadFile(filepath.Join(top, "box", "file")); err != nil || string(text) != "c1ab" {
		t.Errorf("%q, %v", text, err)
	}
	if _, no := f.OpenFile("sub/in", experimentalsys.O_NOFOLLOW, 0); no != experimentalsys.ELOOP {
		t.Error(no)
	}
	if _, no := f.OpenFile("file", experimentalsys.O_DIRECTORY, 0); no != experimentalsys.ENOTDIR {
		t.Error(no)
	}
	if _, no := f.OpenFile("file", experimentalsys.O_CREAT|experimentalsys.O_EXCL|experimentalsys.O_WRONLY, 0o600); no != experimentalsys.EEXIST {
		t.Error(no)
	}
}

func TestFolders(t *testing.T) {
	f, _ := box(t)
	names := func() map[string]fs.FileMode {
		t.Helper()
		dir, no := f.OpenFile("", experimentalsys.O_RDONLY|experimentalsys.O_DIRECTORY, 0)
		if no != 0 {
			t.Fatal(no)
		}
		defer dir.Close()
		if is, no := dir.IsDir(); !is || no != 0 {
			t.Error(is, no)
		}
		found := map[string]fs.FileMode{}
		for range 2 { // and once more from the start
			entries, no := dir.Readdir(-1)
			if no != 0 {
				t.Error(no)
			}
			clear(found)
			for _, e := range entries {
				found[e.Name] = e.Type
			}
			if _, no := dir.Seek(0, io.SeekStart); no != 0 {
				t.Error(no)
			}
		}
		if _, no := dir.Seek(1, io.SeekStart); no != experimentalsys.EISDIR {
			t.Error(no)
		}
		return found
	}
	if got := names(); len(got) != 6 || got["sub"] != fs.ModeDir || got["out"] != fs.ModeSymlink || got["file"] != 0 {
		t.Error(got)
	}
	for _, step := range []struct {
		what     string
		no, want experimentalsys.Errno
	}{
		{"mkdir", f.Mkdir("new", 0o755), 0}, {"again", f.Mkdir("new", 0o755), experimentalsys.EEXIST},
		{"rename", f.Rename("file", "new/file"), 0}, {"link", f.Link("new/file", "other"), 0},
		{"rmdir of a file", f.Rmdir("other"), experimentalsys.ENOTDIR}, {"unlink of a folder", f.Unlink("new"), experimentalsys.EISDIR},
		{"rmdir of a full one", f.Rmdir("new"), experimentalsys.ENOTEMPTY}, {"unlink", f.Unlink("new/file"), 0}, {"rmdir", f.Rmdir("new"), 0},
		{"unlink of a link", f.Unlink("out"), 0}, {"unlink of nothing", f.Unlink("out"), experimentalsys.ENOENT}, {"chmod", f.Chmod("other", 0o600), 0},
	} {
		if step.no != step.want {
			t.Errorf("%s: %v, not %v", step.what, step.no, step.want)
		}
	}
	if target, no := f.Readlink("sub/in"); target != "../file" || no != 0 {
		t.Error(target, no)
	}
	if st, no := f.Lstat("up"); no != 0 || st.Mode&fs.ModeSymlink == 0 {
		t.Error(st, no)
	}
	if _, no := f.Lstat("nothing"); no != experimentalsys.ENOENT {
		t.Error(no)
	}
}
