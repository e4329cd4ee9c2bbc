package agentd

import (
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/node/nodepb"
	"github.com/gantry-project/gantry/kernel/store"
)

func TestCheckHome(t *testing.T) {
	cfg := Config{WorkDir: filepath.Join(t.TempDir(), "an agent")}
	_, here := splitHome(cfg.home())
	const there = "00112233445566778899aabbccddeeff"
	for _, c := range []struct{ name, home, says string }{
		{"here", cfg.home(), ""},
		{"nobody knows", "", ""},
		{"another folder", strings.TrimSpace("/srv/agent " + here), "which works in /srv/agent of this machine"},
		{"another machine", cfg.WorkDir + " " + there, "which works in " + cfg.WorkDir + " of the machine whose /etc/machine-id is " + there},
	} {
		t.Run(c.name, func(t *testing.T) {
			checkpoint, err := store.OpenBolt(filepath.Join(t.TempDir(), "checkpoint.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer checkpoint.Close()
			record, err := proto.Marshal(&nodepb.Agent{AgentId: "S1", Home: c.home})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := checkpoint.Apply(t.Context(), store.Txn{Puts: []store.Entry{{Key: "agent", Value: record}}}); err != nil {
				t.Fatal(err)
			}
			err = cfg.checkHome(t.Context(), checkpoint)
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !store.Refused(err) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "move "+cfg.path("agent")+" away") {
				t.Errorf("got %v", err)
			}
		})
	}
}
