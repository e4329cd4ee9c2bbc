package cli

import (
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Agents fetch the module by its address, and nobody anything else.
func TestServeModule(t *testing.T) {
	master, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	file := filepath.Join(t.TempDir(), "a module.wasm")
	if err := os.WriteFile(file, []byte("\x00asm and more"), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := serveModule(t.Context(), file, master.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer m.close()
	if m.image() != "wasm:/module.wasm" || m.fetch().GetOutputFile() != "module.wasm" || !strings.HasPrefix(m.uri, "http://127.0.0.1:") {
		t.Errorf("%s, %v", m.image(), m.fetch())
	}
	get := func(uri string) (int, string) {
		t.Helper()
		resp, err := http.Get(uri)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	for range 2 {
		if status, text := get(m.uri); status != http.StatusOK || text != "\x00asm and more" {
			t.Errorf("%d: %q", status, text)
		}
	}
	top := strings.Join(strings.Split(m.uri, "/")[:3], "/")
	for _, path := range []string{"/", "/module.wasm", "/0123456789abcdef0123456789abcdef/module.wasm"} {
		if status, _ := get(top + path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	m.close()
	if _, err := http.Get(m.uri); err == nil {
		t.Error("it is served on")
	}
}

func TestServeModuleRefuses(t *testing.T) {
	script := filepath.Join(t.TempDir(), "x.sh")
	if err := os.WriteFile(script, []byte("#!/bin/sh"), 0o600); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{script: "is no WASM module", script + "x": "no such file", t.TempDir(): "is a directory"} {
		if _, err := serveModule(t.Context(), file, "127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, not %q", file, err, want)
		}
	}
	var none *moduleServer
	none.close()
}
