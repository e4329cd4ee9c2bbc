package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/e2e/faultfs"
	"github.com/gantry-project/gantry/kernel/store"
)

// harm does something to a file that a daemon is to find.
type harm struct {
	name string
	do   func(path string) error
	says string // what is said of it, beside the path
	mend bool   // `gantry mend` is what helps
}

func rewrite(path string, change func(text []byte) []byte) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, change(text), 0o600)
}

// A store that is damaged, older, newer, gone, or no file at all is refused by who starts with it, in one line that says
// which file and what to do; the cluster does not come up, and the tasks go on. Mended, all goes on.
func TestDamagedStores(t *testing.T) {
	c := up(t, newWorkDir(t), "--keep-tasks")
	c.awaitInstances(2)
	pids := c.instances()
	c.end()
	stores := map[string]string{
		"master": filepath.Join(c.workDir, "master", "master.db"),
		"agent":  filepath.Join(c.workDir, "agent", "agent", "checkpoint.db"),
	}
	older := map[string][]byte{}
	for name, path := range stores {
		older[name] = readFile(t, path)
	}
	c = up(t, c.workDir, "--keep-tasks")
	c.awaitInstances(2)
	c.end()
	for _, name := range []string{"master", "agent"} {
		path, good := stores[name], readFile(t, stores[name])
		for _, h := range []harm{
			{"a record is damaged", func(path string) error { return rewrite(path, spoilRecords) }, "store is damaged", true},
			{"cut off", func(path string) error { return os.Truncate(path, 12345) }, "store is damaged", true},
			{"empty", func(path string) error { return os.Truncate(path, 0) }, "store is damaged", true},
			{"an older copy", func(path string) error { return os.WriteFile(path, older[name], 0o600) }, "older copy", true},
			{"gone", os.Remove, "store is missing", true},
			{"a folder", func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) }, "no regular file", false},
			{"open to others", func(path string) error { return os.Chmod(path, 0o644) }, "chmod 600 " + path, false},
		} {
			t.Run(name+", "+h.name, func(t *testing.T) {
				if err := h.do(path); err != nil {
					t.Fatal(err)
				}
				screen := refused(t, c.workDir, path, h)
				if strings.Count(screen, h.says) != 1 || strings.Contains(screen, "starting it again") {
					t.Errorf("it is not said once, or tried again\n%s", screen)
				}
				if got := c.instances(); !slices.Equal(got, pids) {
					t.Errorf("the instances were %d and are %d", pids, got)
				}
				if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, good, 0o600), os.Chmod(path, 0o600)); err != nil {
					t.Fatal(err)
				}
			})
		}
	}
	if t.Failed() {
		return
	}
	t.Run("mended", func(t *testing.T) { mended(t, c.workDir, stores, pids) })
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// spoilRecords damages what the file has of agents and tasks.
func spoilRecords(text []byte) []byte {
	text = bytes.ReplaceAll(text, []byte("agent/"), []byte("agenT/"))
	return bytes.ReplaceAll(text, []byte("task/"), []byte("tasK/"))
}

// refused starts a cluster that can't come up because of path, and returns what it showed.
func refused(t *testing.T, workDir, path string, h harm) string {
	t.Helper()
	c := launch(t, workDir, "--keep-tasks")
	await(t, readyWithin, "end of gantry up", c.describe, func() bool {
		select {
		case <-c.ended:
			return true
		default:
			if strings.Contains(c.screen.String(), "gantry: ready\n") {
				t.Fatalf("the cluster came up\n%s", c.describe())
			}
			return false
		}
	})
	if c.err == nil {
		t.Errorf("gantry up ended well\n%s", c.describe())
	}
	said := false
	for line := range strings.Lines(c.screen.String()) {
		said = said || strings.HasPrefix(line, "gantry: ") && strings.Contains(line, path) && strings.Contains(line, h.says) &&
			(!h.mend || strings.Contains(line, "`gantry mend "+path+"`"))
	}
	if !said || strings.Contains(c.screen.String(), "panic") {
		t.Errorf("no line says that %s: %s\n%s", path, h.says, c.describe())
	}
	return c.screen.String()
}

// mended damages both stores, mends them, and goes on: the task whose record is lost is replaced, and the other is not, though
// the master has lost the record of its agent, too.
func mended(t *testing.T, workDir string, stores map[string]string, pids []int) {
	err := rewrite(stores["master"], func(text []byte) []byte { return bytes.ReplaceAll(text, []byte("agent/"), []byte("agenT/")) })
	if err != nil {
		t.Fatal(err)
	}
	err = rewrite(stores["agent"], func(text []byte) []byte {
		key := regexp.MustCompile(`task/[-a-zA-Z0-9]+/[-._a-zA-Z0-9]+`).Find(text)
		return bytes.ReplaceAll(text, key, bytes.Replace(key, []byte("task"), []byte("tasK"), 1))
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, workDir: workDir}
	for _, path := range stores {
		var r struct {
			Kept, Lost int
			SavedAs    string `json:"saved_as"`
		}
		if err := json.Unmarshal([]byte(c.must("mend", "--json", path)), &r); err != nil {
			t.Fatal(err)
		}
		if r.Lost != 1 || r.Kept == 0 || r.SavedAs == "" {
			t.Errorf("%s: %+v", path, r)
		}
	}
	c = up(t, workDir)
	c.awaitInstances(2)
	now := c.instances()
	if slices.Equal(now, pids) {
		t.Errorf("the instances are %d as ever, though the record of one was lost", pids)
	}
	if !slices.ContainsFunc(now, func(pid int) bool { return slices.Contains(pids, pid) }) {
		t.Errorf("the instances were %d and are %d: the one whose record was not lost was replaced, too", pids, now)
	}
	if status, out, errOut := c.gantry("run", "--", "echo", "hi"); status != 0 || out != "hi\n" {
		t.Errorf("gantry run: %d, %q, %q", status, out, errOut)
	}
	c.end()
	c.checkNothingLeft()
}

// A record of a plugin that it can't have written is refused by the plugin, by name and with what to do; the master, other
// frameworks and the tasks go on. Dropped, all goes on.
func TestDamagedPluginState(t *testing.T) {
	c := up(t, newWorkDir(t), "--keep-tasks")
	c.awaitInstances(2)
	pids := c.instances()
	c.end()
	path := filepath.Join(c.workDir, "master", "master.db")
	good, mark := readFile(t, path), readFile(t, path+".mark")
	for _, h := range []struct {
		name, record string // what the key begins with, below the plugin's own
		change       func([]byte) []byte
		says         string
	}{
		{"cut off", "app/hello-web/", func(v []byte) []byte { return v[:len(v)/2] }, "unexpected end"},
		{"a byte is flipped", "task/", func(v []byte) []byte { return bytes.Replace(v, []byte("hello"), []byte("hellp"), 1) }, "it is that of"},
		{"newer", "incarnation", func(v []byte) []byte { return bytes.Replace(v, []byte(`"schema":1`), []byte(`"schema":2`), 1) }, "its schema is 2"},
	} {
		t.Run(h.name, func(t *testing.T) {
			if err := errors.Join(os.WriteFile(path, good, 0o600), os.WriteFile(path+".mark", mark, 0o600)); err != nil {
				t.Fatal(err)
			}
			key := changeRecord(t, path, "plugin/marathon/"+h.record, h.change)
			c := up(t, c.workDir, "--keep-tasks", "--no-demo")
			drop := "gantry mend --drop " + key
			await(t, soon, "word of the record", c.describe, func() bool {
				return strings.Contains(c.screen.String(), h.says) && strings.Contains(c.screen.String(), drop)
			})
			if status, out, errOut := c.gantry("run", "--", "echo", "hi"); status != 0 || out != "hi\n" {
				t.Errorf("gantry run: %d, %q, %q", status, out, errOut)
			}
			if got := c.instances(); !slices.Equal(got, pids) {
				t.Errorf("the instances were %d and are %d", pids, got)
			}
			c.end()
		})
	}
	c = &cluster{t: t, workDir: c.workDir}
	c.must("mend", "--drop", "plugin/marathon/incarnation", path)
	c = up(t, c.workDir)
	c.awaitInstances(2)
	if got := c.instances(); !slices.Equal(got, pids) {
		t.Errorf("the instances were %d and are %d", pids, got)
	}
	c.must("app", "scale", "hello-web", "3")
	c.awaitInstances(3)
	c.end()
	c.checkNothingLeft()
}

// changeRecord changes the first record of a store whose key begins with prefix, and returns the key.
func changeRecord(t *testing.T, path, prefix string, change func([]byte) []byte) string {
	t.Helper()
	s, err := store.OpenBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	found, _, err := s.List(t.Context(), prefix, "", 1)
	if err != nil || len(found) == 0 {
		t.Fatalf("no record of %s: %v", prefix, err)
	}
	changed := store.Entry{Key: found[0].Key, Value: change(found[0].Value)}
	if bytes.Equal(changed.Value, found[0].Value) {
		t.Fatalf("%s is %q as ever", changed.Key, changed.Value)
	}
	if _, err := s.Apply(t.Context(), store.Txn{Puts: []store.Entry{changed}}); err != nil {
		t.Fatal(err)
	}
	return changed.Key
}

// The work dir of an agent that was copied is refused, beside the original and its tasks, in one line that says where they
// are; without the checkpoint there is a new agent.
func TestCopiedAgent(t *testing.T) {
	original := up(t, newWorkDir(t))
	original.end()
	other := newWorkDir(t)
	if text, err := exec.Command("cp", "-a", original.workDir+"/.", other).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, text)
	}
	original = up(t, original.workDir)
	original.awaitInstances(2)
	pids := original.instances()
	checkpoint := filepath.Join(other, "agent", "agent", "checkpoint.db")
	says := "which works in " + filepath.Join(original.workDir, "agent") + " of this machine"
	screen := refused(t, other, checkpoint, harm{says: says})
	if strings.Count(screen, says) != 1 || strings.Contains(screen, "starting it again") {
		t.Errorf("it is not said once, or tried again\n%s", screen)
	}
	if got := original.instances(); !slices.Equal(got, pids) {
		t.Errorf("the instances were %d and are %d", pids, got)
	}
	if err := os.Rename(filepath.Dir(checkpoint), filepath.Join(other, "aside")); err != nil {
		t.Fatal(err)
	}
	fresh := up(t, other, "--no-demo")
	fresh.waitRun()
	fresh.end()
	fresh.checkNothingLeft()
	original.end()
	original.checkNothingLeft()
}

// Small files in the work dir, broken.
func TestBrokenSmallFiles(t *testing.T) {
	workDir := newWorkDir(t)
	c := up(t, workDir)
	c.end()
	folder := func(path string) error { return errors.Join(os.RemoveAll(path), os.Mkdir(path, 0o700)) }
	for _, h := range []struct {
		file string
		harm
	}{
		{"agent.token", harm{"is empty", func(path string) error { return os.Truncate(path, 0) }, "64 hexadecimal digits", false}},
		{"agent.token", harm{"is a folder", folder, "no regular file", false}},
		{"agent.token", harm{"is open to others", func(path string) error { return os.Chmod(path, 0o666) }, "chmod 600", false}},
		{"plugins.toml", harm{"is a folder", folder, "plugins.toml", false}},
		{"plugins.toml", harm{"is torn", func(path string) error { return os.WriteFile(path, []byte("[[plugin]]\nname = \"mar"), 0o600) }, "plugins.toml", false}},
	} {
		t.Run(h.file+" "+h.name, func(t *testing.T) {
			path := filepath.Join(workDir, h.file)
			before, err := os.ReadFile(path)
			if err := errors.Join(h.do(path)); err != nil {
				t.Fatal(err)
			}
			refused(t, workDir, path, h.harm)
			if removed := os.RemoveAll(path); removed != nil {
				t.Fatal(removed)
			}
			if err == nil {
				if err := os.WriteFile(path, before, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	c = up(t, workDir, "--no-demo")
	at := filepath.Join(workDir, "addresses.json")
	for _, h := range []harm{
		{"is empty", func(path string) error { return os.Truncate(path, 0) }, at, false},
		{"is a folder", folder, at, false},
	} {
		t.Run("addresses.json "+h.name, func(t *testing.T) {
			if err := h.do(at); err != nil {
				t.Fatal(err)
			}
			status, _, errOut := c.gantry("status")
			if status == 0 || !strings.Contains(errOut, h.says) || strings.Count(errOut, "\n") != 1 {
				t.Errorf("gantry status: %d, %q", status, errOut)
			}
		})
	}
}

// waitRun tries to run a command until it works: what was broken recovers by itself.
func (c *cluster) waitRun() {
	c.t.Helper()
	await(c.t, 2*time.Minute, "task that runs", c.describe, func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
		defer cancel()
		out, err := exec.CommandContext(ctx, filepath.Join(bin, "gantry"), "--work-dir", c.workDir, "run", "--wait", "15s", "--", "echo", "works").Output()
		return err == nil && string(out) == "works\n"
	})
}

// The agent's disk fills up: it says so and takes nothing new, its tasks go on, and when there is room again it works as before.
func TestFullDisk(t *testing.T) {
	workDir := newWorkDir(t)
	agent := filepath.Join(workDir, "agent")
	if err := os.Mkdir(agent, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("gantry-e2e", agent, "tmpfs", 0, "size=64m,mode=700"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(agent, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	c := up(t, workDir)
	c.awaitInstances(2)
	pids := c.instances()
	ballast := filepath.Join(agent, "ballast")
	fill(t, ballast)
	run, said := c.begin("run", "--wait", "20s", "--", "sh", "-c", "echo hi")
	await(t, soon, "word of the full disk", c.describe, func() bool {
		return strings.Contains(said.String()+c.screen.String(), "no space left on device")
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	// Refused, or run when there was room again by an agent that had ended: both is told, and nothing is kept waiting.
	err := run.Wait()
	t.Logf("a task on a full disk: %v, %s", err, said)
	if err == nil && !strings.HasPrefix(said.String(), "hi\n") {
		t.Error("a task on a full disk ended well, without its output")
	}
	c.waitRun()
	if got := c.instances(); !slices.Equal(got, pids) {
		t.Errorf("the instances were %d and are %d", pids, got)
	}
	c.end()
}

// fill writes a file until its disk is full.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 1<<16)
	for len(block) > 0 {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2]
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

// The disk below a store fails or is slow. A failed sync ends the daemon with one line, and it starts again with what was
// durable; a slow one delays. No task is lost, no agent is taken for lost.
func TestFailingDisk(t *testing.T) {
	for _, c := range []struct{ name, folder, file string }{
		{"master", "master", "master.db"},
		{"agent", filepath.Join("agent", "agent"), "checkpoint.db"},
	} {
		t.Run(c.name, func(t *testing.T) { failingDisk(t, c.name, c.folder, c.file) })
	}
}

func failingDisk(t *testing.T, name, folder, file string) {
	workDir := newWorkDir(t)
	dir, behind := filepath.Join(workDir, folder), filepath.Join(workDir, "behind")
	if err := errors.Join(os.MkdirAll(dir, 0o700), os.Mkdir(behind, 0o700)); err != nil {
		t.Fatal(err)
	}
	disk, err := faultfs.Mount(dir, behind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := disk.Unmount(); err != nil {
			t.Error(err)
		}
	})
	c := up(t, workDir)
	c.awaitInstances(2)
	pids := c.instances()
	set := func(faults ...faultfs.Fault) {
		t.Helper()
		if err := disk.Set(faults...); err != nil {
			t.Fatal(err)
		}
	}
	same := func() {
		t.Helper()
		if got := c.instances(); !slices.Equal(got, pids) {
			t.Errorf("the instances were %d and are %d\n%s", pids, got, c.describe())
		}
	}
	set(faultfs.Fault{Name: file, On: faultfs.Sync, Delay: time.Second})
	for range 3 {
		if status, out, errOut := c.gantry("run", "--", "echo", "slow"); status != 0 || out != "slow\n" {
			t.Errorf("on a slow disk: exit status %d, %q, %q", status, out, errOut)
		}
	}
	set()
	same()
	if strings.Contains(c.screen.String(), "ended (") {
		t.Errorf("a daemon did not survive a slow disk\n%s", c.describe())
	}

	for _, fault := range []faultfs.Fault{
		{Name: file, On: faultfs.Sync, Errno: syscall.EIO},
		{Name: file, On: faultfs.Write, Errno: syscall.ENOSPC},
	} {
		before := strings.Count(c.screen.String(), name+" ended (")
		set(fault)
		cmd, _ := c.begin("run", "--wait", "10s", "--", "echo", "hi") // what makes the daemon write
		await(t, soon, "end of the "+name, c.describe, func() bool {
			return strings.Count(c.screen.String(), name+" ended (") > before
		})
		set()
		if err := cmd.Wait(); err != nil {
			t.Logf("the run meanwhile: %v", err)
		}
		await(t, soon, fmt.Sprintf("word of %q of %s", fault.Errno, file), c.describe, func() bool {
			return strings.Contains(c.screen.String(), fault.Errno.Error()) && strings.Contains(c.screen.String(), filepath.Join(dir, file))
		})
		c.waitRun()
		same()
	}
	c.end()
}
