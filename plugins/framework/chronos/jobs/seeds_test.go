package jobs

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// cluster is a master with one agent for the machine to work against. While it is bad it
// loses launches, updates and kills; tasks fail, clocks are set, and the plugin is killed in the middle of
// its effects.
type cluster struct {
	*scene
	rand    *rand.Rand
	bad     bool
	tasks   map[string]mesos.TaskState // those that ended too, until that is acknowledged
	queue   []machine.Event            // on their way to the machine
	asked   bool                       // offers were revived and not suppressed since
	arrived map[string]int             // launches by task id
	began   map[string]map[string]int  // tasks that ran, by job and due time
}

// strict is never tried again; five runs five times; both has a child; several may overlap.
var definitions = []string{
	`{"name": "strict", "command": "x", "schedule": "R/2030-01-01T00:00:00Z/PT10S", "retries": 0}`,
	`{"name": "five", "command": "x", "schedule": "R5/2030-01-01T00:00:05Z/PT20S", "retries": 0}`,
	`{"name": "several", "command": "x", "schedule": "cron * * * * *", "retries": 2, "concurrent": true, "maxCompletionTime": 30}`,
}

const childDefinition = `{"name": "child", "command": "x", "parents": ["strict", "five"], "retries": 0}`

// TestSeeds: whatever happens, no due time begins twice; and once things go well again
// every job goes on, and a finite one has run as often as it says.
func TestSeeds(t *testing.T) {
	for seed := range uint64(400) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &cluster{
				scene: newScene(t), rand: rand.New(rand.NewPCG(seed, 2)), bad: true, tasks: map[string]mesos.TaskState{},
				arrived: map[string]int{}, began: map[string]map[string]int{},
			}
			c.feed(machine.Start{})
			for range 200 {
				c.disturb()
			}
			c.bad = false
			c.define()
			c.restart()
			c.settle()
		})
	}
}

func (c *cluster) chance(percent int) bool { return c.rand.IntN(100) < percent }

// feed steps ev and lets the effects act on the cluster, as far as they get.
func (c *cluster) feed(ev machine.Event) {
	var out machine.Effects
	c.m.Step(c.now, ev, &out)
	if err := c.m.Check(); err != nil {
		c.t.Fatalf("after %T: %v", ev, err)
	}
	if c.bad && c.chance(3) {
		if c.chance(50) { // killed before or after the one write
			c.write(out.Persist)
		}
		c.restart()
		return
	}
	c.write(out.Persist)
	for _, call := range out.Calls {
		switch {
		case !c.bad || call.GetType() == schedulerpb.Call_SUBSCRIBE || !c.chance(5):
			c.act(call)
		case c.chance(50):
			c.queue = append(c.queue, machine.Refused{Call: call, Reason: "no"})
		}
	}
}

func (c *cluster) restart() {
	c.queue = nil
	was := durable(c.t, c.m)
	c.reload()
	if !c.bad {
		if is := durable(c.t, c.m); was != is {
			c.t.Fatalf("read back as\n%s\nwas\n%s", is, was)
		}
	}
	c.feed(machine.Start{})
}

// durable is what of jobs must survive.
func durable(t *testing.T, m *Machine) string {
	var all []any
	for _, name := range m.Names() {
		j, _ := m.Job(name)
		all = append(all, j.Shape, j.State, j.Next, j.Skipped, j.Runs, j.History, j.Children)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (c *cluster) act(call *schedulerpb.Call) {
	switch call.GetType() {
	case schedulerpb.Call_SUBSCRIBE:
		c.asked = true
		c.queue = append(c.queue, machine.Scheduler{Event: subscribed()})
	case schedulerpb.Call_REVIVE:
		c.asked = true
	case schedulerpb.Call_SUPPRESS:
		c.asked = false
	case schedulerpb.Call_ACCEPT:
		for _, task := range call.GetAccept().GetOperations()[0].GetLaunch().GetTaskInfos() {
			c.launch(task.GetTaskId().GetValue())
		}
	case schedulerpb.Call_KILL:
		id := call.GetKill().GetTaskId().GetValue()
		if state, ok := c.tasks[id]; ok && lives(state) {
			c.become(id, mesos.TaskState_TASK_KILLED)
		}
	case schedulerpb.Call_ACKNOWLEDGE:
		id := call.GetAcknowledge().GetTaskId().GetValue()
		if state := c.tasks[id]; !lives(state) && string(call.GetAcknowledge().GetUuid()) == state.String() {
			delete(c.tasks, id)
		}
	case schedulerpb.Call_RECONCILE:
		for _, task := range call.GetReconcile().GetTasks() {
			id := task.GetTaskId().GetValue()
			if _, ok := c.tasks[id]; !ok && !(c.bad && c.chance(30)) {
				e := status(id, "GONE", "")
				e.Update.Status.Uuid = nil
				c.queue = append(c.queue, machine.Scheduler{Event: e})
			}
		}
		for _, id := range sortedKeys(c.tasks) {
			c.tell(id, c.tasks[id])
		}
	}
}

func lives(s mesos.TaskState) bool {
	return machine.Alive(s) || s == mesos.TaskState_TASK_UNREACHABLE
}

// launch checks that nothing is launched that was launched before, or before its time.
func (c *cluster) launch(id string) {
	c.arrived[id]++
	if c.arrived[id] > 1 {
		c.t.Fatalf("task %s is launched %d times", id, c.arrived[id])
	}
	c.become(id, mesos.TaskState_TASK_STAGING)
}

// become changes a task and tells of it, unless that gets lost.
func (c *cluster) become(id string, state mesos.TaskState) {
	if state == mesos.TaskState_TASK_RUNNING && c.tasks[id] == mesos.TaskState_TASK_STAGING {
		parts := strings.Split(id, ":")
		job, due := parts[3], parts[1]
		if c.began[job] == nil {
			c.began[job] = map[string]int{}
		}
		if c.began[job][due]++; c.began[job][due] > 1 && job != "several" {
			c.t.Fatalf("job %s began %d times for %s", job, c.began[job][due], due)
		}
	}
	c.tasks[id] = state
	if !c.bad || !c.chance(10) {
		c.tell(id, state)
	}
}

func (c *cluster) tell(id string, state mesos.TaskState) {
	e := status(id, strings.TrimPrefix(state.String(), "TASK_"), "")
	e.Update.Status.Uuid = []byte(state.String())
	c.queue = append(c.queue, machine.Scheduler{Event: e})
}

func (c *cluster) deliver() {
	if len(c.queue) > 0 {
		ev := c.queue[0]
		c.queue = c.queue[1:]
		c.feed(ev)
	}
}

// disturb does one thing that may happen.
func (c *cluster) disturb() {
	c.now = c.now.Add(time.Duration(c.rand.IntN(2000)) * time.Millisecond)
	switch n := c.rand.IntN(100); {
	case n < 35:
		c.deliver()
	case n < 55:
		c.serve()
	case n < 75:
		c.tickNow()
	case n < 78: // the clock is set
		c.now = c.now.Add(time.Duration(c.rand.IntN(7200)-1800) * time.Second)
		if c.now.Before(dawn) {
			c.now = dawn
		}
	case n < 92:
		c.progress()
	case n < 95:
		c.define()
	default:
		ops := []any{Kill{"strict"}, Start{Job: "five"}, Start{Job: "several", Arguments: "now"}, Succeed{"strict"}, Kill{"child"}}
		c.feed(machine.Request{Op: ops[c.rand.IntN(len(ops))]})
	}
}

// define sends the definitions, as those who keep them elsewhere do again and again.
func (c *cluster) define() {
	for _, text := range definitions {
		put, err := op("post", nil, text)
		if err != nil {
			c.t.Fatal(err)
		}
		c.feed(machine.Request{Op: put})
	}
	if c.m.existing("strict") != nil && c.m.existing("five") != nil {
		put, err := op("child", nil, childDefinition)
		if err != nil {
			c.t.Fatal(err)
		}
		c.feed(machine.Request{Op: put})
	}
}

// progress lets tasks go on, end or vanish from sight.
func (c *cluster) progress() {
	states := []mesos.TaskState{mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FAILED,
		mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_UNREACHABLE, mesos.TaskState_TASK_LOST}
	for _, id := range sortedKeys(c.tasks) {
		if lives(c.tasks[id]) && c.chance(40) {
			c.become(id, states[c.rand.IntN(len(states))])
		}
	}
}

// serve offers the agent, when the machine has not said that it wants none.
func (c *cluster) serve() {
	if c.asked && c.m.subscribed {
		c.feed(machine.Scheduler{Event: c.offersEvent([]string{"a,100,100000"})})
	}
}

func (c *cluster) tickNow() {
	if at, ok := c.m.NextDeadline(); ok && !at.After(c.now) {
		c.feed(machine.Tick{})
	}
}

// settle lets everything go well for long enough.
func (c *cluster) settle() {
	good := c.info("strict").SuccessCount
	for range 5000 {
		c.now = c.now.Add(time.Second)
		c.tickNow()
		c.serve()
		for _, id := range sortedKeys(c.tasks) {
			switch c.tasks[id] {
			case mesos.TaskState_TASK_STAGING, mesos.TaskState_TASK_UNREACHABLE:
				c.become(id, mesos.TaskState_TASK_RUNNING)
			case mesos.TaskState_TASK_RUNNING:
				c.become(id, mesos.TaskState_TASK_FINISHED)
			}
		}
		for len(c.queue) > 0 {
			c.deliver()
		}
		if five := c.info("five"); five.Next.IsZero() && five.State == "idle" && c.info("strict").SuccessCount > good+10 {
			c.checkFive()
			return
		}
	}
	c.t.Fatalf("after all: %+v\n%+v\nin the cluster %v", c.info("five"), c.info("strict"), c.tasks)
}

// checkFive counts the runs that the clock began, which the history keeps all.
func (c *cluster) checkFive() {
	dues := map[time.Time]bool{}
	for _, r := range c.info("five").History {
		if r.Cause == ByClock {
			dues[r.Due] = true
		}
	}
	if len(c.info("five").History) < maxHistory && len(dues) != 5 {
		c.t.Errorf("five ran for %d due times: %+v", len(dues), c.info("five").History)
	}
}

func (c *cluster) info(job string) Info {
	info, ok := c.m.Job(job)
	if !ok {
		c.t.Fatalf("job %s is gone", job)
	}
	return info
}

// TestMonth lives through the months in which clocks change: one run on each day.
func TestMonth(t *testing.T) {
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"R/2030-01-01T02:30:00/P1D", "cron 30 2 * * *"} {
		c := &cluster{scene: newScene(t), tasks: map[string]mesos.TaskState{}, arrived: map[string]int{}, began: map[string]map[string]int{}}
		c.feed(machine.Start{})
		put, err := op("post", nil, fmt.Sprintf(`{"name": "nightly", "command": "x", "schedule": %q, "scheduleTimeZone": "Europe/Berlin"}`, text))
		if err != nil {
			t.Fatal(err)
		}
		c.feed(machine.Request{Op: put})
		days := map[string]int{}
		for c.now.Before(dawn.AddDate(1, 0, 0)) {
			at, ok := c.m.NextDeadline()
			if !ok {
				t.Fatal("nothing is due any more")
			}
			c.now = at
			c.feed(machine.Tick{})
			c.serve()
			for _, id := range sortedKeys(c.tasks) {
				if c.tasks[id] == mesos.TaskState_TASK_STAGING {
					days[c.now.In(zone).Format("2006-01-02 15:04")]++
					c.become(id, mesos.TaskState_TASK_FINISHED)
				}
			}
			for len(c.queue) > 0 {
				c.deliver()
			}
		}
		if len(days) != 365 || days["2030-03-31 03:30"] != 1 || days["2030-10-27 02:30"] != 1 || days["2030-07-01 02:30"] != 1 {
			t.Errorf("%s ran at %d times: %v", text, len(days), days)
		}
	}
}
