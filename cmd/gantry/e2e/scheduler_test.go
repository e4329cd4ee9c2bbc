package e2e

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// The whole conversation of a scheduler with a cluster, in both forms of the wire.
func TestSchedulerAPI(t *testing.T) {
	c := up(t, newWorkDir(t), "--no-demo")
	master := c.daemon(t, "master").PID
	for _, f := range forms {
		for name, part := range map[string]func(*testing.T, *cluster, form){
			"a task from its offer to its end":           aTaskLives,
			"how a task ended":                           aTaskEnds,
			"what is declined is offered to others":      offersAreDeclined,
			"suppressed roles hear no offers":            offersAreSuppressed,
			"offers are as large as is wanted at least":  offersAreWorthIt,
			"reconciliation":                             tasksAreReconciled,
			"a framework changes what it says of itself": aFrameworkChanges,
			"a framework fails over":                     aFrameworkFailsOver,
			"a framework is away for a while":            aFrameworkIsAway,
			"a framework that leaves without a timeout":  aFrameworkLeaves,
			"a teardown ends the stream and the tasks":   aFrameworkIsTornDown,
			"an agent dies and its tasks do not":         anAgentDies,
			"a task is killed while its agent is absent": aKillWaitsForTheAgent,
		} {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				part(t, c, f)
				c.checkNothingHeld(t)
			})
		}
	}
	if now := c.daemon(t, "master").PID; now != master {
		t.Errorf("the master is process %d, and was %d\n%s", now, master, c.describe())
	}
	c.end()
	c.checkNothingLeft()
}

func aTaskLives(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "")
	o := s.offer()
	if o.Hostname != "127.0.0.1" || o.FrameworkID.Value != s.id || o.milli("cpus") < 1000 || o.milli("mem") < 64000 {
		t.Errorf("a strange offer: %+v", o)
	}
	s.launch(o, task("t", o, "exec sleep 1000"))

	starting := s.want("t", "TASK_STARTING")
	if uuid, err := base64.StdEncoding.DecodeString(starting.UUID); err != nil || len(uuid) != 16 ||
		starting.AgentID != o.AgentID || starting.Source != "SOURCE_EXECUTOR" {
		t.Errorf("a strange status: %+v", starting)
	}
	rest := s.offer() // no filter was asked for
	if rest.milli("cpus") != o.milli("cpus")-100 || rest.milli("mem") != o.milli("mem")-16000 {
		t.Errorf("%+v is left of %+v", rest, o)
	}
	// Only the oldest unacknowledged status of a task is sent, however far the task and others are.
	s.launch(rest, task("later", rest, "true"))
	s.follow("later", "TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED")
	if s.heard(func(e event) bool {
		return e.Update.Status.TaskID.Value == "t" && e.Update.Status.State == "TASK_RUNNING"
	}) {
		t.Error("the second status was sent before the first was acknowledged")
	}
	s.acknowledge(starting)

	running := s.want("t", "TASK_RUNNING")
	s.acknowledge(running)
	await(t, soon, "process of the task", c.describe, func() bool { return commandOf(running.pid()) == "sleep 1000" })
	s.call("KILL", `"kill":{"task_id":{"value":"t"},"kill_policy":{"grace_period":{"nanoseconds":0}}}`)
	killed := s.want("t", "TASK_KILLED")
	if alive(running.pid()) {
		t.Errorf("process %d has outlived its task", running.pid())
	}
	s.acknowledge(killed)
	// An agent that is there has told all it knows: the task is gone, in the words of old.
	s.call("RECONCILE", fmt.Sprintf(`"reconcile":{"tasks":[{"task_id":{"value":"t"},"agent_id":{"value":%q}}]}`, o.AgentID.Value))
	if gone := s.reconciled("t"); gone.State != "TASK_LOST" {
		t.Errorf("a task that has ended and is acknowledged is %+v", gone)
	}
	s.teardown()
}

func aTaskEnds(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, `"capabilities":[{"type":"TASK_KILLING_STATE"}]`)
	o := s.offer()
	s.launch(o, task("true", o, "true"), task("three", o, "exit 3"), task("none", o, "exec /no/such/program"))
	for id, end := range map[string]struct{ state, message, exit string }{
		"true":  {"TASK_FINISHED", "Command exited with status 0", "0"},
		"three": {"TASK_FAILED", "Command exited with status 3", "3"},
		"none":  {"TASK_FAILED", "Command exited with status 127", "127"},
	} {
		s.follow(id, "TASK_STARTING", "TASK_RUNNING")
		status := s.follow(id, end.state)
		if status.Message != end.message || !status.labelled("exit_status", end.exit) {
			t.Errorf("task %s ended as %+v, want %+v", id, status, end)
		}
	}
	o = s.offer()
	s.launch(o, task("shot", o, "exec sleep 1000"))
	if err := syscall.Kill(s.follow("shot", "TASK_STARTING", "TASK_RUNNING").pid(), syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if shot := s.follow("shot", "TASK_FAILED"); shot.Message != "Command terminated with signal Killed" || !shot.labelled("exit_signal", "9") {
		t.Errorf("a task whose process was killed ended as %+v", shot)
	}
	o = s.offer()
	s.launch(o, task("slow", o, "trap '' TERM; echo > ready; while true; do sleep 1; done"))
	s.follow("slow", "TASK_STARTING", "TASK_RUNNING")
	s.call("KILL", `"kill":{"task_id":{"value":"slow"},"kill_policy":{"grace_period":{"nanoseconds":100000000}}}`)
	s.follow("slow", "TASK_KILLING", "TASK_KILLED")
	s.teardown()
}

// Two frameworks of one role take turns, so what is not offered to one though it would be its turn is refused by it.
func offersAreDeclined(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "")
	first := s.offer()
	s.decline(first, "0")
	second := s.offer()
	if second.ID == first.ID || !slices.Equal(second.milliAll(), first.milliAll()) {
		t.Errorf("%+v was declined for no time and came back as %+v", first, second)
	}
	s.decline(second, "3600")
	s.call("DECLINE", fmt.Sprintf(`"decline":{"offer_ids":[{"value":%q},{"value":"nonsense"}]}`, first.ID.Value)) // is of no use, and no harm

	other := c.subscribe(t, f, "")
	for range 3 {
		other.decline(other.offer(), "0")
	}
	other.teardown()
	s.barrier()
	if s.heard(func(e event) bool { return e.Type == "OFFERS" }) {
		t.Error("offers came while they were refused")
	}
	s.call("REVIVE", "")
	if third := s.offer(); !slices.Equal(third.milliAll(), first.milliAll()) {
		t.Errorf("%+v is offered after REVIVE, and was %+v", third, first)
	}
	s.teardown()
}

func offersAreSuppressed(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, `"roles":["a","b"],"capabilities":[{"type":"MULTI_ROLE"}]`)
	s.call("SUPPRESS", `"suppress":{"roles":["a"]}`)
	o := s.offer()
	for o.AllocationInfo.Role == "a" { // made before the call came
		s.decline(o, "0")
		o = s.offer()
	}
	if o.AllocationInfo.Role != "b" {
		t.Errorf("an offer for role %q", o.AllocationInfo.Role)
	}
	s.call("SUPPRESS", "")
	s.decline(o, "0")
	other := c.subscribe(t, f, "")
	for range 3 {
		other.decline(other.offer(), "0")
	}
	other.teardown()
	s.barrier()
	if s.heard(func(e event) bool { return e.Type == "OFFERS" }) {
		t.Error("offers came for suppressed roles")
	}
	s.call("REVIVE", `"revive":{"roles":["a"]}`)
	if o := s.offer(); o.AllocationInfo.Role != "a" || o.Resources[0].AllocationInfo.Role != "a" {
		t.Errorf("role a was revived, and %+v is offered", o)
	}
	s.teardown()
}

func offersAreWorthIt(t *testing.T, c *cluster, f form) {
	filters := func(cpus string) string {
		return `"offer_filters":{"*":{"min_allocatable_resources":{"quantities":[{"quantities":{"cpus":{"value":` + cpus + `}}}]}}}`
	}
	s := c.subscribe(t, f, filters("1000000"))
	other := c.subscribe(t, f, "")
	for range 3 {
		other.decline(other.offer(), "0")
	}
	other.teardown()
	s.barrier()
	if s.heard(func(e event) bool { return e.Type == "OFFERS" }) {
		t.Error("offers came that are smaller than what is wanted")
	}
	if status, text := s.try("UPDATE_FRAMEWORK", fmt.Sprintf(`"update_framework":{"framework_info":{"id":{"value":%q},"user":"root","name":"test",%s}}`,
		s.id, filters("0.5"))); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	s.decline(s.offer(), "0")
	s.teardown()
}

func tasksAreReconciled(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "")
	o := s.offer()
	s.launch(o, task("one", o, "exec sleep 1000"), task("two", o, "exec sleep 1000"))
	s.follow("one", "TASK_STARTING", "TASK_RUNNING")
	s.want("two", "TASK_STARTING") // is not acknowledged
	check := func(id, state string) {
		t.Helper()
		if status := s.reconciled(id); status.State != state || status.Source != "SOURCE_MASTER" || status.UUID != "" {
			t.Errorf("task %s is reconciled as %+v, want %s", id, status, state)
		}
	}
	s.call("RECONCILE", `"reconcile":{}`)
	check("one", "TASK_RUNNING")
	check("two", "TASK_STARTING")
	agent := fmt.Sprintf(`"agent_id":{"value":%q}`, o.AgentID.Value)
	s.call("RECONCILE", `"reconcile":{"tasks":[
		{"task_id":{"value":"one"},`+agent+`}, {"task_id":{"value":"two"}},
		{"task_id":{"value":"gone"},`+agent+`}, {"task_id":{"value":"nobody"},"agent_id":{"value":"nobody"}}]}`)
	for id, state := range map[string]string{"one": "TASK_RUNNING", "two": "TASK_STARTING", "gone": "TASK_LOST", "nobody": "TASK_LOST"} {
		check(id, state)
	}
	s.call("KILL", `"kill":{"task_id":{"value":"never"}}`)
	check("never", "TASK_LOST")
	s.teardown()

	aware := c.subscribe(t, f, `"capabilities":[{"type":"PARTITION_AWARE"}]`)
	aware.call("RECONCILE", `"reconcile":{"tasks":[{"task_id":{"value":"gone"},`+agent+`}, {"task_id":{"value":"nobody"}}]}`)
	for id, state := range map[string]string{"gone": "TASK_GONE", "nobody": "TASK_UNKNOWN"} {
		if status := aware.reconciled(id); status.State != state {
			t.Errorf("task %s is reconciled as %+v, want %s", id, status, state)
		}
	}
	aware.teardown()
}

func aFrameworkChanges(t *testing.T, c *cluster, f form) {
	const multi = `"capabilities":[{"type":"MULTI_ROLE"}]`
	s := c.subscribe(t, f, `"roles":["a"],`+multi)
	update := func(user, roles, suppressed string) (int, string) {
		return s.try("UPDATE_FRAMEWORK", fmt.Sprintf(`"update_framework":{"framework_info":{"id":{"value":%q},"user":%q,"name":"test","roles":[%s],%s},"suppressed_roles":[%s]}`,
			s.id, user, roles, multi, suppressed))
	}
	held := s.offer()
	for want, change := range map[string][3]string{
		"Updating 'FrameworkInfo.user' is unsupported; attempted to update from 'root' to 'nobody'": {"nobody", `"a"`, ""},
		"Suppressed roles { b } are not contained in the set of roles":                              {"root", `"a"`, `"b"`},
		"'FrameworkInfo.roles' contains duplicate items: { a }":                                     {"root", `"a","a"`, ""},
	} {
		if status, text := update(change[0], change[1], change[2]); status != 400 || text != "Not a valid update of the framework: "+want {
			t.Errorf("%v: %d %s, want 400 and %s", change, status, text, want)
		}
	}
	if status, text := update("root", `"b","c"`, `"c"`); status != 200 || text != "" {
		t.Fatalf("%d %s", status, text)
	}
	s.take("RESCIND of what was offered for the role that it left", func(e event) bool { return e.Type == "RESCIND" && e.Rescind.OfferID == held.ID })
	for range 3 {
		o := s.offer()
		if o.AllocationInfo.Role != "b" {
			t.Errorf("offered for role %q", o.AllocationInfo.Role)
		}
		s.decline(o, "0")
	}
	if info := c.framework(t, s.id).FrameworkInfo; !slices.Equal(info.Roles, []string{"b", "c"}) {
		t.Errorf("the framework is told as %v", info)
	}
	s.teardown()
}

func aFrameworkFailsOver(t *testing.T, c *cluster, f form) {
	old := c.subscribe(t, f, "")
	o := old.offer()
	old.launch(o, task("t", o, "exec sleep 1000"))
	unheard := old.want("t", "TASK_STARTING")
	old.offer() // is taken back when the other one comes

	s := c.resubscribe(t, f, old.id, "")
	if s.id != old.id || s.stream == old.stream {
		t.Errorf("framework %s on stream %s follows %s on %s", s.id, s.stream, old.id, old.stream)
	}
	if last := old.last(); last.Type != "ERROR" || last.Error.Message != "Framework failed over" {
		t.Errorf("the old stream ended with %+v", last)
	}
	if status, text := old.try("REVIVE", ""); status != 400 || !strings.HasPrefix(text, "The stream ID '"+old.stream+"' included in this request didn't match") {
		t.Errorf("a call with the old stream's id: %d %s", status, text)
	}
	if again := s.want("t", "TASK_STARTING"); again.UUID != unheard.UUID {
		t.Errorf("%+v was not acknowledged, and %+v was sent to the next subscriber", unheard, again)
	}
	s.acknowledge(unheard)
	s.follow("t", "TASK_RUNNING")
	if rest := s.offer(); rest.milli("cpus") != o.milli("cpus")-100 {
		t.Errorf("%+v is offered after the failover, of %+v", rest, o)
	}
	s.teardown()
}

func aFrameworkIsAway(t *testing.T, c *cluster, f form) {
	const patient = `"failover_timeout":3600`
	s := c.subscribe(t, f, patient)
	o := s.offer()
	s.launch(o, task("t", o, "exec sleep 1000"))
	running := s.follow("t", "TASK_STARTING", "TASK_RUNNING")
	s.hangUp()
	await(t, soon, "notice that the framework has left", c.describe, func() bool {
		return slices.ContainsFunc(c.state(t).GetFrameworks.Frameworks, func(f *masterpb.Response_GetFrameworks_Framework) bool {
			return f.GetFrameworkInfo().GetId().GetValue() == s.id && !f.GetConnected() && f.OfferedResources == nil
		})
	})
	if status, text := s.try("REVIVE", ""); status != 403 || text != "Framework is not subscribed" {
		t.Errorf("a call of a framework that has left: %d %s", status, text)
	}
	s = c.resubscribe(t, f, s.id, patient)
	s.call("RECONCILE", `"reconcile":{}`)
	if status := s.reconciled("t"); status.State != "TASK_RUNNING" || status.pid() != running.pid() {
		t.Errorf("after the framework's absence its task is %+v", status)
	}
	s.teardown()
}

func aFrameworkLeaves(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "")
	o := s.offer()
	s.launch(o, task("t", o, "exec sleep 1000"))
	pid := s.follow("t", "TASK_STARTING", "TASK_RUNNING").pid()
	s.hangUp()
	await(t, soon, "end of the task", c.describe, func() bool { return !alive(pid) })
	c.checkRemoved(t, s)
}

func aFrameworkIsTornDown(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, `"failover_timeout":3600`)
	o := s.offer()
	s.launch(o, task("one", o, "exec sleep 1000"), task("two", o, "exec sleep 1000"), task("three", o, "exec sleep 1000"))
	s.want("three", "TASK_STARTING") // is not acknowledged
	pids := []int{s.follow("one", "TASK_STARTING", "TASK_RUNNING").pid(), s.follow("two", "TASK_STARTING", "TASK_RUNNING").pid()}
	s.offer()
	s.teardown()
	await(t, soon, "end of the tasks", c.describe, func() bool { return !alive(pids[0]) && !alive(pids[1]) })
	c.checkRemoved(t, s)
}

// checkRemoved says that a framework is no more, and may not come back.
func (c *cluster) checkRemoved(t *testing.T, s *scheduler) {
	t.Helper()
	await(t, soon, "end of the framework", c.describe, func() bool {
		return slices.ContainsFunc(c.state(t).GetFrameworks.CompletedFrameworks, func(f *masterpb.Response_GetFrameworks_Framework) bool {
			return f.GetFrameworkInfo().GetId().GetValue() == s.id
		})
	})
	if status, text := s.try("REVIVE", ""); status != 400 || text != "Framework cannot be found" {
		t.Errorf("a call of a framework that is no more: %d %s", status, text)
	}
	again := c.open(t, s.form, s.id, "")
	if e := again.last(); e.Type != "ERROR" || e.Error.Message != "Framework has been removed" {
		t.Errorf("a framework that is no more subscribes, and hears %+v", e)
	}
}

func anAgentDies(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "")
	o := s.offer()
	s.launch(o, task("heard", o, "exec sleep 1000"), task("unheard", o, "exec sleep 1000"))
	before := s.follow("heard", "TASK_STARTING", "TASK_RUNNING")
	unheard := s.want("unheard", "TASK_STARTING")
	held := s.offer()

	c.killAgent(t)
	s.take("RESCIND of "+held.ID.Value, func(e event) bool { return e.Type == "RESCIND" && e.Rescind.OfferID == held.ID })
	back := s.offer()
	if back.AgentID != held.AgentID || !slices.Equal(back.milliAll(), held.milliAll()) {
		t.Errorf("%+v was rescinded, %+v is offered now", held, back)
	}
	s.take("a status that was sent and not acknowledged", func(e event) bool { return e.Update.Status.UUID == unheard.UUID })
	s.acknowledge(unheard)
	s.follow("unheard", "TASK_RUNNING")
	s.call("RECONCILE", `"reconcile":{"tasks":[{"task_id":{"value":"heard"}}]}`)
	if after := s.reconciled("heard"); after.State != "TASK_RUNNING" || after.pid() != before.pid() || commandOf(after.pid()) != "sleep 1000" {
		t.Errorf("the task was %+v before its agent died, is %+v after, and its process is %q", before, after, commandOf(before.pid()))
	}
	s.teardown()
}

func aKillWaitsForTheAgent(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, "")
	o := s.offer()
	s.launch(o, task("t", o, "exec sleep 1000"))
	pid := s.follow("t", "TASK_STARTING", "TASK_RUNNING").pid()
	held := s.offer()
	c.killAgent(t)
	s.take("RESCIND", func(e event) bool { return e.Rescind.OfferID == held.ID })
	s.call("KILL", `"kill":{"task_id":{"value":"t"}}`)
	s.follow("t", "TASK_KILLED")
	if alive(pid) {
		t.Errorf("process %d has outlived its task", pid)
	}
	s.teardown()
}

// state is what the master knows.
func (c *cluster) state(t *testing.T) *masterpb.Response_GetState {
	t.Helper()
	state, err := client.New(c.at.Master, "").State(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, c.describe())
	}
	return state
}

// checkNothingHeld waits until no framework but Marathon and Chronos is left and nothing is offered or used, and has the whole of the
// agent offered to a newcomer: so both the master's accounts and the allocator's are right.
func (c *cluster) checkNothingHeld(t *testing.T) {
	t.Helper()
	var total offer
	await(t, soon, "cluster without tasks and offers", c.describe, func() bool {
		now := c.state(t)
		agents := now.GetAgents.Agents
		if len(agents) != 1 {
			return false
		}
		total.Resources = nil
		for _, r := range agents[0].TotalResources {
			whole := resource{Name: r.GetName()}
			whole.Scalar.Value = r.GetScalar().GetValue()
			total.Resources = append(total.Resources, whole)
		}
		return agents[0].AllocatedResources == nil && agents[0].OfferedResources == nil &&
			len(now.GetTasks.Tasks) == 0 && len(now.GetFrameworks.Frameworks) == 2
	})
	s := c.subscribe(t, forms[0], "")
	// It may come in parts: what was just about to be offered to a framework that has gone comes later.
	for o := s.offer(); !slices.Equal(o.milliAll(), total.milliAll()); {
		o.Resources = append(o.Resources, s.offer().Resources...)
	}
	s.teardown()
}

// daemon is what a daemon of the cluster has published of itself.
func (c *cluster) daemon(t *testing.T, name string) daemon.Addresses {
	t.Helper()
	at, err := daemon.Read(filepath.Join(c.workDir, "run", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// killAgent kills the agent's process, which the supervisor replaces.
func (c *cluster) killAgent(t *testing.T) {
	t.Helper()
	if err := syscall.Kill(c.daemon(t, "agent").PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func alive(pid int) bool { return pid > 0 && syscall.Kill(pid, 0) == nil }

// commandOf is the command line of a process, empty if it has ended or is just becoming another program.
func commandOf(pid int) string {
	args, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")) // an error says that it has ended
	return strings.ReplaceAll(strings.TrimSuffix(string(args), "\x00"), "\x00", " ")
}
