package run_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/keeper"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	"github.com/gantry-project/gantry/kernel/link"
	"github.com/gantry-project/gantry/kernel/link/linkpb"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/run"
	"github.com/gantry-project/gantry/kernel/store"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
	"github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// A site is a host with a work directory: a real store and a real keeper, whose containers
// are mere processes. The test is the master.
type site struct {
	t        *testing.T
	dir      string
	sessions chan *link.Session
	keepTask bool
	prepared prepared
	meter    run.Meter
	store    store.Store // of the agent that was started last
}

func newSite(t *testing.T) *site {
	return &site{t: t, dir: t.TempDir(), sessions: make(chan *link.Session, 1)}
}

// prepared makes a spec of a task's command, and remembers what is not cleaned up.
type prepared struct {
	mu   sync.Mutex
	left map[string]bool
	// block holds up every preparation until it is closed or given up.
	block chan struct{}
}

func (p *prepared) Prepare(ctx context.Context, l node.Launch) (*containerpb.Spec, error) {
	if l.Task.GetCommand().GetValue() == "unpreparable" {
		return nil, errors.New("there is no such file")
	}
	if p.block != nil {
		select {
		case <-p.block:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left == nil {
		p.left = map[string]bool{}
	}
	p.left[l.Container] = true
	return &containerpb.Spec{
		Id: l.Container, Argv: []string{"/bin/sh", "-c", l.Task.GetCommand().GetValue()}, Cwd: "/", Rootfs: "/",
		Cgroup: "/gantry-00000000/containers/" + l.Container, StdoutPath: "/dev/null", StderrPath: "/dev/null",
	}, nil
}

func (p *prepared) Cleanup(_ context.Context, container string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.left, container)
	return nil
}

func (p *prepared) Retain(context.Context, map[string]bool) error { return nil }

// agent runs one agent until stop, whose error it returns.
func (s *site) agent() (a *run.Agent, stop func() error) {
	s.t.Helper()
	checkpoint, err := store.OpenBolt(filepath.Join(s.dir, "checkpoint.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	s.store = checkpoint
	ctx, cancel := context.WithCancel(s.t.Context())
	a, err = run.NewAgent(ctx, run.AgentConfig{
		Node:  node.Config{Info: &mesos.AgentInfo{Hostname: proto.String("host")}, Version: "test"},
		Boot:  "b1",
		Store: checkpoint,
		Dial: func(ctx context.Context) (run.AgentLink, error) {
			session, conn := link.Pair()
			select {
			case s.sessions <- session:
				return conn, nil
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		},
		Keeper:     s.keeper,
		Containers: &s.prepared,
		Meter:      s.meter,
		KeepTasks:  s.keepTask,
		Log:        slog.New(slog.DiscardHandler),
	})
	if err != nil {
		s.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return errors.Join(<-ended, checkpoint.Close())
	})
	s.t.Cleanup(func() { _ = stop() })
	return a, stop
}

// keeper dials the keeper of the site, and serves one where there is none.
func (s *site) keeper(ctx context.Context) (run.AgentKeeper, *keeperpb.Welcome, error) {
	dir := filepath.Join(s.dir, "keeper")
	client, welcome, err := keeper.Dial(ctx, dir)
	if errors.Is(err, keeper.ErrNotRunning) {
		serves, ready := make(chan error, 1), make(chan struct{})
		life, end := context.WithCancel(context.Background())
		go func() {
			serves <- keeper.Serve(life, keeper.Config{
				Dir: dir, Runtime: processes{}, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) },
			})
		}()
		s.t.Cleanup(func() { end(); <-serves })
		select {
		case <-ready:
		case err := <-serves:
			serves <- err
			return nil, nil, err
		}
		client, welcome, err = keeper.Dial(ctx, dir)
	}
	if err != nil {
		return nil, nil, err
	}
	context.AfterFunc(ctx, func() { client.Close() })
	return client, welcome, nil
}

// processes are containers with nothing around them.
type processes struct{}

func (processes) Start(_ context.Context, spec *containerpb.Spec) (keeper.Container, error) {
	cmd := exec.Command(spec.Argv[0], spec.Argv[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return process{cmd}, nil
}

func (processes) Adopt(context.Context, *containerpb.Spec) (keeper.Container, error) {
	return nil, keeper.ErrGone
}

type process struct{ cmd *exec.Cmd }

func (p process) Pid() int           { return p.cmd.Process.Pid }
func (p process) StartTicks() uint64 { return 1 }

func (p process) Wait() *containerpb.Exit {
	_ = p.cmd.Wait() // its state says the same
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return &containerpb.Exit{Signal: int32(status.Signal())}
	}
	return &containerpb.Exit{Status: int32(status.ExitStatus())}
}

func (p process) Signal(sig syscall.Signal) error { return syscall.Kill(-p.cmd.Process.Pid, sig) }
func (p process) Destroy(context.Context) error   { return nil }

// master is the test's end of a stream.
type master struct {
	t *testing.T
	*link.Session
	hello *linkpb.Hello
}

// accept takes the next agent that dials.
func (s *site) accept() master {
	s.t.Helper()
	m := master{t: s.t, Session: <-s.sessions}
	first, err := m.Recv()
	if err != nil || first.GetHello() == nil {
		s.t.Fatalf("got %v, %v; want a hello", first, err)
	}
	m.hello = first.GetHello()
	m.send(&linkpb.ToAgent{Body: &linkpb.ToAgent_Welcome{Welcome: &linkpb.Welcome{
		AgentId: &mesos.AgentID{Value: proto.String("A1")}, PingSeconds: 60,
	}}})
	return m
}

func (m master) send(msg *linkpb.ToAgent) {
	m.t.Helper()
	msg.Epoch = 1
	if err := m.Send(msg); err != nil {
		m.t.Fatal(err)
	}
}

func (m master) run(task, command string) {
	m.t.Helper()
	m.send(&linkpb.ToAgent{Body: &linkpb.ToAgent_Run{Run: &linkpb.Run{
		Framework: &mesos.FrameworkInfo{User: proto.String("root"), Name: proto.String("f"), Id: &mesos.FrameworkID{Value: proto.String("f")}},
		Task: &mesos.TaskInfo{
			Name: proto.String(task), TaskId: &mesos.TaskID{Value: proto.String(task)}, AgentId: &mesos.AgentID{Value: proto.String("A1")},
			Command: &mesos.CommandInfo{Value: &command},
		},
	}}})
}

func (m master) kill(task string) {
	m.t.Helper()
	m.send(&linkpb.ToAgent{Body: &linkpb.ToAgent_Kill{Kill: &linkpb.Kill{
		FrameworkId: &mesos.FrameworkID{Value: proto.String("f")}, TaskId: &mesos.TaskID{Value: proto.String(task)},
	}}})
}

// await acknowledges the updates until one has the state, and returns that.
func (m master) await(task string, state mesos.TaskState) *mesos.TaskStatus {
	m.t.Helper()
	for {
		msg, err := m.Recv()
		if err != nil {
			m.t.Fatalf("waiting for %s to be %s: %v", task, state, err)
		}
		u := msg.GetUpdate()
		if u == nil {
			continue
		}
		m.send(&linkpb.ToAgent{Body: &linkpb.ToAgent_Acknowledge{Acknowledge: &linkpb.Acknowledge{
			FrameworkId: u.FrameworkId, TaskId: u.Status.TaskId, Uuid: u.Status.Uuid,
		}}})
		if u.Status.TaskId.GetValue() != task {
			continue
		}
		if u.Status.GetState() == state {
			return u.Status
		}
		if u.Status.GetState() > mesos.TaskState_TASK_RUNNING && u.Status.GetState() <= mesos.TaskState_TASK_LOST {
			m.t.Fatalf("%s is %v; want %s", task, u.Status, state)
		}
	}
}

func TestAgentRunsTasks(t *testing.T) {
	s := newSite(t)
	_, stop := s.agent()
	m := s.accept()
	m.run("good", "exit 0")
	m.await("good", mesos.TaskState_TASK_RUNNING)
	m.await("good", mesos.TaskState_TASK_FINISHED)
	m.run("bad", "exit 3")
	if status := m.await("bad", mesos.TaskState_TASK_FAILED); status.GetMessage() != "Command exited with status 3" {
		t.Errorf("got %v", status)
	}
	m.run("none", "unpreparable")
	status := m.await("none", mesos.TaskState_TASK_FAILED)
	if status.GetReason() != mesos.TaskStatus_REASON_CONTAINER_LAUNCH_FAILED || status.GetMessage() != "there is no such file" {
		t.Errorf("got %v", status)
	}
	m.run("long", "sleep 1000")
	m.await("long", mesos.TaskState_TASK_RUNNING)
	m.kill("long")
	m.await("long", mesos.TaskState_TASK_KILLED)
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A kill during the preparation gives it up.
func TestAgentKillsDuringLaunch(t *testing.T) {
	s := newSite(t)
	s.prepared.block = make(chan struct{})
	_, stop := s.agent()
	m := s.accept()
	m.run("t", "sleep 1000")
	m.await("t", mesos.TaskState_TASK_STARTING)
	m.kill("t")
	status := m.await("t", mesos.TaskState_TASK_KILLED)
	if status.GetReason() != mesos.TaskStatus_REASON_TASK_KILLED_DURING_LAUNCH {
		t.Errorf("got %v", status)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// Tasks outlive their agent if that is wanted; the next one goes on with them, and tells
// again what was not acknowledged.
func TestAgentKeepsTasks(t *testing.T) {
	s := newSite(t)
	s.keepTask = true
	_, stop := s.agent()
	m := s.accept()
	m.run("t", "sleep 1000")
	pid := m.await("t", mesos.TaskState_TASK_RUNNING).GetContainerStatus().GetExecutorPid()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(int(pid), 0); err != nil {
		t.Fatalf("process %d did not outlive the agent: %v", pid, err)
	}
	s.keepTask = false
	a, stop := s.agent()
	m = s.accept()
	if m.hello.Info.GetId().GetValue() != "A1" || len(m.hello.Tasks) != 1 || m.hello.Tasks[0].Status.GetState() != mesos.TaskState_TASK_RUNNING {
		t.Fatalf("got %v; want A1 with one running task", m.hello)
	}
	now, err := a.Snapshot(t.Context())
	if err != nil || len(now.Tasks) != 1 || now.ID != "A1" {
		t.Fatalf("got %+v, %v", now, err)
	}
	// And now all of it ends.
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(int(pid), 0); err == nil {
		t.Fatalf("process %d outlived the cluster", pid)
	}
	_, _ = s.agent()
	m = s.accept()
	for !slices.ContainsFunc(m.hello.Tasks, func(h *linkpb.HeldTask) bool { return h.Status.GetState() == mesos.TaskState_TASK_KILLED }) {
		t.Fatalf("got %v; want the killed task", m.hello)
	}
	m.await("t", mesos.TaskState_TASK_KILLED)
}

// A task is shown when its record is written, and no sooner: nobody may see one, look for it
// after a crash, and find that it never was.
func TestNobodySeesATaskThatIsNotDurable(t *testing.T) {
	const tasks = 200
	s := newSite(t)
	s.prepared.block = make(chan struct{}) // no task gets any further
	a, stop := s.agent()
	m := s.accept()
	var others sync.WaitGroup
	others.Go(func() {
		for err := error(nil); err == nil; {
			_, err = m.Recv()
		}
	})
	others.Go(func() {
		for shown := 0; shown < tasks; {
			now, err := a.Snapshot(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			for _, held := range now.Tasks {
				key := "task/f/" + held.Info.GetTaskId().GetValue()
				if entries, _, err := s.store.List(t.Context(), key, "", 1); err != nil || len(entries) != 1 {
					t.Errorf("%s is shown, and the checkpoint has %v of it: %v", key, entries, err)
					shown = tasks
				}
			}
			shown = max(shown, len(now.Tasks))
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	for n := range tasks {
		m.run(fmt.Sprint("t", n), "exit 0")
	}
	others.Wait()
}

// A stream that ends is dialled again, and a permanent refusal ends the agent.
func TestAgentDialsAgain(t *testing.T) {
	s := newSite(t)
	_, stop := s.agent()
	s.accept().Close()
	again := s.accept()
	again.send(&linkpb.ToAgent{Body: &linkpb.ToAgent_Refused{Refused: &linkpb.Refused{Message: "go away", Permanent: true}}})
	for {
		if _, err := again.Recv(); err != nil {
			break
		}
	}
	if err := stop(); !errors.Is(err, run.ErrAgentRefused) {
		t.Fatalf("got %v", err)
	}
}

// Damage is named, and never taken for an empty checkpoint.
func TestAgentRefusesDamage(t *testing.T) {
	checkpoint, err := store.OpenBolt(filepath.Join(t.TempDir(), "checkpoint.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer checkpoint.Close()
	_, err = checkpoint.Apply(t.Context(), store.Txn{Puts: []store.Entry{{Key: "task/f/t", Value: []byte("nonsense")}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = run.NewAgent(t.Context(), run.AgentConfig{Store: checkpoint}); err == nil {
		t.Fatal("no error")
	}
}
