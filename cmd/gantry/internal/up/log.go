package up

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	maxLogBytes  = 8 << 20  // of one log file; one older part of the same size is kept
	maxLineBytes = 16 << 10 // a longer line is taken apart
	shownBytes   = 500      // of a line that is shown
	shownLines   = 20       // of one daemon within shownWindow
	shownWindow  = 10 * time.Second

	lastWords = "gantry: " // begins the line with which a daemon ends in an error
)

// logFile is what one daemon and its children write. They write to the file itself, so that nothing is lost and nobody
// blocks when the supervisor dies; the supervisor reads it from behind.
type logFile struct {
	path string
	f    *os.File // for appending
	read int64    // how far it has been looked at
	rest []byte   // of a line without an end yet

	lastWords  string // of a daemon: when it says the same again after another start, that is nothing new
	windowEnds time.Time
	shown      int // lines in this window
}

// openLog appends to the log at path.
func openLog(path string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &logFile{path: path, f: f, read: info.Size()}, nil
}

// lines returns the lines that were completed since the last call, and keeps the file's size bounded.
func (l *logFile) lines() ([]string, error) {
	var lines []string
	chunk := make([]byte, maxLineBytes)
	for {
		n, err := l.f.ReadAt(chunk, l.read)
		l.read += int64(n)
		l.rest = append(l.rest, chunk[:n]...)
		for {
			line, rest, found := bytes.Cut(l.rest, []byte("\n"))
			if !found && len(l.rest) < maxLineBytes {
				break
			}
			lines = append(lines, string(line))
			l.rest = rest
		}
		if errors.Is(err, io.EOF) {
			return lines, l.rotate()
		}
		if err != nil {
			return lines, fmt.Errorf("read %s: %w", l.path, err)
		}
	}
}

// rotate moves a log that has grown too large aside. The writers keep their file, which is emptied: what they write between
// the copy and that is lost.
func (l *logFile) rotate() error {
	if l.read < maxLogBytes {
		return nil
	}
	old, err := os.Create(l.path + ".1")
	if err != nil {
		return err
	}
	_, err = io.Copy(old, io.NewSectionReader(l.f, 0, l.read))
	if err := errors.Join(err, old.Close(), l.f.Truncate(0)); err != nil {
		return fmt.Errorf("rotate %s: %w", l.path, err)
	}
	l.read = 0
	return nil
}

// tail returns the last n lines of the file, each once.
func (l *logFile) tail(n int) []string {
	info, err := l.f.Stat()
	if err != nil {
		return nil
	}
	start := max(0, info.Size()-maxLineBytes)
	text, err := io.ReadAll(io.NewSectionReader(l.f, start, info.Size()-start))
	if err != nil {
		return nil
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	lines = slices.Compact(lines)
	return lines[max(0, len(lines)-n):]
}

// problems returns the new lines that a person should see, printable and not too many of them.
func (l *logFile) problems(now time.Time) ([]string, error) {
	lines, err := l.lines()
	if now.After(l.windowEnds) {
		l.windowEnds, l.shown = now.Add(shownWindow), 0
	}
	var show []string
	for _, line := range lines {
		if !isProblem(line) || line == l.lastWords {
			continue
		}
		if strings.HasPrefix(line, lastWords) {
			l.lastWords = line
		}
		l.shown++
		switch {
		case l.shown < shownLines:
			show = append(show, printable(line))
		case l.shown == shownLines:
			show = append(show, "... more in "+l.path)
		}
	}
	return show, err
}

// isProblem knows the warnings and errors of log/slog, what the runtime says of a crash, and the last words of a command.
func isProblem(line string) bool {
	for _, mark := range []string{"level=WARN", "level=ERROR", `"level":"WARN"`, `"level":"ERROR"`} {
		if strings.Contains(line, mark) {
			return true
		}
	}
	for _, start := range []string{lastWords, "panic: ", "fatal error: "} {
		if strings.HasPrefix(line, start) {
			return true
		}
	}
	return false
}

// printable cuts a line to a bearable length and drops what could drive a terminal.
func printable(line string) string {
	if len(line) > shownBytes {
		line = line[:shownBytes] + "..."
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r >= 0x7F && r < 0xA0 {
			return '?'
		}
		return r
	}, line)
}

func (l *logFile) close() error { return l.f.Close() }
