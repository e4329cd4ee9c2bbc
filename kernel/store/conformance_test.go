package store_test

import (
	"path/filepath"
	"testing"

	"github.com/gantry-project/gantry/kernel/store"
	"github.com/gantry-project/gantry/kernel/store/storetest"
)

func TestBoltConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() store.Store {
		path := filepath.Join(t.TempDir(), "registry.db")
		return func() store.Store {
			s, err := store.OpenBolt(path)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}
