package program

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

const (
	maxList   = 1 << 20   // bytes of a list of users or groups
	maxGroups = 64        // that one user may be in
	maxID     = 1<<31 - 1 // larger ones are negative to some programs
)

// Files are an image's, by the absolute directories of its layers, the topmost first.
type Files []string

// User finds USER[:GROUP], names or numbers, in an image's lists. Numbers, and root, need not be
// in them.
func User(files Files, text string) (*containerizerpb.User, error) {
	name, groupName, hasGroup := strings.Cut(text, ":")
	u, known, err := findUser(files, name)
	if err != nil {
		return nil, err
	}
	if hasGroup {
		u.Gid, err = findGroup(files, groupName)
		return u, err
	}
	if known != "" {
		u.AdditionalGids, err = groupsOf(files, known, u.GetGid())
	}
	return u, err
}

// findUser also gives the name by which the user's groups know it; none if it is not listed.
func findUser(files Files, name string) (*containerizerpb.User, string, error) {
	given, isNumber, err := number(name)
	if err != nil {
		return nil, "", err
	}
	users, err := files.list("etc/passwd")
	if err != nil {
		return nil, "", err
	}
	for _, f := range users {
		if len(f) < 4 || f[0] != name && (!isNumber || f[2] != name) {
			continue
		}
		uid, okUID, errUID := number(f[2])
		gid, okGID, errGID := number(f[3])
		if err := errors.Join(errUID, errGID); err != nil || !okUID || !okGID {
			return nil, "", fmt.Errorf("the image's list of users has no sound numbers for %q", name)
		}
		return &containerizerpb.User{Uid: uid, Gid: gid}, f[0], nil
	}
	switch {
	case isNumber:
		return &containerizerpb.User{Uid: given}, "", nil
	case name == "root":
		return &containerizerpb.User{}, "", nil
	}
	return nil, "", fmt.Errorf("the task is to run as %q, and the image has no such user: name another, or give a number, in 'command.user'", name)
}

func findGroup(files Files, name string) (uint32, error) {
	id, isNumber, err := number(name)
	if isNumber || err != nil {
		return id, err
	}
	groups, err := files.list("etc/group")
	if err != nil {
		return 0, err
	}
	for _, f := range groups {
		if len(f) < 3 || f[0] != name {
			continue
		}
		if id, ok, err := number(f[2]); ok && err == nil {
			return id, nil
		}
		return 0, fmt.Errorf("the image's list of groups has no sound number for %q", name)
	}
	return 0, fmt.Errorf("the task is to run in group %q, and the image has no such group", name)
}

// groupsOf are the groups that list the user, but for its own.
func groupsOf(files Files, user string, own uint32) ([]uint32, error) {
	groups, err := files.list("etc/group")
	if err != nil {
		return nil, err
	}
	var ids []uint32
	for _, f := range groups {
		if len(f) < 4 || !slices.Contains(strings.Split(f[3], ","), user) {
			continue
		}
		id, ok, err := number(f[2])
		if ok && err == nil && id != own && !slices.Contains(ids, id) && len(ids) < maxGroups {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// number reads an id; what begins with a digit or a sign is meant as one.
func number(text string) (id uint32, is bool, err error) {
	if text == "" || !strings.ContainsAny(text[:1], "0123456789+-") {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > maxID {
		return 0, false, fmt.Errorf("user or group %q is not a number from 0 to %d", text, maxID)
	}
	return uint32(n), true, nil
}

// list reads a file of lines with fields parted by colons; none if the image has no such file.
func (files Files) list(path string) ([][]string, error) {
	raw, err := files.read(path)
	if err != nil {
		return nil, fmt.Errorf("read the image's /%s: %w", path, err)
	}
	var found [][]string
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		found = append(found, strings.Split(lines.Text(), ":"))
	}
	return found, lines.Err()
}

// read finds a file of a directory at the top in the topmost layer that has a say.
func (files Files) read(path string) ([]byte, error) {
	dir, _, _ := strings.Cut(path, "/")
	for _, layer := range files {
		raw, err := readIn(layer, path)
		if !errors.Is(err, fs.ErrNotExist) {
			return raw, err
		}
		if hides(layer+"/"+dir) || hides(layer+"/"+path) {
			return nil, nil
		}
	}
	return nil, nil
}

// hides says whether a path hides what is below it: a whiteout, something that is no
// directory, or an opaque one.
func hides(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	if !info.IsDir() {
		return true
	}
	var value [1]byte
	n, err := syscall.Getxattr(path, "trusted.overlay.opaque", value[:])
	return err == nil && n == 1 && value[0] == 'y'
}

// readIn reads a plain file of one layer, whose links can't lead out of it.
func readIn(layer, path string) ([]byte, error) {
	root, err := os.OpenRoot(layer)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ENXIO) || errors.Is(err, syscall.ENODEV) || errors.Is(err, syscall.ENOTDIR) {
		return nil, fs.ErrNotExist // a whiteout
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.New("it is not a file")
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxList+1))
	if err == nil && len(raw) > maxList {
		err = fmt.Errorf("it has more than %d bytes", maxList)
	}
	return raw, err
}
