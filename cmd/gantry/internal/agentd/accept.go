package agentd

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/gantry-project/gantry/isolators/overlay"
	"github.com/gantry-project/gantry/isolators/rootfs"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

// Bounds of what a containerizer may say.
const (
	maxWords      = 4096      // arguments, and variables
	maxWordsBytes = 128 << 10 // of either
	maxMounts     = 64
	maxDigest     = 128
	maxGroups     = 64
	maxID         = math.MaxInt32 // larger ids are negative to some programs
)

var (
	// shared are the host's folders that every container may see.
	shared = []string{"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"}
	// reserved are the places where the kernel's own mounts are.
	reserved = []string{"/proc", "/sys", "/dev", rootfs.Sandbox}
	readOnly = []string{"rbind", "rro", "rnosuid", "rnodev"}
)

// accepted is a containerizer's answer that was found to be within its bounds.
type accepted struct {
	*containerizerpb.PrepareResponse
	// layers are absolute, without links.
	layers []string
	mounts []*containerpb.Mount
}

// accept judges the answer of a plugin whose folder is dir. The error is for the plugin's
// author as much as for the task's.
func accept(dir string, answer *containerizerpb.PrepareResponse) (*accepted, error) {
	a := &accepted{PrepareResponse: answer}
	err := errors.Join(
		checkWords("arguments", answer.GetArgv()), checkWords("variables", answer.GetEnv()),
		checkUser(answer.GetUser()), a.findLayers(dir), a.findMounts(dir),
	)
	switch {
	case err != nil:
	case len(answer.GetArgv()) == 0 || answer.GetArgv()[0] == "":
		err = errors.New("no program")
	case slices.ContainsFunc(answer.GetEnv(), func(v string) bool { return strings.Index(v, "=") < 1 }):
		err = fmt.Errorf("variables %q, of which some are not like NAME=value", answer.GetEnv())
	case answer.GetCwd() != "" && !filepath.IsAbs(answer.GetCwd()):
		err = fmt.Errorf("a working directory %q that is not absolute", answer.GetCwd())
	case len(answer.GetDigest()) > maxDigest:
		err = fmt.Errorf("a digest of %d bytes", len(answer.GetDigest()))
	}
	if err != nil {
		return nil, fmt.Errorf("its containerizer gave what no container may have: %w", err)
	}
	return a, nil
}

func checkWords(what string, words []string) error {
	bytes := 0
	for _, w := range words {
		if strings.ContainsRune(w, 0) {
			return fmt.Errorf("%s with a zero byte", what)
		}
		bytes += len(w) + 1
	}
	if len(words) > maxWords || bytes > maxWordsBytes {
		return fmt.Errorf("%d %s of %d bytes; at most %d and %d", len(words), what, bytes, maxWords, maxWordsBytes)
	}
	return nil
}

func checkUser(u *containerizerpb.User) error {
	if len(u.GetAdditionalGids()) > maxGroups {
		return fmt.Errorf("%d groups; at most %d", len(u.GetAdditionalGids()), maxGroups)
	}
	for _, id := range append([]uint32{u.GetUid(), u.GetGid()}, u.GetAdditionalGids()...) {
		if id > maxID {
			return fmt.Errorf("user or group %d; at most %d", id, maxID)
		}
	}
	return nil
}

func (a *accepted) findLayers(dir string) error {
	if n := len(a.GetLayers()); n == 0 || n > overlay.MaxLayers {
		return fmt.Errorf("%d layers; 1 to %d", n, overlay.MaxLayers)
	}
	for _, layer := range a.GetLayers() {
		path, err := below(dir, layer)
		if err != nil {
			return fmt.Errorf("layer %q: %w", layer, err)
		}
		if info, err := os.Lstat(path); err != nil || !info.IsDir() {
			return fmt.Errorf("layer %q, which is no folder", layer)
		}
		a.layers = append(a.layers, path)
	}
	return nil
}

func (a *accepted) findMounts(dir string) error {
	if n := len(a.PrepareResponse.GetMounts()); n > maxMounts {
		return fmt.Errorf("%d mounts; at most %d", n, maxMounts)
	}
	for _, m := range a.PrepareResponse.GetMounts() {
		source, err := findSource(dir, m.GetSource())
		if err != nil {
			return fmt.Errorf("mount of %q: %w", m.GetSource(), err)
		}
		target := filepath.Clean(m.GetTarget())
		if !filepath.IsAbs(target) || target == "/" || slices.ContainsFunc(reserved, func(r string) bool { return within(r, target) || within(target, r) }) {
			return fmt.Errorf("mount at %q, which is none of its places", m.GetTarget())
		}
		a.mounts = append(a.mounts, &containerpb.Mount{Source: source, Target: target, Type: "bind", Options: readOnly})
	}
	return nil
}

// findSource is a file or folder of the plugin's, or of the host's programs.
func findSource(dir, path string) (string, error) {
	if !filepath.IsAbs(path) {
		return below(dir, path)
	}
	source, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	// What a folder of programs is a link to is one itself.
	for _, folder := range shared {
		if real, err := filepath.EvalSymlinks(folder); err == nil && within(real, source) {
			return source, checkPlain(source)
		}
	}
	return "", errors.New("it is neither the plugin's nor a folder of programs")
}

// below resolves a path that must not lead out of dir.
func below(dir, path string) (string, error) {
	if !filepath.IsLocal(path) || filepath.Clean(path) == "." {
		return "", errors.New("it leaves the plugin's folder")
	}
	top, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(filepath.Join(top, path))
	if err != nil {
		return "", err
	}
	if !within(top, real) {
		return "", errors.New("it leads out of the plugin's folder")
	}
	return real, checkPlain(real)
}

// checkPlain refuses devices, sockets and pipes.
func checkPlain(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() && !info.Mode().IsRegular() {
		return errors.New("it is neither a file nor a folder")
	}
	return nil
}

// within says whether path is dir or below it; both are clean.
func within(dir, path string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
