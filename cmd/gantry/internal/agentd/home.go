package agentd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/step"
	"github.com/gantry-project/gantry/kernel/store"
)

const machineFile = "/etc/machine-id"

// home is where the agent's checkpoint belongs: its folder, on this machine if that has an id.
func (c *Config) home() string {
	machine, _ := os.ReadFile(machineFile) // not every host has one
	return strings.TrimSpace(c.WorkDir + " " + string(bytes.TrimSpace(machine)))
}

// openCheckpoint opens the agent's store, if it is this agent's.
func (c *Config) openCheckpoint(ctx context.Context) (*store.Bolt, error) {
	if err := os.MkdirAll(c.path("agent"), 0o700); err != nil {
		return nil, fmt.Errorf("make the work dir: %w", err)
	}
	checkpoint, err := store.OpenBolt(c.path("agent", "checkpoint.db"))
	if err != nil {
		return nil, err
	}
	if err := c.checkHome(ctx, checkpoint); err != nil {
		return nil, errors.Join(err, checkpoint.Close())
	}
	return checkpoint, nil
}

// checkHome refuses the checkpoint of another folder or machine, as node.Checkpoint.CheckHome does, in words for whoever
// has copied it.
func (c *Config) checkHome(ctx context.Context, checkpoint store.Store) error {
	entries, _, err := checkpoint.List(ctx, "agent", "", 1)
	if err != nil {
		return fmt.Errorf("read the checkpoint: %w", err)
	}
	var records []step.Write
	for _, e := range entries {
		records = append(records, step.Write{Key: e.Key, Value: e.Value})
	}
	saved, err := node.Decode(records)
	if err != nil {
		return err
	}
	if saved.CheckHome(c.home()) == nil {
		return nil
	}
	made, machine := splitHome(saved.Agent.GetHome())
	_, here := splitHome(c.home())
	where := "of this machine"
	if machine != here {
		where = fmt.Sprintf("of the machine whose %s is %s, and here that is %s", machineFile, known(machine), known(here))
	}
	return fmt.Errorf("%w: %s is the checkpoint of agent %s, which works in %s %s, and two agents must not speak for the same tasks: "+
		"start the agent there, or move %s away to have a new one here",
		store.ErrForeign, c.path("agent", "checkpoint.db"), saved.Agent.GetAgentId(), made, where, c.path("agent"))
}

// withMachine is what home makes on a machine that has an id, as machine-id(5) has it.
var withMachine = regexp.MustCompile(`^(.*) ([0-9a-f]{32})$`)

// splitHome takes apart what home made.
func splitHome(home string) (dir, machine string) {
	if parts := withMachine.FindStringSubmatch(home); parts != nil {
		return parts[1], parts[2]
	}
	return home, ""
}

func known(machine string) string {
	if machine == "" {
		return "not known"
	}
	return machine
}
