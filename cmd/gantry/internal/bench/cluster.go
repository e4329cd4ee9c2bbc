package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

// stopGrace is how long a cluster may take to end.
const stopGrace = time.Minute

// cluster is one that was started for a measurement.
type cluster struct {
	dir    string
	cmd    *exec.Cmd
	client *client.Client
}

// start starts a cluster of the binary that l names and those beside it, in a new work dir below the system's directory for temporary
// files. What it says goes to its log there.
func start(ctx context.Context, l Launch) (*cluster, error) {
	dir, err := os.MkdirTemp("", "gantry-bench-")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir}
	at, err := c.up(ctx, l)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start a cluster in %s: %w", dir, err), c.stop())
	}
	c.client = client.New(at.Master, at.Marathon)
	return c, nil
}

func (c *cluster) up(ctx context.Context, l Launch) (daemon.Cluster, error) {
	var at daemon.Cluster
	log, err := os.Create(filepath.Join(c.dir, "up.log"))
	if err != nil {
		return at, err
	}
	defer log.Close()
	args := []string{"up", "--work-dir", filepath.Join(c.dir, "work"), "--listen", "127.0.0.1:0", "--no-demo", "--json"}
	if l.Plugins != "" {
		args = append(args, "--plugins", l.Plugins)
	}
	cmd := exec.CommandContext(ctx, l.Executable, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopGrace
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return at, err
	}
	if err := cmd.Start(); err != nil {
		return at, err
	}
	c.cmd = cmd
	ready, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		said, _ := os.ReadFile(log.Name())
		return at, fmt.Errorf("it did not become ready; it said:\n%s", said)
	}
	if err := json.Unmarshal(ready, &at); err != nil {
		return at, fmt.Errorf("understand its addresses: %w", err)
	}
	return at, nil
}

// stop ends the cluster and removes all that it had.
func (c *cluster) stop() error {
	if c.cmd != nil && c.cmd.Process != nil {
		if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		var exit *exec.ExitError
		if err := c.cmd.Wait(); err != nil && !errors.As(err, &exit) {
			return err
		}
	}
	return os.RemoveAll(c.dir)
}

// recount counts the tasks of a framework that the keeper gave their output files, which it does when it starts them: one
// for each, whatever the cluster's API says.
func (c *cluster) recount(framework string) (int, error) {
	runs, err := filepath.Glob(filepath.Join(c.dir, "work/agent/slaves/*/frameworks", framework, "executors/*/runs/*/stdout"))
	if err != nil {
		return 0, err
	}
	n := 0
	for _, run := range runs {
		info, err := os.Lstat(filepath.Dir(run))
		if err != nil {
			return 0, err
		}
		if info.Mode()&fs.ModeSymlink == 0 { // "latest" is one
			n++
		}
	}
	return n, nil
}
