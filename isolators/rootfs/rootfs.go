// Package rootfs composes the root filesystem of a container that brings no image of
// its own: programs and libraries of the host, read-only, and nothing else of it.
//
// /usr is the host's, and with it what the host's /bin, /sbin and /lib* are; /etc has
// the few files that programs need to resolve names and verify certificates; /proc,
// /sys and /dev are the container's own; /tmp, /run and /var/tmp are empty and in
// memory. The host's other directories do not exist in it.
//
//	spec := &containerpb.Spec{Id: "c1", Argv: argv, Cwd: rootfs.Sandbox}
//	err := rootfs.Compose(spec, filepath.Join(containerDir, "rootfs"), sandboxDir)
//	...
//	err = rootfs.Remove(filepath.Join(containerDir, "rootfs"))
package rootfs

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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

var readOnly = []string{"rbind", "rro", "rnosuid", "rnodev"}

// Compose makes the directory dir, which must not exist, the root of spec: it sets
// Rootfs, Mounts and Links, with the host directory sandbox mounted writable at Sandbox.
// Where spec has memory limits, /tmp and /var/tmp may each grow to half of them. After an
// error Remove clears what was begun.
func Compose(spec *containerpb.Spec, dir, sandbox string) error {
	c := &composer{spec: spec, dir: dir}
	if err := c.compose(sandbox); err != nil {
		return fmt.Errorf("compose root filesystem of container %s: %w", spec.GetId(), err)
	}
	spec.Rootfs, spec.WritableRootfs = dir, false
	spec.Mounts, spec.Links = c.mounts, c.links
	return nil
}

// Remove removes what Compose made at dir. It refuses while anything is mounted below
// it: that would delete what is not a container's. A missing dir is no error.
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

type composer struct {
	spec   *containerpb.Spec
	dir    string
	mounts []*containerpb.Mount
	links  map[string]string
}

func (c *composer) compose(sandbox string) error {
	if !filepath.IsAbs(c.dir) || !filepath.IsAbs(sandbox) {
		return fmt.Errorf("directories must be absolute: %q, %q", c.dir, sandbox)
	}
	if err := os.MkdirAll(filepath.Dir(c.dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(c.dir, 0o755); err != nil {
		return err
	}
	c.links = make(map[string]string)
	steps := []error{c.kernelFilesystems(), c.temporary(), c.bind("/usr")}
	for _, p := range systemDirs {
		steps = append(steps, c.offer(p))
	}
	for _, p := range etc {
		steps = append(steps, c.offer(p))
	}
	steps = append(steps, c.mount(&containerpb.Mount{
		Source: sandbox, Target: Sandbox, Type: "bind", Options: []string{"rbind", "nosuid", "nodev"},
	}))
	return errors.Join(steps...)
}

func (c *composer) kernelFilesystems() error {
	return errors.Join(
		c.mount(fs("proc", "/proc", "nosuid", "noexec", "nodev")),
		c.mount(fs("tmpfs", "/dev", "nosuid", "noexec", "strictatime", "mode=755", "size=64m")),
		c.mount(fs("devpts", "/dev/pts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620")),
		c.mount(fs("tmpfs", "/dev/shm", "nosuid", "noexec", "nodev", "mode=1777", "size=64m")),
		c.mount(fs("mqueue", "/dev/mqueue", "nosuid", "noexec", "nodev")),
		c.mount(fs("sysfs", "/sys", "nosuid", "noexec", "nodev", "ro")),
		c.mount(fs("cgroup", "/sys/fs/cgroup", "nosuid", "noexec", "nodev", "relatime", "ro")),
	)
}

func (c *composer) temporary() error {
	bytes := int64(tmpBytes)
	if limit := c.spec.GetLimits().GetMemoryBytes(); limit > 0 {
		bytes = limit / 2
	}
	size := fmt.Sprintf("size=%d", bytes)
	return errors.Join(
		c.mount(fs("tmpfs", "/tmp", "nosuid", "nodev", "mode=1777", size)),
		c.mount(fs("tmpfs", "/var/tmp", "nosuid", "nodev", "mode=1777", size)),
		c.mount(fs("tmpfs", "/run", "nosuid", "nodev", "mode=755", "size=16m")),
	)
}

func fs(kind, target string, options ...string) *containerpb.Mount {
	return &containerpb.Mount{Source: kind, Target: target, Type: kind, Options: options}
}

// offer makes the host's path appear in the container if it exists: as a link if it is
// one to what the container has anyway, else bound.
func (c *composer) offer(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&os.ModeSymlink == 0 {
		return c.bind(path)
	}
	target, err := os.Readlink(path)
	if err != nil {
		return err
	}
	if absolute := resolve(path, target); strings.HasPrefix(absolute, "/usr/") {
		c.links[path] = target
		return nil
	}
	source, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return c.bindAs(source, path)
}

// resolve is where a link at path points to.
func resolve(path, target string) string {
	if filepath.IsAbs(target) {
		return filepath.Clean(target)
	}
	return filepath.Join(filepath.Dir(path), target)
}

func (c *composer) bind(path string) error { return c.bindAs(path, path) }

func (c *composer) bindAs(source, target string) error {
	return c.mount(&containerpb.Mount{Source: source, Target: target, Type: "bind", Options: readOnly})
}

// mount adds m and makes the place for it, but for places in /dev and /sys, which
// appear with the mounts there.
func (c *composer) mount(m *containerpb.Mount) error {
	c.mounts = append(c.mounts, m)
	if strings.HasPrefix(m.Target, "/dev/") || strings.HasPrefix(m.Target, "/sys/") {
		return nil
	}
	place := filepath.Join(c.dir, m.Target)
	if m.Type == "bind" {
		info, err := os.Stat(m.Source)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return touch(place)
		}
	}
	return os.MkdirAll(place, 0o755)
}

func touch(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	return f.Close()
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
