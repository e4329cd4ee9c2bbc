package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// load is a framework that does not mind whose deaths it sees: it subscribes again whenever its stream ends, asks what became
// of its tasks, acknowledges what it is told but for what it is to leave, and writes down what it heard. One goroutine owns it.
type load struct {
	t      *testing.T
	c      *cluster
	fields string // of its FrameworkInfo
	s      *scheduler
	id     string
	began  int // subscriptions so far
	offers []offer
	tasks  map[string]*life
	ending bool // it is being torn down
	gone   bool // it has been
}

// life is what is known of one task.
type life struct {
	exit     int // what its command ends with
	agent    string
	launched bool     // its ACCEPT was sent
	heard    []status // each once, in the order in which they came
	leave    bool     // its statuses are not acknowledged
	again    int      // how often the first that was left came again
	unsure   bool     // a subscription has begun since it was heard of
	now      status   // what the master said when it was asked last
}

func newLoad(t *testing.T, c *cluster) *load {
	l := &load{
		t: t, c: c, tasks: map[string]*life{},
		fields: `"failover_timeout":3600,"capabilities":[{"type":"PARTITION_AWARE"}]`,
	}
	t.Cleanup(l.hangUp)
	return l
}

// until lives on until a condition holds.
func (l *load) until(what string, done func() bool) {
	l.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(soon); !done(); {
		var events <-chan event
		if l.s != nil {
			events = l.s.events
		}
		select {
		case e, open := <-events:
			if open {
				l.hear(e)
			} else {
				l.hangUp()
			}
		case <-tick.C:
			if l.s == nil {
				l.subscribe()
			}
			l.ask()
		case <-deadline:
			l.t.Fatalf("no %s within %s; subscribed: %t; offers: %d; the tasks:\n%s\n%s", what, soon, l.s != nil, len(l.offers), l.describe(), l.c.describe())
		}
	}
}

func (l *load) describe() string {
	var text strings.Builder
	for _, id := range slices.Sorted(maps.Keys(l.tasks)) {
		fmt.Fprintf(&text, "%s %+v\n", id, *l.tasks[id])
	}
	return text.String()
}

// hangUp gives the stream up, as when it has ended.
func (l *load) hangUp() {
	if l.s != nil {
		l.s.hangUp()
	}
	l.s, l.offers = nil, nil
}

// subscribe tries to, under the id that it has if it has one.
func (l *load) subscribe() {
	info, known := `"user":"root","name":"load",`+l.fields, ""
	if l.id != "" {
		known = fmt.Sprintf(`"framework_id":{"value":%q},`, l.id)
		info += fmt.Sprintf(`,"id":{"value":%q}`, l.id)
	}
	ctx, cancel := context.WithCancel(context.Background()) // outlives the part of a test that it begins in
	resp, err := l.post(ctx, "", fmt.Sprintf(`{"type":"SUBSCRIBE",%s"subscribe":{"framework_info":{%s}}}`, known, info))
	if err != nil || resp.StatusCode != http.StatusOK {
		cancel()
		if err == nil {
			resp.Body.Close()
		}
		return
	}
	events := make(chan event, 1024)
	go forms[0].read(ctx, resp.Body, events)
	l.s = &scheduler{t: l.t, c: l.c, form: forms[0], stream: resp.Header.Get("Mesos-Stream-Id"), hangUp: cancel, events: events}
	l.began++
	for _, task := range l.tasks {
		task.unsure = task.launched && !task.ended()
	}
}

func (l *load) post(ctx context.Context, stream, body string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+l.c.at.Master+schedulerPath, bytes.NewReader([]byte(body)))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json")
	if stream != "" {
		r.Header.Set("Mesos-Stream-Id", stream)
	}
	return http.DefaultClient.Do(r)
}

// call makes a call, which nobody may hear: it returns the status of the answer, or 0.
func (l *load) call(kind, part string) int {
	l.t.Helper()
	if l.s == nil {
		return 0
	}
	resp, err := l.post(l.t.Context(), l.s.stream, fmt.Sprintf(`{"type":%q,"framework_id":{"value":%q},%s}`, kind, l.id, part))
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	if text, _ := io.ReadAll(resp.Body); resp.StatusCode == http.StatusBadRequest { // what is 403 or 503 is of a master that has just begun
		l.t.Errorf("%s %s: %s %s", kind, part, resp.Status, text)
	}
	return resp.StatusCode
}

func (l *load) hear(e event) {
	l.t.Helper()
	switch e.Type {
	case "SUBSCRIBED":
		if l.id != "" && l.id != e.Subscribed.FrameworkID.Value {
			l.t.Fatalf("framework %s has become %s", l.id, e.Subscribed.FrameworkID.Value)
		}
		l.id = e.Subscribed.FrameworkID.Value
		l.s.id = l.id
	case "OFFERS":
		l.offers = append(l.offers, e.Offers.Offers...)
	case "RESCIND":
		l.offers = slices.DeleteFunc(l.offers, func(o offer) bool { return o.ID == e.Rescind.OfferID })
	case "UPDATE":
		l.update(e.Update.Status)
	case "ERROR":
		if l.gone = l.ending && e.Error.Message == "Framework has been removed"; l.gone {
			return
		}
		l.t.Fatalf("the framework hears %q\n%s", e.Error.Message, l.c.describe())
	}
}

func (l *load) update(got status) {
	l.t.Helper()
	task := l.tasks[got.TaskID.Value]
	if task == nil {
		l.t.Errorf("a status of a task that was never launched: %+v", got)
		return
	}
	task.unsure = false
	task.now = got
	known := slices.ContainsFunc(task.heard, func(s status) bool { return s.UUID == got.UUID })
	switch {
	case got.UUID == "" && (got.Reason != "REASON_RECONCILIATION" || lost(got.State) && !task.ended()):
		task.heard = append(task.heard, got) // the master's own verdict
	case got.UUID != "" && !known:
		if task.ended() {
			l.t.Errorf("task %s has ended and goes on: %+v", got.TaskID.Value, *task)
		}
		task.heard = append(task.heard, got)
	case got.UUID != "" && task.leave:
		task.again++
	}
	if got.UUID != "" && !task.leave {
		l.call("ACKNOWLEDGE", fmt.Sprintf(`"acknowledge":{"agent_id":{"value":%q},"task_id":{"value":%q},"uuid":%q}`,
			got.AgentID.Value, got.TaskID.Value, got.UUID))
	}
}

// ask asks about the tasks that nothing was heard of since the subscription began.
func (l *load) ask() {
	var tasks []string
	for _, id := range slices.Sorted(maps.Keys(l.tasks)) {
		if l.tasks[id].unsure {
			tasks = append(tasks, fmt.Sprintf(`{"task_id":{"value":%q},"agent_id":{"value":%q}}`, id, l.tasks[id].agent))
		}
	}
	if len(tasks) > 0 && l.id != "" {
		l.call("RECONCILE", fmt.Sprintf(`"reconcile":{"tasks":[%s]}`, strings.Join(tasks, ",")))
	}
}

// work is a task to launch: a shell command that ends with a status, after it has left a mark in its sandbox.
type work struct {
	id, command string
	exit        int
}

// launch launches all of the tasks on the next offer with room for them.
func (l *load) launch(tasks ...work) {
	l.t.Helper()
	fits := func(o offer) bool {
		return o.milli("cpus") >= 20*int64(len(tasks)) && o.milli("mem") >= 16000*int64(len(tasks))
	}
	l.until("offer with room", func() bool { return slices.ContainsFunc(l.offers, fits) })
	i := slices.IndexFunc(l.offers, fits)
	o := l.offers[i]
	l.offers = slices.Delete(l.offers, i, i+1)
	var infos []string
	for _, w := range tasks {
		l.tasks[w.id] = &life{exit: w.exit, agent: o.AgentID.Value, launched: true}
		infos = append(infos, fmt.Sprintf(
			`{"name":"load","task_id":{"value":%q},"agent_id":{"value":%q},"command":{"value":%q},"resources":[%s,%s]}`,
			w.id, o.AgentID.Value, fmt.Sprintf("echo >> ran; %s; exit %d", w.command, w.exit), scalar("cpus", "0.02"), scalar("mem", "16")))
	}
	l.call("ACCEPT", launching(o, infos...))
}

// runs says whether the tasks were last heard to run.
func (l *load) runs(ids ...string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return l.tasks[id].last().State != "TASK_RUNNING" })
}

// ended says whether the tasks have.
func (l *load) ended(ids ...string) bool {
	return !slices.ContainsFunc(ids, func(id string) bool { return !l.tasks[id].ended() })
}

func (t *life) last() status {
	if len(t.heard) == 0 {
		return status{}
	}
	return t.heard[len(t.heard)-1]
}

func (t *life) ended() bool { return over(t.last().State) }

func over(state string) bool {
	switch state {
	case "", "TASK_STAGING", "TASK_STARTING", "TASK_RUNNING", "TASK_KILLING", "TASK_UNREACHABLE":
		return false
	}
	return true
}

// lost says whether a state is that of a task that a master does not find.
func lost(state string) bool {
	return slices.Contains([]string{"TASK_GONE", "TASK_UNKNOWN", "TASK_LOST", "TASK_DROPPED"}, state)
}

// path is the states that were heard.
func (t *life) path() string {
	var states []string
	for _, s := range t.heard {
		states = append(states, strings.TrimPrefix(s.State, "TASK_"))
	}
	return strings.Join(states, " ")
}

// exited says whether a task ended as its command did, by a legal path, and ran once.
func (l *load) exited(id string) bool {
	task := l.tasks[id]
	end := "FINISHED"
	if task.exit != 0 {
		end = "FAILED"
	}
	legal := task.path() == "STARTING RUNNING "+end || task.path() == "STARTING "+end // nobody was there to see it run
	return legal && task.last().labelled("exit_status", fmt.Sprint(task.exit)) && l.ran(id) == 1
}

// neverRan says whether a task was given back with a reason, and did not run.
func (l *load) neverRan(id string) bool {
	task := l.tasks[id]
	switch task.path() {
	case "DROPPED", "LOST", "GONE", "UNKNOWN", "FAILED", "STARTING FAILED":
		return (task.last().Reason != "" || task.last().Message != "") && l.ran(id) == 0
	}
	return false
}

// unknown says whether a task ran, and nobody saw how it ended.
func (l *load) unknown(id string) bool {
	task := l.tasks[id]
	last := task.last()
	return (task.path() == "STARTING RUNNING FAILED" || task.path() == "STARTING FAILED") &&
		last.Reason != "" && len(last.Labels.Labels) == 0 && l.ran(id) == 1
}

// ran is how often a task's command has begun, in whatever container.
func (l *load) ran(id string) int {
	l.t.Helper()
	begun := 0
	for _, box := range l.c.sandboxes(l.t, l.id, id) {
		text, _ := os.ReadFile(filepath.Join(box, "ran")) // missing where it has not begun
		begun += bytes.Count(text, []byte("\n"))
	}
	return begun
}

// sandboxes are those of a task, one for each container that it has had.
func (c *cluster) sandboxes(t *testing.T, framework, task string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(c.workDir, "agent", "slaves", "*", "frameworks", framework, "executors", task, "runs", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(path string) bool { return filepath.Base(path) == "latest" })
}

// touch makes a file in a task's sandbox.
func (l *load) touch(id, name string) {
	l.t.Helper()
	touchIn(l.t, l.c.sandboxes(l.t, l.id, id), name)
}

func touchIn(t *testing.T, dirs []string, name string) {
	t.Helper()
	for _, dir := range dirs {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
			t.Error(err)
		}
	}
}

// teardown ends the framework, which the answer makes sure of.
func (l *load) teardown() {
	l.t.Helper()
	l.ending = true
	l.until("end of the framework", func() bool {
		return l.gone || l.s != nil && l.s.id != "" && l.call("TEARDOWN", `"teardown":{}`) == http.StatusAccepted
	})
	l.hangUp()
}
