package rules

import (
	"strings"
	"unicode/utf8"

	"github.com/gantry-project/gantry/kernel/ledger"
)

// maxID is the longest name that a directory can have: ids become directories.
const maxID = 255

// ID tells whether a string is acceptable as an id that is chosen outside: of a task, an
// executor, a framework.
func ID(s string) error {
	switch {
	case s == "":
		return refuse("ID must not be empty")
	case len(s) > maxID:
		return refuse("ID must not be greater than %d characters", maxID)
	case !utf8.ValidString(s):
		return refuse("ID %q is not UTF-8", s)
	case s == "." || s == "..":
		return refuse("'%s' is disallowed", s)
	}
	odd := func(c rune) bool { return c < ' ' || c == 0x7f || c == '/' || c == '\\' }
	if strings.ContainsFunc(s, odd) {
		return refuse("'%s' contains invalid characters", s)
	}
	return nil
}

// Role tells whether a string is acceptable as a role.
func Role(s string) error { return ledger.CheckRole(s) }
