package source

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Roots are the folders that images may be read from, absolute.
type Roots []string

// open opens the folder that holds path, which is absolute, through the root that it is
// below of: so no link in it leads anywhere else. The name is that of path in the folder.
func (r Roots) open(path string) (folder *os.Root, name string, err error) {
	path = filepath.Clean(path)
	for _, root := range r {
		local, err := filepath.Rel(root, path)
		if err != nil || !filepath.IsLocal(local) {
			continue
		}
		folder, err := os.OpenRoot(root)
		if err != nil {
			return nil, "", fmt.Errorf("open the folder of images: %w", err)
		}
		return folder, local, nil
	}
	if len(r) == 0 {
		return nil, "", fmt.Errorf("%w: the plugin's roots name no folder", ErrDenied)
	}
	return nil, "", fmt.Errorf("%w: %s is below none of %s", ErrDenied, path, strings.Join(r, ", "))
}

// openFile opens a plain file: nothing that would block, or go on for ever.
func openFile(folder *os.Root, name string) (*os.File, error) {
	f, err := folder.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s", name)
	}
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		f.Close() // read only
		return nil, fmt.Errorf("%s is not a file", name)
	}
	return f, nil
}

// readAll reads a document whole.
func readAll(r io.Reader, what string) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if len(raw) > maxDocument {
		return nil, fmt.Errorf("%s has more than %d bytes", what, maxDocument)
	}
	return raw, nil
}

// cutTag separates PATH from a [:TAG] behind its last slash.
func cutTag(path string) (string, string) {
	slash := strings.LastIndexByte(path, '/')
	if i := strings.IndexByte(path[slash+1:], ':'); i >= 0 {
		return path[:slash+1+i], path[slash+2+i:]
	}
	return path, ""
}
