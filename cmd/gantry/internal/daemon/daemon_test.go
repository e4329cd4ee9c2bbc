package daemon

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestPublishThenRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "master.json")
	if _, err := Read(path); !errors.Is(err, ErrNotReady) {
		t.Fatalf("before Publish: %v, want ErrNotReady", err)
	}
	want := Addresses{Listen: "127.0.0.1:5050", Link: "127.0.0.1:5049", Plugins: map[string]string{"marathon": "127.0.0.1:8080"}}
	if err := Publish(path, want); err != nil {
		t.Fatal(err)
	}
	want.PID = os.Getpid()
	got, err := Read(path)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("Read = %+v, %v; want %+v", got, err, want)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Fatalf("the folder holds %v, %v; want the one file", left, err)
	}
}

func TestClusterFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadCluster(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("with no file: %v, want fs.ErrNotExist", err)
	}
	want := Cluster{Master: "127.0.0.1:1", Link: "127.0.0.1:2", Agents: []string{"127.0.0.1:3"}, Marathon: "127.0.0.1:4", Chronos: "127.0.0.1:5"}
	if err := WriteCluster(dir, want); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadCluster(dir); err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("ReadCluster = %+v, %v; want %+v", got, err, want)
	}
}

func TestReadRefusesWhatIsNoAddressFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.json")
	for name, content := range map[string]string{"broken": "{", "huge": strings.Repeat(" ", maxFileBytes+1)} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Read(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error that names the file", name, err)
		}
	}
}
