package member_test

import (
	"net"
	"testing"

	"github.com/gantry-project/gantry/kernel/store"
	"github.com/gantry-project/gantry/kernel/store/etcd/member"
	"github.com/gantry-project/gantry/kernel/store/storetest"
)

// address reserves nothing: it names a port that was free a moment ago.
func address(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestMemberConforms(t *testing.T) {
	storetest.Run(t, func(t *testing.T) func() store.Store {
		cfg := member.Config{Dir: t.TempDir(), Name: "a", Peers: map[string]string{"a": address(t)}}
		return func() store.Store { return lead(t, cfg) }
	})
}

// alone is a store that ends its member with it.
type alone struct {
	store.Store
	end func() error
}

func (a alone) Close() error {
	err := a.Store.Close()
	if err == nil {
		err = a.end()
	}
	return err
}

func lead(t *testing.T, cfg member.Config) store.Store {
	t.Helper()
	cluster, err := member.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cluster.Lead(t.Context(), "here")
	if err != nil {
		t.Fatal(err)
	}
	return alone{s, cluster.Close}
}

func TestConfigIsChecked(t *testing.T) {
	for name, c := range map[string]member.Config{
		"no peer":        {Name: "a"},
		"other machine":  {Name: "a", Peers: map[string]string{"a": "http://192.0.2.1:1"}},
		"all interfaces": {Name: "a", Peers: map[string]string{"a": "http://0.0.0.0:1"}},
		"a name":         {Name: "a", Peers: map[string]string{"a": "http://localhost:1"}},
		"no port":        {Name: "a", Peers: map[string]string{"a": "http://127.0.0.1"}},
		"no URL":         {Name: "a", Peers: map[string]string{"a": "127.0.0.1:1"}},
		"unencrypted":    {Name: "a", Peers: map[string]string{"a": "https://127.0.0.1:1"}},
		"not among them": {Name: "z", Peers: map[string]string{"a": "http://127.0.0.1:1"}},
	} {
		if _, err := member.Start(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
