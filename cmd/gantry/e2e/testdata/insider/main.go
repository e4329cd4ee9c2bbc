// Command insider tells what a container looks like from inside, for images that have no other
// program: insider WORD [ARGUMENT...].
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// view is what `insider look PATH...` prints.
type view struct {
	Args   []string
	Env    []string
	Cwd    string
	UID    int
	GID    int
	Groups []int
	// NoNewPrivs is the kernel's word on set-user-id programs.
	NoNewPrivs string
	// Root are the options of the mount at /.
	Root string
	// Paths has, for each path, what it is: missing, dir, file CONTENT, or the mode of anything else.
	Paths map[string]string
}

func main() {
	words := append(os.Args[1:], "look")
	switch words[0] {
	case "look":
		look(os.Args)
	case "write":
		for _, path := range os.Args[2:] {
			if err := os.WriteFile(path, []byte("written"), 0o644); err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	case "exit":
		status, _ := strconv.Atoi(os.Args[2])
		os.Exit(status)
	case "wait": // for a file
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		for {
			if _, err := os.Stat(os.Args[2]); err == nil {
				return
			}
			select {
			case <-stop:
				os.Exit(3)
			case <-time.After(20 * time.Millisecond):
			}
		}
	default:
		look(os.Args)
	}
}

func look(args []string) {
	v := view{Args: args, Env: os.Environ(), UID: os.Getuid(), GID: os.Getgid(), Paths: map[string]string{}}
	v.Cwd, _ = os.Getwd()
	v.Groups, _ = os.Getgroups()
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if value, ok := strings.CutPrefix(line, "NoNewPrivs:"); ok {
			v.NoNewPrivs = strings.TrimSpace(value)
		}
	}
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 5 && fields[4] == "/" {
			v.Root = fields[5]
		}
	}
	for _, path := range args {
		if filepath.IsAbs(path) {
			v.Paths[path] = describe(path)
		}
	}
	json.NewEncoder(os.Stdout).Encode(v)
}

func describe(path string) string {
	info, err := os.Lstat(path)
	switch {
	case err != nil:
		return "missing"
	case info.IsDir():
		return "dir"
	case info.Mode().IsRegular() && info.Size() < 4096:
		text, err := os.ReadFile(path)
		if err != nil {
			return err.Error()
		}
		return "file " + info.Mode().String() + " " + string(text)
	}
	return info.Mode().String()
}
