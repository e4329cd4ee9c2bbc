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

// errSwapped says that a private copy is not what was copied.
var errSwapped = errors.New("was changed after gantry copied it; restart gantry to take a new one")

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

// pinned is a private copy of a file, named after its digest.
type pinned struct {
	what   string // binary or module, for messages
	path   string
	digest string // sha256 in hex
}

// verify holds the copy against its digest.
func (p pinned) verify() error {
	f, err := os.Open(p.path)
	if err != nil {
		return fmt.Errorf("check the %s: %w", p.what, err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("check the %s: %w", p.what, err)
	}
	if hex.EncodeToString(h.Sum(nil)) != p.digest {
		return fmt.Errorf("the %s %w", p.what, errSwapped)
	}
	return nil
}

// pinBinary copies the binary at path into dir.
func pinBinary(path, dir string) (pinned, error) {
	p, err := pin("binary", path, dir, 0o500)
	if errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("there is no binary %s; make build puts it there", path)
	}
	return p, err
}

// pinModule copies the module at path into dir.
func pinModule(path, dir string) (pinned, error) {
	p, err := pin("module", path, dir, 0o400)
	if errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Errorf("there is no module %s; build it, or write its absolute path", path)
	}
	return p, err
}

// pin copies the file at path into dir, with that mode.
func pin(what, path, dir string, mode fs.FileMode) (pinned, error) {
	in, err := os.Open(path)
	if err != nil {
		return pinned{}, err
	}
	defer in.Close()
	info, err := in.Stat()
	switch {
	case err != nil:
		return pinned{}, err
	case !info.Mode().IsRegular():
		return pinned{}, fmt.Errorf("%s is not a file", path)
	case mode&0o111 != 0 && info.Mode()&0o111 == 0:
		return pinned{}, fmt.Errorf("%s is not an executable file", path)
	case info.Mode()&0o002 != 0:
		return pinned{}, fmt.Errorf("%s can be changed by anybody; chmod o-w it", path)
	}
	out, err := os.CreateTemp(dir, "new-")
	if err != nil {
		return pinned{}, err
	}
	defer os.Remove(out.Name()) // once it is renamed this fails, as it should
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(out, h), in)
	if err := errors.Join(err, out.Chmod(mode), out.Close()); err != nil {
		return pinned{}, fmt.Errorf("copy %s: %w", path, err)
	}
	p := pinned{what: what, digest: hex.EncodeToString(h.Sum(nil))}
	p.path = filepath.Join(dir, p.digest)
	if err := os.Rename(out.Name(), p.path); err != nil {
		return pinned{}, fmt.Errorf("copy %s: %w", path, err)
	}
	return p, nil
}
