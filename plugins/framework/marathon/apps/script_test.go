package apps

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

var rewrite = flag.Bool("rewrite", false, "write what the machine does into testdata/*.txt")

// TestScripts runs testdata/*.txt: a line that begins with > is fed to the machine, the
// lines below it are what it asks for.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scripts in testdata", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newScene(t).play(script)
			if *rewrite {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if !bytes.Equal(got, script) {
				t.Errorf("%s tells another story (go test -rewrite shows it with git diff):\n%s", file, got)
			}
		})
	}
}

// scene is a machine with its store and a clock.
type scene struct {
	t      *testing.T
	m      *Machine
	store  map[string][]byte
	now    time.Time
	start  time.Time
	offers int
	force  bool
}

var dawn = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newScene(t *testing.T) *scene {
	s := &scene{t: t, store: map[string][]byte{}, now: dawn, start: dawn}
	s.reload()
	return s
}

func (s *scene) reload() {
	var records []Write
	for _, key := range sortedKeys(s.store) {
		records = append(records, Write{Key: key, Value: s.store[key]})
	}
	m, err := New(Config{FrameworkID: "F", Role: "*", User: "root", Principal: "marathon"}, records)
	if err != nil {
		s.t.Fatal(err)
	}
	s.m = m
}

func (s *scene) play(script []byte) []byte {
	var out bytes.Buffer
	lines := bufio.NewScanner(bytes.NewReader(script))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "#"), line == "":
			fmt.Fprintln(&out, line)
		case strings.HasPrefix(line, "> "):
			fmt.Fprintln(&out, line)
			out.WriteString(s.do(strings.TrimPrefix(line, "> ")))
		}
	}
	return out.Bytes()
}

// step feeds one event and shows its effects.
func (s *scene) step(ev Event) string {
	var out Effects
	s.m.Step(s.now, ev, &out)
	if err := s.m.Check(); err != nil {
		s.t.Fatalf("after %T: %v", ev, err)
	}
	for _, w := range out.Persist {
		if w.Value == nil {
			delete(s.store, w.Key)
		} else {
			s.store[w.Key] = w.Value
		}
	}
	return show(&out)
}

func (s *scene) do(line string) string {
	verb, rest, _ := strings.Cut(line, " ")
	args := strings.Fields(rest)
	switch verb {
	case "wait": // let time pass
		d, err := time.ParseDuration(rest)
		if err != nil {
			s.t.Fatal(err)
		}
		s.now = s.now.Add(d)
		return ""
	case "tick": // let the next deadline come
		return s.tick()
	case "reload": // a new process with the same store
		s.reload()
		return s.step(Start{})
	case "start":
		return s.step(Start{})
	case "force":
		s.force = true
		return ""
	case "status":
		return s.step(Scheduler{status(args[0], args[1], strings.Join(args[2:], " "))})
	case "offers":
		return s.step(Scheduler{s.offersEvent(args)})
	case "show":
		return s.show(args)
	case "subscribed":
		e := &schedulerpb.Event{Type: schedulerpb.Event_SUBSCRIBED.Enum()}
		e.Subscribed = &schedulerpb.Event_Subscribed{FrameworkId: &mesos.FrameworkID{Value: new("F")}}
		return s.step(Scheduler{e})
	case "refused":
		return s.refuse(args[0], strings.Join(args[1:], " "))
	case "probed":
		check, _ := strconv.Atoi(args[1])
		return s.step(Probed{Task: args[0], Check: check, Alive: args[2] == "alive", Cause: strings.Join(args[3:], " ")})
	}
	return s.step(Request{Op: s.op(verb, rest, args)})
}

func (s *scene) tick() string {
	at, ok := s.m.NextDeadline()
	if !ok {
		return "no deadline\n"
	}
	if at.After(s.now) {
		s.now = at
	}
	text := s.step(Tick{})
	if again, ok := s.m.NextDeadline(); ok && !again.After(s.now) {
		s.t.Fatalf("at %s a tick left a deadline behind, at %s", s.now, again)
	}
	return fmt.Sprintf("at %s\n", s.now.Sub(s.start)) + text
}

func (s *scene) op(verb, rest string, args []string) Op {
	force := s.force
	s.force = false
	edit := func(manner Manner, id, body string) Op {
		c := Change{App: id, Manner: manner}
		if body != "" {
			patch, err := definition.ParsePatch([]byte(body))
			if err != nil {
				s.t.Fatal(err)
			}
			c.Body = patch
		}
		return Edit{Changes: []Change{c}, Force: force}
	}
	_, body, _ := strings.Cut(rest, " ")
	switch verb {
	case "create":
		return edit(Create, args[0], body)
	case "put":
		return edit(Update, args[0], body)
	case "restart":
		return edit(Restart, args[0], "")
	case "remove":
		return edit(Remove, args[0], "")
	case "kill":
		return Kill{Tasks: args, MustExist: true}
	case "killscale":
		return Kill{Tasks: args, Scale: true, Force: force}
	case "nodelay":
		return ResetDelay{App: args[0]}
	}
	s.t.Fatalf("unknown line %q", verb)
	return nil
}

// refuse tells the machine that the launch of a task was refused.
func (s *scene) refuse(task, reason string) string {
	info := &mesos.TaskInfo{TaskId: &mesos.TaskID{Value: &task}}
	c := &schedulerpb.Call{Type: schedulerpb.Call_ACCEPT.Enum(), Accept: &schedulerpb.Call_Accept{Operations: []*mesos.Offer_Operation{{
		Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{info}},
	}}}}
	return s.step(Refused{Call: c, Reason: reason})
}

func status(task, state, message string) *schedulerpb.Event {
	value, ok := mesos.TaskState_value["TASK_"+state]
	if !ok {
		panic("unknown state " + state)
	}
	return &schedulerpb.Event{Type: schedulerpb.Event_UPDATE.Enum(), Update: &schedulerpb.Event_Update{Status: &mesos.TaskStatus{
		TaskId: &mesos.TaskID{Value: &task}, State: mesos.TaskState(value).Enum(), Message: &message,
		AgentId: &mesos.AgentID{Value: new("S0")}, Uuid: []byte("0123456789abcdef"),
	}}}
}

// offersEvent makes one offer per argument: host,cpus,mem[,first-last].
func (s *scene) offersEvent(args []string) *schedulerpb.Event {
	e := &schedulerpb.Event{Type: schedulerpb.Event_OFFERS.Enum(), Offers: &schedulerpb.Event_Offers{}}
	for _, arg := range args {
		s.offers++
		e.Offers.Offers = append(e.Offers.Offers, anOffer("O"+strconv.Itoa(s.offers), arg))
	}
	return e
}

func anOffer(id, text string) *mesos.Offer {
	parts := strings.Split(text, ",")
	o := &mesos.Offer{
		Id: &mesos.OfferID{Value: &id}, Hostname: &parts[0], AgentId: &mesos.AgentID{Value: new("agent-" + parts[0])},
		FrameworkId: &mesos.FrameworkID{Value: new("F")},
	}
	scalar := func(name, text string) {
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			panic(err)
		}
		o.Resources = append(o.Resources, &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &value}})
	}
	scalar("cpus", parts[1])
	scalar("mem", parts[2])
	span := "31000-31999"
	if len(parts) > 3 {
		span = parts[3]
	}
	first, last, _ := strings.Cut(span, "-")
	begin, _ := strconv.ParseUint(first, 10, 64)
	end, _ := strconv.ParseUint(last, 10, 64)
	o.Resources = append(o.Resources, &mesos.Resource{Name: new("ports"), Type: mesos.Value_RANGES.Enum(),
		Ranges: &mesos.Value_Ranges{Range: []*mesos.Value_Range{{Begin: &begin, End: &end}}}})
	return o
}

// show prints what clients would see.
func (s *scene) show(args []string) string {
	var b strings.Builder
	switch args[0] {
	case "app":
		info, ok := s.m.App(args[1])
		if !ok {
			return "none\n"
		}
		fmt.Fprintf(&b, "staged %d running %d healthy %d unhealthy %d of %d, locks %d\n",
			info.Staged, info.Running, info.Healthy, info.Unhealthy, info.Instances, len(info.Deployments))
		for _, task := range info.Tasks {
			fmt.Fprintf(&b, "%s %s on %s version %s\n", task.ID, task.State, task.Host, task.Version)
		}
		if f := info.LastFailure; f != nil {
			fmt.Fprintf(&b, "last failure: %s %s: %s\n", f.TaskID, f.State, f.Message)
		}
	case "queue":
		for _, w := range s.m.Queue(s.now) {
			reasons, _ := json.Marshal(w.Rejected)
			fmt.Fprintf(&b, "%s needs %d, delay %s, %d offers %s: %s\n", w.App.ID, w.Count, w.Delay, w.Processed, reasons, w.Why)
		}
	case "store":
		for _, key := range sortedKeys(s.store) {
			fmt.Fprintln(&b, key)
		}
	case "deployments":
		for _, d := range s.m.Deployments() {
			fmt.Fprintln(&b, d.Actions)
		}
	}
	return b.String()
}

// show prints effects, one a line.
func show(out *Effects) string {
	var b strings.Builder
	for _, w := range out.Persist {
		sign := "+"
		if w.Value == nil {
			sign = "-"
		}
		key := w.Key
		if strings.HasPrefix(key, deploymentPrefix) {
			key = deploymentPrefix + "ID"
		}
		fmt.Fprintf(&b, "%s %s\n", sign, key)
	}
	for _, c := range out.Calls {
		fmt.Fprintf(&b, "call %s\n", showCall(c))
	}
	for _, p := range out.Probes {
		fmt.Fprintf(&b, "probe %s check %d http %v %s:%d%s within %s\n", p.Task, p.Check, p.HTTP, p.Host, p.Port, p.Path, p.Timeout)
	}
	for _, r := range out.Replies {
		fmt.Fprintf(&b, "reply %s\n", showReply(r))
	}
	if out.Failed != "" {
		fmt.Fprintf(&b, "failed %s\n", out.Failed)
	}
	return b.String()
}

func showReply(r Reply) string {
	if r.Err != nil {
		return r.Err.Error()
	}
	text := "ok"
	if r.Deployment.ID != "" {
		text += fmt.Sprint(" deploys ", r.Deployment.Actions, " version ", r.Deployment.Version)
	}
	for _, task := range r.Tasks {
		text += " " + task.ID
	}
	return text
}

func showCall(c *schedulerpb.Call) string {
	text := c.GetType().String()
	switch c.GetType() {
	case schedulerpb.Call_ACCEPT:
		a := c.GetAccept()
		text += fmt.Sprintf(" %s refuse %v", a.GetOfferIds()[0].GetValue(), a.GetFilters().GetRefuseSeconds())
		for _, task := range a.GetOperations()[0].GetLaunch().GetTaskInfos() {
			text += fmt.Sprintf(" launch %s", task.GetTaskId().GetValue())
			for _, r := range task.GetResources() {
				text += " " + showResource(r)
			}
		}
	case schedulerpb.Call_DECLINE:
		var ids []string
		for _, id := range c.GetDecline().GetOfferIds() {
			ids = append(ids, id.GetValue())
		}
		text += fmt.Sprintf(" %s refuse %v", strings.Join(ids, ","), c.GetDecline().GetFilters().GetRefuseSeconds())
	case schedulerpb.Call_KILL:
		text += " " + c.GetKill().GetTaskId().GetValue() + " on " + c.GetKill().GetAgentId().GetValue()
	case schedulerpb.Call_ACKNOWLEDGE:
		text += " " + c.GetAcknowledge().GetTaskId().GetValue()
	case schedulerpb.Call_RECONCILE:
		var ids []string
		for _, task := range c.GetReconcile().GetTasks() {
			ids = append(ids, task.GetTaskId().GetValue())
		}
		slices.Sort(ids)
		text += " " + strings.Join(ids, ",")
	case schedulerpb.Call_SUBSCRIBE:
		text += " as " + c.GetSubscribe().GetFrameworkInfo().GetId().GetValue()
	}
	return strings.TrimSpace(text)
}

func showResource(r *mesos.Resource) string {
	if r.GetType() == mesos.Value_SCALAR {
		return fmt.Sprintf("%s:%v", r.GetName(), r.GetScalar().GetValue())
	}
	var spans []string
	for _, span := range r.GetRanges().GetRange() {
		spans = append(spans, fmt.Sprintf("%d-%d", span.GetBegin(), span.GetEnd()))
	}
	return r.GetName() + ":[" + strings.Join(spans, ",") + "]"
}
