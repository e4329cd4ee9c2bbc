package sandbox

import (
	"archive/tar"
	"archive/zip"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// maxEntries bounds what one archive may unpack.
const maxEntries = 1 << 17

// entry is a file, folder or link of an archive.
type entry struct {
	name string
	mode fs.FileMode
	// link is what a symbolic link points to, hard the entry that a hard link repeats.
	link, hard string
	content    io.Reader
}

// unpacking hands out the entries of an archive in turn.
type unpacking func(archive *os.File, take func(entry) error) error

// unpackers are by the endings of the names that clients expect to be unpacked.
var unpackers = []struct {
	ending string
	unpack unpacking
}{
	{".tar.gz", unzipped(untar)}, {".tgz", unzipped(untar)}, {".tar.bz2", bunzipped}, {".tbz2", bunzipped},
	{".tar.xz", nil}, {".txz", nil}, {".tar", func(f *os.File, take func(entry) error) error { return untar(f, take) }},
	{".zip", unzip}, {".gz", unzipped(plain)},
}

// unpacker is what unpacks a file of this name, or nil if it is to stay as it is.
func unpacker(uri *mesos.CommandInfo_URI, name string) (unpacking, error) {
	if !uri.GetExtract() || uri.GetExecutable() {
		return nil, nil
	}
	for _, u := range unpackers {
		if !strings.HasSuffix(name, u.ending) {
			continue
		}
		if u.unpack == nil {
			return nil, fmt.Errorf("unpacking %s is %w: set extract to false, and unpack it in the command", u.ending, ErrUnsupported)
		}
		return u.unpack, nil
	}
	return nil, nil
}

func unzipped(next func(io.Reader, func(entry) error) error) unpacking {
	return func(f *os.File, take func(entry) error) error {
		z, err := gzip.NewReader(f)
		if err != nil {
			return err
		}
		return next(z, func(e entry) error {
			if e.name == "" { // one file, named after its archive
				e.name = strings.TrimSuffix(filepath.Base(f.Name()), ".gz")
			}
			return take(e)
		})
	}
}

func bunzipped(f *os.File, take func(entry) error) error { return untar(bzip2.NewReader(f), take) }

func plain(in io.Reader, take func(entry) error) error {
	return take(entry{mode: 0o644, content: in})
}

func untar(in io.Reader, take func(entry) error) error {
	t := tar.NewReader(in)
	for {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		e := entry{name: h.Name, mode: h.FileInfo().Mode(), content: t}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeDir:
		case tar.TypeSymlink:
			e.link = h.Linkname
		case tar.TypeLink:
			e.hard, e.mode = h.Linkname, h.FileInfo().Mode().Perm()
		case tar.TypeXGlobalHeader:
			continue
		default:
			return fmt.Errorf("%w: %s is no file, folder or link", ErrDenied, h.Name)
		}
		if err := take(e); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

func unzip(f *os.File, take func(entry) error) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	z, err := zip.NewReader(f, info.Size())
	if err != nil {
		return err
	}
	for _, file := range z.File {
		if err := unzipEntry(file, take); err != nil {
			return fmt.Errorf("%s: %w", file.Name, err)
		}
	}
	return nil
}

func unzipEntry(file *zip.File, take func(entry) error) error {
	content, err := file.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	e := entry{name: file.Name, mode: file.Mode(), content: content}
	if e.mode&fs.ModeSymlink != 0 {
		const longest = 4096
		link, err := io.ReadAll(io.LimitReader(content, longest))
		if err != nil {
			return err
		}
		e.link = string(link)
	}
	return take(e)
}

// unpack unpacks a file of the sandbox into it; the file stays.
func (f *fetcher) unpack(ctx context.Context, name string, unpack unpacking) error {
	archive, err := f.to.Open(name)
	if err != nil {
		return err
	}
	defer archive.Close()
	entries := 0
	return unpack(archive, func(e entry) error {
		if entries++; entries > maxEntries {
			return fmt.Errorf("%w: the archive has more than %d entries", ErrDenied, maxEntries)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.content != nil {
			e.content = reader{ctx, e.content}
		}
		return f.place(e)
	})
}

// place makes an entry in the sandbox. Nothing is made through a link, and no link leads
// out: Root would not follow it, but the command would.
func (f *fetcher) place(e entry) error {
	name := filepath.Clean(e.name)
	switch {
	case name == ".":
		return nil
	case !filepath.IsLocal(name):
		return fmt.Errorf("%w: it is outside of the sandbox", ErrDenied)
	case name == "stdout" || name == "stderr":
		return fmt.Errorf("%w: %s is the command's own output", ErrDenied, name)
	}
	if err := f.noLinks(filepath.Dir(name)); err != nil {
		return err
	}
	if err := f.makeDirs(filepath.Dir(name)); err != nil {
		return err
	}
	switch {
	case e.mode.IsDir():
		return f.makeDirs(name)
	case e.link != "":
		if filepath.IsAbs(e.link) || !filepath.IsLocal(filepath.Join(filepath.Dir(name), e.link)) {
			return fmt.Errorf("%w: it is a link to %s, outside of the sandbox", ErrDenied, e.link)
		}
		// Clean, so that no link on its way can make its ".." mean another folder's.
		return errors.Join(f.to.Symlink(filepath.Clean(e.link), name), f.to.Lchown(name, f.config.UID, f.config.GID))
	case e.hard != "":
		return f.repeat(filepath.Clean(e.hard), name)
	case !e.mode.IsRegular():
		return fmt.Errorf("%w: it is no file, folder or link", ErrDenied)
	}
	return f.copy(e.content, name, e.mode.Perm())
}

// noLinks says whether a folder, as far as it is there, is one all the way.
func (f *fetcher) noLinks(dir string) error {
	for ; dir != "."; dir = filepath.Dir(dir) {
		info, err := f.to.Lstat(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%w: %s is no folder", ErrDenied, dir)
		}
	}
	return nil
}

// repeat makes a hard link to a file that was unpacked before.
func (f *fetcher) repeat(earlier, name string) error {
	if !filepath.IsLocal(earlier) {
		return fmt.Errorf("%w: it repeats %s, outside of the sandbox", ErrDenied, earlier)
	}
	if err := f.noLinks(filepath.Dir(earlier)); err != nil {
		return err
	}
	info, err := f.to.Lstat(earlier)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%w: it repeats %s, which is no file", ErrDenied, earlier)
	}
	if err != nil {
		return err
	}
	return f.to.Link(earlier, name)
}
