package jobs

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/chronos/definition"
	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
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
	offers int
}

var dawn = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func newScene(t *testing.T) *scene {
	s := &scene{t: t, store: map[string][]byte{}, now: dawn}
	s.reload()
	return s
}

func testConfig() Config {
	return Config{
		Identity:   machine.Identity{FrameworkID: "F", Name: "chronos", Role: "*", User: "root", Principal: "chronos"},
		RetryDelay: time.Minute, LostAfter: 10 * time.Minute,
	}
}

func (s *scene) reload() {
	var records []machine.Write
	for _, key := range sortedKeys(s.store) {
		records = append(records, machine.Write{Key: key, Value: s.store[key]})
	}
	m, err := New(testConfig(), records)
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
func (s *scene) step(ev machine.Event) string {
	var out machine.Effects
	s.m.Step(s.now, ev, &out)
	if err := s.m.Check(); err != nil {
		s.t.Fatalf("after %T: %v", ev, err)
	}
	s.write(out.Persist)
	return show(&out)
}

func (s *scene) write(writes []machine.Write) {
	for _, w := range writes {
		if w.Value == nil {
			delete(s.store, w.Key)
		} else {
			s.store[w.Key] = w.Value
		}
	}
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
		return s.step(machine.Start{})
	case "start":
		return s.step(machine.Start{})
	case "status":
		return s.step(machine.Scheduler{Event: status(args[0], args[1], strings.Join(args[2:], " "))})
	case "answer": // to a question: a status without a uuid
		e := status(args[0], args[1], "")
		e.Update.Status.Uuid = nil
		return s.step(machine.Scheduler{Event: e})
	case "offers":
		return s.step(machine.Scheduler{Event: s.offersEvent(args)})
	case "show":
		return s.show(args)
	case "subscribed":
		return s.step(machine.Scheduler{Event: subscribed()})
	case "refused":
		return s.step(refusedLaunch(args[0], strings.Join(args[1:], " ")))
	}
	op, err := op(verb, args, rest)
	if err != nil {
		return err.Error() + "\n"
	}
	return s.step(machine.Request{Op: op})
}

func (s *scene) tick() string {
	at, ok := s.m.NextDeadline()
	if !ok {
		return "no deadline\n"
	}
	if at.After(s.now) {
		s.now = at
	}
	text := s.step(machine.Tick{})
	if again, ok := s.m.NextDeadline(); ok && !again.After(s.now) {
		s.t.Fatalf("at %s a tick left a deadline behind, at %s", s.now, again)
	}
	return "at " + s.now.Format("02T15:04:05.999") + "\n" + text
}

func op(verb string, args []string, rest string) (any, error) {
	switch verb {
	case "post", "child":
		kind := definition.Scheduled
		if verb == "child" {
			kind = definition.Dependent
		}
		job, counts, err := definition.Parse([]byte(rest), kind)
		return Put{Job: job, Counts: counts}, err
	case "run":
		return Start{Job: args[0], Arguments: strings.Join(args[1:], " ")}, nil
	case "kill":
		return Kill{Job: args[0]}, nil
	case "remove":
		return Remove{Job: args[0]}, nil
	case "success":
		return Succeed{Job: args[0]}, nil
	}
	return nil, fmt.Errorf("unknown line %q", verb)
}

func subscribed() *schedulerpb.Event {
	return &schedulerpb.Event{Type: schedulerpb.Event_SUBSCRIBED.Enum(),
		Subscribed: &schedulerpb.Event_Subscribed{FrameworkId: &mesos.FrameworkID{Value: new("F")}}}
}

// refusedLaunch says that the launch of a task was refused.
func refusedLaunch(task, reason string) machine.Refused {
	info := &mesos.TaskInfo{TaskId: &mesos.TaskID{Value: &task}}
	c := &schedulerpb.Call{Type: schedulerpb.Call_ACCEPT.Enum(), Accept: &schedulerpb.Call_Accept{Operations: []*mesos.Offer_Operation{{
		Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{info}},
	}}}}
	return machine.Refused{Call: c, Reason: reason}
}

// status is an update; a message "exit N" also has the label that tells it.
func status(task, state, message string) *schedulerpb.Event {
	value, ok := mesos.TaskState_value["TASK_"+state]
	if !ok {
		panic("unknown state " + state)
	}
	s := &mesos.TaskStatus{
		TaskId: &mesos.TaskID{Value: &task}, State: mesos.TaskState(value).Enum(), Message: &message,
		AgentId: &mesos.AgentID{Value: new("agent-a")}, Uuid: []byte("0123456789abcdef"),
	}
	if code, ok := strings.CutPrefix(message, "exit "); ok {
		s.Labels = &mesos.Labels{Labels: []*mesos.Label{{Key: new("exit_status"), Value: &code}}}
	}
	return &schedulerpb.Event{Type: schedulerpb.Event_UPDATE.Enum(), Update: &schedulerpb.Event_Update{Status: s}}
}

// offersEvent makes one offer per argument: host,cpus,mem[,rack].
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
	scalar("disk", "100000")
	if len(parts) > 3 {
		o.Attributes = []*mesos.Attribute{{Name: new("rack"), Type: mesos.Value_TEXT.Enum(), Text: &mesos.Value_Text{Value: &parts[3]}}}
	}
	return o
}

// show prints what clients would see.
func (s *scene) show(args []string) string {
	var b strings.Builder
	switch args[0] {
	case "store":
		for _, key := range sortedKeys(s.store) {
			fmt.Fprintln(&b, key)
		}
		return b.String()
	case "commands":
		for _, id := range sortedKeys(s.m.tasks) {
			r := s.m.tasks[id]
			c := taskInfo(s.m.jobs[r.Job].spec, r, nil).GetCommand()
			fmt.Fprintf(&b, "%s shell %v: %s %q\n", id, c.GetShell(), c.GetValue(), c.GetArguments())
		}
		return b.String()
	}
	info, ok := s.m.Job(args[0])
	if !ok {
		return "none\n"
	}
	fmt.Fprintf(&b, "%s %s", info.Status, info.State)
	if info.Disabled {
		b.WriteString(" disabled")
	}
	if info.Schedule != "" {
		fmt.Fprintf(&b, ", %s", info.Schedule)
	}
	if len(info.Parents) > 0 {
		fmt.Fprintf(&b, ", after %v", info.Parents)
	}
	fmt.Fprintf(&b, ", %d good %d bad %d skipped\n", info.SuccessCount, info.ErrorCount, info.Skipped)
	if info.Why != "" {
		fmt.Fprintln(&b, "why:", info.Why)
	}
	for _, r := range info.History {
		exit := ""
		if r.ExitStatus != nil {
			exit = fmt.Sprint(" exit ", *r.ExitStatus)
		}
		fmt.Fprintf(&b, "%d: %s by %s on %s: %s%s %s\n", r.Number, r.Task, r.Cause, r.Agent, r.State, exit, r.Message)
	}
	return b.String()
}

// show prints effects, one a line.
func show(out *machine.Effects) string {
	var b strings.Builder
	for _, w := range out.Persist {
		sign := "+"
		if w.Value == nil {
			sign = "-"
		}
		fmt.Fprintf(&b, "%s %s\n", sign, w.Key)
	}
	for _, c := range out.Calls {
		fmt.Fprintf(&b, "call %s\n", showCall(c))
	}
	for _, r := range out.Replies {
		switch {
		case r.Err != nil:
			fmt.Fprintf(&b, "reply %v\n", r.Err)
		case r.Value != nil:
			fmt.Fprintf(&b, "reply ok %s\n", r.Value.(Run).Task)
		default:
			fmt.Fprintln(&b, "reply ok")
		}
	}
	if out.Failed != "" {
		fmt.Fprintf(&b, "failed %s\n", out.Failed)
	}
	return b.String()
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
				text += fmt.Sprintf(" %s:%v", r.GetName(), r.GetScalar().GetValue())
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
