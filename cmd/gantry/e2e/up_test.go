package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// One cluster through a day: it comes up with the demo, is scaled, loses an instance, runs tasks, and goes without a trace.
func TestADayOfACluster(t *testing.T) {
	c := up(t, newWorkDir(t))
	c.awaitInstances(2)

	t.Run("every address that is printed answers", func(t *testing.T) {
		for _, url := range []string{
			"http://" + c.at.Master + "/health",
			"http://" + c.at.Agents[0] + "/health",
			"http://" + c.at.Marathon + "/ping",
			"http://" + c.at.Marathon + "/v2/apps",
		} {
			resp, err := http.Get(url)
			if err != nil {
				t.Error(err)
				continue
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Errorf("GET %s: %s, %v\n%s", url, resp.Status, err, body)
			}
		}
		for _, address := range []string{c.at.Master, c.at.Agents[0], c.at.Marathon} {
			if !strings.Contains(c.screen.String(), address) {
				t.Errorf("%s was not printed", address)
			}
		}
	})
	t.Run("tables show it", func(t *testing.T) {
		for args, want := range map[string]string{
			"status": "1, 1 active", "agent list": c.at.Agents[0], "plugin list": "marathon", "app list": "hello-web",
			"task list": "running", "version": "gantry",
		} {
			if out := c.must(strings.Fields(args)...); !strings.Contains(out, want) {
				t.Errorf("gantry %s: no %q in\n%s", args, want, out)
			}
		}
	})
	t.Run("it scales to five", func(t *testing.T) {
		c.must("app", "scale", "hello-web", "5")
		c.awaitInstances(5)
	})
	t.Run("an instance that is killed is replaced", func(t *testing.T) {
		before := c.awaitInstances(5)
		pids := c.instances()
		if len(pids) != 5 {
			t.Fatalf("processes %v, want five", pids)
		}
		if err := syscall.Kill(pids[0], syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		await(t, soon, "replacement", c.describe, func() bool {
			now := c.answering()
			return len(now) == 5 && slices.ContainsFunc(now, func(id string) bool { return !slices.Contains(before, id) })
		})
	})
	t.Run("a task that is killed by command is replaced", func(t *testing.T) {
		victim := c.awaitInstances(5)[0]
		c.must("task", "kill", victim)
		await(t, soon, "replacement", c.describe, func() bool {
			now := c.answering()
			return len(now) == 5 && !slices.Contains(now, victim)
		})
	})
	t.Run("tasks run and end as they do", func(t *testing.T) { runTasks(t, c) })

	c.end()
	c.checkNothingLeft()
}

func runTasks(t *testing.T, c *cluster) {
	for _, test := range []struct {
		args   []string // of gantry run
		status int
		out    string
		errOut string // a part of it
	}{
		{[]string{"--", "sh", "-c", "echo hi; exit 3"}, 3, "hi\n", ""},
		{[]string{"--", "sh", "-c", "echo out; echo err >&2"}, 0, "out\n", "err\n"},
		{[]string{"--env", "A=b c", "--", "sh", "-c", `echo "$A"`}, 0, "b c\n", ""},
		{[]string{"--", "sh", "-c", "seq 1 20000"}, 0, numbers(20000), ""},
		{[]string{"--mem", "32", "--", "tail", "/dev/zero"}, 137, "", "more than its 32 MB"}, // a line without an end
		{[]string{"--", "no-such-command"}, exitNotRun, "", "no-such-command"},
		{[]string{"--cpus", "1000", "--wait", "4s", "--", "true"}, exitNotRun, "", "no agent offers cpus:1000"},
	} {
		status, out, errOut := c.gantry(append([]string{"run"}, test.args...)...)
		if status != test.status || out != test.out || !strings.Contains(errOut, test.errOut) {
			t.Errorf("gantry run %q: exit status %d, %d bytes of output, stderr %q; want %d, %d bytes, %q",
				test.args, status, len(out), errOut, test.status, len(test.out), test.errOut)
		}
	}
}

// exitNotRun is the status of `gantry run` for a command that did not run.
const exitNotRun = 125

func numbers(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintln(&text, i+1)
	}
	return text.String()
}

func TestASecondStartBringsTheApplicationBack(t *testing.T) {
	workDir := newWorkDir(t)
	first := up(t, workDir)
	first.must("app", "scale", "hello-web", "3")
	first.awaitInstances(3)
	first.end()
	first.checkNothingLeft()

	second := up(t, workDir)
	second.awaitInstances(3)
	second.end()
	second.checkNothingLeft()
}

func TestAStartAfterASupervisorThatWasKilled(t *testing.T) {
	workDir := newWorkDir(t)
	first := up(t, workDir)
	first.signal(syscall.SIGKILL)

	second := up(t, workDir)
	second.awaitInstances(2)
	second.end()
	second.checkNothingLeft()
}

func TestTasksThatAreKeptOutliveTheCluster(t *testing.T) {
	workDir := newWorkDir(t)
	first := up(t, workDir, "--keep-tasks")
	before := first.instances()
	first.end()
	if after := first.instances(); len(before) != 2 || !slices.Equal(before, after) {
		t.Errorf("instances %v before the end, %v after it", before, after)
	}
	// With other agents nobody would see these tasks, and what they use would be given out again.
	other := launch(t, workDir, "--agents", "2")
	await(t, readyWithin, "refusal", other.describe, func() bool {
		select {
		case <-other.ended:
			return true
		default:
			return false
		}
	})
	if other.err == nil || !strings.Contains(other.screen.String(), "start with the number of agents of that time") {
		t.Errorf("two agents over the tasks of one: %v\n%s", other.err, other.describe())
	}

	second := up(t, workDir)
	if adopted := second.instances(); !slices.Equal(before, adopted) {
		t.Errorf("instances %v before the end, %v after the next start", before, adopted)
	}
	second.end()
	second.checkNothingLeft()
}

// A keeper that was stopped is woken when its cluster ends, and one that is stopped whenever it wakes gets little done or is
// replaced: its tasks end, nothing is left, and the next start has none of them.
func TestAStoppedKeeperDoesNotHoldTheEnd(t *testing.T) {
	for name, again := range map[string]bool{"once": false, "again and again": true} {
		t.Run(name, func(t *testing.T) {
			c := up(t, newWorkDir(t))
			before := c.awaitInstances(2)
			keeper := c.keepers()[1] // below its reaper
			stop := func() bool { return syscall.Kill(keeper, syscall.SIGSTOP) == nil }
			stop()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for again && stop() {
					time.Sleep(time.Microsecond)
				}
			}()
			c.end()
			<-ended
			if !strings.Contains(c.screen.String(), "is woken") {
				t.Errorf("nothing is said of the keeper\n%s", c.screen)
			}
			t.Logf("it was killed: %v", strings.Contains(c.screen.String(), "is killed"))
			c.checkNothingLeft()
			c = up(t, c.workDir)
			for _, id := range c.awaitInstances(2) {
				if slices.Contains(before, id) {
					t.Errorf("instance %s is said to have lived on", id)
				}
			}
			c.end()
			c.checkNothingLeft()
		})
	}
}

func TestTwoClustersSideBySide(t *testing.T) {
	one, two := up(t, newWorkDir(t)), up(t, newWorkDir(t))
	one.must("app", "scale", "hello-web", "3")
	one.awaitInstances(3)
	two.awaitInstances(2)
	one.end()
	one.checkNothingLeft()
	two.awaitInstances(2)
	two.end()
	two.checkNothingLeft()
}

func TestTheClusterSaysWhatItRunsWithout(t *testing.T) {
	workDir := newWorkDir(t)
	manifest, err := os.ReadFile(filepath.Join(filepath.Dir(bin), "plugins.toml"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(workDir, "plugins.toml")
	broken := string(manifest) + "\n[plugin.missing]\nkind = \"framework\"\n"
	if err := os.WriteFile(path, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	c := up(t, workDir)
	c.awaitInstances(2)
	line := strings.Count(string(manifest), "\n") + 2
	if place := fmt.Sprintf("%s:%d", path, line); !strings.Contains(c.screen.String(), place) || !strings.Contains(c.screen.String(), "without missing") {
		t.Errorf("the screen does not tell of the plugin without a binary at %s:\n%s", place, c.screen)
	}
	c.end()
	c.checkNothingLeft()
}

func TestABadManifestIsOneClearLine(t *testing.T) {
	workDir := newWorkDir(t)
	path := filepath.Join(workDir, "plugins.toml")
	if err := os.WriteFile(path, []byte("[plugin.drf]\nkind = \"allocator\"\ncolour = \"red\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := launch(t, workDir)
	<-c.ended
	if want := path + ":3: unknown key \"colour\""; c.err == nil || !strings.Contains(c.screen.String(), want) {
		t.Errorf("gantry up: %v; no %q in\n%s", c.err, want, c.screen)
	}
	c.checkNothingLeft()
}

func TestOneSupervisorForAWorkDir(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	second := launch(t, c.workDir)
	<-second.ended
	if second.err == nil || !strings.Contains(second.screen.String(), "another `gantry up`") {
		t.Errorf("a second supervisor: %v\n%s", second.err, second.screen)
	}
	if status, _, errOut := c.gantry("app", "show", "hello-web"); status == 0 {
		t.Errorf("--no-demo has a demo; stderr %q", errOut)
	}
	c.end()
	c.checkNothingLeft()
}

func TestInterruptEndsTheTaskOfARun(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	run, shown := c.begin("run", "--", "sh", "-c", "echo started; sleep 1000")
	await(t, soon, "output", c.describe, func() bool { return strings.Contains(shown.String(), "started") })
	if err := run.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := run.Wait(); err == nil {
		t.Error("gantry run ended with 0 after an interrupt")
	}
	await(t, soon, "end of the task", c.describe, func() bool {
		return !slices.ContainsFunc(c.processes(), func(pid int) bool {
			args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
			return !errors.Is(err, os.ErrNotExist) && strings.HasPrefix(string(args), "sleep\x001000")
		})
	})
	c.end()
	c.checkNothingLeft()
}
