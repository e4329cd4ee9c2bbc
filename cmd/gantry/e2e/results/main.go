// Results shows what `go test -json` says as a person wants to read it, keeps all of it in a file for later steps, and
// ends with status 1 unless everything passed.
//
//	go test -json ./... | go run ./cmd/gantry/e2e/results bin/unit.json
//
// A package is one line, a test that failed is all that it wrote; what passed or was skipped is in the file.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go test -json PACKAGES | results FILE")
		os.Exit(2)
	}
	passed, err := keep(os.Stdin, os.Stdout, os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "results:", err)
	}
	if err != nil || !passed {
		os.Exit(1)
	}
}

func keep(from io.Reader, screen io.Writer, path string) (passed bool, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return false, err
	}
	file, err := os.Create(path)
	if err != nil {
		return false, err
	}
	passed, err = show(from, screen, file)
	if closed := file.Close(); err == nil {
		err = closed
	}
	return passed, err
}

// event is what test2json and the go command write; see `go doc test2json` and `go help buildjson`.
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // seconds
}

// show writes what of the events is worth reading, and every event to all; it tells whether everything passed, and
// was anything at all.
func show(from io.Reader, screen, all io.Writer) (passed bool, err error) {
	failed, ran := false, false
	wrote := map[[2]string]*strings.Builder{} // by package and test, until it ends
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return ran && !failed, nil
		}
		if err != nil && err != io.EOF {
			return false, err
		}
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			fmt.Fprintf(screen, "%s", line) // of a program beside go test
			continue
		}
		if _, err := all.Write(line); err != nil {
			return false, err
		}
		key := [2]string{e.Package, e.Test}
		ran = ran || e.Action == "pass"
		switch e.Action {
		case "build-output":
			fmt.Fprint(screen, e.Output)
		case "output":
			if wrote[key] == nil {
				wrote[key] = new(strings.Builder)
			}
			wrote[key].WriteString(e.Output)
		case "fail":
			failed = true
			if wrote[key] != nil {
				fmt.Fprint(screen, wrote[key])
			}
			if e.Test == "" {
				fmt.Fprintf(screen, "FAIL  %s  %.1f s\n", e.Package, e.Elapsed)
			}
			delete(wrote, key)
		case "pass", "skip":
			if e.Test == "" && e.Action == "pass" {
				fmt.Fprintf(screen, "ok    %s  %.1f s\n", e.Package, e.Elapsed)
			}
			delete(wrote, key)
		}
	}
}
