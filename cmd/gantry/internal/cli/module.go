package cli

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"time"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const (
	// maxModuleBytes bounds what is read of a file; agents have bounds of their own.
	maxModuleBytes = 1 << 30
	wasmMagic      = "\x00asm"
	// dialWithin bounds the look at which of this host's addresses the cluster sees.
	dialWithin = 3 * time.Second
)

// moduleServer lets agents fetch one WASM module, which is a file where this command runs. Its
// address can't be guessed.
type moduleServer struct {
	name   string // of the file in a sandbox, for an image's name
	uri    string
	server *http.Server
}

// plainName is a name that can stand in an image's.
var plainName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}$`)

// serveModule reads the module and serves it on the address by which this host reaches the
// master, to agents that reach this host, until it is closed.
func serveModule(ctx context.Context, file, master string) (*moduleServer, error) {
	code, err := readModule(file)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	probe, err := (&net.Dialer{Timeout: dialWithin}).DialContext(ctx, "tcp", master)
	if err != nil {
		return nil, fmt.Errorf("find the address to serve %s on: %w", file, err)
	}
	host, _, err := net.SplitHostPort(probe.LocalAddr().String())
	probe.Close()
	if err != nil {
		return nil, fmt.Errorf("find the address to serve %s on: %w", file, err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, fmt.Errorf("serve %s: %w", file, err)
	}
	m := &moduleServer{name: filepath.Base(file)}
	if !plainName.MatchString(m.name) || m.name == "stdout" || m.name == "stderr" {
		m.name = "module.wasm"
	}
	var secret [16]byte
	rand.Read(secret[:]) // never fails
	path := "/" + hex.EncodeToString(secret[:]) + "/" + m.name
	m.uri = "http://" + listener.Addr().String() + path
	m.server = &http.Server{
		ReadHeaderTimeout: time.Second * 10,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.Path != path {
				http.NotFound(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/wasm")
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(code))
		}),
	}
	go m.server.Serve(listener) // until close
	return m, nil
}

func readModule(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	code, err := io.ReadAll(io.LimitReader(f, maxModuleBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(code) > maxModuleBytes:
		return nil, fmt.Errorf("it has more than %d MB", maxModuleBytes>>20)
	case !bytes.HasPrefix(code, []byte(wasmMagic)):
		return nil, errors.New("it is no WASM module")
	}
	return code, nil
}

func (m *moduleServer) close() {
	if m != nil {
		m.server.Close()
	}
}

// image names the module as agents see it.
func (m *moduleServer) image() string { return "wasm:/" + m.name }

// fetch has an agent put the module into a task's sandbox.
func (m *moduleServer) fetch() *mesos.CommandInfo_URI {
	return &mesos.CommandInfo_URI{Value: &m.uri, OutputFile: &m.name}
}
