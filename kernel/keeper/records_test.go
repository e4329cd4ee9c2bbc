package keeper

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

func TestRecords(t *testing.T) {
	r, err := openRecords(filepath.Join(t.TempDir(), "exits"))
	if err != nil {
		t.Fatal(err)
	}
	for _, durable := range []bool{true, false} {
		if err := r.put("c1", &containerpb.Exit{Status: 7}, durable); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.put("c2", &containerpb.Exit{}, true); err != nil {
		t.Fatal(err)
	}
	got := new(containerpb.Exit)
	if err := r.get("c1", got); err != nil || got.GetStatus() != 7 {
		t.Errorf("got %v, %v", got, err)
	}
	unfinished := filepath.Join(r.dir, ".c3.tmp")
	if err := os.WriteFile(unfinished, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if ids, err := r.ids(); err != nil || !slices.Equal(ids, []string{"c1", "c2"}) {
		t.Errorf("ids: %v, %v", ids, err)
	}
	if _, err := os.Stat(unfinished); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an unfinished write stays: %v", err)
	}
	for range 2 {
		if err := r.remove("c1"); err != nil {
			t.Error(err)
		}
	}
	if err := r.get("c1", got); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("get of what was removed: %v", err)
	}
}

func TestDamagedRecord(t *testing.T) {
	r, err := openRecords(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := r.put("c", &containerpb.Exit{Status: 7, ContainerId: "c"}, true); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.dir, "c")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		bad := slices.Clone(good)
		bad[i] ^= 0x10
		for _, data := range [][]byte{bad, good[:i]} {
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := r.get("c", new(containerpb.Exit)); !errors.Is(err, errCorrupt) {
				t.Errorf("damage at %d, %d bytes: %v", i, len(data), err)
			}
		}
	}
}
