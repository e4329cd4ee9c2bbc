package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

// files has the page: built by make where node is, and a plain one that is always there.
//
//go:embed page
var files embed.FS

// policy lets the page load from its own address and nowhere else. Nothing may turn text
// into markup or code: no inline script, and no assignment of text to where markup goes.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// site is all that the plugin serves: the page, and the data that is not the master's own.
type site struct {
	path  string // where the master passes requests on, besides its own /
	pages pages
	data  *data
}

// ServeHTTP serves the same below / and below the plugin's own path.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	place := strings.TrimPrefix(r.URL.Path, "/")
	if rest, ok := strings.CutPrefix(r.URL.Path, s.path); ok {
		place = rest
	}
	answer := s.data.answer(place)
	if f, ok := s.pages[place]; ok {
		answer = f.serve
	}
	switch {
	case answer == nil:
		http.Error(w, fmt.Sprintf("There is nothing at %.200q.", r.URL.Path), http.StatusNotFound)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "The page and its data are read only: send a GET.", http.StatusMethodNotAllowed)
	default:
		answer(w, r)
	}
}

// pages are the files of the page by their place; "" is the page itself.
type pages map[string]file

// file is one file of the page.
type file struct {
	mediaType  string
	text, gzip []byte
	tag        string
	forever    bool // its name changes with its text
}

// newPages reads the files of the page, or the plain one where it was not built.
func newPages(files fs.FS) (pages, error) {
	p := pages{}
	built, err := fs.Sub(files, "page/built")
	if err != nil {
		return nil, err
	}
	if _, err := fs.Stat(built, "index.html"); err != nil {
		return p, p.add(files, "page/plain.html", "")
	}
	err = fs.WalkDir(built, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		return p.add(built, name, strings.TrimSuffix(name, "index.html"))
	})
	if err != nil {
		return nil, fmt.Errorf("read the page: %w", err)
	}
	return p, nil
}

func (p pages) add(files fs.FS, name, place string) error {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return err
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	p[place] = file{
		mediaType: mime.TypeByExtension(path.Ext(name)), text: text, gzip: packed.Bytes(),
		tag: fmt.Sprintf(`"%x"`, sha256.Sum256(text))[:18] + `"`, forever: strings.HasPrefix(place, "assets/"),
	}
	return nil
}

func (f file) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Type", f.mediaType)
	h.Set("ETag", f.tag)
	h.Set("Vary", "Accept-Encoding")
	h.Set("Cache-Control", "no-cache")
	if f.forever {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	text := f.text
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h.Set("Content-Encoding", "gzip")
		text = f.gzip
	}
	if r.Header.Get("If-None-Match") == f.tag {
		h.Del("Content-Encoding")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Length", fmt.Sprint(len(text)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(text) // a browser that is gone needs no answer
	}
}
