package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

func TestNoCluster(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := l.Addr().String()
	l.Close()
	for _, args := range [][]string{
		{"status"}, {"agent", "list"}, {"task", "list"}, {"task", "logs", "x"}, {"task", "kill", "x"}, {"task", "trace", "x"},
		{"plugin", "list"}, {"app", "list"}, {"job", "list"}, {"run", "true"},
	} {
		status, out, errOut := gantry(t.Context(), nil, append([]string{"--master", nobody}, args...)...)
		want := "gantry: no cluster answers at " + nobody + ": start one with `gantry up` or name one with --master\n"
		if status != exitNobody || out != "" || errOut != want {
			t.Errorf("%v: status %d, stdout %q, stderr %q", args, status, out, errOut)
		}
	}
}

func TestWrongCommandLines(t *testing.T) {
	for _, args := range [][]string{
		{"sttus"}, {"status", "x"}, {"status", "--nope"}, {"app", "scale", "web"}, {"app", "scale", "web", "-1"},
		{"job", "add", "x"}, {"job", "add", "x", "--cron", "* * * * *", "--parent", "y", "--", "true"}, {"job", "show"},
		{"run"}, {"run", "--cpus", "0", "true"}, {"run", "--env", "x", "true"}, {"run", "--uri", "x", "true"}, {"agent", "lst"},
	} {
		status, out, errOut := gantry(t.Context(), nil, args...)
		if status != exitUsage || out != "" || !strings.HasPrefix(errOut, "gantry: ") || !strings.Contains(errOut, "--help") {
			t.Errorf("%v: status %d, stdout %q, stderr %q", args, status, out, errOut)
		}
	}
}

func TestARefusedStoreHasAStatusOfItsOwn(t *testing.T) {
	damaged := errors.New("store is damaged")
	var out, errOut bytes.Buffer
	status := run(t.Context(), []string{"master"}, Daemons{
		Master:  &cobra.Command{Use: "master", RunE: func(*cobra.Command, []string) error { return fmt.Errorf("master: %w", damaged) }},
		Refused: func(err error) bool { return errors.Is(err, damaged) },
	}, &out, &errOut)
	if status != daemon.ExitRefused || errOut.String() != "gantry: master: store is damaged\n" {
		t.Errorf("status %d, stderr %q", status, errOut.String())
	}
}

func TestTables(t *testing.T) {
	w := newWire(t)
	w.used = &mesos.ResourceStatistics{Timestamp: proto.Float64(1)}
	w.addTask("hello-web.1", mesos.TaskState_TASK_RUNNING)
	w.addTask("evil\x1b[2J", mesos.TaskState_TASK_STAGING)
	w.addTask("old.1", mesos.TaskState_TASK_FINISHED)
	for _, c := range []struct {
		args       string
		want, lack []string
	}{
		{"status", []string{"agents       1, 1 active", "cpus         0.3 of 2 in use", "memory       64 of 4096 MB", "framework marathon: running"}, nil},
		{"agent list", []string{"S0", w.address(), "yes", `rack:a\x1b[2J; level:2.5; lanes:[1-4]`}, []string{"\x1b"}},
		{"task list", []string{"hello-web.1", "running", "marathon", `evil\x1b[2J`}, []string{"old.1", "\x1b"}},
		{"task list --all", []string{"old.1", "finished"}, nil},
		{"plugin list", []string{"drf", "allocator", "running"}, nil},
		{"app list", []string{"hello-web   1", "./hello-web"}, []string{"/hello-web  "}},
		{"app show hello-web", []string{"1 of 2 running", "hello-web.1", "31000"}, nil},
		{"app scale hello-web 5", []string{"is to have 5 instances"}, nil},
		{"app remove hello-web", []string{"is removed"}, nil},
		{"job list", []string{"nightly", "success", "queued", "2030-01-02T02:00:00Z", "cron 0 3 * * * Europe/Berlin"}, nil},
		{"job show nightly", []string{"./backup --all", "attempt 1 begins soon", "then", "report", "3, as a run had not ended"}, []string{"\x1b"}},
		{"job history nightly", []string{"waiting", "failed", "2.5s", `evil\x1b[2J`}, []string{"\x1b"}},
		{"job run nightly --arguments x", []string{"nightly begins: run 8"}, nil},
		{"job add tick --cron *_*_*_*_* --zone UTC -- date -u", []string{"tick is added"}, nil},
		{"job add report --parent nightly --parent tick -- ./report", []string{"report is added"}, nil},
		{"job kill nightly", []string{"runs of nightly are ending"}, nil},
		{"job remove nightly", []string{"nightly is removed"}, nil},
		{"task kill hello", []string{"hello-web.1 is being ended"}, nil},
		{"version", []string{"gantry "}, nil},
	} {
		args := strings.Fields(c.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "*_", "* ") // one word to the shell
		}
		status, out, errOut := gantry(t.Context(), w, args...)
		if status != 0 || errOut != "" {
			t.Errorf("%s: status %d, stderr %q", c.args, status, errOut)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: %q is not in\n%s", c.args, want, out)
			}
		}
		for _, lack := range c.lack {
			if strings.Contains(out, lack) {
				t.Errorf("%s: %q is in\n%s", c.args, lack, out)
			}
		}
		_, out, _ = gantry(t.Context(), w, withJSON(args)...)
		if !json.Valid([]byte(out)) || out == "" {
			t.Errorf("%s --json: %q", c.args, out)
		}
	}
	want := []string{
		`PATCH /v2/apps/hello-web {"instances":5}`,
		`DELETE /v2/apps/hello-web `,
		`PUT /v1/scheduler/job/nightly `,
		`POST /v1/scheduler/iso8601 {"name":"tick","command":"date","shell":false,"arguments":["date","-u"],"cpus":0.1,"mem":128,"retries":2,"schedule":"cron * * * * *","scheduleTimeZone":"UTC"}`,
		`POST /v1/scheduler/dependency {"name":"report","command":"./report","shell":true,"cpus":0.1,"mem":128,"retries":2,"parents":["nightly","tick"]}`,
		`DELETE /v1/scheduler/task/kill/nightly `,
		`DELETE /v1/scheduler/job/nightly `,
		`POST /gantry/v1/tasks/kill {"framework_id":"F-0000","task_id":"hello-web.1"}`,
	}
	for i, want := range want {
		if got := w.posts[2*i]; got != want { // each was sent twice: as a table and as JSON
			t.Errorf("sent %s, want %s", got, want)
		}
	}
}

// withJSON puts the flag before what may be another program's.
func withJSON(args []string) []string {
	if i := slices.Index(args, "--"); i >= 0 {
		return slices.Insert(slices.Clone(args), i, "--json")
	}
	return append(slices.Clone(args), "--json")
}

func TestRefusalsAreTold(t *testing.T) {
	w := newWire(t)
	w.addTask("a.1", mesos.TaskState_TASK_RUNNING)
	w.addTask("a.2", mesos.TaskState_TASK_RUNNING)
	w.addTask("b.1", mesos.TaskState_TASK_FINISHED)
	for args, want := range map[string]string{
		"app show none":             "App '/none' does not exist",
		"app scale none 3":          "App '/none' does not exist",
		"job show nobody":           `there is no job "nobody"`,
		"job logs nightly --run 7":  "run 7 of nightly has never begun",
		"job logs nightly --run 99": "has no run 99",
		"task logs nope":            `there is no task "nope"`,
		"task kill a":               "give more of the id",
		"task kill b.1":             "has ended already",
	} {
		status, _, errOut := gantry(t.Context(), w, strings.Fields(args)...)
		if status != exitFailed || !strings.Contains(errOut, want) {
			t.Errorf("%s: status %d, stderr %q; want %q", args, status, errOut, want)
		}
	}
}

func TestLogs(t *testing.T) {
	w := newWire(t)
	w.addTask("a.1", mesos.TaskState_TASK_RUNNING)
	w.files["/frameworks/F-0000/executors/a.1/runs/latest/stdout"] = "one\ntwo\nthree\n"           // stderr is not there
	for _, args := range []string{"task logs a", "job logs nightly", "job logs nightly --run 6"} { // its run was task a.1
		status, out, errOut := gantry(t.Context(), w, strings.Fields(args)...)
		if status != 0 || out != "one\ntwo\nthree\n" || errOut != "" {
			t.Errorf("%s: status %d, stdout %q, stderr %q", args, status, out, errOut)
		}
	}
	w.tasks = nil // it is gone when its end is looked for
	w.addTask("a.1", mesos.TaskState_TASK_FINISHED)
	if status, out, _ := gantry(t.Context(), w, "task", "logs", "-f", "a.1"); status != 0 || out != "one\ntwo\nthree\n" {
		t.Errorf("-f: status %d, stdout %q", status, out)
	}
}

func TestTheWorkDirTellsTheAddresses(t *testing.T) {
	w := newWire(t)
	dir := filepath.Join(t.TempDir(), "work")
	if err := daemon.WriteCluster(dir, daemon.Cluster{Master: w.address(), Marathon: w.address()}); err != nil {
		t.Fatal(err)
	}
	if status, out, errOut := gantry(t.Context(), nil, "--work-dir", dir, "app", "list"); status != 0 || !strings.Contains(out, "hello-web") {
		t.Errorf("status %d, stdout %q, stderr %q", status, out, errOut)
	}
}

func TestTerminalEscapesControlCharacters(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n":      "plain\ttext\n",
		"\x1b]0;title\x07":   `\x1b]0;title\x07`,
		"back\b\r\x7f":       `back\x08\x0d\x7f`,
		"c1 \u009b2J é \xc2": "c1 \\xc2\x9b2J é \\xc2",
	} {
		var out strings.Builder
		if n, err := (terminal{w: &out, on: true}).Write([]byte(in)); n != len(in) || err != nil || out.String() != want {
			t.Errorf("%q became %q (%d, %v), want %q", in, out.String(), n, err, want)
		}
	}
}
