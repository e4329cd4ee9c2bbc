package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

var masterNames = []string{"master-1", "master-2", "master-3"}

// masters is a cluster of three, with what must not change whoever leads.
type masters struct {
	*cluster
	t     *testing.T
	demo  []int // the processes of the demo's instances
	stays status
	gone  *scheduler
}

// A cluster of three masters, of which the leader is killed, then stopped for a while, then killed with another one.
func TestThreeMasters(t *testing.T) {
	c := &masters{cluster: up(t, newWorkDir(t), "--masters", "3"), t: t}
	c.awaitInstances(2)
	c.demo = c.instances()
	first, _ := c.leader()
	c.through(first)
	t.Run("a standby points to the leader", func(t *testing.T) { c.standbyPoints(t, first) })
	s := c.subscribe(t, forms[0], timeout(time.Hour))
	c.gone = s
	o := s.offer()
	s.launch(o, task("stays", o, "exec sleep 1000"), task("ends", o, "exit 3"))
	c.stays = s.follow("stays", "TASK_STARTING", "TASK_RUNNING")
	s.follow("ends", "TASK_STARTING", "TASK_RUNNING")
	ended := s.want("ends", "TASK_FAILED") // is not acknowledged

	c.signalSupervisor(syscall.SIGSTOP) // or the killed one is back in time to be elected again
	begun := time.Now()
	c.signalMaster(first, syscall.SIGKILL)
	second := c.awaitLeaderAfter(first, begun, "kill -9")
	c.signalSupervisor(syscall.SIGCONT)
	c.back(begun, "kill -9", ended)

	begun = time.Now()
	c.signalMaster(second, syscall.SIGSTOP)
	third := c.awaitLeaderAfter(second, begun, "SIGSTOP")
	c.back(begun, "SIGSTOP", ended)
	c.signalMaster(second, syscall.SIGCONT)
	await(t, soon, "deposed leader that stands by", c.describe, func() bool {
		return redirect(c.daemon(t, second).Listen) == "//"+c.daemon(t, third).Listen
	})
	if now, _ := c.leader(); now != third {
		t.Errorf("after the deposed leader went on, %s leads, and %s did before", now, third)
	}
	c.back(time.Now(), "SIGCONT", ended)
	c.withoutMajority(ended)

	s = c.resubscribe(t, forms[0], c.gone.id, timeout(time.Hour))
	s.teardown()
	await(t, soon, "end of the task", c.describe, func() bool { return !alive(c.stays.pid()) })
	c.end()
	c.checkNothingLeft()
	c.otherNumber(t)
}

// leader is the master that was last in office.
func (c *masters) leader() (name string, epoch uint64) {
	c.t.Helper()
	for _, n := range masterNames {
		if at := c.daemon(c.t, n); at.Epoch > epoch {
			name, epoch = n, at.Epoch
		}
	}
	return name, epoch
}

// through has the test speak to a master other than the named ones.
func (c *masters) through(not ...string) {
	for _, n := range masterNames {
		if !slices.Contains(not, n) {
			c.at.Master = c.daemon(c.t, n).Listen
		}
	}
}

func (c *masters) signalMaster(name string, s syscall.Signal) {
	c.t.Helper()
	if err := syscall.Kill(c.daemon(c.t, name).PID, s); err != nil {
		c.t.Fatal(err)
	}
}

func (c *masters) signalSupervisor(s syscall.Signal) {
	c.t.Helper()
	if err := syscall.Kill(c.cmd.Process.Pid, s); err != nil {
		c.t.Fatal(err)
	}
}

// redirect is where a master says that the leader is, "" if it does not.
func redirect(master string) string {
	r, err := http.NewRequest("GET", "http://"+master+"/redirect", nil)
	if err != nil {
		return ""
	}
	plain := http.Client{Timeout: 2 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := plain.Do(r)
	if err != nil {
		return ""
	}
	resp.Body.Close()
	return resp.Header.Get("Location")
}

// awaitLeaderAfter waits until another master answers.
func (c *masters) awaitLeaderAfter(old string, begun time.Time, what string) (name string) {
	c.t.Helper()
	_, epoch := c.leader()
	c.through(old)
	deadline := time.Now().Add(soon)
	for ; ; time.Sleep(10 * time.Millisecond) {
		if c.answers() {
			break
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("no leader after %s\n%s", what, c.describe())
		}
	}
	c.t.Logf("%s of the leader: another one answers after %s", what, time.Since(begun).Round(10*time.Millisecond))
	await(c.t, soon, "leader that says so", c.describe, func() bool {
		n, e := c.leader()
		name = n
		return e > epoch && n != old
	})
	c.through(old, name)
	return name
}

// answers tries one call, which may be led to one that is stopped.
func (c *masters) answers() bool {
	ctx, cancel := context.WithTimeout(c.t.Context(), 500*time.Millisecond)
	defer cancel()
	_, err := client.New(c.at.Master, "").State(ctx)
	return err == nil
}

// back resubscribes the framework and has it find everything as it was.
func (c *masters) back(begun time.Time, what string, ended status) {
	c.t.Helper()
	s := c.resubscribe(c.t, forms[0], c.gone.id, timeout(time.Hour))
	s.offer()
	c.t.Logf("%s of the leader: the next offer came after %s", what, time.Since(begun).Round(10*time.Millisecond))
	if again := s.update("ends"); again.UUID != ended.UUID || again.State != "TASK_FAILED" {
		c.t.Errorf("after %s %+v came, and %+v was not acknowledged", what, again, ended)
	}
	await(c.t, soon, "reconciliation", c.describe, func() bool {
		s.call("RECONCILE", `"reconcile":{"tasks":[{"task_id":{"value":"stays"}}]}`)
		s.barrier()
		return s.heard(func(e event) bool { return e.Update.Status.TaskID.Value == "stays" })
	})
	if now := s.reconciled("stays"); now.State != "TASK_RUNNING" || now.pid() != c.stays.pid() {
		c.t.Errorf("after %s the task is %+v, and was %+v", what, now, c.stays)
	}
	s.hangUp()
	c.unchanged(what)
}

// unchanged says that Marathon answers and the same processes run, no more and no fewer.
func (c *masters) unchanged(what string) {
	c.t.Helper()
	await(c.t, soon, "Marathon that has its instances", c.describe, func() bool {
		status, text, _ := c.gantry("app", "show", "hello-web", "--json")
		return status == 0 && strings.Count(text, `"TASK_RUNNING"`) == 2
	})
	if now := c.instances(); !slices.Equal(now, c.demo) {
		c.t.Errorf("after %s the demo's processes are %v, and were %v", what, now, c.demo)
	}
	if commandOf(c.stays.pid()) != "sleep 1000" {
		c.t.Errorf("after %s process %d is %q", what, c.stays.pid(), commandOf(c.stays.pid()))
	}
}

// standbyPoints looks at one that does not lead.
func (c *masters) standbyPoints(t *testing.T, leading string) {
	at, leader := c.at.Master, c.daemon(t, leading)
	plain := http.Client{Timeout: 5 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for _, want := range []struct {
		method, path string
		status       int
		location     string
	}{
		{"GET", "/health", 200, ""},
		{"GET", "/version", 200, ""},
		{"GET", "/redirect", 307, "//" + leader.Listen},
		{"GET", "/master/redirect", 307, "//" + leader.Listen},
		{"GET", "/state?x=%2F", 307, "//" + leader.Listen + "/state?x=%2F"},
		{"POST", "/api/v1", 307, "//" + leader.Listen + "/api/v1"},
		{"POST", "/api/v1/scheduler", 307, "//" + leader.Listen + "/api/v1/scheduler"},
		{"GET", "/gantry/v1/link", 307, "//" + leader.Listen + "/gantry/v1/link"},
		{"GET", "/gantry/v1/plugins", 307, "//" + leader.Listen + "/gantry/v1/plugins"},
		{"GET", "/nothing", 404, ""},
	} {
		r, err := http.NewRequest(want.method, "http://"+at+want.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := plain.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want.status || resp.Header.Get("Location") != want.location {
			t.Errorf("%s %s: %s to %q, want %d to %q", want.method, want.path, resp.Status, resp.Header.Get("Location"), want.status, want.location)
		}
	}
	for _, n := range masterNames {
		resp, err := plain.Get("http://" + c.daemon(t, n).Plugins["marathon"] + "/v2/apps//hello-web")
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(body), "hello-web") {
			t.Errorf("Marathon by %s: %s %s", n, resp.Status, body)
		}
	}
}

// withoutMajority kills two of three, and has nobody start them again for a while.
func (c *masters) withoutMajority(ended status) {
	c.t.Helper()
	c.signalSupervisor(syscall.SIGSTOP)
	leading, _ := c.leader()
	other := masterNames[(slices.Index(masterNames, leading)+1)%3]
	c.signalMaster(other, syscall.SIGKILL)
	c.signalMaster(leading, syscall.SIGKILL)
	c.through(leading, other)
	await(c.t, soon, "master that says that nobody leads", c.describe, func() bool {
		resp, err := http.Post("http://"+c.at.Master+"/api/v1", "application/json", strings.NewReader(`{"type":"GET_HEALTH"}`))
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		text, _ := io.ReadAll(resp.Body)
		return resp.StatusCode == 503 && string(text) == "No leader elected"
	})
	if status, _, errOut := c.gantry("status"); status == 0 || !strings.Contains(errOut, "no master leads") {
		c.t.Errorf("gantry status without a leader: %d %s", status, errOut)
	}
	if resp, err := http.Get("http://" + c.daemon(c.t, c.nameOf(c.at.Master)).Plugins["marathon"] + "/v2/apps"); err != nil || resp.StatusCode != 503 {
		c.t.Errorf("Marathon without a leader: %v %v", resp, err)
	}
	if now := c.instances(); !slices.Equal(now, c.demo) || !alive(c.stays.pid()) {
		c.t.Errorf("without a leader the demo's processes are %v, and were %v", now, c.demo)
	}
	begun := time.Now()
	c.signalSupervisor(syscall.SIGCONT)
	await(c.t, soon, "leader", c.describe, c.answers)
	c.back(begun, "loss", ended)
}

func (c *masters) nameOf(listen string) string {
	return masterNames[slices.IndexFunc(masterNames, func(n string) bool { return c.daemon(c.t, n).Listen == listen })]
}

// otherNumber tries to go on with another number of masters.
func (c *masters) otherNumber(t *testing.T) {
	for _, n := range []string{"1", "5", "2"} {
		out, err := exec.Command(filepath.Join(bin, "gantry"), "up", "--work-dir", c.workDir, "--listen", "127.0.0.1:0", "--masters", n).CombinedOutput()
		if err == nil || !strings.Contains(string(out), "--masters "+n) {
			t.Errorf("--masters %s over a work dir of three: %v %s", n, err, out)
		}
	}
	if _, err := os.Stat(daemon.ClusterFile(c.workDir)); err == nil {
		t.Error(fmt.Sprint("it left ", daemon.ClusterFile(c.workDir)))
	}
}

// Two masters with an etcd that runs by itself, of which the leader is killed.
func TestMastersOfAnEtcd(t *testing.T) {
	dir := newWorkDir(t)
	at, peer := freeAddress(t), freeAddress(t)
	start(t, "etcd", "--data-dir", filepath.Join(dir, "etcd"), "--name", "one", "--initial-cluster", "one=http://"+peer, "--log-level", "error",
		"--listen-client-urls", "http://"+at, "--advertise-client-urls", "http://"+at,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer)
	await(t, soon, "etcd", func() string { return "" }, func() bool {
		resp, err := http.Get("http://" + at + "/health")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == 200
	})
	var masters []*exec.Cmd
	var listen []string
	for _, name := range []string{"a", "b"} {
		publish := filepath.Join(dir, name+".json")
		masters = append(masters, start(t, filepath.Join(bin, "gantry"), "master", "--work-dir", filepath.Join(dir, name), "--publish", publish,
			"--store", "etcd://"+at, "--listen", "127.0.0.1:0", "--link-listen", "127.0.0.1:0"))
		await(t, soon, "master "+name, func() string { return "" }, func() bool {
			here, err := daemon.Read(publish)
			return err == nil && redirect(here.Listen) != ""
		})
		here, err := daemon.Read(publish)
		if err != nil {
			t.Fatal(err)
		}
		listen = append(listen, here.Listen)
	}
	for _, master := range listen {
		if to := redirect(master); to != "//"+listen[0] {
			t.Errorf("%s says that %s leads", master, to)
		}
	}
	begun := time.Now()
	if err := masters[0].Process.Kill(); err != nil {
		t.Fatal(err)
	}
	await(t, soon, "other leader", func() string { return "" }, func() bool {
		return redirect(listen[1]) == "//"+listen[1]
	})
	t.Logf("kill -9 of the leader: another one leads after %s", time.Since(begun).Round(10*time.Millisecond))
	if _, err := client.New(listen[1], "").State(t.Context()); err != nil {
		t.Error(err)
	}
}

func start(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill() // it may have ended
		cmd.Wait()
	})
	return cmd
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
