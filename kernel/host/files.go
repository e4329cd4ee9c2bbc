package host

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// maxSocketDir is how long the folder of sockets may be: the path of a socket has at
// most 107 bytes, and go-plugin makes a folder and a file below ours.
const maxSocketDir = 56

// emptyDir makes dir an empty folder that nobody else can enter.
func emptyDir(dir string) error {
	info, err := os.Lstat(dir)
	if err == nil {
		// In a shared folder like /tmp somebody else may have been first.
		if stat, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(stat.Uid) != os.Geteuid() {
			return fmt.Errorf("make folder %s: something that is not ours is there; remove it", dir)
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Mkdir(dir, 0o700)
}

// socketDir is the folder for sockets of the host whose run folder is dir: below it, or,
// when that is too long, in the system's folder for temporary files.
func socketDir(dir string) string {
	if below := filepath.Join(dir, "s"); len(below) <= maxSocketDir {
		return below
	}
	sum := sha256.Sum256([]byte(dir))
	return filepath.Join(os.TempDir(), "gantry-"+hex.EncodeToString(sum[:4])+"-plugins")
}

// copyBinary copies the binary at path into dir under its digest, and returns both.
func copyBinary(path, dir string) (copied, digest string, err error) {
	in, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", fmt.Errorf("there is no binary %s; make build puts it there", path)
	}
	if err != nil {
		return "", "", err
	}
	defer in.Close()
	info, err := in.Stat()
	switch {
	case err != nil:
		return "", "", err
	case !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		return "", "", fmt.Errorf("%s is not an executable file", path)
	case info.Mode()&0o002 != 0:
		return "", "", fmt.Errorf("%s can be changed by anybody; chmod o-w it", path)
	}
	out, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return "", "", err
	}
	defer os.Remove(out.Name()) // once it is renamed this fails, as it should
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	if err := errors.Join(err, out.Chmod(0o500), out.Close()); err != nil {
		return "", "", fmt.Errorf("copy %s: %w", path, err)
	}
	digest = hex.EncodeToString(h.Sum(nil))
	copied = filepath.Join(dir, digest)
	if err := os.Rename(out.Name(), copied); err != nil {
		return "", "", fmt.Errorf("copy %s: %w", path, err)
	}
	return copied, digest, nil
}
