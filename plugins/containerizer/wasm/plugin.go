package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"

	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

const (
	// kind is that of images that are modules.
	kind = "wasm"
	// nobody runs modules, which have no use for rights.
	nobody     = 65534
	nobodyName = "nobody"

	pageBytes = 64 << 10
	maxPages  = 1 << 16
	// runnerBytes is what the runner needs beside the module, its machine code and its memory.
	runnerBytes = 10 << 20
)

// plugin prepares containers of modules.
type plugin struct {
	config config
	store  *store
}

func open(r *containerizerpb.OpenRequest, runner string, log *slog.Logger) (*plugin, error) {
	c, err := parseConfig(r.GetConfigJson())
	if err != nil {
		return nil, err
	}
	if runner == "" {
		return nil, errors.New("there is no program to run modules: write runner = \"containerizer-wasm-run\" in the plugin's entry")
	}
	s, err := openStore(r.GetFolder(), runner, c, r.GetContainers(), log)
	if err != nil {
		return nil, err
	}
	return &plugin{c, s}, nil
}

// Prepare implements containerizer.Plugin.
func (p *plugin) Prepare(ctx context.Context, r *containerizerpb.PrepareRequest) (*containerizerpb.PrepareResponse, error) {
	name, err := nameOf(r)
	if err != nil {
		return nil, err
	}
	if err := checkCommand(r); err != nil {
		return nil, err
	}
	in, err := p.openModule(r.GetSandboxFolder(), name)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	m, err := p.store.ensure(ctx, r.GetContainer(), in)
	if err != nil {
		return nil, err
	}
	pages, err := m.memory(r.GetLimits().GetMemoryBytes())
	if err != nil {
		return nil, err
	}
	return &containerizerpb.PrepareResponse{
		Layers: []string{m.layer(), p.store.runnerLayer()}, ReadOnly: true,
		Argv: p.argv(r, pages, path.Base(name)), Digest: "sha256:" + m.digest,
		User: &containerizerpb.User{Uid: nobody, Gid: nobody},
	}, nil
}

// Cleanup implements containerizer.Plugin.
func (p *plugin) Cleanup(_ context.Context, container string) error {
	return p.store.release(container)
}

// argv has the runner run the module; see the runner's own description.
func (p *plugin) argv(r *containerizerpb.PrepareRequest, pages int64, name string) []string {
	argv := []string{"/" + runnerName, "-pages", strconv.FormatInt(pages, 10), "-root", r.GetSandbox()}
	if p.config.Interpret {
		argv = append(argv, "-interpret")
	} else {
		argv = append(argv, "-cache", "/"+cacheName)
	}
	argv = append(argv, "/"+moduleName, name)
	return append(argv, r.GetCommand().GetArguments()...)
}

// nameOf is the module's path in the sandbox.
func nameOf(r *containerizerpb.PrepareRequest) (string, error) {
	name, ok := strings.CutPrefix(r.GetImage(), kind+":/")
	if r.GetKind() != kind || !ok {
		return "", fmt.Errorf("images of kind %q are not for this plugin: it has %s:/FILE", r.GetKind(), kind)
	}
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		return "", fmt.Errorf("%s names no file: write %s:/FILE for a file in the task's sandbox, and how it gets there as one of the command's uris", r.GetImage(), kind)
	}
	return name, nil
}

// checkCommand refuses what can't be done for a module rather than do something else.
func checkCommand(r *containerizerpb.PrepareRequest) error {
	c := r.GetCommand()
	switch {
	case c.GetShell():
		return errors.New("a module has no shell: set 'shell' to false, and give the module's arguments in 'arguments'")
	case c.GetValue() != "":
		return errors.New("the module is the program: leave the command's 'value' out, and give its arguments in 'arguments'")
	case c.GetUser() != "" && c.GetUser() != nobodyName:
		return fmt.Errorf("a module runs as %s, not as %q: leave the command's 'user' out", nobodyName, c.GetUser())
	}
	return nil
}

// openModule opens a file of the sandbox that no link leads out of.
func (p *plugin) openModule(sandbox, name string) (*os.File, error) {
	root, err := os.OpenRoot(sandbox)
	if err != nil {
		return nil, fmt.Errorf("open the sandbox: %w", err)
	}
	defer root.Close()
	in, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no %s in the task's sandbox: have one of the command's uris fetch it", name)
	}
	if err != nil {
		return nil, fmt.Errorf("open the module: %w", err)
	}
	info, err := in.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s in the task's sandbox is no file", name)
	case info.Size() > p.config.MaxModuleMB<<20:
		err = fmt.Errorf("the module has %d MB, and may have %d: strip it of debug information (or see max_module_mb in plugins.toml)", info.Size()>>20, p.config.MaxModuleMB)
	}
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	return in, nil
}

// memory is how many pages the module may have of what the task has; zero is no bound.
func (m module) memory(taskBytes int64) (int64, error) {
	if taskBytes == 0 {
		return maxPages, nil
	}
	own := runnerBytes + m.Bytes
	if need := own + m.Pages*pageBytes; taskBytes < need {
		return 0, fmt.Errorf("the module needs %d MB to begin with, and the task has %d: give it more 'mem'", (need+1<<20-1)>>20, taskBytes>>20)
	}
	return min((taskBytes-own)/pageBytes, maxPages), nil
}
