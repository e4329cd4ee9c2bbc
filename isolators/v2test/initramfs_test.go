package v2test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// programs are those that the guest has, besides what is tested: the tests' own, and
// what they run in containers.
var programs = []string{
	"bash", "cat", "chroot", "env", "false", "getent", "grep", "head", "hostname", "id", "ls", "mkdir", "mkfifo", "mknod", "mount",
	"perl", "seq", "setsid", "sh", "sleep", "tail", "touch", "tr", "true", "uname",
}

// files are what else of this machine the guest has.
var files = []string{"/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/os-release", "/etc/passwd"}

// tree is a root filesystem by absolute paths, of files and links of this machine and
// of empty directories.
type tree map[string]node

// node has the contents of the file source, unless that is empty: then it is a link to
// target, unless that is empty, too: then it is a directory.
type node struct{ source, target string }

func newTree() (tree, error) {
	t := make(tree)
	for _, dir := range []string{"/dev", "/mnt", "/proc", "/run", "/sys", "/tmp", "/usr", "/var"} {
		t[dir] = node{}
	}
	for _, dir := range []string{"/bin", "/sbin", "/lib", "/lib64"} {
		if target, err := os.Readlink(dir); err == nil {
			t[dir] = node{target: target}
		}
	}
	for _, file := range files {
		if err := t.host(file); err != nil {
			return nil, err
		}
	}
	for _, name := range programs {
		if err := t.program(name); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// program adds a program of this machine and the libraries that it loads.
func (t tree) program(name string) error {
	file, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	out, err := exec.Command("ldd", file).Output()
	if err != nil {
		return fmt.Errorf("libraries of %s: %w", file, err)
	}
	for field := range strings.FieldsSeq(string(out)) {
		if !filepath.IsAbs(field) {
			continue
		}
		if err := t.host(field); err != nil {
			return err
		}
	}
	return t.host(file)
}

// host adds a file of this machine, and what it is if it is a link.
func (t tree) host(file string) error {
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		return err
	}
	file = filepath.Join(dir, filepath.Base(file))
	target, err := os.Readlink(file)
	if err != nil {
		t.file(file, file)
		return nil
	}
	t.parents(file)
	t[file] = node{target: target}
	if !filepath.IsAbs(target) {
		target = filepath.Join(dir, target)
	}
	return t.host(target)
}

// file adds a file with the contents and mode of source.
func (t tree) file(name, source string) {
	t.parents(name)
	t[name] = node{source: source}
}

func (t tree) parents(name string) {
	for dir := path.Dir(name); dir != "/"; dir = path.Dir(dir) {
		t[dir] = node{}
	}
}

// write writes the tree to file as the kernel unpacks it (the kernel's documentation:
// initramfs buffer format): all belongs to root.
func (t tree) write(file string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	w := &archive{Writer: bufio.NewWriter(out)}
	for _, name := range slices.Sorted(maps.Keys(t)) {
		if err := w.add(name, t[name]); err != nil {
			return errors.Join(fmt.Errorf("pack %s: %w", name, err), out.Close())
		}
	}
	return errors.Join(w.member("TRAILER!!!", 0, 0, strings.NewReader("")), w.Flush(), out.Close())
}

// archive is a cpio archive in the format called newc.
type archive struct {
	*bufio.Writer
	inode int
}

// The kinds of file, as in stat(2).
const directory, regular, symlink = 0o040000, 0o100000, 0o120000

func (a *archive) add(name string, n node) error {
	switch {
	case n.source != "":
		return a.copy(name, n.source)
	case n.target != "":
		return a.member(name, symlink|0o777, len(n.target), strings.NewReader(n.target))
	default:
		return a.member(name, directory|0o755, 0, strings.NewReader(""))
	}
}

func (a *archive) copy(name, source string) error {
	in, err := os.Open(source)
	if err != nil {
		return err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return &fs.PathError{Op: "copy", Path: source, Err: errors.New("not a regular file")}
	}
	return a.member(name, regular|int(info.Mode().Perm()), int(info.Size()), in)
}

// member writes one header, name and contents; names and contents are padded to
// multiples of four bytes.
func (a *archive) member(name string, mode, size int, contents io.Reader) error {
	const headerBytes = 110
	name = strings.TrimPrefix(name, "/") + "\x00"
	a.inode++
	links := 1
	fmt.Fprintf(a, "070701%08X%08X%08X%08X%08X%08X%08X", a.inode, mode, 0, 0, links, 0, size)
	fmt.Fprintf(a, "%08X%08X%08X%08X%08X%08X", 0, 0, 0, 0, len(name), 0)
	fmt.Fprint(a, name, padding(headerBytes+len(name)))
	if _, err := io.CopyN(a, contents, int64(size)); err != nil {
		return err
	}
	_, err := a.WriteString(padding(size))
	return err
}

func padding(n int) string { return "\x00\x00\x00"[:-n&3] }
