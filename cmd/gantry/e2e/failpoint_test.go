package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

// first are the failpoints that only the first start in a work dir passes.
var first = []string{"store.create", "store.created"}

// elsewhere are the failpoints that no cluster passes that is only killed, and whose tests those are.
var elsewhere = map[string]string{
	"store.mend":           "a file is mended where it is damaged, as kernel/store's tests have it",
	"store.mended":         "a file is mended where it is damaged, as kernel/store's tests have it",
	"keeper.adopt-failed":  "a keeper's process dies in the middle of a start, as cmd/gantry-keeper's tests have it",
	"keeper.start-dropped": "a keeper's process dies in the middle of a start, as cmd/gantry-keeper's tests have it",
	"keeper.orphaned":      "a keeper's process dies in the middle of a start, as cmd/gantry-keeper's tests have it",
}

// Between any two steps of a write that must be durable, whoever writes is killed: no task is lost or runs twice, every exit
// status is told, and all that was held is given back.
func TestFailpoints(t *testing.T) {
	binaries := tagged(t)
	points := failpoints(t)
	for name := range elsewhere {
		if !slices.Contains(points, name) {
			t.Errorf("there is no failpoint %s any more", name)
		}
	}
	points = slices.DeleteFunc(points, func(name string) bool { return elsewhere[name] != "" || slices.Contains(first, name) })
	const clusters = 6
	t.Run("under load", func(t *testing.T) {
		for i := range clusters {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				f := newFragile(t, binaries)
				for j := i; j < len(points); j += clusters { // neighbours, which kill the same process, in different clusters
					f.die(points[j])
				}
				f.end()
			})
		}
	})
	for _, name := range first {
		t.Run("at the first start/"+name, func(t *testing.T) {
			t.Parallel()
			armed := t.TempDir()
			c := prepare(t, binaries, newWorkDir(t), armed, "--no-demo")
			arm(t, armed, name)
			c.ready()
			if !hit(t, armed, name) {
				t.Errorf("no process has ever passed %s", name)
			}
			newLoad(t, c).teardown()
			c.end()
			c.checkNothingLeft()
		})
	}
}

// failpoints finds the names in the source.
func failpoints(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, root := range []string{"kernel", "cmd", "isolators"} {
		err := filepath.WalkDir(filepath.Join("..", "..", "..", root), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if f, ok := call.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Hit" && isIdent(f.X, "failpoint") {
					literal, ok := call.Args[0].(*ast.BasicLit)
					if !ok {
						t.Fatalf("%s: the name of a failpoint is no literal", path)
					}
					name, err := strconv.Unquote(literal.Value)
					if err != nil {
						t.Fatal(err)
					}
					names = append(names, name)
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(names)
	names = slices.Compact(names)
	if len(names) < 20 {
		t.Fatalf("only %d failpoints were found: %q", len(names), names)
	}
	return names
}

func isIdent(e ast.Expr, name string) bool {
	ident, ok := e.(*ast.Ident)
	return ok && ident.Name == name
}

// tagged builds what has failpoints, and returns the folder; the plugins have none.
var tagged = func() func(t *testing.T) string {
	var once sync.Once
	var failed error
	return func(t *testing.T) string {
		t.Helper()
		dir := filepath.Join(bin, "failpoints")
		once.Do(func() { failed = buildTagged(dir) })
		if failed != nil {
			t.Fatal(failed)
		}
		return dir
	}
}()

func buildTagged(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, same := range []string{"plugins", "examples"} {
		if err := os.Symlink(filepath.Join("..", same), filepath.Join(dir, same)); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	for _, build := range []struct{ cgo, tags, flags, program string }{
		{"0", "failpoints", "-s -w", "gantry"},
		{"1", "failpoints seccomp netgo osusergo", `-s -w -extldflags "-static"`, "gantry-keeper"},
	} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-tags", build.tags, "-ldflags", build.flags,
			"-o", filepath.Join(dir, build.program), "./cmd/"+build.program)
		cmd.Dir = filepath.Join("..", "..", "..")
		cmd.Env = append(os.Environ(), "CGO_ENABLED="+build.cgo)
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", cmd, err, text)
		}
	}
	return nil
}

// prepare returns a cluster of the binaries with failpoints that is not started yet; a folder arms them.
func prepare(t *testing.T, binaries, workDir, armed string, flags ...string) *cluster {
	t.Helper()
	c := &cluster{t: t, workDir: workDir, screen: new(screen), ended: make(chan struct{})}
	c.cmd = exec.Command(filepath.Join(binaries, "gantry"), append([]string{"up", "--check", "--listen", "127.0.0.1:0",
		"--work-dir", c.workDir, "--plugins", filepath.Join("..", "..", "..", "plugins.toml")}, flags...)...)
	c.cmd.Env = append(os.Environ(), "GANTRY_FAILPOINTS="+armed)
	c.cmd.Stdout, c.cmd.Stderr = c.screen, c.screen
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM}
	return c
}

// ready starts what was prepared.
func (c *cluster) ready() {
	c.t.Helper()
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	c.t.Cleanup(func() { c.signal(syscall.SIGTERM) })
	await(c.t, readyWithin, "gantry: ready", c.describe, func() bool {
		select {
		case <-c.ended:
			c.t.Fatalf("gantry up ended early: %v\n%s", c.err, c.describe())
		default:
		}
		return strings.Contains(c.screen.String(), "gantry: ready\n")
	})
	var err error
	if c.at, err = daemon.ReadCluster(c.workDir); err != nil {
		c.t.Fatal(err)
	}
}

func arm(t *testing.T, dir, name string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

// hit says whether a process has died at a failpoint that was armed.
func hit(t *testing.T, dir, name string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err != nil
}

// fragile is a cluster whose processes die at failpoints.
type fragile struct {
	t       *testing.T
	c       *cluster
	armed   string
	l       *load
	batches int
}

func newFragile(t *testing.T, binaries string) *fragile {
	t.Helper()
	armed := t.TempDir()
	c := prepare(t, binaries, newWorkDir(t), armed, "--no-demo")
	c.ready()
	f := &fragile{t: t, c: c, armed: armed, l: newLoad(t, c)}
	f.app("POST", "", `{"id":"app","cmd":"exec sleep 100000","cpus":0.02,"mem":16,"instances":1}`)
	return f
}

// die arms a point, has the cluster do what it can do until a process dies of it, and checks that all was done.
func (f *fragile) die(point string) {
	f.t.Helper()
	arm(f.t, f.armed, point)
	f.work(point)
	for _, victim := range []string{"agent", "master", "keeper"} { // what only the next one passes
		if hit(f.t, f.armed, point) {
			return
		}
		left := work{fmt.Sprintf("left-%d", f.batches), "until test -e go; do sleep 0.05; done", 3}
		f.l.launch(left)
		f.l.until("task that waits", func() bool { return f.l.runs(left.id) || f.l.ended(left.id) })
		f.kill(victim)
		f.l.touch(left.id, "go")
		f.work(point, left)
	}
	if !hit(f.t, f.armed, point) {
		f.t.Errorf("no process has ever passed %s", point)
		if err := os.Remove(filepath.Join(f.armed, point)); err != nil {
			f.t.Error(err)
		}
	}
}

// work launches tasks, has another framework come and go and an application change, waits for the end of the tasks, and of
// more that run already, and checks it.
func (f *fragile) work(point string, more ...work) {
	f.t.Helper()
	f.batches++
	other := newLoad(f.t, f.c)
	other.id = fmt.Sprintf("other-%d", f.batches) // so that it is the same when nobody could tell it that it was taken
	f.app("PUT", "/app", fmt.Sprintf(`{"instances":%d}`, 1+f.batches%2))
	var tasks []work
	for i := range 8 {
		tasks = append(tasks, work{fmt.Sprintf("task-%d-%d", f.batches, i), "true", i})
	}
	f.l.launch(tasks...)
	tasks = append(tasks, more...)
	f.l.until("end of the tasks", func() bool { return f.l.ended(ids(tasks)...) })
	other.teardown()
	for _, w := range tasks {
		if !f.l.exited(w.id) && !f.l.neverRan(w.id) {
			f.t.Errorf("at %s: task %s, which exits with %d, ran %d times: %s, at last %+v\n%s",
				point, w.id, w.exit, f.l.ran(w.id), f.l.tasks[w.id].path(), f.l.tasks[w.id].last(), f.c.describe())
		}
	}
}

// kill kills a process and waits for the next.
func (f *fragile) kill(name string) {
	f.t.Helper()
	i := slices.IndexFunc(victims, func(v victim) bool { return v.name == name })
	pid := victims[i].find(f.t, f.c)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		f.t.Fatal(err)
	}
	await(f.t, soon, name+" in its place", f.c.describe, func() bool {
		now := victims[i].find(f.t, f.c)
		return now != 0 && now != pid && alive(now)
	})
}

// app asks Marathon for something until it answers.
func (f *fragile) app(method, path, body string) {
	f.t.Helper()
	await(f.t, soon, "answer of Marathon", f.c.describe, func() bool {
		at, err := daemon.ReadCluster(f.c.workDir) // each master has Marathon listen on another port
		if err != nil {
			f.t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(f.t.Context(), method, "http://"+at.Marathon+"/v2/apps"+path+"?force=true", bytes.NewReader([]byte(body)))
		if err != nil {
			f.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		// What was carried out and not answered is there, or gone, when it is asked for again.
		return resp.StatusCode/100 == 2 || f.batches == 0 && resp.StatusCode == http.StatusConflict || method == "DELETE" && resp.StatusCode == http.StatusNotFound
	})
}

// end checks that nothing is held for anybody, and that nothing is left.
func (f *fragile) end() {
	f.t.Helper()
	f.l.teardown()
	f.app("DELETE", "/app", "")
	f.c.checkNothingHeld(f.t)
	for _, word := range []string{"panic", "broken", "contradict"} {
		if text := f.c.describe(); strings.Contains(text, word) {
			f.t.Errorf("somebody speaks of %q\n%s", word, text)
		}
	}
	f.c.end()
	f.c.checkNothingLeft()
}
