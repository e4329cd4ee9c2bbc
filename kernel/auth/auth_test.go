package auth

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

func TestTokenIsMadeOnce(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "agent.token")
	tokens := make([]string, 8)
	var wg sync.WaitGroup
	for i := range tokens {
		wg.Go(func() {
			token, err := Token(path)
			if err != nil {
				t.Error(err)
			}
			tokens[i] = token
		})
	}
	wg.Wait()
	for _, token := range tokens {
		if len(token) != 64 || token != tokens[0] {
			t.Errorf("token %q, want 64 digits, the same for all", token)
		}
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("beside the token file: %v", left)
	}
	other, err := Token(filepath.Join(dir, "other"))
	if err != nil || other == tokens[0] {
		t.Errorf("two files hold the same secret, %v", err)
	}
}

func TestTokenRefuses(t *testing.T) {
	dir := t.TempDir()
	good := strings.Repeat("0f", 32)
	for _, c := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"group", good, 0o640, "chmod 600"},
		{"world", good, 0o604, "chmod 600"},
		{"writable", good, 0o620, "chmod 600"},
		{"empty", "", 0o600, "does not hold"},
		{"short", good[2:], 0o600, "does not hold"},
		{"long", good + "00", 0o600, "does not hold"},
		{"huge", strings.Repeat("00", 1<<20), 0o600, "does not hold"},
		{"not hex", strings.Repeat("zz", 32), 0o600, "does not hold"},
	} {
		path := filepath.Join(dir, c.name)
		os.WriteFile(path, []byte(c.content), 0o600)
		os.Chmod(path, c.mode)
		_, err := Token(path)
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v; want %q", c.name, err, c.want)
		}
		if exposed := c.mode != 0o600; errors.Is(err, ErrExposed) != exposed {
			t.Errorf("%s: %v is ErrExposed: %v", c.name, err, !exposed)
		}
		if err != nil && strings.Contains(err.Error(), good) {
			t.Errorf("%s: the error tells the secret", c.name)
		}
	}
	os.WriteFile(filepath.Join(dir, "read only"), []byte(good+"\n"), 0o400)
	if token, err := Token(filepath.Join(dir, "read only")); err != nil || token != good {
		t.Errorf("a stricter mode: %q, %v", token, err)
	}
	os.Symlink("read only", filepath.Join(dir, "link"))
	os.Mkdir(filepath.Join(dir, "folder"), 0o700)
	for _, name := range []string{"link", "folder", "missing/token"} {
		if _, err := Token(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		want, got string
		ok        bool
	}{
		{"secret", "secret", true},
		{"secret", "secreT", false},
		{"secret", "secret ", false},
		{"secret", "", false},
		{"", "", false},
	} {
		if got := Check(c.want, c.got); got != c.ok {
			t.Errorf("Check(%q, %q) = %v", c.want, c.got, got)
		}
	}
}

func TestBearer(t *testing.T) {
	for header, want := range map[string]string{
		"Bearer abc":   "abc",
		"bearer  abc ": "abc",
		"BEARER abc":   "abc",
		"Basic abc":    "",
		"Bearer":       "",
		"Bearer ":      "",
		"Bearer a b":   "",
		"Bearerabc":    "",
		"":             "",
	} {
		if got, ok := Bearer(header); got != want || ok != (want != "") {
			t.Errorf("Bearer(%q) = %q, %v; want %q", header, got, ok, want)
		}
	}
}
