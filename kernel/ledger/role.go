package ledger

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// CheckRole tells whether a string is acceptable as a role: "*", or components joined
// by slashes.
func CheckRole(role string) error {
	switch {
	case role == "*":
		return nil
	case role == "":
		return refuse("Role names cannot be the empty string")
	case !utf8.ValidString(role):
		return refuse("Role %q is not UTF-8", role)
	case strings.HasPrefix(role, "/"):
		return refuse("Role '%s' cannot start with a slash", role)
	case strings.HasSuffix(role, "/"):
		return refuse("Role '%s' cannot end with a slash", role)
	case strings.Contains(role, "//"):
		return refuse("Role '%s' cannot contain two adjacent slashes", role)
	}
	for component := range strings.SplitSeq(role, "/") {
		switch {
		case component == "." || component == ".." || component == "*":
			return refuse("Role '%s' cannot include '%s' as a component", role, component)
		case strings.HasPrefix(component, "-"):
			return refuse("Role component '%s' is invalid because it starts with a dash", component)
		case strings.ContainsAny(component, "\t\n\v\f\r \x7f"):
			return refuse("Role component '%s' is invalid because it contains backspace or whitespace", component)
		}
	}
	return nil
}

// refuse words an error as clients of the wire know it, capital letter included.
func refuse(format string, args ...any) error { return fmt.Errorf(format, args...) }
