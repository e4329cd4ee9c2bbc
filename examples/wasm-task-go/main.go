// Command wasm-task-go prints the SHA-256 of files. It is an ordinary program, and as a WASM module
// (GOOS=wasip1 GOARCH=wasm go build) a task whose / is its sandbox: see README.md.
package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: sum FILE...")
		os.Exit(2)
	}
	status := 0
	for _, path := range os.Args[1:] {
		if err := sum(path); err != nil {
			fmt.Fprintln(os.Stderr, "sum:", err)
			status = 1
		}
	}
	os.Exit(status)
}

func sum(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	fmt.Printf("%x  %s\n", h.Sum(nil), path)
	return nil
}
