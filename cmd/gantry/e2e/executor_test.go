package e2e

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/sdk/recordio"
)

// example-scheduler runs 20 tasks on example-executor, which it serves by HTTP itself; whoever wrote them, the cluster has
// nothing left of them in the end.
func TestMesosGoScheduler(t *testing.T) {
	programs := mesosGo(t, "example-scheduler", "example-executor")
	c := up(t, newWorkDir(t), "--no-demo")
	for _, codec := range []string{"protobuf", "json"} {
		s := exampleScheduler(t, c, programs, filepath.Join(programs, "example-executor"), "-codec", codec)
		accomplished(t, c, s)
		for i := 1; i <= 20; i++ {
			if !strings.Contains(s.String(), fmt.Sprintf("Task %d is in state TASK_FINISHED", i)) {
				t.Errorf("%s: task %d did not finish\n%s", codec, i, s)
			}
		}
		c.checkNothingHeld(t)
	}

	// The tasks are with the agent, their executor is not ready yet: the agent dies, and another takes over from it.
	slow := filepath.Join(t.TempDir(), "slow-executor")
	program, err := os.ReadFile(filepath.Join(programs, "example-executor"))
	if err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\nsleep 3; tail -n +3 \"$0\" > executor; chmod +x executor; exec ./executor\n"
	if err := os.WriteFile(slow, append([]byte(script), program...), 0o755); err != nil {
		t.Fatal(err)
	}
	s := exampleScheduler(t, c, programs, slow, "-cpu", "0.01")
	await(t, soon, "twenty tasks that wait", c.describe, func() bool { return len(c.state(t).GetTasks.Tasks) == 20 })
	await(t, soon, "executor that starts", c.describe, func() bool { return len(c.sandboxFiles(t, "slow-executor")) > 0 })
	c.killAgent(t)
	accomplished(t, c, s)
	c.checkNothingHeld(t)
	c.end()
}

func exampleScheduler(t *testing.T, c *cluster, programs, executor string, more ...string) *stranger {
	t.Helper()
	return begin(t, filepath.Join(programs, "example-scheduler"), append([]string{
		"-url", "http://" + c.at.Master + "/api/v1/scheduler", "-executor", executor, "-exec.image", "",
		"-server.address", "127.0.0.1", "-metrics.port", "0", "-tasks", "20", "-cpu", "0.1", "-verbose", "-failoverTimeout", "0s",
	}, more...)...)
}

// accomplished waits for the end of a scheduler, which says so and is not content with less.
func accomplished(t *testing.T, c *cluster, s *stranger) {
	t.Helper()
	s.status(t, c) // it ends with an error in any case: it has hung up
	if !strings.Contains(s.String(), "mission accomplished") {
		t.Fatalf("example-scheduler did not finish its tasks:\n%s\n%s", s, c.describe())
	}
}

// An executor of our own lives through all that can happen to one; it is this program, in its container.
func TestExecutor(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.workDir, "artifacts", "executor"), self, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range forms {
		t.Run(f.name, func(t *testing.T) { anExecutorLives(t, c, f) })
	}
	c.end()
}

func anExecutorLives(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, `"failover_timeout":60,"checkpoint":true`)
	on := func(id string, o offer) string {
		t := task(id, o, "")
		return strings.Replace(t, `"command":{"value":""}`, fmt.Sprintf(`"executor":%s`, c.executor("e")), 1)
	}
	o := s.offer()
	s.launch(o, on("one", o), on("two", o))
	s.follow("one", "TASK_RUNNING")
	s.follow("two", "TASK_RUNNING")
	where := fmt.Sprintf(`"agent_id":{"value":%q},"executor_id":{"value":"e"}`, o.AgentID.Value)

	s.call("MESSAGE", `"message":{`+where+`,"data":"aGVsbG8="}`) // hello
	s.take("echo", func(e event) bool { return e.Type == "MESSAGE" && e.Message.Data == "aGVsbG8=" })
	s.call("KILL", `"kill":{"task_id":{"value":"one"}}`)
	if last := s.follow("one", "TASK_KILLED"); last.Source != "SOURCE_EXECUTOR" {
		t.Errorf("the executor killed one, and it says %+v", last)
	}
	c.refusesImpostors(t, s.id)

	// The executor survives its agent, and what is on it.
	c.killAgent(t)
	await(t, soon, "agent that is back", c.describe, func() bool {
		_, text := s.try("MESSAGE", `"message":{`+where+`,"data":"YWdhaW4="}`) // again
		s.barrier()
		return text == "" && s.heard(func(e event) bool { return e.Type == "MESSAGE" })
	})
	s.call("KILL", `"kill":{"task_id":{"value":"two"}}`)
	s.follow("two", "TASK_KILLED")

	// It ends by itself, and leaves a task.
	o = s.standing()
	s.launch(o, on("three", o))
	s.follow("three", "TASK_RUNNING")
	s.call("MESSAGE", `"message":{`+where+`,"data":"ZXhpdA=="}`) // exit
	if last := s.follow("three", "TASK_FAILED"); last.Reason != "REASON_EXECUTOR_TERMINATED" || last.Message != "Executor exited with status 3" {
		t.Errorf("the executor left three, and it says %+v", last)
	}
	s.take("FAILURE", func(e event) bool {
		return e.Type == "FAILURE" && e.Failure.ExecutorID.Value == "e" && e.Failure.Status == 3<<8
	})

	// Its framework ends it.
	o = s.standing()
	s.launch(o, on("four", o))
	s.follow("four", "TASK_RUNNING")
	s.call("SHUTDOWN", `"shutdown":{`+where+`}`)
	s.follow("four", "TASK_FAILED")
	s.take("FAILURE", func(e event) bool {
		return e.Type == "FAILURE" && e.Failure.ExecutorID.Value == "e" && e.Failure.Status == 0
	})

	// And at last with it.
	o = s.standing()
	s.launch(o, on("five", o))
	s.follow("five", "TASK_RUNNING")
	s.teardown()
	c.checkNothingHeld(t)
}

// standing is the next offer that is large enough for an executor and is not taken back already, as those of an agent are
// that has died.
func (s *scheduler) standing() offer {
	s.t.Helper()
	for {
		o := s.offer()
		s.barrier()
		gone := s.heard(func(e event) bool { return e.Type == "RESCIND" && e.Rescind.OfferID == o.ID })
		if !gone && o.milli("cpus") >= 200 && o.milli("mem") >= 80_000 {
			return o
		}
		if !gone {
			s.decline(o, "0") // to have it in one with others
		}
	}
}

// executor is an ExecutorInfo.
func (c *cluster) executor(id string) string {
	return fmt.Sprintf(`{"type":"CUSTOM","executor_id":{"value":%q},"command":{"value":"./executor","uris":[{"value":%q,"executable":true}],
		"environment":{"variables":[{"name":%q,"value":"1"}]}},"resources":[%s,%s]}`,
		id, "file://"+filepath.Join(c.workDir, "artifacts", "executor"), asExecutor, scalar("cpus", "0.1"), scalar("mem", "64"))
}

// refusesImpostors: who is not in the container, and has not its token, is not the executor.
func (c *cluster) refusesImpostors(t *testing.T, framework string) {
	t.Helper()
	for name, token := range map[string]string{"without a token": "", "with another's token": strings.Repeat("0", 64)} {
		e := exampleExecutor{address: c.at.Agents[0], framework: framework, executor: "e", token: token}
		response, err := e.post(map[string]any{"type": "SUBSCRIBE", "subscribe": map[string]any{}})
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != 403 {
			t.Errorf("an impostor %s subscribed: %s", name, response.Status)
		}
	}
}

// asExecutor, in the environment, makes this program an executor.
const asExecutor = "GANTRY_E2E_EXECUTOR"

// executorMain does not return in a container of the tests.
func executorMain() {
	if os.Getenv(asExecutor) == "" {
		return
	}
	e := exampleExecutor{
		address: os.Getenv("MESOS_AGENT_ENDPOINT"), framework: os.Getenv("MESOS_FRAMEWORK_ID"), executor: os.Getenv("MESOS_EXECUTOR_ID"),
		token: os.Getenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"), tasks: map[string]any{}, updates: map[string]any{},
	}
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		err := e.live()
		fmt.Println("the stream ended:", err) // into the sandbox
		if err == nil {
			deadline = time.Now().Add(time.Minute) // the stream was open, and ended
		}
	}
	os.Exit(4)
}

// exampleExecutor says that its tasks run until they are killed. Told to exit it does so, and all else it repeats.
type exampleExecutor struct {
	address, framework, executor, token string
	tasks, updates                      map[string]any // unacknowledged
}

func (e *exampleExecutor) post(call map[string]any) (*http.Response, error) {
	call["framework_id"], call["executor_id"] = map[string]any{"value": e.framework}, map[string]any{"value": e.executor}
	body, err := json.Marshal(call)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequest(http.MethodPost, "http://"+e.address+"/api/v1/executor", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	if e.token != "" {
		r.Header.Set("Authorization", "Bearer "+e.token)
	}
	return http.DefaultClient.Do(r)
}

// live subscribes and does what it is told until the stream ends.
func (e *exampleExecutor) live() error {
	list := func(all map[string]any) []any {
		list := []any{}
		for _, v := range all {
			list = append(list, v)
		}
		return list
	}
	response, err := e.post(map[string]any{"type": "SUBSCRIBE", "subscribe": map[string]any{
		"unacknowledged_tasks": list(e.tasks), "unacknowledged_updates": list(e.updates),
	}})
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != 200 {
		text, _ := io.ReadAll(response.Body) // it only explains
		return fmt.Errorf("%s: %s", response.Status, text)
	}
	records := recordio.NewReader(response.Body, 1<<20)
	for {
		record, err := records.Next()
		if err != nil {
			return nil
		}
		e.obey(record)
	}
}

func (e *exampleExecutor) obey(record []byte) {
	var told struct {
		Type   string
		Launch struct{ Task map[string]any }
		Kill   struct {
			TaskID value `json:"task_id"`
		}
		Acknowledged struct {
			TaskID value `json:"task_id"`
			UUID   string
		}
		Message struct{ Data string }
	}
	if err := json.Unmarshal(record, &told); err != nil {
		os.Exit(5)
	}
	switch told.Type {
	case "LAUNCH":
		id := told.Launch.Task["task_id"].(map[string]any)["value"].(string)
		e.tasks[id] = told.Launch.Task
		e.update(id, "TASK_RUNNING")
	case "KILL":
		e.update(told.Kill.TaskID.Value, "TASK_KILLED")
	case "ACKNOWLEDGED":
		delete(e.tasks, told.Acknowledged.TaskID.Value)
		delete(e.updates, told.Acknowledged.UUID)
	case "MESSAGE":
		if told.Message.Data == "ZXhpdA==" {
			os.Exit(3)
		}
		e.say(map[string]any{"type": "MESSAGE", "message": map[string]any{"data": told.Message.Data}})
	case "SHUTDOWN":
		os.Exit(0)
	}
}

func (e *exampleExecutor) update(task, state string) {
	uuid := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%016x", time.Now().UnixNano()))
	update := map[string]any{"status": map[string]any{
		"task_id": map[string]any{"value": task}, "state": state, "source": "SOURCE_EXECUTOR", "uuid": uuid,
	}}
	e.updates[uuid] = update
	e.say(map[string]any{"type": "UPDATE", "update": update})
}

// say sends what need not arrive: an update is said again with the next subscription.
func (e *exampleExecutor) say(call map[string]any) {
	if response, err := e.post(call); err == nil {
		response.Body.Close()
	}
}
