// Package auth says who may do what. For now that is one secret between a master and its
// agents, kept in a file that only their user can read:
//
//	want, err := auth.Token(filepath.Join(workDir, "agent.token"))
//	...
//	got, ok := auth.Bearer(header)
//	if !ok || !auth.Check(want, got) {
//		// refuse
//	}
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	tokenBytes = 32
	tokenChars = 2 * tokenBytes // in hex
)

// ErrExposed is wrapped by the error for a token file that others may read or change.
var ErrExposed = errors.New("token file is open to others")

// Token returns the secret in the file at path: 64 hexadecimal digits. If the file is
// missing it is made with a new secret, which is on disk when Token returns; of several
// processes that do so at once, all get the same one. A file that is not the user's alone
// (mode 0600 or less), or that holds something else, is refused with a sentence.
func Token(path string) (string, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := createToken(path); err != nil {
			return "", fmt.Errorf("create token file %s: %w", path, err)
		}
		info, err = os.Lstat(path)
	}
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("read token: %s is no regular file: remove it, and a new token is made", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return "", fmt.Errorf("%w: %s has mode %04o: chmod 600 %s, and replace the token if others may have read it", ErrExposed, path, mode, path)
	}
	return readToken(path)
}

// createToken writes the secret under another name and links it into place: whoever sees
// the file sees all of it, and who comes second changes nothing.
func createToken(path string) error {
	secret := make([]byte, tokenBytes)
	rand.Read(secret) // never fails
	dir := filepath.Dir(path)
	tmp, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // O_EXCL, 0600
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(hex.EncodeToString(secret) + "\n")
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func readToken(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 2*tokenChars))
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if raw, err := hex.DecodeString(token); err != nil || len(raw) != tokenBytes {
		return "", fmt.Errorf("read token: %s does not hold %d hexadecimal digits: remove it, and a new token is made", path, tokenChars)
	}
	return token, nil
}

// Check tells whether got is the secret want, in a time that depends on neither. An empty
// want matches nothing.
func Check(want, got string) bool {
	w, g := sha256.Sum256([]byte(want)), sha256.Sum256([]byte(got))
	return subtle.ConstantTimeCompare(w[:], g[:]) == 1 && want != ""
}

// Bearer returns the token of an Authorization header of the form "Bearer TOKEN". The
// scheme's case does not matter.
func Bearer(header string) (string, bool) {
	scheme, token, ok := strings.Cut(header, " ")
	token = strings.TrimSpace(token)
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" || strings.ContainsAny(token, " \t") {
		return "", false
	}
	return token, true
}
