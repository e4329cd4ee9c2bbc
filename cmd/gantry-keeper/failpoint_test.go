package main_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/kernel/keeper"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	containerpb "github.com/gantry-project/gantry/sdk/proto/gantry/container/v1"
)

// failpoints are all that the source of the keeper has.
func failpoints(t *testing.T) []string {
	t.Helper()
	var names []string
	for _, dir := range []string{".", "../../kernel/keeper"} {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if name, ok := hit(n); ok {
					names = append(names, name)
				}
				return true
			})
		}
	}
	return names
}

// hit is the name in failpoint.Hit("name").
func hit(n ast.Node) (string, bool) {
	call, ok := n.(*ast.CallExpr)
	if !ok {
		return "", false
	}
	fun, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || fun.Sel.Name != "Hit" || len(call.Args) != 1 {
		return "", false
	}
	literal, ok := call.Args[0].(*ast.BasicLit)
	if !ok {
		return "", false
	}
	name, err := strconv.Unquote(literal.Value)
	return name, err == nil
}

// seeker wants containers to run and to end, as an agent does, whatever dies.
type seeker struct {
	*host
	specs  map[string]*containerpb.Spec
	exits  map[string]*containerpb.Exit
	failed map[string]string
}

// until goes on until ok says that enough was reached.
func (s *seeker) until(t *testing.T, ok func() bool) {
	t.Helper()
	for ctx := within(t); !ok(); {
		if ctx.Err() != nil {
			t.Fatalf("it does not get on: ended %v, failed %v", s.exits, s.failed)
		}
		if s.client == nil && !s.connect(t) {
			continue
		}
		select {
		case event, on := <-s.client.Events():
			if !on {
				s.client = nil
				continue
			}
			s.take(t, event)
		case <-time.After(20 * time.Millisecond): // for what is no event
		}
	}
}

func (s *seeker) connect(t *testing.T) bool {
	t.Helper()
	client, welcome, err := keeper.Dial(within(t), s.dir)
	if errors.Is(err, keeper.ErrNotRunning) {
		_ = s.tryLaunch(t) // it may be the one that is to die
		return false
	}
	if err != nil {
		return false
	}
	s.client, s.pid = client, int(welcome.GetPid())
	if alive(s.pid) {
		s.reaper = parentOf(t, s.pid)
	}
	held := map[string]bool{}
	for _, id := range welcome.GetStarting() {
		held[id] = true
	}
	for _, r := range welcome.GetRunning() {
		held[r.GetContainerId()] = true
	}
	for _, e := range welcome.GetExits() {
		held[e.GetContainerId()] = true
		s.ended(t, e)
	}
	for id, spec := range s.specs {
		if !held[id] && s.exits[id] == nil && s.failed[id] == "" {
			_ = client.Start(within(t), spec) // if it dies of that it is asked again
		}
	}
	return true
}

func (s *seeker) take(t *testing.T, event *keeperpb.FromKeeper) {
	t.Helper()
	if e := event.GetExited(); e != nil {
		s.ended(t, e)
	}
	if f := event.GetStartFailed(); f != nil {
		s.failed[f.GetContainerId()] = f.GetMessage()
	}
}

func (s *seeker) ended(t *testing.T, e *containerpb.Exit) {
	t.Helper()
	if was := s.exits[e.GetContainerId()]; was != nil && (was.GetStatus() != e.GetStatus() || was.GetUnknown() != e.GetUnknown()) {
		t.Errorf("told twice, and otherwise: %v, %v", was, e)
	}
	s.exits[e.GetContainerId()] = e
	_ = s.client.Forget(within(t), e.GetContainerId()) // and again when it is told again
}

func (s *seeker) want(t *testing.T, id string, spec *containerpb.Spec) {
	t.Helper()
	s.specs[id] = spec
	if s.client != nil {
		_ = s.client.Start(within(t), spec)
	}
}

// Killed at any moment that matters, keeper and reaper lose no status, start nothing twice
// and leave nothing behind.
func TestKilledAtEachFailpoint(t *testing.T) {
	names := failpoints(t)
	if len(names) < 15 {
		t.Fatalf("only these were found: %v", names)
	}
	// A few at a time: a keeper that dies again and again comes back less and less soon.
	for batch := range slices.Chunk(names, 4) {
		t.Run(strings.Join(batch, ","), func(t *testing.T) { killedAt(t, batch) })
	}
}

func killedAt(t *testing.T, names []string) {
	h, points := newFailingHost(t)
	arm := func(name string) {
		if err := os.WriteFile(filepath.Join(points, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := &seeker{host: h, specs: map[string]*containerpb.Spec{}, exits: map[string]*containerpb.Exit{}, failed: map[string]string{}}
	for _, name := range names {
		arm(name)
	}
	once := `echo ran >>ran; echo up; while [ ! -e go ]; do sleep 0.02; done; exit `
	s.want(t, "long", h.spec(t, "long", "sh", "-c", once+"5"))
	s.until(t, func() bool { return strings.Contains(h.output(t, "long", "stdout"), "up\n") })
	bad := h.spec(t, "bad", "no-such-program")
	s.want(t, "bad", bad)
	s.want(t, "short", h.spec(t, "short", "sh", "-c", "echo ran >>ran; exit 3"))
	s.until(t, func() bool { return s.exits["short"] != nil && s.failed["bad"] != "" })
	// Now so that the long one is another's child, and one is half made.
	arm("keeper.accepted")
	s.want(t, "half", h.spec(t, "half", "sh", "-c", "echo ran >>ran; exit 4"))
	was := s.pid
	s.until(t, func() bool {
		return !exists(filepath.Join(points, "keeper.accepted")) && s.client != nil && s.pid != was
	})
	s.killReaper(t)
	s.until(t, func() bool { return s.exits["half"] != nil })
	if err := os.WriteFile(filepath.Join(h.sandbox("long"), "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.until(t, func() bool { return s.exits["long"] != nil })
	for round := 0; round < 4 && len(armed(t, points)) > 0; round++ {
		s.another(t, fmt.Sprintf("more-%d", round))
	}
	for id, status := range map[string]int32{"long": 5, "short": 3, "half": 4} {
		if e := s.exits[id]; e.GetStatus() != status || e.GetUnknown() || e.GetSignal() != 0 {
			t.Errorf("%s ended like this: %v", id, e)
		}
		ran, err := os.ReadFile(filepath.Join(h.sandbox(id), "ran"))
		if err != nil || string(ran) != "ran\n" {
			t.Errorf("%s ran like this: %q, %v", id, ran, err)
		}
	}
	if left := armed(t, points); len(left) > 0 {
		t.Errorf("nobody came by %v", left)
	}
	s.until(t, func() bool { return s.client != nil && h.nothing(t) })
}

// another has one more container whose keeper dies before it.
func (s *seeker) another(t *testing.T, id string) {
	t.Helper()
	s.want(t, id, s.spec(t, id, upThen("exit 0")...))
	s.until(t, func() bool { return strings.Contains(s.output(t, id, "stdout"), "up\n") && s.client != nil })
	_ = syscall.Kill(s.pid, syscall.SIGKILL)
	if err := os.WriteFile(filepath.Join(s.sandbox(id), "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	s.until(t, func() bool { return s.exits[id] != nil })
}

func armed(t *testing.T, points string) []os.DirEntry {
	t.Helper()
	left, err := os.ReadDir(points)
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// killReaper waits for a keeper that has one, which another death may prevent for a while.
func (s *seeker) killReaper(t *testing.T) {
	t.Helper()
	killed := false
	s.until(t, func() bool {
		if s.client != nil && !killed && alive(s.pid) {
			killed = syscall.Kill(s.reaper, syscall.SIGKILL) == nil
		}
		return killed
	})
}

// members are the processes in the keeper's cgroup.
func (h *host) members(t *testing.T) []int {
	t.Helper()
	features, err := cgroup.Probe()
	if err != nil {
		t.Fatal(err)
	}
	pids, err := features.Members(cgroup.Keeper(h.parent))
	if err != nil {
		t.Fatal(err)
	}
	return pids
}

// nothing says whether nothing of any container is left.
func (h *host) nothing(t *testing.T) bool {
	t.Helper()
	for _, dir := range []string{"started", "exits", "containers"} {
		left, err := os.ReadDir(filepath.Join(h.dir, dir))
		if len(left) > 0 || err != nil && !errors.Is(err, os.ErrNotExist) {
			return false
		}
	}
	for _, dir := range groups(t, h.parent+"/containers") {
		if left, err := filepath.Glob(dir + "/*/"); err != nil || len(left) > 0 {
			return false
		}
	}
	return true
}

// A keeper that dies at any moment of a start leaves nothing of a container that did not
// run, and loses none that did.
func TestKilledDuringStart(t *testing.T) {
	for i := range 12 {
		after := time.Duration(2*i) * time.Millisecond
		t.Run(after.String(), func(t *testing.T) { killedDuringStart(t, after) })
	}
}

func killedDuringStart(t *testing.T, after time.Duration) {
	h := newHost(t)
	if err := h.client.Start(within(t), h.spec(t, "c", upThen("exit 3")...)); err != nil {
		t.Fatal(err)
	}
	<-time.After(after)
	signal(t, h.pid, syscall.SIGKILL)
	welcome := h.redial(t)
	// What was being made begins life in the keeper's own cgroup.
	eventually(t, func() bool { return len(h.members(t)) == 2 }, func() string { return fmt.Sprintf("beside keeper and reaper: %v", h.members(t)) })
	if len(welcome.GetRunning()) == 0 {
		if !h.nothing(t) || len(welcome.GetExits()) > 0 {
			t.Errorf("it does not run, and something is left: %v", welcome)
		}
		return
	}
	end(t, h, "c")
	if exit := h.exit(t, "c"); exit.GetStatus() != 3 || exit.GetUnknown() {
		t.Errorf("it ran: %v", exit)
	}
}

// After the host was restarted nothing is adopted, whatever looks like it.
func TestOtherBoot(t *testing.T) {
	h, points := newFailingHost(t)
	h.launch(t)
	h.dial(t)
	started := h.start(t, h.spec(t, "old", "sleep", "1000"))
	if exit := h.run(t, h.spec(t, "ended", "sh", "-c", "exit 8")); exit.GetStatus() != 8 {
		t.Fatal(exit)
	}
	if err := os.WriteFile(filepath.Join(points, "boot_id"), []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	signal(t, h.pid, syscall.SIGKILL)
	welcome := h.redial(t)
	if len(welcome.GetRunning()) != 0 || len(welcome.GetExits()) != 1 || welcome.GetExits()[0].GetStatus() != 8 {
		t.Errorf("welcome: %v", welcome)
	}
	if alive(int(started.GetPid())) || len(groups(t, cgroup.Container(h.parent, "old"))) > 0 {
		t.Error("something of the old boot is left")
	}
}
