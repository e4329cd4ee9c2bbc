package definition

import (
	"fmt"
	"strings"
)

// SyntaxError is a body that is not JSON.
type SyntaxError struct{ Detail string }

func (e *SyntaxError) Error() string { return "Invalid JSON: " + e.Detail }

// Detail is what is wrong at one place of a definition.
type Detail struct {
	Path   string   `json:"path"`
	Errors []string `json:"errors"`
}

// InvalidError is a definition of the wrong shape (Shape) or with values that break a rule.
type InvalidError struct {
	Shape   bool
	Details []Detail
}

func (e *InvalidError) Error() string {
	var b strings.Builder
	for _, d := range e.Details {
		fmt.Fprintf(&b, "; %s: %s", d.Path, strings.Join(d.Errors, ", "))
	}
	return "Object is not valid" + b.String()
}

// Add notes what is wrong at path.
func (e *InvalidError) Add(path, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for i := range e.Details {
		if e.Details[i].Path == path {
			e.Details[i].Errors = append(e.Details[i].Errors, text)
			return
		}
	}
	e.Details = append(e.Details, Detail{Path: path, Errors: []string{text}})
}

// OrNil is e as an error when it holds anything.
func (e *InvalidError) OrNil() error {
	if len(e.Details) == 0 {
		return nil
	}
	return e
}
