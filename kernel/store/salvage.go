package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gantry-project/gantry/kernel/failpoint"
)

// Unknown is a number of lost records that nobody can tell.
const Unknown = -1

const (
	maxDamaged = 1000 // damaged files that are kept beside a store

	// revisionGap is how far a store is ahead that may have lost its last revisions: they are not given out again.
	revisionGap = 1 << 20
)

// Report says what Salvage has found, and what it has done.
type Report struct {
	// Path is the store's.
	Path string `json:"path"`
	// Damage is why OpenBolt refuses the file; empty if it does not, and then nothing was done.
	Damage string `json:"damage,omitempty"`
	// Kept is how many records the store has now.
	Kept int `json:"kept"`
	// Lost is how many records have a last write that was not found, or Unknown.
	Lost int `json:"lost"`
	// Doubtful are the keys of records among those kept that were found in a part of the file that was
	// free: they may be older than the last write of their key, or may have been deleted.
	Doubtful []string `json:"doubtful,omitempty"`
	// SavedAs is where the file is that was at Path; empty if it is still there.
	SavedAs string `json:"saved_as,omitempty"`
}

// Survey returns what Salvage would report, and changes nothing. Its errors are Salvage's.
func Survey(path string) (Report, error) { return salvageAt(path, false) }

// Salvage makes a store that OpenBolt accepts out of one that it refuses: every record is
// kept that can be found and matches its checksum, the newest of each key. The new file takes
// the place of the old one at once, which stays beside it as FILE.damaged-N. A file that is
// whole, but not the one that was marked, is accepted as it is; one that has gone is made
// anew. Salvage refuses a store that is open (ErrLocked) and one of another version (ErrFormat).
func Salvage(path string) (Report, error) { return salvageAt(path, true) }

func salvageAt(path string, change bool) (Report, error) {
	last, markErr := readMark(path)
	if markErr != nil && !errors.Is(markErr, ErrCorrupt) {
		return Report{}, markErr
	}
	err := checkFile(path)
	if errors.Is(err, fs.ErrNotExist) && (last != nil || markErr != nil) {
		return recreate(path, change)
	}
	if err != nil {
		return Report{}, err
	}
	file, err := lockFile(path)
	if err != nil {
		return Report{}, err
	}
	defer file.Close() // read only
	in, err := verify(path, file)
	switch {
	case errors.Is(err, ErrFormat):
		return Report{}, err
	case err != nil:
		return mend(path, file, last, err, change)
	}
	r := Report{Path: path, Kept: int(in.written.entries)}
	if markErr == nil {
		if markErr = last.check(path, in.id, in.written.revision); markErr == nil {
			return r, nil
		}
		r.Lost = Unknown
	}
	r.Damage = markErr.Error()
	if change {
		err = (&mark{in.id.name, in.id.generation, in.written.revision}).write(path)
	}
	return r, err
}

// recreate makes an empty store where one has gone.
func recreate(path string, change bool) (Report, error) {
	r := Report{Path: path, Damage: fmt.Sprintf("%v: %s", ErrMissing, path), Lost: Unknown}
	if !change {
		return r, nil
	}
	if err := os.Remove(markPath(path)); err != nil {
		return r, fmt.Errorf("mend store %s: %w", path, err)
	}
	return r, create(path)
}

// mend replaces a damaged file by what can be read of it.
func mend(path string, file *os.File, last *mark, why error, change bool) (Report, error) {
	f, err := pagesOf(file)
	if err != nil {
		return Report{}, fmt.Errorf("mend store %s: %w", path, err)
	}
	s := f.salvage()
	r := Report{Path: path, Damage: why.Error(), Kept: len(s.records), Lost: s.lost, Doubtful: s.doubtful()}
	if !change {
		return r, nil
	}
	if last != nil {
		s.id.name, s.id.generation = last.name, max(s.id.generation, last.generation)
		s.revision = max(s.revision, last.revision)
	}
	if s.lost != 0 {
		s.revision += revisionGap
	}
	s.id = s.id.next()
	tmp, err := writeNew(path, s.contents)
	if err != nil {
		return r, fmt.Errorf("write a new store beside %s: %w", path, err)
	}
	defer os.Remove(tmp) // gone already when all went well
	if err := reread(tmp); err != nil {
		return r, fmt.Errorf("read the new store beside %s: %w", path, err)
	}
	if r.SavedAs, err = replaceStore(path, tmp); err != nil {
		return r, fmt.Errorf("put the new store at %s: %w", path, err)
	}
	return r, (&mark{s.id.name, s.id.generation, s.revision}).write(path)
}

func reread(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	_, err = verify(path, file)
	return errors.Join(err, file.Close())
}

// replaceStore gives the file at path a second name and then its own to tmp: at every
// moment there is a file at path.
func replaceStore(path, tmp string) (savedAs string, err error) {
	for n := 1; ; n++ {
		savedAs = fmt.Sprintf("%s.damaged-%d", path, n)
		err := os.Link(path, savedAs)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) || n == maxDamaged {
			return "", err
		}
	}
	failpoint.Hit("store.mend")
	if err := os.Rename(tmp, path); err != nil {
		return "", err
	}
	failpoint.Hit("store.mended")
	return savedAs, syncDir(filepath.Dir(path))
}
