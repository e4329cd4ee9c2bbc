package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
	"github.com/gantry-project/gantry/sdk/recordio"
)

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
		Update  struct{ Status status }
		Message struct{ Data string }
		Failure struct {
			ExecutorID value `json:"executor_id"`
			Status     int
		}
		Error struct{ Message string }
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
	t            *testing.T
	c            *cluster
	form         form
	id           string // the framework's
	at           string // the master's address, after redirects
	stream       string // the Mesos-Stream-Id
	hangUp       context.CancelFunc
	events       <-chan event    // closed at the end of the stream
	passed       []event         // that came and were not asked for yet
	acknowledged map[string]bool // by uuid, of the statuses seen
	barriers     int
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
	r, err := http.NewRequestWithContext(ctx, "POST", "http://"+c.at.Master+schedulerPath, bytes.NewReader(body))
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
	return &scheduler{t: t, c: c, form: f, id: id, at: resp.Request.URL.Host, stream: stream, hangUp: cancel, events: events, acknowledged: map[string]bool{}}
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
	a := request{method: "POST", path: schedulerPath, body: string(body),
		header: []string{"Content-Type: " + s.form.mediaType, "Accept: " + s.form.mediaType, "Mesos-Stream-Id: " + s.stream}}.send(s.t, s.at)
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

// send returns the whole answer.
func (r request) send(t *testing.T, address string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	resp := r.open(ctx, t, address)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", r.method, r.path, err)
	}
	return answer{resp.StatusCode, resp.Header, strings.TrimSuffix(string(text), "\n")}
}

// open returns the answer when its head is there; its body is to be closed.
func (r request) open(ctx context.Context, t *testing.T, address string) *http.Response {
	t.Helper()
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
	return resp
}
