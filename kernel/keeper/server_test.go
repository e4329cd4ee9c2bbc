package keeper_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-project/gantry/kernel/keeper"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// processes is a Runtime whose containers are plain processes: no root is needed, and
// the keeper is the same. What it starts outlives Serve, as containers outlive a keeper.
type processes struct {
	mu    sync.Mutex
	alive map[string]*process
	// gate delays starts until it is closed, if it is there.
	gate chan struct{}
}

type process struct {
	cmd    *exec.Cmd
	parent *processes
	id     string
	waited chan struct{}
}

func (r *processes) Start(ctx context.Context, spec *containerpb.Spec) (keeper.Container, error) {
	if r.gate != nil {
		select {
		case <-r.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	p := &process{cmd: exec.Command(spec.GetArgv()[0], spec.GetArgv()[1:]...), parent: r, id: spec.GetId(), waited: make(chan struct{})}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.waited)
	}()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.alive[spec.GetId()] = p
	return p, nil
}

func (r *processes) Adopt(_ context.Context, spec *containerpb.Spec) (keeper.Container, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.alive[spec.GetId()]
	if p == nil {
		return nil, keeper.ErrGone
	}
	return p, nil
}

func (p *process) Pid() int           { return p.cmd.Process.Pid }
func (p *process) StartTicks() uint64 { return 1 }

func (p *process) Wait() *containerpb.Exit {
	<-p.waited
	status := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return &containerpb.Exit{Signal: int32(status.Signal())}
	}
	return &containerpb.Exit{Status: int32(status.ExitStatus())}
}

func (p *process) Signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

func (p *process) Destroy(context.Context) error {
	p.parent.mu.Lock()
	defer p.parent.mu.Unlock()
	delete(p.parent.alive, p.id)
	return nil
}

// serve runs a keeper in dir; the function returned ends it as if it had died, and its
// own end comes on the channel.
func serve(t *testing.T, dir string, rt keeper.Runtime) (kill func(), ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- keeper.Serve(ctx, keeper.Config{
			Dir: dir, Runtime: rt, Log: slog.New(slog.DiscardHandler), Ready: func() { close(ready) },
		})
		close(done)
	}()
	select {
	case <-ready:
	case err := <-done:
		t.Fatal(err)
	}
	kill = func() { cancel(); <-done }
	t.Cleanup(kill)
	return kill, done
}

func newRuntime(t *testing.T) *processes {
	r := &processes{alive: make(map[string]*process)}
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, p := range r.alive {
			_ = p.cmd.Process.Kill()
			<-p.waited
		}
	})
	return r
}

func dial(t *testing.T, dir string) (*keeper.Client, *keeperpb.Welcome) {
	t.Helper()
	c, w, err := keeper.Dial(within(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, w
}

func start(t *testing.T, c *keeper.Client, id string, argv ...string) {
	t.Helper()
	if err := c.Start(within(t), &containerpb.Spec{Id: id, Argv: argv, Labels: map[string]string{"l": id}}); err != nil {
		t.Fatal(err)
	}
}

func next(t *testing.T, c *keeper.Client) *keeperpb.FromKeeper {
	t.Helper()
	select {
	case e, ok := <-c.Events():
		if !ok {
			t.Fatal("the connection ended")
		}
		return e
	case <-within(t).Done():
		t.Fatal("no event came")
	}
	return nil
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestLifeOfContainer(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, newRuntime(t))
	c, w := dial(t, dir)
	if len(w.GetRunning())+len(w.GetStarting())+len(w.GetExits()) != 0 || int(w.GetPid()) != os.Getpid() {
		t.Errorf("welcome: %v", w)
	}
	start(t, c, "a", "sh", "-c", "exit 3")
	if e := next(t, c).GetStarted(); e.GetContainerId() != "a" || e.GetLabels()["l"] != "a" {
		t.Errorf("first event: %v", e)
	}
	if e := next(t, c).GetExited(); e.GetContainerId() != "a" || e.GetStatus() != 3 || e.GetLabels()["l"] != "a" || e.GetBootId() == "" {
		t.Errorf("second event: %v", e)
	}
	if err := c.Forget(within(t), "a"); err != nil {
		t.Error(err)
	}
	start(t, c, "bad", "/no/such/program")
	if e := next(t, c).GetStartFailed(); e.GetContainerId() != "bad" || !strings.Contains(e.GetMessage(), "no such file") {
		t.Errorf("failing start: %v", e)
	}
	_ = c.Close()
	if _, w := dial(t, dir); len(w.GetRunning())+len(w.GetStarting())+len(w.GetExits()) != 0 {
		t.Errorf("welcome after all is forgotten: %v", w)
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, newRuntime(t))
	c, _ := dial(t, dir)
	start(t, c, "runs", "sleep", "1000")
	next(t, c)
	many := map[string]string{"k": strings.Repeat("v", 10<<10)}
	for name, ask := range map[string]func() error{
		"duplicate":      func() error { return c.Start(within(t), &containerpb.Spec{Id: "runs"}) },
		"no id":          func() error { return c.Start(within(t), &containerpb.Spec{}) },
		"path":           func() error { return c.Start(within(t), &containerpb.Spec{Id: "../x"}) },
		"hidden":         func() error { return c.Start(within(t), &containerpb.Spec{Id: ".x"}) },
		"long id":        func() error { return c.Start(within(t), &containerpb.Spec{Id: strings.Repeat("x", 129)}) },
		"labels":         func() error { return c.Start(within(t), &containerpb.Spec{Id: "x", Labels: many}) },
		"unknown":        func() error { return c.Signal(within(t), "x", 9) },
		"no signal":      func() error { return c.Signal(within(t), "runs", 0) },
		"large signal":   func() error { return c.Signal(within(t), "runs", 65) },
		"forget running": func() error { return c.Forget(within(t), "runs") },
	} {
		if err := ask(); !errors.Is(err, keeper.ErrRefused) {
			t.Errorf("%s: %v", name, err)
		}
	}
	large := &containerpb.Spec{Id: "x", Argv: []string{strings.Repeat("x", 5<<20)}}
	if err := c.Start(within(t), large); err == nil {
		t.Error("a spec of 5 MiB was accepted")
	}
	if err := c.Signal(within(t), "runs", int(syscall.SIGTERM)); err != nil {
		t.Errorf("after refusals: %v", err)
	}
	if e := next(t, c).GetExited(); e.GetSignal() != int32(syscall.SIGTERM) {
		t.Errorf("terminated: %v", e)
	}
	if err := c.Signal(within(t), "runs", 9); !errors.Is(err, keeper.ErrRefused) {
		t.Errorf("signal what has ended: %v", err)
	}
}

func TestSignalDuringStart(t *testing.T) {
	dir, rt := t.TempDir(), newRuntime(t)
	rt.gate = make(chan struct{})
	serve(t, dir, rt)
	c, _ := dial(t, dir)
	start(t, c, "a", "sleep", "1000")
	for _, sig := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		if err := c.Signal(within(t), "a", int(sig)); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.Close()
	c, w := dial(t, dir)
	if len(w.GetStarting()) != 1 || w.GetStarting()[0] != "a" {
		t.Errorf("welcome: %v", w)
	}
	close(rt.gate)
	if e := next(t, c).GetStarted(); e.GetContainerId() != "a" {
		t.Errorf("got %v", e)
	}
	if e := next(t, c).GetExited(); e.GetSignal() != int32(syscall.SIGKILL) {
		t.Errorf("got %v", e)
	}
}

func TestNextKeeperAdopts(t *testing.T) {
	dir, rt := t.TempDir(), newRuntime(t)
	kill, _ := serve(t, dir, rt)
	c, _ := dial(t, dir)
	start(t, c, "lives", "sleep", "1000")
	next(t, c)
	start(t, c, "lost", "sleep", "1000")
	next(t, c)
	start(t, c, "ended", "sh", "-c", "exit 4")
	next(t, c)
	next(t, c)
	kill()
	if err := c.Forget(within(t), "ended"); !errors.Is(err, keeper.ErrClosed) {
		t.Errorf("ask a dead keeper: %v", err)
	}
	if _, _, err := keeper.Dial(within(t), dir); !errors.Is(err, keeper.ErrNotRunning) {
		t.Errorf("dial a dead keeper: %v", err)
	}
	rt.mu.Lock()
	lost := rt.alive["lost"]
	delete(rt.alive, "lost")
	rt.mu.Unlock()
	_ = lost.cmd.Process.Kill()

	serve(t, dir, rt)
	c, w := dial(t, dir)
	if len(w.GetRunning()) != 1 || w.GetRunning()[0].GetContainerId() != "lives" || w.GetRunning()[0].GetLabels()["l"] != "lives" {
		t.Errorf("running: %v", w.GetRunning())
	}
	if e := w.GetExits(); len(e) != 2 || e[0].GetStatus() != 4 || !e[1].GetUnknown() || e[1].GetContainerId() != "lost" || e[1].GetLabels()["l"] != "lost" {
		t.Errorf("exits: %v", e)
	}
	if err := c.Signal(within(t), "lives", 9); err != nil {
		t.Error(err)
	}
	if e := next(t, c).GetExited(); e.GetContainerId() != "lives" || e.GetSignal() != 9 {
		t.Errorf("got %v", e)
	}
}

// An exit record in whose place something else stands makes a status unknown, never wrong.
func TestDamagedExitIsUnknown(t *testing.T) {
	dir, rt := t.TempDir(), newRuntime(t)
	kill, _ := serve(t, dir, rt)
	c, _ := dial(t, dir)
	for _, id := range []string{"a", "b"} {
		start(t, c, id, "sh", "-c", "exit 7")
		next(t, c)
		next(t, c)
	}
	path := filepath.Join(dir, "exits", "a")
	others, err := os.ReadFile(filepath.Join(dir, "exits", "b"))
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func() error{
		"nonsense":    func() error { return os.WriteFile(path, []byte("nonsense"), 0o600) },
		"empty":       func() error { return os.WriteFile(path, nil, 0o600) },
		"another's":   func() error { return os.WriteFile(path, others, 0o600) },
		"a directory": func() error { return errors.Join(os.Remove(path), os.MkdirAll(filepath.Join(path, "x"), 0o700)) },
		"a link":      func() error { return errors.Join(os.Remove(path), os.Symlink("b", path)) },
	} {
		kill()
		if err := damage(); err != nil {
			t.Fatal(err)
		}
		kill, _ = serve(t, dir, rt)
		_, w := dial(t, dir)
		if len(w.GetExits()) != 2 || !w.GetExits()[0].GetUnknown() || w.GetExits()[0].GetContainerId() != "a" || w.GetExits()[1].GetStatus() != 7 {
			t.Errorf("%s: %v", name, w)
		}
		if info, err := os.Lstat(path); err != nil || !info.Mode().IsRegular() {
			t.Errorf("%s: that it is unknown is not on record: %v, %v", name, info, err)
		}
	}
	if left, err := os.ReadDir(filepath.Join(dir, "damaged")); err != nil || len(left) != 1 {
		t.Errorf("set aside: %v, %v", left, err)
	}
}

// What a newer keeper wrote is neither guessed at nor thrown away.
func TestNewerRecordIsRefused(t *testing.T) {
	for _, kind := range []string{"exits", "started"} {
		dir := t.TempDir()
		path := filepath.Join(dir, kind, "a")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		record := []byte{0, 0, 0, 0, 200, 'x'}
		binary.BigEndian.PutUint32(record, crc32.Checksum(record[4:], crc32.MakeTable(crc32.Castagnoli)))
		if err := os.WriteFile(path, record, 0o600); err != nil {
			t.Fatal(err)
		}
		err := keeper.Serve(t.Context(), keeper.Config{
			Dir: dir, Runtime: newRuntime(t), Log: slog.New(slog.DiscardHandler), Ready: func() { t.Error("it serves") },
		})
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "use the keeper that wrote it") {
			t.Errorf("%s: %v", kind, err)
		}
		if data, err := os.ReadFile(path); err != nil || !slices.Equal(data, record) {
			t.Errorf("%s: the record was touched: %q, %v", kind, data, err)
		}
	}
}

func TestOneKeeperPerDirectory(t *testing.T) {
	dir, rt := t.TempDir(), newRuntime(t)
	serve(t, dir, rt)
	err := keeper.Serve(t.Context(), keeper.Config{Dir: dir, Runtime: rt, Log: slog.New(slog.DiscardHandler), Ready: func() { t.Error("it serves") }})
	if !errors.Is(err, keeper.ErrRunning) {
		t.Errorf("a second keeper: %v", err)
	}
	dial(t, dir)
}

func TestShutdown(t *testing.T) {
	// A path that is too long for a socket's address must do.
	dir, rt := filepath.Join(t.TempDir(), strings.Repeat("long/", 30)), newRuntime(t)
	_, ended := serve(t, dir, rt)
	c, _ := dial(t, dir)
	const n = 20
	for i := range n {
		start(t, c, fmt.Sprint(i), "sleep", "1000")
	}
	if err := c.Shutdown(within(t)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("the keeper ended with: %v", err)
	}
	exits := 0
	for e := range c.Events() {
		if e.GetExited().GetSignal() == 9 {
			exits++
		}
	}
	if exits != n || len(rt.alive) != 0 {
		t.Errorf("%d exits of %d, %d alive", exits, n, len(rt.alive))
	}
	_, ended = serve(t, dir, rt)
	c, w := dial(t, dir)
	if len(w.GetExits()) != n {
		t.Errorf("%d exit records of %d", len(w.GetExits()), n)
	}
	if err := c.Shutdown(within(t)); err != nil {
		t.Error(err)
	}
	<-ended
}

func TestNonsenseEndsOnlyItsConnection(t *testing.T) {
	dir := t.TempDir()
	serve(t, dir, newRuntime(t))
	c, _ := dial(t, dir)
	for _, nonsense := range []string{"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x00", "\x00\x00\x00\x02\x12\x00", "\x00\x00\x00\x02\xff\xff"} {
		conn, err := net.Dial("unix", filepath.Join(dir, "keeper.sock"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(nonsense)); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q was answered: %v", nonsense, err)
		}
		conn.Close()
	}
	start(t, c, "a", "true")
	next(t, c)
}
