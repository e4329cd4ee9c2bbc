package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
)

// Exit statuses.
const (
	statusRefused = 1
	statusNotRun  = 126
	statusTrapped = 134 // 128 and SIGABRT
	statusMax     = 255
)

// maxPages is all that a module can have: 4 GB.
const maxPages = 1 << 16

// options are the flags.
type options struct {
	compile   string
	cache     string
	root      string
	pages     uint
	interpret bool
}

func main() {
	var o options
	flag.StringVar(&o.compile, "compile", "", "compile the module on stdin into `DIR`")
	flag.StringVar(&o.cache, "cache", "", "`DIR` with the module's machine code")
	flag.StringVar(&o.root, "root", "", "`DIR` that the module has as its /")
	flag.UintVar(&o.pages, "pages", maxPages, "the module's memory, in `UNITS` of 64 KB")
	flag.BoolVar(&o.interpret, "interpret", false, "interpret the module: slower, and without machine code")
	flag.Parse()
	os.Exit(o.main(flag.Args()))
}

func (o options) main(args []string) int {
	if o.compile != "" {
		if err := o.compileTo(os.Stdout, os.Stdin); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return statusRefused
		}
		return 0
	}
	if len(args) < 2 || o.root == "" || o.pages > maxPages {
		fmt.Fprintln(os.Stderr, "usage: wasm-run [-pages N] [-cache DIR] [-interpret] -root DIR MODULE NAME [ARGUMENT...]")
		return statusNotRun
	}
	status, err := o.run(context.Background(), args[0], args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return status
}

func (o options) compileTo(out io.Writer, in io.Reader) error {
	if err := bound(); err != nil {
		return err
	}
	code, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("read the module: %w", err)
	}
	facts, err := o.check(context.Background(), code)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(facts)
}
