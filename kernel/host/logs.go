package host

import (
	"log/slog"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

// Bounds of what a plugin may log.
const (
	maxLineBytes   = 4096
	linesPerSecond = 100
	linesAtOnce    = 500
)

// journal logs a plugin's lines under its name: control characters are taken out, so
// that a line can't pass for another or steer a terminal, and a flood is dropped and
// counted.
type journal struct {
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex
	tokens  float64
	filled  time.Time
	dropped int
	last    string // for explaining why the plugin ended
}

func newJournal(log *slog.Logger, now func() time.Time) *journal {
	return &journal{log: log, now: now, tokens: linesAtOnce, filled: now()}
}

// stream returns a writer that feeds the journal line by line. A stream is for one
// goroutine; several may feed one journal.
func (j *journal) stream() *lines { return &lines{journal: j} }

func (j *journal) add(line []byte) {
	text := clean(line)
	if text == "" {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last = text
	now := j.now()
	j.tokens = min(linesAtOnce, j.tokens+now.Sub(j.filled).Seconds()*linesPerSecond)
	j.filled = now
	if j.tokens < 1 {
		j.dropped++
		return
	}
	j.tokens--
	if j.dropped > 0 {
		j.log.Warn("the plugin logs too fast", "lines_dropped", j.dropped)
		j.dropped = 0
	}
	j.log.Info(text)
}

// lastLine is the newest line, dropped or not; asking forgets it.
func (j *journal) lastLine() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	last := j.last
	j.last = ""
	return last
}

// lines cuts what is written into lines of at most maxLineBytes; the rest of a longer
// one is dropped.
type lines struct {
	journal *journal
	line    []byte
}

func (l *lines) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		end := len(p)
		complete := false
		for i, b := range p {
			if b == '\n' {
				end, complete = i, true
				break
			}
		}
		l.line = append(l.line, p[:min(end, maxLineBytes-len(l.line))]...)
		if !complete {
			break
		}
		l.journal.add(l.line)
		l.line = l.line[:0]
		p = p[end+1:]
	}
	return written, nil
}

// clean makes text of what may be anything.
func clean(line []byte) string {
	text := strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r == utf8.RuneError:
			return '?'
		case unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029':
			return -1
		}
		return r
	}, string(line))
	return strings.TrimSpace(text)
}
