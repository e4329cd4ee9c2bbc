package source

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ocilayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// sample has two layers and says what it runs.
func sample(t *testing.T) v1.Image {
	t.Helper()
	image, err := random.Image(100, 2)
	if err == nil {
		image, err = mutate.Config(image, v1.Config{Entrypoint: []string{"/x"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// check holds what was found against the image.
func check(t *testing.T, found *Image, image v1.Image) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Layers) != len(layers) || len(found.Config.Entrypoint) != 1 {
		t.Fatalf("found %+v", found)
	}
	for i, l := range layers {
		if id, err := l.DiffID(); err != nil || id != found.Layers[i].DiffID {
			t.Errorf("layer %d is %s, not %s (%v)", i, found.Layers[i].DiffID, id, err)
		}
		body, err := found.Layers[i].Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(body)
		body.Close()
		if err != nil || len(got) == 0 {
			t.Errorf("layer %d: %d bytes, %v", i, len(got), err)
		}
	}
}

func TestRegistry(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	push := func(as string, image v1.Image) {
		ref, err := name.ParseReference(host + "/" + as)
		if err == nil {
			err = remote.Write(ref, image)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	image := sample(t)
	push("app:1", image)
	digest, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"/app:1", "/app@" + digest.String(), "/app:other@" + digest.String()} {
		found, err := NewRegistry(nil).Image(t.Context(), host+ref)
		if err != nil {
			t.Fatal(err)
		}
		if found.Digest != digest.String() {
			t.Errorf("%s is %s", ref, found.Digest)
		}
		check(t, found, image)
	}
	push("foreign:1", mutate.MediaType(must(t)(mutate.Append(empty.Image, mutate.Addendum{Layer: onlyLayer(t, image), MediaType: types.DockerForeignLayer})), types.DockerManifestSchema2))
	push("unknown:1", must(t)(mutate.Append(empty.Image, mutate.Addendum{Layer: onlyLayer(t, image), MediaType: "application/x-surprise"})))
	push("bare:1", empty.Image)
	for ref, want := range map[string]string{
		"/app:2":                                 "has no such image",
		"/other:1":                               "has no such image",
		"/app@sha256:" + strings.Repeat("0", 64): "has no such image",
		"/app@sha256:12":                         "is no name of an image",
		"/APP":                                   "is no name of an image",
		"/foreign:1":                             "which is none that can be unpacked",
		"/unknown:1":                             "which is none that can be unpacked",
		"/bare:1":                                "the image has no layers",
	} {
		if _, err := NewRegistry(nil).Image(t.Context(), host+ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", ref, err, want)
		}
	}
}

func must(t *testing.T) func(v1.Image, error) v1.Image {
	return func(image v1.Image, err error) v1.Image {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return image
	}
}

func onlyLayer(t *testing.T, image v1.Image) v1.Layer {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return layers[0]
}

// TestRegistryOfAnother: a platform that is not the host's is refused in words.
func TestRegistryOfAnother(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	image := sample(t)
	for as, platform := range map[string]*v1.Platform{"mine": {OS: "linux", Architecture: runtime.GOARCH}, "theirs": {OS: "plan9", Architecture: "vax"}} {
		index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
		ref, err := name.ParseReference(host + "/" + as)
		if err == nil {
			err = remote.WriteIndex(ref, index)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	found, err := NewRegistry(nil).Image(t.Context(), host+"/mine")
	if err != nil {
		t.Fatal(err)
	}
	check(t, found, image)
	if _, err := NewRegistry(nil).Image(t.Context(), host+"/theirs"); err == nil {
		t.Error("an image for another platform was accepted")
	}
}

// TestRegistryIsHostile: what a registry says is held against digests, bounded, and does not lead
// the agent elsewhere.
func TestRegistryIsHostile(t *testing.T) {
	var handler http.HandlerFunc
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler(w, r) }))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")
	digest := "sha256:" + strings.Repeat("1", 64)
	for what, test := range map[string]struct {
		answer http.HandlerFunc
		want   string
	}{
		"wrong digest": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			io.WriteString(w, `{"schemaVersion":2}`)
		}, "sha256"},
		"endless manifest": {func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
			for range 1 << 12 {
				w.Write(make([]byte, 64<<10))
			}
		}, "registry"},
		"link-local": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/latest/meta-data", http.StatusFound)
		}, "denied"},
		"plain HTTP elsewhere": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/v2/", http.StatusFound)
		}, "not allowed"},
		"secret": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) }, "does not let everybody read it"},
		"broken": {func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusTeapot) }, "status 418"},
	} {
		handler = func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/v2/" {
				return
			}
			test.answer(w, r)
		}
		if _, err := NewRegistry(nil).Image(t.Context(), host+"/x@"+digest); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, not %q", what, err, test.want)
		}
	}
	if !errors.Is(refuseLinkLocal("tcp", "169.254.169.254:80", nil), ErrDenied) || refuseLinkLocal("tcp", "127.0.0.1:80", nil) != nil {
		t.Error("link-local addresses are not told from others")
	}
}

func writeLayout(t *testing.T, dir string, images map[string]v1.Image) {
	t.Helper()
	l, err := ocilayout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for tag, image := range images {
		if err := l.AppendImage(image, ocilayout.WithAnnotations(map[string]string{tagAnnotation: tag})); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLayout(t *testing.T) {
	root := t.TempDir()
	image := sample(t)
	writeLayout(t, filepath.Join(root, "one"), map[string]v1.Image{"a": image})
	writeLayout(t, filepath.Join(root, "two"), map[string]v1.Image{"a": image, "b": sample(t)})
	for _, ref := range []string{"/one", "/one:a", "/two:a", "/./two/:a"} {
		found, err := Layout(Roots{root}, root+ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		check(t, found, image)
	}
	for ref, want := range map[string]string{
		root + "/two":       "several images",
		root + "/two:c":     `no image "c"`,
		root + "/three":     "no three/index.json",
		root + "/../x":      "not allowed",
		"/etc":              "not allowed",
		root:                "there is no index.json",
		root + "/one/blobs": "there is no",
	} {
		if _, err := Layout(Roots{root}, ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", ref, err, want)
		}
	}
	if _, err := Layout(nil, root); !errors.Is(err, ErrDenied) {
		t.Errorf("without roots: %v", err)
	}
}

// TestLayoutIsHostile: what is not what its digest says, and what leads out or blocks.
func TestLayoutIsHostile(t *testing.T) {
	for what, harm := range map[string]func(dir string, manifest v1.Hash, config v1.Hash) error{
		"manifest changed": func(dir string, manifest, _ v1.Hash) error {
			return os.WriteFile(dir+"/blobs/sha256/"+manifest.Hex, []byte("{}"), 0o644)
		},
		"config changed": func(dir string, _, config v1.Hash) error {
			return os.WriteFile(dir+"/blobs/sha256/"+config.Hex, []byte("{}"), 0o644)
		},
		"config missing": func(dir string, _, config v1.Hash) error { return os.Remove(dir + "/blobs/sha256/" + config.Hex) },
		"config leads out": func(dir string, _, config v1.Hash) error {
			path := dir + "/blobs/sha256/" + config.Hex
			return errors.Join(os.Rename(path, dir+"/../../elsewhere"), os.Symlink(dir+"/../../elsewhere", path))
		},
		"config blocks": func(dir string, _, config v1.Hash) error {
			path := dir + "/blobs/sha256/" + config.Hex
			return errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o644))
		},
		"index is long": func(dir string, _, _ v1.Hash) error { return os.Truncate(dir+"/index.json", maxDocument+1) },
		"index is none": func(dir string, _, _ v1.Hash) error { return os.WriteFile(dir+"/index.json", []byte("[1]"), 0o644) },
		"index names a path": func(dir string, _, _ v1.Hash) error {
			return os.WriteFile(dir+"/index.json", []byte(`{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:../../x"}]}`), 0o644)
		},
	} {
		root := filepath.Join(t.TempDir(), "root")
		image := sample(t)
		writeLayout(t, root+"/l", map[string]v1.Image{"a": image})
		manifest, err := image.Digest()
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigName()
		if err != nil {
			t.Fatal(err)
		}
		if err := harm(root+"/l", manifest, config); err != nil {
			t.Fatal(err)
		}
		if found, err := Layout(Roots{root}, root+"/l"); err == nil {
			t.Errorf("%s: accepted as %+v", what, found)
		}
	}
}

func TestArchive(t *testing.T) {
	root := t.TempDir()
	image, other := sample(t), sample(t)
	one, _ := name.NewTag("example.com/team/app:1")
	two, _ := name.NewTag("other:2")
	err := errors.Join(
		tarball.WriteToFile(root+"/one.tar", one, image),
		tarball.MultiWriteToFile(root+"/two.tar", map[name.Tag]v1.Image{one: image, two: other}),
	)
	if err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"/one.tar", "/one.tar:" + one.String(), "/two.tar:" + one.String()} {
		found, err := Archive(Roots{root}, root+ref)
		if err != nil {
			t.Errorf("%s: %v", ref, err)
			continue
		}
		check(t, found, image)
	}
	for ref, want := range map[string]string{
		"/two.tar": "several images", "/one.tar:x": `no image "x"`, "/none.tar": "there is no none.tar", "": "not a file",
	} {
		if _, err := Archive(Roots{root}, root+ref); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", ref, err, want)
		}
	}
}

// archiveOf writes members; one whose content begins with "-> " is a link.
func archiveOf(t *testing.T, path string, members map[string]string) {
	t.Helper()
	var text bytes.Buffer
	w := tar.NewWriter(&text)
	for name, content := range members {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), Typeflag: tar.TypeReg}
		if target, link := strings.CutPrefix(content, "-> "); link {
			h.Typeflag, h.Linkname, h.Size, content = tar.TypeSymlink, target, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), os.WriteFile(path, text.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// TestArchiveByHand: the older form, whose layers may be links, and what is none.
func TestArchiveByHand(t *testing.T) {
	root := t.TempDir()
	layer := "a layer"
	id, err := hash([]byte(layer))
	if err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH, RootFS: v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{id}}})
	if err != nil {
		t.Fatal(err)
	}
	digest, err := hash(config)
	if err != nil {
		t.Fatal(err)
	}
	manifest := func(config string) string {
		return `[{"Config":"` + config + `","RepoTags":["a:1"],"Layers":["x/layer.tar"]}]`
	}
	good := map[string]string{
		"manifest.json": manifest(digest.Hex + ".json"), digest.Hex + ".json": string(config), "x/layer.tar": "-> ../y/layer.tar", "y/layer.tar": layer,
	}
	with := func(changes map[string]string) map[string]string {
		all := map[string]string{}
		for _, from := range []map[string]string{good, changes} {
			for name, content := range from {
				if all[name] = content; content == "" {
					delete(all, name)
				}
			}
		}
		return all
	}
	for what, test := range map[string]struct {
		members map[string]string
		want    string // empty: accepted
	}{
		"good":              {good, ""},
		"no manifest":       {with(map[string]string{"manifest.json": ""}), "it lacks"},
		"bad manifest":      {with(map[string]string{"manifest.json": "{"}), "manifest.json"},
		"config changed":    {with(map[string]string{digest.Hex + ".json": "{}"}), "not what its digest says"},
		"config unnamed":    {with(map[string]string{"manifest.json": manifest("config.json"), "config.json": string(config)}), "not named after its digest"},
		"no layer":          {with(map[string]string{"y/layer.tar": ""}), "it lacks"},
		"loop of links":     {with(map[string]string{"y/layer.tar": "-> ../x/layer.tar"}), "link to a link"},
		"link out":          {with(map[string]string{"x/layer.tar": "-> ../../../etc/passwd"}), "it lacks"},
		"long manifest":     {with(map[string]string{"manifest.json": strings.Repeat(" ", maxDocument+1)}), "has more than"},
		"more layers known": {with(map[string]string{"manifest.json": strings.Replace(manifest(digest.Hex+".json"), `["x/layer.tar"]`, `["x/layer.tar","y/layer.tar"]`, 1)}), "2 layers, but its configuration knows 1"},
	} {
		path := filepath.Join(root, "a.tar")
		archiveOf(t, path, test.members)
		found, err := Archive(Roots{root}, path)
		switch {
		case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s: %v, not %q", what, err, test.want)
		case test.want == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case test.want == "":
			body, err := found.Layers[0].Open(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(body); err != nil || string(got) != layer {
				t.Errorf("%s: the layer is %q, %v", what, got, err)
			}
			body.Close()
		}
	}
	if err := os.WriteFile(root+"/junk.tar", []byte(strings.Repeat("junk", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Archive(Roots{root}, root+"/junk.tar"); err == nil {
		t.Error("junk was accepted")
	}
}
