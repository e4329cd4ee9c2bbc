package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const module = "github.com/gantry-project/gantry/"

// Results are what became of tests, by the names that rows have for them.
type Results map[string]string // "pass", "fail" or "skip"

// Add reads what `go test -json` wrote. A test that ran more than once must have passed each time.
func (r Results) Add(from io.Reader) error {
	for d := json.NewDecoder(from); ; {
		var event struct{ Action, Package, Test string }
		err := d.Decode(&event)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read results of tests: %w", err)
		}
		if event.Test == "" {
			continue
		}
		name := strings.TrimPrefix(event.Package, module) + "." + event.Test
		switch event.Action {
		case "pass", "fail", "skip":
			if r[name] == "" || r[name] == "pass" {
				r[name] = event.Action
			}
		}
	}
}

// Check returns a sentence for every claim that the results do not bear out.
func (r Results) Check(rows []Row) []string {
	became := map[string]string{"": "did not run", "fail": "failed", "skip": "was skipped"}
	var broken []string
	for _, row := range rows {
		for _, test := range row.Tests {
			if got := r[test]; got != "pass" {
				broken = append(broken, fmt.Sprintf("%s %s claims %q, and %s %s", row.Surface, row.Item, row.Status, test, became[got]))
			}
		}
	}
	return broken
}
