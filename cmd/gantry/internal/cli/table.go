package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
)

// show writes view as JSON where --json asks for it, and else as draw draws it.
func (s *session) show(view any, draw func(*table)) error {
	if s.json {
		enc := json.NewEncoder(s.out)
		enc.SetIndent("", "  ")
		return enc.Encode(view)
	}
	t := newTable(s.out)
	draw(t)
	return t.flush()
}

// table writes rows of aligned cells. Control characters in a cell are always escaped.
type table struct{ w *tabwriter.Writer }

func newTable(w io.Writer) *table {
	return &table{tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)}
}

// row writes one row; an empty cell is shown as a dash.
func (t *table) row(cells ...string) {
	for i, cell := range cells {
		if i > 0 {
			fmt.Fprint(t.w, "\t")
		}
		if cell == "" {
			cell = "-"
		}
		fmt.Fprint(t.w, clean(cell))
	}
	fmt.Fprintln(t.w)
}

// line writes a sentence of our own; the arguments are cleaned.
func (t *table) line(format string, args ...any) {
	for i, arg := range args {
		if text, ok := arg.(string); ok {
			args[i] = clean(text)
		}
	}
	fmt.Fprintf(t.w, format+"\n", args...)
}

func (t *table) flush() error { return t.w.Flush() }

// clean makes text of others one harmless line.
func clean(text string) string {
	return strings.NewReplacer("\n", `\n`, "\t", `\t`).Replace(string(escape(nil, []byte(text))))
}

// number writes an amount as people do: 0.1, 32, 4096.5.
func number(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// terminal is a writer that escapes control characters but newline and tab, so that what others wrote can't
// move the cursor, retitle the window or answer for the person. While it is off, bytes pass as they are.
type terminal struct {
	w  io.Writer
	on bool
}

func (t terminal) Write(p []byte) (int, error) {
	if !t.on {
		return t.w.Write(p)
	}
	if _, err := t.w.Write(escape(nil, p)); err != nil {
		return 0, err
	}
	return len(p), nil
}

// escape appends p to out with its control characters written as \xNN. The C1 set arrives as 0xC2 and one byte
// more; escaping 0xC2 before such a byte leaves no valid control, and one at the end of p is escaped too, for
// what the next write may begin with.
func escape(out, p []byte) []byte {
	for i, c := range p {
		c1 := c == 0xC2 && (i+1 == len(p) || p[i+1] >= 0x80 && p[i+1] < 0xA0)
		if c1 || c == 0x7F || c < 0x20 && c != '\n' && c != '\t' {
			out = fmt.Appendf(out, `\x%02x`, c)
			continue
		}
		out = append(out, c)
	}
	return out
}

// isTerminal reports whether w is a character device, which for a standard stream is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
