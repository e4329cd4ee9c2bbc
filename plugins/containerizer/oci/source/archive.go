package source

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// maxMembers bounds what an archive of images may hold.
const maxMembers = 10_000

// Archive reads the image PATH[:REFERENCE] of what `docker save` wrote, a file below roots.
// Without a reference the archive must hold one image.
func Archive(roots Roots, reference string) (*Image, error) {
	file, want := cutArchive(reference)
	image, err := readArchive(roots, file, want)
	if err != nil {
		return nil, fmt.Errorf("archive %s: %w", file, err)
	}
	return image, nil
}

// cutArchive separates the path of the file from a reference, which may have slashes.
func cutArchive(reference string) (string, string) {
	if i := strings.Index(reference, ".tar:"); i >= 0 {
		return reference[:i+len(".tar")], reference[i+len(".tar:"):]
	}
	return cutTag(reference)
}

func readArchive(roots Roots, file, want string) (*Image, error) {
	a, err := openArchive(roots, file)
	if err != nil {
		return nil, err
	}
	defer a.file.Close()
	raw, err := a.document("manifest.json")
	if err != nil {
		return nil, err
	}
	var images []saved
	if err := json.Unmarshal(raw, &images); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	s, err := pick(images, want)
	if err != nil {
		return nil, err
	}
	if raw, err = a.document(s.Config); err != nil {
		return nil, err
	}
	// Whoever wrote the archive named the configuration after its digest, one way or another.
	digest, err := v1.NewHash("sha256:" + strings.TrimPrefix(strings.TrimSuffix(path.Base(s.Config), ".json"), "sha256:"))
	if err != nil {
		return nil, fmt.Errorf("configuration %q is not named after its digest", s.Config)
	}
	config, err := parseConfig(raw, digest)
	if err != nil {
		return nil, err
	}
	if len(s.Layers) != len(config.RootFS.DiffIDs) {
		return nil, fmt.Errorf("the image has %d layers, but its configuration knows %d", len(s.Layers), len(config.RootFS.DiffIDs))
	}
	image := &Image{Digest: digest.String(), Config: config.Config}
	for i, member := range s.Layers {
		at, err := a.find(member)
		if err != nil {
			return nil, err
		}
		image.Layers = append(image.Layers, Layer{config.RootFS.DiffIDs[i], func(context.Context) (io.ReadCloser, error) {
			return openMember(roots, file, at)
		}})
	}
	return image, nil
}

// saved is one image in manifest.json.
type saved struct {
	Config   string
	RepoTags []string
	Layers   []string
}

func pick(images []saved, want string) (saved, error) {
	var known []string
	for _, s := range images {
		known = append(known, s.RepoTags...)
		if want != "" && slices.Contains(s.RepoTags, want) {
			return s, nil
		}
	}
	switch {
	case want != "":
		return saved{}, fmt.Errorf("it has no image %q; it has %q", want, known)
	case len(images) == 0:
		return saved{}, errors.New("it has no images")
	case len(images) > 1:
		return saved{}, fmt.Errorf("it has several images: name one of %q, as in docker-archive:PATH:NAME", known)
	}
	return images[0], nil
}

// archive knows where the members of a tar file are.
type archive struct {
	file    *os.File
	members map[string]member
}

type member struct {
	offset, size int64
	// link is the member that this one is another name of.
	link string
}

func openArchive(roots Roots, path string) (*archive, error) {
	f, err := openBelow(roots, path)
	if err != nil {
		return nil, err
	}
	a := &archive{file: f, members: map[string]member{}}
	if err := a.scan(); err != nil {
		f.Close() // read only
		return nil, err
	}
	return a, nil
}

func openBelow(roots Roots, path string) (*os.File, error) {
	root, local, err := roots.open(path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return openFile(root, local)
}

func (a *archive) scan() error {
	for r := tar.NewReader(a.file); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it is not a tar of images: %w", err)
		}
		if len(a.members) == maxMembers {
			return fmt.Errorf("it has more than %d members", maxMembers)
		}
		m := member{size: h.Size}
		switch h.Typeflag {
		case tar.TypeReg:
		case tar.TypeSymlink:
			m.link = path.Join(path.Dir(h.Name), h.Linkname)
		case tar.TypeLink:
			m.link = path.Clean(h.Linkname)
		default:
			continue
		}
		// A tar's reader takes no more of a file than the header, and seeks over the rest.
		if m.offset, err = a.file.Seek(0, io.SeekCurrent); err != nil {
			return err
		}
		a.members[path.Clean(h.Name)] = m
	}
}

// find follows the links of the archive, which are few.
func (a *archive) find(name string) (member, error) {
	at := path.Clean(name)
	for range 4 {
		m, ok := a.members[at]
		if !ok {
			return member{}, fmt.Errorf("it lacks %q", name)
		}
		if m.link == "" {
			return m, nil
		}
		at = m.link
	}
	return member{}, fmt.Errorf("%q is a link to a link to a link", name)
}

func (a *archive) document(name string) ([]byte, error) {
	m, err := a.find(name)
	if err != nil {
		return nil, err
	}
	raw, err := readAll(io.NewSectionReader(a.file, m.offset, m.size), name)
	if err != nil {
		return nil, err
	}
	return raw, nil
}

func openMember(roots Roots, path string, m member) (io.ReadCloser, error) {
	f, err := openBelow(roots, path)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, m.offset, m.size), f}, nil
}
