package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
	"github.com/gantry-project/gantry/sdk/recordio"
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
			"reconciliation":                             tasksAreReconciled,
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
	// Only the oldest unacknowledged status is sent, however far the task is.
	c.awaitTask(t, s.id, "t", mesos.TaskState_TASK_RUNNING)
	s.barrier()
	if s.heard(func(e event) bool { return e.Update.Status.State == "TASK_RUNNING" }) {
		t.Error("the second status was sent before the first was acknowledged")
	}
	s.acknowledge(starting)

	running := s.want("t", "TASK_RUNNING")
	s.acknowledge(running)
	if command := commandOf(running.pid()); command != "sleep 1000" {
		t.Errorf("process %d of the task is %q", running.pid(), command)
	}
	rest := s.offer() // no filter was asked for
	if rest.milli("cpus") != o.milli("cpus")-100 || rest.milli("mem") != o.milli("mem")-16000 {
		t.Errorf("%+v is left of %+v", rest, o)
	}

	s.call("KILL", `"kill":{"task_id":{"value":"t"},"kill_policy":{"grace_period":{"nanoseconds":0}}}`)
	killed := s.want("t", "TASK_KILLED")
	if commandOf(running.pid()) != "" {
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
	await(t, soon, "end of the task", c.describe, func() bool { return commandOf(pid) == "" })
	c.checkRemoved(t, s)
}

func aFrameworkIsTornDown(t *testing.T, c *cluster, f form) {
	s := c.subscribe(t, f, `"failover_timeout":3600`)
	o := s.offer()
	s.launch(o, task("one", o, "exec sleep 1000"), task("two", o, "exec sleep 1000"))
	pids := []int{s.follow("one", "TASK_STARTING", "TASK_RUNNING").pid(), s.want("two", "TASK_STARTING").pid()}
	s.offer()
	s.teardown()
	await(t, soon, "end of the tasks", c.describe, func() bool { return commandOf(pids[0])+commandOf(pids[1]) == "" })
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
	if commandOf(pid) != "" {
		t.Errorf("process %d has outlived its task", pid)
	}
	s.teardown()
}

// form is one of the two forms of the wire. Calls are written by hand, as JSON; protobuf's own package, which knows
// nothing of the product's codec, makes protobuf of them, and JSON of events in protobuf.
type form struct{ name, mediaType string }

var forms = []form{{"JSON", "application/json"}, {"protobuf", "application/x-protobuf"}}

func (f form) encode(t *testing.T, call string) []byte {
	t.Helper()
	if f.name == "JSON" {
		return []byte(call)
	}
	message := new(schedulerpb.Call)
	if err := (protojson.UnmarshalOptions{AllowPartial: true}).Unmarshal([]byte(call), message); err != nil {
		t.Fatalf("%v in %s", err, call)
	}
	body, err := (proto.MarshalOptions{AllowPartial: true}).Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func (f form) decode(record []byte) (event, error) {
	var e event
	if f.name == "protobuf" {
		message := new(schedulerpb.Event)
		err := proto.Unmarshal(record, message)
		if err != nil {
			return e, err
		}
		if record, err = (protojson.MarshalOptions{UseProtoNames: true}).Marshal(message); err != nil {
			return e, err
		}
	}
	return e, json.Unmarshal(record, &e)
}

// The messages, as far as the tests look at them.
type (
	value struct{ Value string }

	event struct {
		Type       string
		Subscribed struct {
			FrameworkID              value               `json:"framework_id"`
			HeartbeatIntervalSeconds float64             `json:"heartbeat_interval_seconds"`
			MasterInfo               struct{ ID string } `json:"master_info"`
		}
		Offers  struct{ Offers []offer }
		Rescind struct {
			OfferID value `json:"offer_id"`
		}
		Update struct{ Status status }
		Error  struct{ Message string }
	}

	offer struct {
		ID             value
		FrameworkID    value `json:"framework_id"`
		AgentID        value `json:"agent_id"`
		Hostname       string
		Resources      []resource
		AllocationInfo struct{ Role string } `json:"allocation_info"`
	}

	resource struct {
		Name, Type     string
		Scalar         struct{ Value float64 }
		AllocationInfo struct{ Role string } `json:"allocation_info"`
	}

	label struct{ Key, Value string }

	status struct {
		TaskID                               value `json:"task_id"`
		AgentID                              value `json:"agent_id"`
		State, Source, Reason, Message, UUID string
		Labels                               struct{ Labels []label }
		ContainerStatus                      struct {
			ExecutorPID int `json:"executor_pid"`
		} `json:"container_status"`
	}
)

// milli is how many thousandths of a scalar there are.
func (o offer) milli(name string) int64 {
	var sum int64
	for _, r := range o.Resources {
		if r.Name == name {
			sum += int64(math.Round(r.Scalar.Value * 1000))
		}
	}
	return sum
}

func (o offer) milliAll() []int64 { return []int64{o.milli("cpus"), o.milli("mem"), o.milli("disk")} }

// pid is the process of the task's command.
func (s status) pid() int { return s.ContainerStatus.ExecutorPID }

func (s status) labelled(key, value string) bool {
	return slices.Equal(s.Labels.Labels, []label{{key, value}})
}

// task is a TaskInfo that runs a shell command on a little of an offer.
func task(id string, o offer, command string) string {
	return fmt.Sprintf(`{"name":"test","task_id":{"value":%q},"agent_id":{"value":%q},"command":{"value":%q},"resources":[%s,%s]}`,
		id, o.AgentID.Value, command, scalar("cpus", "0.1"), scalar("mem", "16"))
}

func scalar(name, amount string) string {
	return fmt.Sprintf(`{"name":%q,"type":"SCALAR","scalar":{"value":%s}}`, name, amount)
}

// scheduler is one subscription, and the calls beside it.
type scheduler struct {
	t        *testing.T
	c        *cluster
	form     form
	id       string // the framework's
	stream   string // the Mesos-Stream-Id
	hangUp   context.CancelFunc
	events   <-chan event // closed at the end of the stream
	passed   []event      // that came and were not asked for yet
	barriers int
}

// subscribe subscribes a new framework with further fields of its FrameworkInfo.
func (c *cluster) subscribe(t *testing.T, f form, fields string) *scheduler {
	t.Helper()
	return c.resubscribe(t, f, "", fields)
}

// resubscribe subscribes a framework that may have an id, and hears the beginning of the stream.
func (c *cluster) resubscribe(t *testing.T, f form, id, fields string) *scheduler {
	t.Helper()
	s := c.open(t, f, id, fields)
	first, second := s.next("SUBSCRIBED", time.After(soon)), s.next("HEARTBEAT", time.After(soon))
	if first.Type != "SUBSCRIBED" || first.Subscribed.HeartbeatIntervalSeconds != 15 || first.Subscribed.MasterInfo.ID == "" || second.Type != "HEARTBEAT" {
		t.Fatalf("the stream begins with %+v and %+v", first, second)
	}
	s.id = first.Subscribed.FrameworkID.Value
	return s
}

// open sends SUBSCRIBE, which the HTTP layer has to accept.
func (c *cluster) open(t *testing.T, f form, id, fields string) *scheduler {
	t.Helper()
	info, known := `"user":"root","name":"test"`, ""
	if fields != "" {
		info += "," + fields
	}
	if id != "" {
		known = fmt.Sprintf(`"framework_id":{"value":%q},`, id)
		info += fmt.Sprintf(`,"id":{"value":%q}`, id)
	}
	body := f.encode(t, fmt.Sprintf(`{"type":"SUBSCRIBE",%s"subscribe":{"framework_info":{%s}}}`, known, info))
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, "POST", "http://"+c.at.Master+"/api/v1/scheduler", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", f.mediaType)
	r.Header.Set("Accept", f.mediaType)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	stream := resp.Header.Get("Mesos-Stream-Id")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != f.mediaType || stream == "" || len(stream) > 128 {
		t.Fatalf("SUBSCRIBE: %s %v", resp.Status, resp.Header)
	}
	events := make(chan event, 1024)
	go f.read(ctx, resp.Body, events)
	return &scheduler{t: t, c: c, form: f, id: id, stream: stream, hangUp: cancel, events: events, acknowledged: map[string]bool{}}
}

// read passes the stream on. A stream that does not end between two records ends with an event that says so.
func (f form) read(ctx context.Context, body io.ReadCloser, events chan<- event) {
	defer close(events)
	defer body.Close()
	records := recordio.NewReader(body, 1<<20)
	for {
		record, err := records.Next()
		if err == io.EOF {
			return
		}
		var e event
		if err == nil {
			e, err = f.decode(record)
		}
		if err != nil {
			e = event{Type: "broken: " + err.Error()}
		}
		select {
		case events <- e:
		case <-ctx.Done():
		}
		if err != nil {
			return
		}
	}
}

// next is the next event; the deadline is for whatever the caller waits for, since heartbeats never stop.
func (s *scheduler) next(what string, deadline <-chan time.Time) event {
	s.t.Helper()
	select {
	case e, open := <-s.events:
		if !open {
			s.t.Fatalf("the stream ended before %s; there were %+v\n%s", what, s.passed, s.c.describe())
		}
		return e
	case <-deadline:
		s.t.Fatalf("no %s within %s; there were %+v\n%s", what, soon, s.passed, s.c.describe())
	}
	return event{}
}

// take is the first event that matches and was not taken before.
func (s *scheduler) take(what string, matches func(event) bool) event {
	s.t.Helper()
	if i := slices.IndexFunc(s.passed, matches); i >= 0 {
		e := s.passed[i]
		s.passed = slices.Delete(s.passed, i, i+1)
		return e
	}
	for deadline := time.After(soon); ; {
		e := s.next(what, deadline)
		if matches(e) {
			return e
		}
		s.passed = append(s.passed, e)
	}
}

// heard says whether such an event came and was not taken.
func (s *scheduler) heard(matches func(event) bool) bool {
	return slices.ContainsFunc(s.passed, matches)
}

// last waits for the end of the stream and returns the event before it, if any.
func (s *scheduler) last() event {
	s.t.Helper()
	var last event
	for deadline := time.After(soon); ; {
		select {
		case e, open := <-s.events:
			if !open {
				return last
			}
			last = e
		case <-deadline:
			s.t.Fatalf("the stream did not end within %s\n%s", soon, s.c.describe())
		}
	}
}

// offer is the next one; the cluster has one agent, so they come one by one.
func (s *scheduler) offer() offer {
	s.t.Helper()
	offers := s.take("OFFERS", func(e event) bool { return e.Type == "OFFERS" }).Offers.Offers
	if len(offers) != 1 {
		s.t.Fatalf("%d offers of one agent: %+v", len(offers), offers)
	}
	return offers[0]
}

// update is the next status of a task that is no answer to RECONCILE and was not seen before: what the agent knows no
// acknowledgement of is sent again, and acknowledged again if it was.
func (s *scheduler) update(id string) status {
	s.t.Helper()
	for {
		status := s.take("UPDATE of "+id, func(e event) bool {
			got := e.Update.Status
			return e.Type == "UPDATE" && got.TaskID.Value == id && got.Reason != "REASON_RECONCILIATION"
		}).Update.Status
		acknowledged, seen := s.acknowledged[status.UUID]
		if status.UUID == "" || !seen {
			s.acknowledged[status.UUID] = false
			return status
		}
		if acknowledged {
			s.acknowledge(status)
		}
	}
}

// want is update, of a state.
func (s *scheduler) want(id, state string) status {
	s.t.Helper()
	got := s.update(id)
	if got.State != state {
		s.t.Fatalf("task %s: %+v, want %s\n%s", id, got, state, s.c.describe())
	}
	return got
}

// follow waits for states of a task, one after the other, and acknowledges them.
func (s *scheduler) follow(id string, states ...string) status {
	s.t.Helper()
	var last status
	for _, state := range states {
		last = s.want(id, state)
		s.acknowledge(last)
	}
	return last
}

// reconciled is the answer to RECONCILE for a task.
func (s *scheduler) reconciled(id string) status {
	s.t.Helper()
	return s.take("reconciliation of "+id, func(e event) bool {
		return e.Update.Status.TaskID.Value == id && e.Update.Status.Reason == "REASON_RECONCILIATION"
	}).Update.Status
}

// barrier returns when every event has come that was sent before the call.
func (s *scheduler) barrier() {
	s.t.Helper()
	s.barriers++
	id := fmt.Sprintf("barrier-%d", s.barriers)
	s.call("RECONCILE", fmt.Sprintf(`"reconcile":{"tasks":[{"task_id":{"value":%q}}]}`, id))
	s.reconciled(id)
}

// call sends a call, which has to be accepted.
func (s *scheduler) call(kind, part string) {
	s.t.Helper()
	if status, text := s.try(kind, part); status != 202 || text != "" {
		s.t.Fatalf("%s %s: %d %s\n%s", kind, part, status, text, s.c.describe())
	}
}

// try sends a call and returns the answer.
func (s *scheduler) try(kind, part string) (int, string) {
	s.t.Helper()
	if part != "" {
		part = "," + part
	}
	body := s.form.encode(s.t, fmt.Sprintf(`{"type":%q,"framework_id":{"value":%q}%s}`, kind, s.id, part))
	a := request{method: "POST", path: "/api/v1/scheduler", body: string(body),
		header: []string{"Content-Type: " + s.form.mediaType, "Accept: " + s.form.mediaType, "Mesos-Stream-Id: " + s.stream}}.send(s.t, s.c.at.Master)
	return a.status, a.text
}

func (s *scheduler) launch(o offer, tasks ...string) {
	s.t.Helper()
	s.call("ACCEPT", launching(o, tasks...))
}

// launching is the part of an ACCEPT that launches tasks and wants to be offered the rest at once.
func launching(o offer, tasks ...string) string {
	return fmt.Sprintf(`"accept":{"offer_ids":[{"value":%q}],"operations":[{"type":"LAUNCH","launch":{"task_infos":[%s]}}],"filters":{"refuse_seconds":0}}`,
		o.ID.Value, strings.Join(tasks, ","))
}

func (s *scheduler) decline(o offer, seconds string) {
	s.t.Helper()
	s.call("DECLINE", fmt.Sprintf(`"decline":{"offer_ids":[{"value":%q}],"filters":{"refuse_seconds":%s}}`, o.ID.Value, seconds))
}

func (s *scheduler) acknowledge(status status) {
	s.t.Helper()
	s.acknowledged[status.UUID] = true
	s.call("ACKNOWLEDGE", fmt.Sprintf(`"acknowledge":{"agent_id":{"value":%q},"task_id":{"value":%q},"uuid":%q}`,
		status.AgentID.Value, status.TaskID.Value, status.UUID))
}

// teardown ends the framework; its stream must end without another word.
func (s *scheduler) teardown() {
	s.t.Helper()
	s.call("TEARDOWN", "")
	if e := s.last(); e.Type == "ERROR" || strings.HasPrefix(e.Type, "broken") {
		s.t.Errorf("a teardown ended the stream with %+v", e)
	}
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

func (c *cluster) awaitTask(t *testing.T, framework, id string, want mesos.TaskState) {
	t.Helper()
	await(t, soon, "task "+id+" in "+want.String(), c.describe, func() bool {
		return slices.ContainsFunc(c.state(t).GetTasks.Tasks, func(task *mesos.Task) bool {
			return task.FrameworkId.GetValue() == framework && task.TaskId.GetValue() == id && task.GetState() == want
		})
	})
}

// checkNothingHeld waits until no framework but Marathon is left and nothing is offered or used, and has the whole of the
// agent offered to a newcomer: so both the master's accounts and the allocator's are right.
func (c *cluster) checkNothingHeld(t *testing.T) {
	t.Helper()
	await(t, soon, "cluster without tasks and offers", c.describe, func() bool {
		now := c.state(t)
		a := now.GetAgents.Agents
		return len(a) == 1 && a[0].AllocatedResources == nil && a[0].OfferedResources == nil &&
			len(now.GetTasks.Tasks) == 0 && len(now.GetFrameworks.Frameworks) == 1
	})
	s := c.subscribe(t, forms[0], "")
	offered := s.offer()
	for _, r := range c.state(t).GetAgents.Agents[0].TotalResources {
		if total := int64(math.Round(r.GetScalar().GetValue() * 1000)); total != offered.milli(r.GetName()) {
			t.Errorf("the agent has %s, of which %d thousandths are offered", r, offered.milli(r.GetName()))
		}
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

// commandOf is the command line of a process, empty if it has ended.
func commandOf(pid int) string {
	if pid <= 0 {
		return ""
	}
	args, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")) // an error says that it has ended
	return strings.ReplaceAll(strings.TrimSuffix(string(args), "\x00"), "\x00", " ")
}

// request is one HTTP request, sent as it stands.
type request struct {
	method, path string
	header       []string // "Name: value"; Host is the one that is sent
	body         string
}

type answer struct {
	status int
	header http.Header
	text   string
}

func (r request) send(t *testing.T, address string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, r.method, "http://"+address+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range r.header {
		name, value, _ := strings.Cut(line, ": ")
		if name == "Host" {
			req.Host = value
			continue
		}
		req.Header.Add(name, value)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	return answer{resp.StatusCode, resp.Header, strings.TrimSuffix(string(text), "\n")}
}
