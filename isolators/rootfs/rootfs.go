// Package rootfs composes the root filesystem of a container that brings no image of
// its own: programs and libraries of the host, read-only, and nothing else of it.
//
// /usr is the host's, and with it what the host's /bin, /sbin and /lib* are; /etc has
// the few files that programs need to resolve names and verify certificates, as they are
// when it is composed; /proc, /sys and /dev are the container's own; /tmp, /run and
// /var/tmp are empty and in memory. The host's other directories do not exist in it.
//
// What is the same for all containers, and for none to change, is on disk once: a
// directory with the links, the copies and the places for mounts, named by a hash of
// what it was made from. A host whose /etc changes has another from then on.
//
//	spec := &containerpb.Spec{Id: "c1", Argv: argv, Cwd: rootfs.Sandbox}
//	err := rootfs.Compose(spec, rootsDir, sandboxDir)
//	...
//	err = rootfs.Remove(spec.GetRootfs()) // when no container has it any more
package rootfs

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// Sandbox is where a container finds its sandbox.
const Sandbox = "/mnt/mesos/sandbox"

// tmpBytes is the size of /tmp and /var/tmp where the container's memory is not limited.
const tmpBytes = 64 << 20

// systemDirs lie in /usr on hosts that merged it, and beside it on others.
var systemDirs = []string{"/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}

// etc is what a container sees of the host's configuration, so far as it exists.
// Nothing here may hold a secret: /etc/ssl, say, has private keys in it.
var etc = []string{
	"/etc/alternatives", "/etc/ca-certificates", "/etc/ca-certificates.conf",
	"/etc/debian_version", "/etc/group", "/etc/host.conf", "/etc/hosts",
	"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime",
	"/etc/mime.types", "/etc/networks", "/etc/nsswitch.conf", "/etc/os-release",
	"/etc/passwd", "/etc/pki/tls/certs", "/etc/protocols", "/etc/resolv.conf",
	"/etc/services", "/etc/ssl/certs", "/etc/ssl/openssl.cnf", "/etc/timezone",
}

// copyBytes is the size up to which a file is copied, not bound: libcontainer takes some
// thirty system calls for a mount.
const copyBytes = 256 << 10

var readOnly = []string{"rbind", "rro", "rnosuid", "rnodev"}

// Compose makes a directory in dir the root of spec: it sets Rootfs and Mounts, with the
// host directory sandbox mounted writable at Sandbox. The root is shared by all containers
// that are composed in dir while the host's files stay as they are. Where spec has memory
// limits, /tmp and /var/tmp may each grow to half of them.
func Compose(spec *containerpb.Spec, dir, sandbox string) error {
	c := &composer{spec: spec}
	root, err := c.compose(dir, sandbox)
	if err != nil {
		return fmt.Errorf("compose root filesystem of container %s: %w", spec.GetId(), err)
	}
	spec.Rootfs, spec.WritableRootfs = root, false
	spec.Mounts, spec.Links = c.mounts, nil
	return nil
}

// Remove removes a root that Compose made, or the directory of all. It refuses while
// anything is mounted below it: that would delete what is not a container's. A missing
// dir is no error.
func Remove(dir string) error {
	busy, err := mountBelow(dir)
	if err != nil {
		return fmt.Errorf("remove root filesystem %s: %w", dir, err)
	}
	if busy != "" {
		return fmt.Errorf("remove root filesystem %s: %s is still mounted", dir, busy)
	}
	return os.RemoveAll(dir)
}

// Prune removes the roots in dir that are not in used, by their paths, and that Compose
// would not use: those that the host's older files made. A missing dir is no error.
func Prune(dir string, used []string) error {
	now := new(composer)
	if err := now.plan("/"); err != nil {
		return fmt.Errorf("find the root filesystem of now: %w", err)
	}
	used = append(slices.Clone(used), now.root(dir))
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("find old root filesystems: %w", err)
	}
	var failed error
	for _, e := range entries {
		if root := filepath.Join(dir, e.Name()); !slices.Contains(used, root) {
			failed = errors.Join(failed, Remove(root))
		}
	}
	return failed
}

// composer plans before it makes anything: most often there is nothing to make.
type composer struct {
	spec   *containerpb.Spec
	mounts []*containerpb.Mount
	places []place
}

// place is one file of the root.
type place struct {
	target string
	// mode tells a directory, a link or a file, and its permissions.
	mode fs.FileMode
	// link is what a link points to; source is what is copied into a file, with the
	// version of that; a file without is a place for a mount.
	link, source, version string
}

func (c *composer) compose(dir, sandbox string) (string, error) {
	if !filepath.IsAbs(dir) || !filepath.IsAbs(sandbox) {
		return "", fmt.Errorf("directories must be absolute: %q, %q", dir, sandbox)
	}
	if err := c.plan(sandbox); err != nil {
		return "", err
	}
	root := c.root(dir)
	if _, err := os.Lstat(root); !errors.Is(err, fs.ErrNotExist) {
		return root, err
	}
	return root, c.make(dir, root)
}

// root is what is made, or was, from all that is planned.
func (c *composer) root(dir string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%+v", c.places))
	return filepath.Join(dir, hex.EncodeToString(sum[:8]))
}

// plan does not change anything.
func (c *composer) plan(sandbox string) error {
	c.kernelFilesystems()
	c.temporary()
	steps := []error{c.bind("/usr", "/usr")}
	for _, p := range slices.Concat(systemDirs, etc) {
		steps = append(steps, c.offer(p))
	}
	steps = append(steps, c.mount(&containerpb.Mount{
		Source: sandbox, Target: Sandbox, Type: "bind", Options: []string{"rbind", "nosuid", "nodev"},
	}))
	return errors.Join(steps...)
}

// make makes root, which another may have made by then.
func (c *composer) make(dir, root string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	begun, err := os.MkdirTemp(dir, "new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(begun) // it is not there any more if all is well
	err = os.Chmod(begun, 0o755)
	for _, p := range c.places {
		err = errors.Join(err, p.make(begun))
	}
	if err != nil {
		return err
	}
	err = os.Rename(begun, root)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func (p place) make(root string) error {
	path := filepath.Join(root, p.target)
	if p.mode.IsDir() {
		return os.MkdirAll(path, 0o755)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if p.mode&fs.ModeSymlink != 0 {
		return os.Symlink(p.link, path)
	}
	var data []byte
	if p.source != "" {
		var err error
		if data, err = os.ReadFile(p.source); err != nil {
			return err
		}
	}
	return os.WriteFile(path, data, p.mode.Perm())
}

func (c *composer) kernelFilesystems() {
	c.fs("proc", "/proc", "nosuid", "noexec", "nodev")
	c.fs("tmpfs", "/dev", "nosuid", "noexec", "strictatime", "mode=755", "size=64m")
	c.fs("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")
	c.fs("tmpfs", "/dev/shm", "nosuid", "noexec", "nodev", "mode=1777", "size=64m")
	c.fs("mqueue", "/dev/mqueue", "nosuid", "noexec", "nodev")
	c.fs("sysfs", "/sys", "nosuid", "noexec", "nodev", "ro")
	c.fs("cgroup", "/sys/fs/cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")
}

func (c *composer) temporary() {
	bytes := int64(tmpBytes)
	if limit := c.spec.GetLimits().GetMemoryBytes(); limit > 0 {
		bytes = limit / 2
	}
	size := fmt.Sprintf("size=%d", bytes)
	c.fs("tmpfs", "/tmp", "nosuid", "nodev", "mode=1777", size)
	c.fs("tmpfs", "/var/tmp", "nosuid", "nodev", "mode=1777", size)
	c.fs("tmpfs", "/run", "nosuid", "nodev", "mode=755", "size=16m")
}

// fs mounts a filesystem of its own. In /dev and /sys, places appear with the mounts there.
func (c *composer) fs(kind, target string, options ...string) {
	c.mounts = append(c.mounts, &containerpb.Mount{Source: kind, Target: target, Type: kind, Options: options})
	if !strings.HasPrefix(target, "/dev/") && !strings.HasPrefix(target, "/sys/") {
		c.places = append(c.places, place{target: target, mode: fs.ModeDir})
	}
}

// offer makes the host's path appear in the container if it exists: as a link if it is
// one to what the container has anyway, else copied or bound.
func (c *composer) offer(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSymlink == 0 {
		return c.provide(path, path, info)
	}
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if absolute := resolve(path, target); strings.HasPrefix(absolute, "/usr/") {
		c.places = append(c.places, place{target: path, mode: fs.ModeSymlink, link: target})
		return nil
	}
	source, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info, err = os.Lstat(source); err != nil {
		return err
	}
	return c.provide(source, path, info)
}

// provide copies a small file, and binds all else.
func (c *composer) provide(source, target string, info fs.FileInfo) error {
	if !info.Mode().IsRegular() || info.Size() > copyBytes {
		return c.bind(source, target)
	}
	version := fmt.Sprintf("%d bytes of %d", info.Size(), info.ModTime().UnixNano())
	c.places = append(c.places, place{target: target, mode: info.Mode().Perm(), source: source, version: version})
	return nil
}

// resolve is where a link at path points to.
func resolve(path, target string) string {
	if filepath.IsAbs(target) {
		return filepath.Clean(target)
	}
	return filepath.Join(filepath.Dir(path), target)
}

func (c *composer) bind(source, target string) error {
	return c.mount(&containerpb.Mount{Source: source, Target: target, Type: "bind", Options: readOnly})
}

func (c *composer) mount(m *containerpb.Mount) error {
	info, err := os.Stat(m.Source)
	if err != nil {
		return err
	}
	c.mounts = append(c.mounts, m)
	c.places = append(c.places, place{target: m.Target, mode: info.Mode().Type() | 0o644})
	return nil
}

// mountBelow finds a mount at dir or below.
func mountBelow(dir string) (string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer f.Close()
	// Mountinfo writes a few characters of a path as \ooo.
	dir = strings.NewReplacer(`\`, `\134`, " ", `\040`, "\t", `\011`, "\n", `\012`).Replace(filepath.Clean(dir))
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && (fields[4] == dir || strings.HasPrefix(fields[4], dir+"/")) {
			return fields[4], nil
		}
	}
	return "", lines.Err()
}
