package sandbox_test

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/isolators/sandbox"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func TestFetchFromTheWeb(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/there/app":
			fmt.Fprint(w, "app of ", r.URL.RawQuery)
		case "/moved":
			http.Redirect(w, r, "/there/app", http.StatusFound)
		case "/round":
			http.Redirect(w, r, "/round", http.StatusFound)
		case "/large":
			fmt.Fprint(w, strings.Repeat("x", 101))
		case "/endless":
			for range 1000 {
				fmt.Fprint(w, strings.Repeat("x", 50))
				w.(http.Flusher).Flush()
			}
		case "/cut":
			w.Header().Set("Content-Length", "50")
			fmt.Fprint(w, "short")
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()

	app := uri(server.URL + "/there/app?v=1")
	app.Executable = proto.Bool(true)
	moved := uri(server.URL + "/moved")
	moved.OutputFile = proto.String("deep/moved")
	dir, err := prepare(t, "", app, moved)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"app": "app of v=1", "deep/moved": "app of "} {
		if data, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(data) != want {
			t.Errorf("%s: %q, %v; want %q", name, data, err, want)
		}
	}
	if info, err := os.Stat(filepath.Join(dir, "app")); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("app: %v, %v", info, err)
	}

	for path, says := range map[string]string{
		"/none": "404 Not Found", "/round": "redirects", "/large": "more than 100 bytes", "/endless": "more than 100 bytes",
		"/cut": "unexpected EOF", "": "output_file",
	} {
		_, err := prepare(t, "", uri(server.URL+path))
		if err == nil || !strings.HasPrefix(err.Error(), "failed to fetch "+server.URL+path+": ") || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %s named", path, err, says)
		}
	}
}

// file is one entry of an archive that a test makes.
type file struct {
	name, content, link string
	mode                int64
}

func tarOf(files ...file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Size: int64(len(f.content)), Mode: f.mode, Typeflag: tar.TypeReg}
		switch {
		case f.link != "" && f.mode < 0:
			h.Typeflag, h.Linkname, h.Mode = tar.TypeLink, f.link, 0
		case f.link != "":
			h.Typeflag, h.Linkname = tar.TypeSymlink, f.link
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		case f.content == "fifo":
			h.Typeflag, h.Size, f.content = tar.TypeFifo, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := w.Write([]byte(f.content)); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func zipOf(files ...file) []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, f := range files {
		h := &zip.FileHeader{Name: f.name, Method: zip.Deflate}
		h.SetMode(fs.FileMode(f.mode))
		if f.link != "" {
			h.SetMode(fs.ModeSymlink | 0o777)
			f.content = f.link
		}
		entry, err := w.CreateHeader(h)
		if err == nil {
			_, err = entry.Write([]byte(f.content))
		}
		if err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func gzipOf(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, err := w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// unpack serves an archive and fetches it into a sandbox, beside which lies a file that is none of its business.
func unpack(t *testing.T, name string, archive []byte, maxBytes int64) (string, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(archive) }))
	defer server.Close()
	work := t.TempDir()
	must(t, os.WriteFile(filepath.Join(work, "secret"), []byte("secret"), 0o600))
	dir := filepath.Join(work, "box")
	err := sandbox.Prepare(t.Context(), sandbox.Config{
		Dir: dir, UID: os.Getuid(), GID: os.Getgid(), MaxBytes: maxBytes,
	}, []*mesos.CommandInfo_URI{uri(server.URL + "/" + name)})
	entries, listErr := os.ReadDir(work)
	must(t, listErr)
	if secret, readErr := os.ReadFile(filepath.Join(work, "secret")); len(entries) != 2 || string(secret) != "secret" {
		t.Errorf("what is outside of the sandbox was changed: %v, %q, %v", entries, secret, readErr)
	}
	return dir, err
}

func TestUnpack(t *testing.T) {
	tree := []file{
		{name: "./", mode: 0o755}, {name: "bin/", mode: 0o700}, {name: "bin/app", content: "app", mode: 0o4755},
		{name: "lib/deep/data", content: "data", mode: 0o600}, {name: "lib/here", link: "../bin/app"},
	}
	for name, archive := range map[string][]byte{
		"a.tar": tarOf(tree...), "a.tar.gz": gzipOf(tarOf(tree...)), "a.tgz": gzipOf(tarOf(tree...)), "a.zip": zipOf(tree[2:]...),
	} {
		dir, err := unpack(t, name, archive, 0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for path, want := range map[string]string{"bin/app": "app", "lib/deep/data": "data", "lib/here": "app"} {
			if data, err := os.ReadFile(filepath.Join(dir, path)); err != nil || string(data) != want {
				t.Errorf("%s: %s is %q, %v", name, path, data, err)
			}
		}
		if info, err := os.Stat(filepath.Join(dir, "bin/app")); err != nil || info.Mode() != 0o755 {
			t.Errorf("%s: bin/app is %v, %v: no file runs as its owner", name, info.Mode(), err)
		}
	}
	dir, err := unpack(t, "notes.txt.gz", gzipOf([]byte("notes")), 0)
	if data, readErr := os.ReadFile(filepath.Join(dir, "notes.txt")); err != nil || string(data) != "notes" {
		t.Errorf("a file: %q, %v, %v", data, err, readErr)
	}
}

func TestUnpackRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		archive []byte
		says    string
	}{
		"out":                 {tarOf(file{name: "../secret", content: "mine"}), "outside"},
		"out, deeper":         {tarOf(file{name: "a/../../secret", content: "mine"}), "outside"},
		"absolute":            {tarOf(file{name: "/etc/evil", content: "mine"}), "outside"},
		"link out":            {tarOf(file{name: "l", link: "../secret"}), "outside"},
		"absolute link":       {tarOf(file{name: "l", link: "/etc/shadow"}), "outside"},
		"through a link":      {tarOf(file{name: "d/"}, file{name: "l", link: "d"}, file{name: "l/x", content: "x"}), "no folder"},
		"climbing by a link":  {tarOf(file{name: "a/b/"}, file{name: "a/b/up", link: "../.."}, file{name: "a/b/up/l", link: "../../x"}), "no folder"},
		"hard link out":       {tarOf(file{name: "h", link: "../secret", mode: -1}), "outside"},
		"hard link to a link": {tarOf(file{name: "l", link: "x"}, file{name: "h", link: "l", mode: -1}), "no file"},
		"the output":          {tarOf(file{name: "stdout", content: "x"}), "output"},
		"a fifo":              {tarOf(file{name: "f", content: "fifo"}), "no file, folder or link"},
		"twice":               {tarOf(file{name: "x", content: "x"}, file{name: "x", content: "y"}), "exists"},
		"a bomb":              {gzipOf(tarOf(file{name: "x", content: strings.Repeat("x", 1<<20)})), "more than 100000 bytes"},
		"no archive":          {[]byte("not a tar, however long it is read"), ""},
	} {
		ending := "a.tar"
		if bytes.HasPrefix(tc.archive, []byte{0x1f, 0x8b}) {
			ending = "a.tar.gz"
		}
		_, err := unpack(t, ending, tc.archive, 100_000)
		if err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v; want %q named", name, err, tc.says)
		}
	}
	for name, f := range map[string]file{"out": {name: "../secret", content: "x"}, "link out": {name: "l", link: "../secret"}} {
		if _, err := unpack(t, "a.zip", zipOf(f), 0); !errors.Is(err, sandbox.ErrDenied) {
			t.Errorf("zip, %s: %v", name, err)
		}
	}
}
