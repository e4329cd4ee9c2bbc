package rules

import (
	"strings"
	"testing"
)

func TestID(t *testing.T) {
	tests := map[string]struct{ id, want string }{
		"plain":             {"task-1.2_3:x y", ""},
		"letters of others": {"aufgäbe", ""},
		"three dots":        {"...", ""},
		"longest":           {strings.Repeat("x", 255), ""},
		"empty":             {"", "ID must not be empty"},
		"too long":          {strings.Repeat("x", 256), "ID must not be greater than 255 characters"},
		"dot":               {".", "'.' is disallowed"},
		"two dots":          {"..", "'..' is disallowed"},
		"slash":             {"a/b", "'a/b' contains invalid characters"},
		"backslash":         {`a\b`, `'a\b' contains invalid characters`},
		"control":           {"a\nb", "'a\nb' contains invalid characters"},
		"null":              {"a\x00", "'a\x00' contains invalid characters"},
		"delete":            {"a\x7f", "'a\x7f' contains invalid characters"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { told(t, ID(test.id), test.want) })
	}
}

func TestRole(t *testing.T) {
	told(t, Role("*"), "")
	told(t, Role("eng/web"), "")
	told(t, Role("eng/-web"), "Role component '-web' is invalid because it starts with a dash")
}
