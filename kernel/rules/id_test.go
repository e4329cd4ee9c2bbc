package rules

import (
	"strings"
	"testing"
)

func TestID(t *testing.T) {
	tests := map[string]struct{ id, want string }{
		"plain":                {"task-1.2_3:x y", ""},
		"letters of others":    {"aufgäbe", ""},
		"three dots":           {"...", ""},
		"longest":              {strings.Repeat("x", 255), ""},
		"ID must not be empty": {"", "ID must not be empty"},
		"ID must not be greater than %d characters": {strings.Repeat("x", 256), "ID must not be greater than 255 characters"},
		"'%s' is disallowed":                        {".", "'.' is disallowed"},
		"two dots":                                  {"..", "'..' is disallowed"},
		"'%s' contains invalid characters":          {"a/b", "'a/b' contains invalid characters"},
		"backslash":                                 {`a\b`, `'a\b' contains invalid characters`},
		"ID %q is not UTF-8":                        {"a\xff", `ID "a\xff" is not UTF-8`},
		"control":                                   {"a\nb", "'a\nb' contains invalid characters"},
		"null":                                      {"a\x00", "'a\x00' contains invalid characters"},
		"delete":                                    {"a\x7f", "'a\x7f' contains invalid characters"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { told(t, ID(test.id), test.want) })
	}
}

func TestRole(t *testing.T) {
	tests := map[string]struct{ role, want string }{
		"the default":                                                  {"*", ""},
		"one below others":                                             {"eng/web/a-b.c_d", ""},
		"Role names cannot be the empty string":                        {"", "Role names cannot be the empty string"},
		"Role %q is not UTF-8":                                         {"\xff", `Role "\xff" is not UTF-8`},
		"Role '%s' cannot start with a slash":                          {"/eng", "Role '/eng' cannot start with a slash"},
		"Role '%s' cannot end with a slash":                            {"eng/", "Role 'eng/' cannot end with a slash"},
		"Role '%s' cannot contain two adjacent slashes":                {"eng//web", "Role 'eng//web' cannot contain two adjacent slashes"},
		"Role '%s' cannot include '%s' as a component":                 {"eng/.", "Role 'eng/.' cannot include '.' as a component"},
		"the one above":                                                {"..", "Role '..' cannot include '..' as a component"},
		"the default, below":                                           {"eng/*", "Role 'eng/*' cannot include '*' as a component"},
		"Role component '%s' is invalid because it starts with a dash": {"eng/-web", "Role component '-web' is invalid because it starts with a dash"},
		"Role component '%s' is invalid because it contains backspace or whitespace": {"eng/a b", "Role component 'a b' is invalid because it contains backspace or whitespace"},
		"delete": {"a\x7f", "Role component 'a\x7f' is invalid because it contains backspace or whitespace"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { told(t, Role(test.role), test.want) })
	}
}
