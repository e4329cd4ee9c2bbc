// Package daemon is the small contract between `gantry up` and the daemons it supervises: how a daemon says
// that it is ready and where it can be reached, and where the addresses of a whole cluster stand.
//
// A daemon that was given --publish PATH calls Publish once its listeners accept connections:
//
//	err := daemon.Publish(path, daemon.Addresses{Listen: "127.0.0.1:5050", Link: "127.0.0.1:5049"})
//
// The supervisor polls Read until the file names its child's process id, then writes one Cluster to
// addresses.json, which every other command reads with ReadCluster.
package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Addresses is what one daemon says about itself when it is ready. Every address is HOST:PORT with the port
// that was really bound.
type Addresses struct {
	// PID is the process that wrote the file; Publish fills it in. A reader that waits for a particular child
	// ignores the leavings of an earlier one by it.
	PID int `json:"pid"`

	// Listen is the daemon's HTTP address: the operator API of a master or of an agent.
	Listen string `json:"listen"`

	// Link is where a master accepts agents; empty for an agent.
	Link string `json:"link,omitempty"`

	// Plugins maps a plugin's name, as in plugins.toml, to the address at which its HTTP is served.
	Plugins map[string]string `json:"plugins,omitempty"`

	// Epoch is a master's last time in office, 0 before the first: of several the highest leads.
	Epoch uint64 `json:"epoch,omitempty"`

	// ID is the agent's id; empty for a master, and for an agent that is not registered yet.
	ID string `json:"id,omitempty"`
}

// Cluster is addresses.json: where the parts of one cluster on this host answer, each HOST:PORT. Master is the first
// of Masters, of which any may lead; Link and Marathon are the leader's.
type Cluster struct {
	Master   string   `json:"master"`
	Masters  []string `json:"masters"`
	Link     string   `json:"link"`
	Agents   []string `json:"agents"`
	Marathon string   `json:"marathon,omitempty"`
	Chronos  string   `json:"chronos,omitempty"`
	Page     string   `json:"page,omitempty"`
}

// ExitRefused is the exit status of a daemon that will not start before a person has seen to a file that its last line
// names: to start it again would change nothing.
const ExitRefused = 4

// ErrNotReady says that nothing has been published at the path yet.
var ErrNotReady = errors.New("not ready yet")

// Publish writes a to path atomically, with the calling process's id. A daemon calls it again whenever an address
// changes, as when a plugin that serves HTTP comes with a reload of plugins.toml.
func Publish(path string, a Addresses) error {
	a.PID = os.Getpid()
	if err := writeJSON(path, a); err != nil {
		return fmt.Errorf("publish addresses: %w", err)
	}
	return nil
}

// Read returns what a daemon published at path, or ErrNotReady.
func Read(path string) (Addresses, error) {
	var a Addresses
	err := readJSON(path, &a)
	if errors.Is(err, fs.ErrNotExist) {
		return a, fmt.Errorf("%s: %w", path, ErrNotReady)
	}
	return a, err
}

// WriteCluster writes c atomically as workDir/addresses.json.
func WriteCluster(workDir string, c Cluster) error {
	return writeJSON(ClusterFile(workDir), c)
}

// ReadCluster returns the addresses of the cluster that runs in workDir; an error that wraps fs.ErrNotExist says
// that none does.
func ReadCluster(workDir string) (Cluster, error) {
	var c Cluster
	err := readJSON(ClusterFile(workDir), &c)
	return c, err
}

// ClusterFile returns the path of a work dir's addresses.json.
func ClusterFile(workDir string) string {
	return filepath.Join(workDir, "addresses.json")
}

// maxFileBytes bounds what is read back; a real file has a few hundred bytes.
const maxFileBytes = 1 << 20

func readJSON(path string, into any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxFileBytes {
		return fmt.Errorf("read %s: %d bytes is too large for a file of addresses", path, info.Size())
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

// writeJSON writes a new file beside path and renames it, so that a reader sees the old text or the new one. A path has one
// writer at a time, so what one that was killed left is the next one's to overwrite.
func writeJSON(path string, v any) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	fresh := path + ".new"
	if err := errors.Join(os.WriteFile(fresh, text.Bytes(), 0o644), os.Chmod(fresh, 0o644)); err != nil {
		return err
	}
	return os.Rename(fresh, path)
}
