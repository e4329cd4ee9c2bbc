package e2e

import (
	"encoding/json"
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

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
)

// jobs is a cluster whose Chronos tries again after a second.
type jobs struct {
	*cluster
	t *testing.T
}

const jobsManifest = `[plugin.drf]
kind = "allocator"

[plugin.chronos]
kind   = "framework"
listen = "127.0.0.1:0"

[plugin.chronos.config]
retry_seconds = 1
`

// Jobs begin by the clock, after each other and by hand, as often as they should and no more, whoever is killed meanwhile.
func TestJobs(t *testing.T) {
	manifest := filepath.Join(t.TempDir(), "plugins.toml")
	if err := os.WriteFile(manifest, []byte(jobsManifest), 0o600); err != nil {
		t.Fatal(err)
	}
	c := up(t, newWorkDir(t), "--plugins", manifest, "--no-demo")
	j := &jobs{cluster: c, t: t}
	await(t, soon, "Chronos", c.describe, func() bool {
		status, _ := j.http("GET", "/ping", "")
		return status == 200
	})
	c.must("job", "add", "minutely", "--cron", "* * * * *", "--zone", "Europe/Berlin", "--", "echo ran")
	for _, s := range []struct {
		name string
		test func(*jobs)
	}{
		{"whoever is killed", (*jobs).whoeverIsKilled},
		{"after parents", (*jobs).afterParents},
		{"tried again", (*jobs).triedAgain},
		{"killed", (*jobs).killed},
		{"too long", (*jobs).tooLong},
		{"what a run is given", (*jobs).whatARunIsGiven},
		{"the command line", (*jobs).theCommandLine},
		{"bad input", (*jobs).badInput},
		{"cron", (*jobs).cron},
	} {
		t.Run(s.name, func(t *testing.T) {
			j.t, c.t = t, t
			s.test(j)
		})
	}
	j.t, c.t = t, t
	c.end()
	c.checkNothingLeft()
}

// http asks Chronos something; status 0 says that nobody answered.
func (j *jobs) http(method, path, body string) (status int, answer string) {
	j.t.Helper()
	at, err := daemon.ReadCluster(j.workDir) // each master has Chronos listen on another port
	if err != nil || at.Chronos == "" {
		return 0, ""
	}
	r, err := http.NewRequestWithContext(j.t.Context(), method, "http://"+at.Chronos+path, strings.NewReader(body))
	if err != nil {
		j.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, strings.TrimSpace(string(data))
}

// post defines a job.
func (j *jobs) post(resource, body string) {
	j.t.Helper()
	if status, answer := j.http("POST", "/v1/scheduler/"+resource, body); status != 204 {
		j.t.Fatalf("%s is answered %d %s\n%s", body, status, answer, j.describe())
	}
}

// until waits for a job to be as wanted.
func (j *jobs) until(name, what string, wanted func(client.Job) bool) client.Job {
	j.t.Helper()
	var job client.Job
	describe := func() string { return fmt.Sprintf("%+v\n%s", job, j.describe()) }
	await(j.t, soon+30*time.Second, what, describe, func() bool {
		status, answer := j.http("GET", "/gantry/v1/jobs/"+name, "")
		job = client.Job{}
		return status == 200 && json.Unmarshal([]byte(answer), &job) == nil && wanted(job)
	})
	return job
}

func good(n uint64) func(client.Job) bool {
	return func(job client.Job) bool { return job.Job.SuccessCount == n && job.State == "idle" }
}

// written is what all tasks of a job have ever written, by the tasks' ids.
func (j *jobs) written(name string) map[string]string {
	j.t.Helper()
	files, err := filepath.Glob(filepath.Join(j.workDir, "agent*", "slaves", "*", "frameworks", "*", "executors", "ct:*:"+name+":*", "runs", "*", "stdout"))
	if err != nil {
		j.t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range files {
		run := filepath.Dir(file)
		if filepath.Base(run) == "latest" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			j.t.Fatal(err)
		}
		texts[filepath.Base(filepath.Dir(filepath.Dir(run)))] += string(text)
	}
	return texts
}

// strike kills a process and waits for the next one in its place.
func (j *jobs) strike(what string, find func() int) {
	j.t.Helper()
	pid := find()
	if pid == 0 {
		j.t.Fatalf("there is no %s\n%s", what, j.describe())
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		j.t.Fatal(err)
	}
	await(j.t, soon, what+" in its place", j.describe, func() bool {
		again := find()
		return again != 0 && again != pid && alive(again)
	})
}

func (j *jobs) whoeverIsKilled() {
	start := time.Now().Add(2 * time.Second).UTC().Format("2006-01-02T15:04:05.000Z")
	j.must("job", "add", "often", "--schedule", "R3/"+start+"/PT2S", "--", "sleep 0.5; echo ran")
	chronos := func() int { return j.plugin("chronos") }
	j.strike("Chronos", chronos)
	begun := func(n int) func(client.Job) bool {
		return func(job client.Job) bool { return len(job.Runs)+len(job.History) >= n }
	}
	j.until("often", "first run", begun(1))
	j.strike("Chronos", chronos)
	j.until("often", "second run", begun(2))
	j.strike("master", func() int { return j.daemon(j.t, "master").PID })
	j.until("often", "third run", begun(3))
	j.strike("agent", func() int { return j.daemon(j.t, "agent").PID })
	job := j.until("often", "three good runs", good(3))
	dues := map[time.Time]bool{}
	for _, r := range job.History {
		dues[r.Due] = true
		// An agent that dies while it makes a container ready tells that no command of it began.
		if r.State != "TASK_FINISHED" {
			j.t.Logf("tried again: %+v", r)
			if text := j.written("often")[r.Task]; text != "" {
				j.t.Errorf("it has written %q", text)
			}
		}
	}
	ran := 0
	for task, text := range j.written("often") {
		ran += strings.Count(text, "ran\n")
		if text != "ran\n" && text != "" {
			j.t.Errorf("%s has written %q", task, text)
		}
	}
	if ran != 3 || len(dues) != 3 || !job.Job.Disabled || !strings.HasPrefix(job.Job.Schedule, "R0/") {
		j.t.Errorf("%d commands ran for %d due times: %+v\n%v\n%s", ran, len(dues), job, j.written("often"), j.describe())
	}
}

func (j *jobs) afterParents() {
	const shape = `{"name": %q, "command": "date +%%s%%N", "cpus": 0.05, "mem": 32, "retries": 0, %s}`
	for _, parent := range []string{"a", "b"} {
		j.post("iso8601", fmt.Sprintf(shape, parent, `"schedule": "R0//PT1H"`))
	}
	j.post("dependency", fmt.Sprintf(shape, "c", `"parents": ["a", "b"]`))
	j.post("dependency", fmt.Sprintf(shape, "d", `"parents": ["c"]`))
	j.must("job", "run", "a")
	j.until("a", "run of a", good(1))
	j.strike("Chronos", func() int { return j.plugin("chronos") }) // what c has heard is not forgotten
	await(j.t, soon, "Chronos", j.describe, func() bool {
		status, _ := j.http("PUT", "/scheduler/job/b", "")
		return status == 204
	})
	j.until("d", "run of d", good(1))
	var times []string
	for _, name := range []string{"a", "b", "c", "d"} {
		texts := j.written(name)
		if len(texts) != 1 {
			j.t.Errorf("%s ran %d times", name, len(texts))
		}
		for _, text := range texts {
			times = append(times, text)
		}
	}
	if !slices.IsSorted(times) {
		j.t.Errorf("a, b, c and d ran at %q", times)
	}
	_, graph := j.http("GET", "/v1/scheduler/graph/csv", "")
	for _, line := range []string{"node,d,success,idle", "link,a,c", "link,b,c", "link,c,d"} {
		if !strings.Contains(graph+"\n", line+"\n") {
			j.t.Errorf("%q is not in\n%s", line, graph)
		}
	}
	j.must("job", "remove", "c")
	if job := j.until("d", "d", good(1)); !slices.Equal(job.Job.Parents, []string{"a", "b"}) {
		j.t.Errorf("without c, d runs after %v", job.Job.Parents)
	}
}

func (j *jobs) triedAgain() {
	j.post("iso8601", `{"name": "fails", "command": "exit 3", "cpus": 0.05, "mem": 32, "retries": 2}`)
	job := j.until("fails", "failure", func(job client.Job) bool { return job.Job.ErrorCount > 0 })
	if len(job.History) != 3 || job.Job.ErrorCount != 1 || job.Status != "failure" || len(j.written("fails")) != 3 {
		j.t.Fatalf("after two retries: %+v", job)
	}
	for i, r := range job.History {
		if r.ExitStatus == nil || *r.ExitStatus != 3 || r.Attempt != 2-i || !r.Due.Equal(job.History[0].Due) || r.Agent == "" {
			j.t.Errorf("attempt %d was %+v", 2-i, r)
		}
	}
}

func (j *jobs) killed() {
	j.post("iso8601", `{"name": "long", "command": "echo begun; sleep 1000", "cpus": 0.05, "mem": 32}`)
	running := func(job client.Job) bool { return len(job.Runs) == 1 && job.Runs[0].State == "TASK_RUNNING" }
	j.until("long", "running job", running)
	if status, answer := j.http("PUT", "/v1/scheduler/job/long", ""); status != 400 || !strings.Contains(answer, "not concurrent") {
		j.t.Errorf("a second run is answered %d %s", status, answer)
	}
	if status, answer := j.http("DELETE", "/v1/scheduler/task/kill/long", ""); status != 204 {
		j.t.Fatalf("the kill is answered %d %s", status, answer)
	}
	job := j.until("long", "killed job", func(job client.Job) bool { return job.State == "idle" })
	if len(job.History) != 1 || job.History[0].State != "TASK_KILLED" || job.Status != "fresh" {
		j.t.Errorf("killed, it is %+v", job)
	}
	// removed while it runs: the task goes too
	j.must("job", "run", "long")
	task := j.until("long", "running job", running).Runs[0].Task
	j.must("job", "remove", "long")
	await(j.t, soon, "end of "+task, j.describe, func() bool { return !strings.Contains(j.must("task", "list"), task) })
}

func (j *jobs) tooLong() {
	j.post("iso8601", `{"name": "slow", "command": "sleep 1000", "cpus": 0.05, "mem": 32, "maxCompletionTime": 1, "retries": 0}`)
	job := j.until("slow", "failure", func(job client.Job) bool { return job.Job.ErrorCount == 1 })
	if len(job.History) != 1 || !strings.Contains(job.History[0].Message, "longer than") {
		j.t.Errorf("too long a run is %+v", job.History)
	}
}

func (j *jobs) whatARunIsGiven() {
	artifact := filepath.Join(j.workDir, "artifacts", "word")
	if err := os.MkdirAll(filepath.Dir(artifact), 0o755); err != nil {
		j.t.Fatal(err)
	}
	if err := os.WriteFile(artifact, []byte("fetched"), 0o644); err != nil {
		j.t.Fatal(err)
	}
	j.post("iso8601", `{"name": "given", "command": "id -un; cat word; echo; echo $CHRONOS_JOB_NAME $CHRONOS_JOB_OWNER $CHRONOS_RESOURCE_MEM $CHRONOS_JOB_RUN_ATTEMPT $A; echo", "schedule": "R0//PT1H",
		"cpus": "0.05", "mem": 32, "owner": "me@example.org", "runAsUser": "nobody", "uris": ["file://`+artifact+`"],
		"environmentVariables": [{"name": "A", "value": "b c"}, {"name": "CHRONOS_JOB_NAME", "value": "other"}]}`)
	j.must("job", "run", "given", "--arguments", "one two")
	j.until("given", "run", good(1))
	const want = "nobody\nfetched\ngiven me@example.org 32.0 0 b c\none two\n"
	if out := j.must("job", "logs", "given"); out != want {
		j.t.Errorf("it writes %q, want %q", out, want)
	}
	j.post("iso8601", `{"name": "plain", "command": "printf", "shell": false, "arguments": ["printf", "%s.", "a b", "$HOME"], "cpus": 0.05, "mem": 32}`)
	j.until("plain", "run", good(1))
	if out := j.must("job", "logs", "plain"); out != "a b.$HOME." {
		j.t.Errorf("without a shell it writes %q", out)
	}
	j.post("iso8601", `{"name": "nowhere", "command": "true", "constraints": [["hostname", "EQUALS", "elsewhere"]]}`)
	job := j.until("nowhere", "reason to wait", func(job client.Job) bool { return strings.Contains(job.Why, "constraint") })
	if job.State != "queued" {
		j.t.Errorf("a job that fits nowhere is %+v", job)
	}
	j.must("job", "kill", "nowhere")
}

func (j *jobs) theCommandLine() {
	j.must("job", "add", "shown", "--cpus", "0.05", "--mem", "32", "--", "sh", "-c", "echo out; echo err >&2; exit 0")
	j.until("shown", "run", good(1))
	for args, want := range map[string]string{
		"job list":          "shown",
		"job show shown":    "sh -c echo out",
		"job history shown": "finished",
		"job logs shown":    "out",
	} {
		words := strings.Fields(args)
		if out := j.must(words...); !strings.Contains(out, want) {
			j.t.Errorf("gantry %s does not tell %q:\n%s", args, want, out)
		}
		if out := j.must(append(words, "--json")...); !json.Valid([]byte(out)) {
			j.t.Errorf("gantry %s --json: %s", args, out)
		}
	}
	for _, args := range []string{"job show nobody", "job run nobody", "job remove nobody", "job logs nobody", "job kill nobody"} {
		if status, _, errOut := j.gantry(strings.Fields(args)...); status != 1 || !strings.Contains(errOut, `there is no job "nobody"`) {
			j.t.Errorf("gantry %s: %d %s", args, status, errOut)
		}
	}
	if status, _, errOut := j.gantry("job", "add", "bad", "--cron", "0 0 31 2 *", "--", "true"); status != 1 || !strings.Contains(errOut, "never comes") {
		j.t.Errorf("an impossible date: %d %s", status, errOut)
	}
	j.must("job", "remove", "shown")
	if out := j.must("job", "list"); strings.Contains(out, "shown") {
		j.t.Errorf("it is removed, and listed:\n%s", out)
	}
}

func (j *jobs) badInput() {
	_, before := j.http("GET", "/v1/scheduler/jobs", "")
	for _, c := range []struct{ path, body, part string }{
		{"iso8601", ``, "ends too early"},
		{"iso8601", `[]`, "JSON object"},
		{"iso8601", `{"name": "x", "command": "true", "schedule": "R/2026-02-30T00:00:00Z/P1D"}`, "not a date"},
		{"iso8601", `{"name": "x", "command": "true", "schedule": "R/2026-02-03T00:00:00Z/P0D"}`, "shorter than a second"},
		{"iso8601", `{"name": "x", "command": "true", "schedule": "R/2026-02-03T00:00:00Z/P99999999999999Y"}`, "can't be read"},
		{"iso8601", `{"name": "x", "command": "true", "schedule": "cron 0 0 31 2 *"}`, "never comes"},
		{"iso8601", `{"name": "x", "command": "true", "schedule": "cron TZ= * * * *"}`, "scheduleTimeZone"},
		{"iso8601", `{"name": "x", "command": "true", "schedule": "R//P1D", "scheduleTimeZone": "Mars/Olympus"}`, "no time zone"},
		{"iso8601", `{"name": "../x", "command": "true"}`, "may hold letters"},
		{"iso8601", `{"name": "x", "command": "true", "container": {"image": "busybox"}}`, "not supported yet"},
		{"iso8601", `{"name": "x", "command": "true", "cpus": -1}`, "cpus must be"},
		{"dependency", `{"name": "x", "command": "true", "parents": ["nobody"]}`, "does not exist"},
		{"dependency", `{"name": "x", "command": "true", "parents": ["x"]}`, "its own parent"},
		{"dependency", `{"name": "a", "command": "true", "parents": ["d"]}`, "round for ever"},
	} {
		status, answer := j.http("POST", "/v1/scheduler/"+c.path, c.body)
		var problem struct{ Status, Message string }
		if err := json.Unmarshal([]byte(answer), &problem); err != nil || status != 400 || problem.Status != "400" ||
			!strings.Contains(problem.Message, c.part) || strings.Contains(problem.Message, "\n") {
			j.t.Errorf("%s is answered %d %s", c.body, status, answer)
		}
	}
	if _, after := j.http("GET", "/v1/scheduler/jobs", ""); after != before {
		j.t.Errorf("what was refused has left something:\n%s\nbefore\n%s", after, before)
	}
}

func (j *jobs) cron() {
	job := j.until("minutely", "run", func(job client.Job) bool { return job.Job.SuccessCount > 0 })
	for _, r := range job.History {
		if r.Due.Second() != 0 || r.Cause != "schedule" || r.Started.Before(r.Due) {
			j.t.Errorf("a run by cron is %+v", r)
		}
	}
	if job.Next.Second() != 0 || job.Job.Schedule != "cron * * * * *" || job.Job.Zone != "Europe/Berlin" {
		j.t.Errorf("the job goes on as %+v", job)
	}
}
