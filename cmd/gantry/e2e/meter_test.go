package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// usage is what `gantry task list --json` says that a task used.
type usage struct {
	CPUSeconds       float64 `json:"cpu_seconds"`
	CPUUserSeconds   float64 `json:"cpu_user_seconds"`
	CPUSystemSeconds float64 `json:"cpu_system_seconds"`
	MemBytes         uint64  `json:"mem_bytes"`
	NetRxBytes       *uint64 `json:"net_rx_bytes"`
	NetTxBytes       *uint64 `json:"net_tx_bytes"`
}

type listedTask struct {
	ID          string `json:"id"`
	FrameworkID string `json:"framework_id"`
	Agent       string `json:"agent"`
	Usage       *usage `json:"usage"`
}

// tasks returns what `gantry task list` knows.
func (c *cluster) tasks(flags ...string) []listedTask {
	c.t.Helper()
	var list []listedTask
	if err := json.Unmarshal([]byte(c.must(append([]string{"task", "list", "--json"}, flags...)...)), &list); err != nil {
		c.t.Fatal(err)
	}
	return list
}

// measured waits until the only task is measured, and returns what it used.
func (c *cluster) measured() listedTask {
	c.t.Helper()
	var list []listedTask
	await(c.t, soon, "measured task", c.describe, func() bool {
		list = c.tasks()
		return len(list) == 1 && list[0].Usage != nil
	})
	return list[0]
}

// A known transfer: so many datagrams of so many bytes, and what each has in front of it.
const (
	sent, sentBytes         = 400, 1000
	received, receivedBytes = 100, 500
	headerBytes             = 20 + 8 // IPv4, UDP
)

// echo answers the first datagram that comes with the ones to be received.
func echo(t *testing.T) (port int) {
	t.Helper()
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		_, from, err := socket.ReadFrom(make([]byte, sentBytes))
		for i := 0; err == nil && i < received; i++ {
			_, err = socket.WriteTo(bytes.Repeat([]byte("x"), receivedBytes), from)
		}
		if err != nil {
			t.Errorf("the other end of the transfer: %v", err)
		}
		for err == nil { // until it is closed
			_, _, err = socket.ReadFrom(make([]byte, sentBytes))
		}
	}()
	return socket.LocalAddr().(*net.UDPAddr).Port
}

// busy makes the transfer, holds 20 MB, burns some seconds of CPU time, tells its rusage, and goes on when it is told to.
const busy = `
mkfifo more
exec 3<>/dev/udp/127.0.0.1/%d
for i in {1..%d}; do printf '%%0%dd' 0 >&3; done
for i in {1..%d}; do read -r -N 1 -u 3; done
held=$(head -c 20000000 /dev/zero | tr '\0' x)
for ((i = 0; i < 800000; i++)); do :; done
times
echo done
read -r <more
for ((i = 0; i < 400000; i++)); do :; done
echo finished
exec sleep 1000000`

// A task that knows what it uses is told from outside to use just that, however often the agent is restarted.
func TestTasksAreMeasured(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	run, output := c.begin("run", "--cpus", "1", "--mem", "128", "--", "bash", "-c", fmt.Sprintf(busy, echo(t), sent, sentBytes, received))
	says := func(line string) {
		t.Helper()
		await(t, soon, line, func() string { return output.String() + "\n" + c.describe() }, func() bool {
			return strings.Contains(output.String(), line+"\n")
		})
	}
	says("done")
	task, rusage := c.measured(), rusageOf(t, output.String())
	first := task.Usage
	t.Logf("the task's own rusage is %.3f s, and the meter counted %.3f s", rusage, first.CPUSeconds)
	if math.Abs(first.CPUSeconds-rusage) > rusage*0.05 {
		t.Errorf("%.3f s of CPU time were counted; the task says that it used %.3f s", first.CPUSeconds, rusage)
	}
	if first.MemBytes < 20_000_000 || first.MemBytes > 128<<20 {
		t.Errorf("a task that holds 20 MB uses %d bytes", first.MemBytes)
	}
	checkTransfer(t, first)
	c.checkStatistics(t, task)
	table := c.must("task", "list")
	for _, want := range []string{"CPU TIME", "MB USED", "RECEIVED", "SENT", " 52.8 kB ", " 411.2 kB "} {
		if first.NetRxBytes != nil && !strings.Contains(table, want) {
			t.Errorf("%q is not in\n%s", want, table)
		}
	}

	c.killAgent(t)
	second := c.measured().Usage
	checkNotBackwards(t, first, second)
	checkTransfer(t, second)
	for _, dir := range c.sandboxes(t, task.FrameworkID, task.ID) {
		if err := os.WriteFile(filepath.Join(dir, "more"), []byte("go\n"), 0); err != nil {
			t.Fatal(err)
		}
	}
	says("finished")
	third := c.measured().Usage
	checkNotBackwards(t, second, third)
	if third.CPUSeconds < first.CPUSeconds*1.1 {
		t.Errorf("work after the agent's restart is not counted: %.3f s, then %.3f s", first.CPUSeconds, third.CPUSeconds)
	}
	c.must("task", "kill", task.ID)
	_ = run.Wait() // the task was killed
	c.end()
	c.checkNothingLeft()
}

// rusageOf adds up what times of a shell printed: its own and its children's times, 0m1.230s.
func rusageOf(t *testing.T, output string) (seconds float64) {
	t.Helper()
	found := regexp.MustCompile(`(\d+)m([\d.]+)s`).FindAllStringSubmatch(output, -1)
	if len(found) != 4 {
		t.Fatalf("no rusage in %q", output)
	}
	for _, f := range found {
		d, err := time.ParseDuration(f[0])
		if err != nil {
			t.Fatal(err)
		}
		seconds += d.Seconds()
	}
	return seconds
}

// checkTransfer wants every byte counted, where the host counts traffic at all: the agent's log says if it does not.
func checkTransfer(t *testing.T, u *usage) {
	t.Helper()
	if u.NetRxBytes == nil || u.NetTxBytes == nil {
		t.Log("this host does not count traffic")
		return
	}
	if want := uint64(sent * (sentBytes + headerBytes)); *u.NetTxBytes != want {
		t.Errorf("%d bytes are counted as sent, want %d", *u.NetTxBytes, want)
	}
	if want := uint64(received * (receivedBytes + headerBytes)); *u.NetRxBytes != want {
		t.Errorf("%d bytes are counted as received, want %d", *u.NetRxBytes, want)
	}
}

func checkNotBackwards(t *testing.T, before, after *usage) {
	t.Helper()
	if after.CPUUserSeconds < before.CPUUserSeconds || after.CPUSystemSeconds < before.CPUSystemSeconds {
		t.Errorf("CPU time went backwards: %+v, then %+v", before, after)
	}
}

// checkStatistics asks the agent as clients of the wire do.
func (c *cluster) checkStatistics(t *testing.T, task listedTask) {
	t.Helper()
	for _, path := range []string{"/monitor/statistics", "/slave(1)/monitor/statistics", "/containers", "/slave(1)/containers"} {
		resp, err := http.Get("http://" + task.Agent + path)
		if err != nil {
			t.Fatal(err)
		}
		var rows []struct {
			Container  string `json:"container_id"`
			Executor   string `json:"executor_id"`
			Framework  string `json:"framework_id"`
			Statistics struct {
				Timestamp float64 `json:"timestamp"`
				CPUs      float64 `json:"cpus_limit"`
				Mem       uint64  `json:"mem_limit_bytes"`
				User      float64 `json:"cpus_user_time_secs"`
				System    float64 `json:"cpus_system_time_secs"`
				RSS       uint64  `json:"mem_rss_bytes"`
			} `json:"statistics"`
		}
		err = json.NewDecoder(resp.Body).Decode(&rows)
		resp.Body.Close()
		if err != nil || len(rows) != 1 {
			t.Fatalf("%s: %d %v %v", path, resp.StatusCode, rows, err)
		}
		s := rows[0].Statistics
		if rows[0].Executor != task.ID || rows[0].Framework != task.FrameworkID || s.CPUs != 1 || s.Mem != 128<<20 ||
			s.User < task.Usage.CPUUserSeconds || s.System < task.Usage.CPUSystemSeconds || s.RSS < 20_000_000 || s.Timestamp < 1e9 {
			t.Errorf("%s: %+v", path, rows[0])
		}
		if named := rows[0].Container != ""; named != strings.HasSuffix(path, "/containers") {
			t.Errorf("%s: container %q", path, rows[0].Container)
		}
	}
}

// The whole way of a task that ran and ended, in order.
func TestTraceOfATask(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	if status, _, errOut := c.gantry("run", "--", "sh", "-c", "sleep 0.2; exit 3"); status != 3 {
		t.Fatalf("exit status %d: %s", status, errOut)
	}
	ended := c.tasks("--all")
	if len(ended) != 1 {
		t.Fatalf("tasks %+v", ended)
	}
	var view struct {
		Agent string `json:"agent"`
		Steps []struct {
			Step  string    `json:"step"`
			State string    `json:"state"`
			By    string    `json:"by"`
			Clock string    `json:"clock"`
			At    time.Time `json:"at"`
			After *float64  `json:"after_seconds"`
		} `json:"steps"`
		Notes []string `json:"notes"`
	}
	out := c.must("task", "trace", ended[0].ID, "--json")
	if err := json.Unmarshal([]byte(out), &view); err != nil {
		t.Fatal(err)
	}
	var way []string
	at := map[string]time.Time{}
	for i, s := range view.Steps {
		name := strings.TrimSpace(s.Step + " " + strings.TrimPrefix(s.State, "TASK_"))
		at[name] = s.At
		whose := "master"
		if s.Clock == view.Agent {
			whose = "agent"
		}
		way = append(way, whose+": "+s.By+" "+name)
		if (s.After == nil) != (i == 0) {
			t.Errorf("%s, on the one clock that there is, has no time after the step before", name)
		}
	}
	for daemon, want := range map[string][]string{
		"master": {
			"allocator offered", "framework accepted", "master sent",
			"agent update STARTING", "master delivered STARTING", "framework acknowledged STARTING",
			"agent update RUNNING", "master delivered RUNNING", "framework acknowledged RUNNING",
			"agent update FAILED", "master delivered FAILED", "framework acknowledged FAILED",
		},
		"agent": {
			"agent received", "agent checkpointed", "agent reported STARTING", "agent prepared", "keeper started",
			"agent reported RUNNING", "keeper ended", "agent reported FAILED",
		},
	} {
		var got []string
		for _, step := range way {
			if rest, ok := strings.CutPrefix(step, daemon+": "); ok {
				got = append(got, rest)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("the %s's part is %q, want %q", daemon, got, want)
		}
	}
	for _, pair := range [][2]string{
		{"sent", "received"}, {"reported STARTING", "update STARTING"}, {"acknowledged STARTING", "reported RUNNING"},
		{"reported RUNNING", "update RUNNING"}, {"reported FAILED", "update FAILED"},
	} {
		if !at[pair[0]].Before(at[pair[1]]) {
			t.Errorf("%s at %s, %s at %s", pair[0], at[pair[0]], pair[1], at[pair[1]])
		}
	}
	if ran := at["ended"].Sub(at["started"]); ran < 200*time.Millisecond {
		t.Errorf("the task slept for 0.2 s and ran for %s", ran)
	}
	if len(view.Notes) > 0 {
		t.Errorf("notes %q", view.Notes)
	}
	if table := c.must("task", "trace", ended[0].ID); strings.Count(table, "\n") != len(way)+1 {
		t.Errorf("%d steps, and the table:\n%s", len(way), table)
	}
	c.end()
}
