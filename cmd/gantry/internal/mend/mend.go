// Package mend is `gantry mend`: it makes a store usable again that a master or an agent has refused.
//
//	root.AddCommand(mend.Command())
package mend

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/gantry-project/gantry/kernel/store"
)

const help = `Reads every record that can still be found in a damaged store, and makes a new one of them. The damaged
file is kept beside it. A store that is an older copy or another one's is accepted as it is, and one that
is missing is made anew: that is what running this says.

The master's store is master.db in its work dir, an agent's is agent/checkpoint.db. The process that has it must
have ended. Tasks go on meanwhile.`

// shownKeys is how many doubtful records are named.
const shownKeys = 20

// Command returns `gantry mend`.
func Command() *cobra.Command {
	var dryRun, asJSON bool
	var drop []string
	cmd := &cobra.Command{
		Use:   "mend FILE",
		Short: "Save what can be read of a damaged store",
		Long:  help,
		Example: `  gantry mend --dry-run /var/lib/gantry/master/master.db
  gantry mend /var/lib/gantry/agent/agent/checkpoint.db`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			path, err := filepath.Abs(args[0])
			if err != nil {
				return fmt.Errorf("mend %s: %w", args[0], err)
			}
			r, err := run(cmd.Context(), path, dryRun, drop)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("there is no store at %s: name master.db of a master or agent/checkpoint.db of an agent", path)
			}
			if err != nil {
				return err
			}
			if asJSON {
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetIndent("", "  ")
				return enc.Encode(r)
			}
			r.print(cmd.OutOrStdout())
			return nil
		},
	}
	flags := cmd.Flags()
	flags.BoolVar(&dryRun, "dry-run", false, "say what would be kept and lost, and change nothing")
	flags.BoolVar(&asJSON, "json", false, "print JSON")
	flags.StringArrayVar(&drop, "drop", nil, "remove this record too, which its reader calls wrong; may be repeated")
	return cmd
}

// report is what was done, and what it means.
type report struct {
	store.Report
	DryRun  bool     `json:"dry_run,omitempty"`
	Dropped []string `json:"dropped,omitempty"`
	Meaning string   `json:"meaning,omitempty"`
}

func run(ctx context.Context, path string, dryRun bool, drop []string) (report, error) {
	act := store.Salvage
	if dryRun {
		act = store.Survey
	}
	saved, err := act(path)
	if err != nil {
		return report{}, err
	}
	r := report{Report: saved, DryRun: dryRun}
	if !dryRun && len(drop) > 0 {
		if err := remove(ctx, path, drop); err != nil {
			return report{}, fmt.Errorf("drop records: %w", err)
		}
		r.Dropped, r.Kept = drop, r.Kept-len(drop)
	}
	if r.Lost != 0 || len(r.Doubtful) > 0 || len(r.Dropped) > 0 {
		r.Meaning = meaning(path)
	}
	return r, nil
}

// remove deletes records that are there; a key that is not is a mistake.
func remove(ctx context.Context, path string, keys []string) (err error) {
	s, err := store.OpenBolt(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, key := range keys {
		found, _, err := s.List(ctx, key, "", 1)
		if err != nil {
			return err
		}
		if len(found) == 0 || found[0].Key != key {
			return fmt.Errorf("%s has no record %q", path, key)
		}
	}
	_, err = s.Apply(ctx, store.Txn{Deletes: keys})
	return err
}

// meaning is what it means to the owner of a store that records are lost, or older than they should be.
func meaning(path string) string {
	switch filepath.Base(path) {
	case "checkpoint.db":
		return "Tasks that the agent has forgotten end when it starts, and their frameworks are told so. " +
			"Of those it has in an older state, the next status counts."
	case "master.db":
		return "Agents and frameworks that the master has forgotten register again by themselves, with their tasks. " +
			"What plugins had stored, such as applications of Marathon, has to be given to them again."
	}
	return ""
}

func (r report) print(w io.Writer) {
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	if r.Damage == "" {
		line("%s is in order: %s", r.Path, records(r.Kept))
	} else {
		line("%s", r.Damage)
		line("kept      %s", records(r.Kept))
		if r.Lost == store.Unknown {
			line("lost      nobody knows how many")
		} else {
			line("lost      %s", records(r.Lost))
		}
	}
	if n := len(r.Doubtful); n > 0 {
		shown, more := r.Doubtful, ""
		if n > shownKeys {
			shown, more = shown[:shownKeys], ", ..."
		}
		line("doubtful  %d of those kept, which may be older than they should be, or deleted: %q%s", n, shown, more)
	}
	if len(r.Dropped) > 0 {
		line("dropped   %s", strings.Join(r.Dropped, ", "))
	}
	if r.Meaning != "" {
		line("%s", r.Meaning)
	}
	switch {
	case r.DryRun && r.Damage != "":
		line("Nothing was changed.")
	case r.SavedAs != "":
		line("The damaged file is now %s.", r.SavedAs)
	}
}

func records(n int) string {
	if n == 1 {
		return "1 record"
	}
	return fmt.Sprintf("%d records", n)
}
