package torture

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
	"github.com/gantry-project/gantry/sdk/recordio"
)

const (
	asExecutor   = "GANTRY_TORTURE_EXECUTOR"
	executorID   = "torture"
	executorCPUs = 0.1
	executorMem  = 64.0
	aloneWithin  = time.Minute // without an agent; then it ends
	tellAgain    = time.Second // what is not acknowledged
)

// ExecutorMain makes this program an executor, and does not return, in a container that a Load launched as that. It runs
// the command in a task's data, says how it ended as the agent would, and tells all that until it is acknowledged.
func ExecutorMain() {
	if os.Getenv(asExecutor) == "" {
		return
	}
	e := &executor{
		url: "http://" + os.Getenv("MESOS_AGENT_ENDPOINT") + "/api/v1/executor", token: os.Getenv("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
		framework: &mesos.FrameworkID{Value: proto.String(os.Getenv("MESOS_FRAMEWORK_ID"))},
		id:        &mesos.ExecutorID{Value: proto.String(os.Getenv("MESOS_EXECUTOR_ID"))},
		running:   map[string]*exec.Cmd{}, news: make(chan struct{}, 1),
	}
	go e.report()
	for deadline := time.Now().Add(aloneWithin); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		open, err := e.attend()
		fmt.Println(time.Now().Format("15:04:05.000"), err) // into the sandbox
		if open {
			deadline = time.Now().Add(aloneWithin)
		}
	}
	os.Exit(4)
}

// executor runs tasks, each a shell.
type executor struct {
	url, token string
	framework  *mesos.FrameworkID
	id         *mesos.ExecutorID
	news       chan struct{} // has a token when there is something to tell

	mu      sync.Mutex
	running map[string]*exec.Cmd // nil once it was killed
	tasks   []*mesos.TaskInfo    // of which nothing was acknowledged
	updates []*mesos.TaskStatus  // not acknowledged
}

// attend is one subscription; open says that the agent let it in.
func (e *executor) attend() (open bool, err error) {
	e.mu.Lock()
	subscribe := &executorpb.Call_Subscribe{UnacknowledgedTasks: slices.Clone(e.tasks)}
	for _, s := range e.updates {
		subscribe.UnacknowledgedUpdates = append(subscribe.UnacknowledgedUpdates, &executorpb.Call_Update{Status: s})
	}
	e.mu.Unlock()
	resp, err := e.post(context.Background(), &executorpb.Call{Type: executorpb.Call_SUBSCRIBE.Enum(), Subscribe: subscribe})
	if err != nil {
		return false, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, refusal("SUBSCRIBE", resp)
	}
	for records := recordio.NewReader(resp.Body, maxEvent); ; {
		record, err := records.Next()
		if err != nil {
			return true, err
		}
		event := new(executorpb.Event)
		if err := protojson.Unmarshal(record, event); err != nil {
			return true, err
		}
		e.obey(event)
	}
}

func (e *executor) obey(event *executorpb.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch event.GetType() {
	case executorpb.Event_LAUNCH:
		e.launch(event.GetLaunch().GetTask())
	case executorpb.Event_KILL:
		id := event.GetKill().GetTaskId().GetValue()
		if cmd := e.running[id]; cmd != nil {
			e.running[id] = nil
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // it may have ended just now
		}
	case executorpb.Event_ACKNOWLEDGED:
		a := event.GetAcknowledged()
		e.tasks = slices.DeleteFunc(e.tasks, func(t *mesos.TaskInfo) bool { return t.GetTaskId().GetValue() == a.GetTaskId().GetValue() })
		e.updates = slices.DeleteFunc(e.updates, func(s *mesos.TaskStatus) bool { return bytes.Equal(s.GetUuid(), a.GetUuid()) })
	case executorpb.Event_SHUTDOWN:
		os.Exit(0)
	}
}

// launch starts a task, whose end is told when it comes.
func (e *executor) launch(task *mesos.TaskInfo) {
	id := task.GetTaskId().GetValue()
	e.tasks = append(e.tasks, task)
	cmd := exec.Command("/bin/sh", "-c", string(task.GetData()))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		e.say(id, mesos.TaskState_TASK_ERROR, "message", err.Error())
		return
	}
	e.running[id] = cmd
	e.say(id, mesos.TaskState_TASK_RUNNING, "pid", strconv.Itoa(cmd.Process.Pid))
	go func() {
		err := cmd.Wait()
		e.mu.Lock()
		defer e.mu.Unlock()
		killed := e.running[id] == nil
		delete(e.running, id)
		status := cmd.ProcessState.Sys().(syscall.WaitStatus)
		var exit *exec.ExitError
		switch {
		case err != nil && !errors.As(err, &exit):
			e.say(id, mesos.TaskState_TASK_ERROR, "message", err.Error())
		case killed && status.Signaled():
			e.say(id, mesos.TaskState_TASK_KILLED, "exit_signal", strconv.Itoa(int(status.Signal())))
		case status.Signaled():
			e.say(id, mesos.TaskState_TASK_FAILED, "exit_signal", strconv.Itoa(int(status.Signal())))
		case status.ExitStatus() == 0:
			e.say(id, mesos.TaskState_TASK_FINISHED, "exit_status", "0")
		default:
			e.say(id, mesos.TaskState_TASK_FAILED, "exit_status", strconv.Itoa(status.ExitStatus()))
		}
	}()
}

// say has a status told. The lock is held.
func (e *executor) say(task string, state mesos.TaskState, key, value string) {
	uuid := make([]byte, 16)
	_, _ = rand.Read(uuid) // never fails
	s := &mesos.TaskStatus{
		TaskId: &mesos.TaskID{Value: &task}, State: state.Enum(), Source: mesos.TaskStatus_SOURCE_EXECUTOR.Enum(), ExecutorId: e.id, Uuid: uuid,
		Labels: &mesos.Labels{Labels: []*mesos.Label{{Key: &key, Value: &value}}},
	}
	e.updates = append(e.updates, s)
	select {
	case e.news <- struct{}{}:
	default:
	}
}

// report tells what is not acknowledged, in order, and again and again.
func (e *executor) report() {
	told := map[string]time.Time{} // by uuid
	for tick := time.Tick(tellAgain / 2); ; {
		select {
		case <-e.news:
		case <-tick:
		}
		e.mu.Lock()
		open := slices.Clone(e.updates)
		e.mu.Unlock()
		for _, s := range open {
			if time.Since(told[string(s.GetUuid())]) < tellAgain {
				continue
			}
			if err := e.tell(s); err != nil {
				fmt.Println(time.Now().Format("15:04:05.000"), err)
				break // what follows must not come first
			}
			told[string(s.GetUuid())] = time.Now()
		}
	}
}

func (e *executor) tell(s *mesos.TaskStatus) error {
	ctx, cancel := context.WithTimeout(context.Background(), callWithin)
	defer cancel()
	resp, err := e.post(ctx, &executorpb.Call{Type: executorpb.Call_UPDATE.Enum(), Update: &executorpb.Call_Update{Status: s}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return refusal("UPDATE", resp)
	}
	return nil
}

func (e *executor) post(ctx context.Context, call *executorpb.Call) (*http.Response, error) {
	call.FrameworkId, call.ExecutorId = e.framework, e.id
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(call)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", string(inJSON))
	r.Header.Set("Accept", string(inJSON))
	r.Header.Set("Authorization", "Bearer "+e.token)
	return http.DefaultClient.Do(r)
}
