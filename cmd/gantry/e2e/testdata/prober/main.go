// Command prober tells what a WASM module can see and do, from inside: prober WORD [ARGUMENT...].
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// view is what `prober look PATH...` prints.
type view struct {
	Args, Env []string
	// Root has the names in /.
	Root []string
	// Paths has the content of each, or the error.
	Paths map[string]string
	// Tries has what became of each attempt at what a module should not do; "" if it was done.
	Tries map[string]string
	// Clock is the time.
	Clock time.Time
}

func main() {
	words := append(os.Args[1:], "look")
	switch words[0] {
	case "exit":
		status, _ := strconv.Atoi(os.Args[2])
		os.Exit(status)
	case "wait": // for a file
		for n := 0; ; n++ {
			if _, err := os.Stat(os.Args[2]); err == nil {
				return
			}
			fmt.Println("waiting", n)
			time.Sleep(50 * time.Millisecond)
		}
	case "loop":
		fmt.Println("looping")
		for {
		}
	case "eat":
		var all [][]byte
		for {
			b := make([]byte, 1<<20)
			for i := range b {
				b[i] = 1
			}
			all = append(all, b)
			if len(all)%8 == 0 {
				fmt.Println("ate", len(all))
			}
		}
	default:
		look()
	}
}

func look() {
	v := view{Args: os.Args, Env: os.Environ(), Paths: map[string]string{}, Tries: map[string]string{}, Clock: time.Now()}
	entries, err := os.ReadDir("/")
	for _, e := range entries {
		v.Root = append(v.Root, e.Name())
	}
	try := func(what string, err error) {
		v.Tries[what] = ""
		if err != nil {
			v.Tries[what] = err.Error()
		}
	}
	try("list /", err)
	for _, path := range os.Args[min(2, len(os.Args)):] {
		text, err := os.ReadFile(path)
		if err != nil {
			text = []byte("error: " + err.Error())
		}
		v.Paths[path] = string(text)
	}
	write := func(path string) error { return os.WriteFile(path, []byte("written"), 0o644) }
	try("write to the sandbox", write("/made"))
	try("write outside", write("/../../made"))
	try("write to the root", write("/tmp/made"))
	try("write the machine code", write("/cache/x"))
	try("make a link out", os.Symlink("../../../etc/hosts", "/link"))
	try("write through a link", write("/link"))
	_, err = os.ReadFile("/link")
	try("read through a link", err)
	try("an absolute link", os.Symlink("/proc/self", "/self"))
	_, err = os.ReadFile("/self/mem")
	try("read the runner", err)
	try("a long way round", write(filepath.Join("/sub/..", "../../../../etc/made")))
	conn, err := net.DialTimeout("tcp", "127.0.0.1:1", time.Second)
	if err == nil {
		conn.Close()
	}
	try("use the network", err)
	json.NewEncoder(os.Stdout).Encode(v)
}
