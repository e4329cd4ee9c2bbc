// Package compat has the table of what existing clients can use: one row for every call, event, state, group of fields
// and endpoint of the wires that Gantry speaks, with the tests that prove it.
//
// The table is compat.tsv, for people as much as for tests: it belongs to no one package, since its rows are proven from
// the codec up to the built binaries. A row claims nothing that is not tested:
//
//	rows, err := compat.Read()           // well formed, or why not
//	results.Add(file)                    // what `go test -json` wrote
//	broken := results.Check(rows)        // claims whose tests did not pass
//
// `make test` ends with that check, by this package's TestClaims.
package compat

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
)

//go:embed compat.tsv
var table string

// Status is how much of an item there is.
type Status string

const (
	// Yes: it works as clients know it.
	Yes Status = "yes"
	// Part: the note says what works; the rest is refused with a sentence.
	Part Status = "part"
	// NotYet: it is refused with a sentence; over HTTP by 501.
	NotYet Status = "not yet"
	// Refused: it is out of scope, for the reason in the note, and answered as what is not yet.
	Refused Status = "refused"
)

// Row is one item of a surface.
type Row struct {
	Surface string // such as "scheduler call"
	Item    string // unique within its surface
	Status  Status
	// Tests prove what the row claims: FOLDER.TEST, with the folder below the module's root, as in
	// "kernel/api.TestAccept/case". None unless something is claimed.
	Tests []string
	Note  string
}

const heading = "surface\titem\tstatus\ttests\tnote"

// Read reads the table. The error names every line that is not as a line should be.
func Read() ([]Row, error) { return parse(table) }

func parse(table string) ([]Row, error) {
	first, rest, _ := strings.Cut(table, "\n")
	if first != heading {
		return nil, fmt.Errorf("line 1: want %q", heading)
	}
	var (
		rows  []Row
		known = map[[2]string]bool{}
		bad   []error
	)
	for i, line := range strings.Split(strings.TrimSuffix(rest, "\n"), "\n") {
		row, err := parseRow(line)
		if err == nil && known[[2]string{row.Surface, row.Item}] {
			err = fmt.Errorf("%s %s is there twice", row.Surface, row.Item)
		}
		if err != nil {
			bad = append(bad, fmt.Errorf("line %d: %w", i+2, err))
			continue
		}
		known[[2]string{row.Surface, row.Item}] = true
		rows = append(rows, row)
	}
	return rows, errors.Join(bad...)
}

func parseRow(line string) (Row, error) {
	cells := strings.Split(line, "\t")
	if len(cells) != strings.Count(heading, "\t")+1 {
		return Row{}, fmt.Errorf("%d cells: want %s", len(cells), heading)
	}
	row := Row{Surface: cells[0], Item: cells[1], Status: Status(cells[2]), Note: cells[4]}
	if cells[3] != "" {
		row.Tests = strings.Split(cells[3], "; ")
	}
	claims := row.Status == Yes || row.Status == Part
	switch {
	case row.Surface == "" || row.Item == "":
		return Row{}, errors.New("a row without surface or item")
	case !claims && row.Status != NotYet && row.Status != Refused:
		return Row{}, fmt.Errorf("%q is no status", row.Status)
	case claims && len(row.Tests) == 0:
		return Row{}, fmt.Errorf("%s %s claims %q and names no test", row.Surface, row.Item, row.Status)
	case !claims && len(row.Tests) > 0:
		return Row{}, fmt.Errorf("%s %s claims nothing and names tests", row.Surface, row.Item)
	case row.Status != Yes && row.Status != NotYet && row.Note == "":
		return Row{}, fmt.Errorf("%s %s: a note has to say what %q means", row.Surface, row.Item, row.Status)
	}
	return row, nil
}
