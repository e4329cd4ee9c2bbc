package apps

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/marathon/definition"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// cluster is a master with one agent for the machine to work against. While it is bad it
// loses launches, updates and kills; tasks fail, and the plugin is killed in the middle of
// its effects.
type cluster struct {
	*scene
	rand  *rand.Rand
	bad   bool
	tasks map[string]mesos.TaskState
	queue []Event // on their way to the machine
	asked bool    // offers were revived and not suppressed since
}

// TestSeeds: whatever happened, once things go well again every app has the instances it
// should have, nothing else runs and no deployment is left.
func TestSeeds(t *testing.T) {
	for seed := range uint64(500) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c := &cluster{scene: newScene(t), rand: rand.New(rand.NewPCG(seed, 1)), bad: true, tasks: map[string]mesos.TaskState{}}
			c.feed(Start{})
			for range 150 {
				c.disturb()
			}
			c.bad = false
			c.restart()
			c.settle()
		})
	}
}

func (c *cluster) chance(percent int) bool { return c.rand.IntN(100) < percent }

// feed steps ev and lets the effects act on the cluster, as far as they get.
func (c *cluster) feed(ev Event) []Reply {
	var out Effects
	c.m.Step(c.now, ev, &out)
	if err := c.m.Check(); err != nil {
		c.t.Fatalf("after %T: %v", ev, err)
	}
	if c.bad && c.chance(2) {
		out.Persist = out.Persist[:c.rand.IntN(len(out.Persist)+1)]
		c.write(out.Persist)
		c.restart()
		return nil
	}
	c.write(out.Persist)
	for _, call := range out.Calls {
		if !c.bad || call.GetType() == schedulerpb.Call_SUBSCRIBE || !c.chance(5) {
			c.act(call)
		} else if c.chance(50) {
			c.queue = append(c.queue, Refused{Call: call, Reason: "no"})
		}
	}
	for _, p := range out.Probes {
		c.queue = append(c.queue, Probed{Task: p.Task, Check: p.Check, Alive: !c.bad || c.chance(70)})
	}
	return out.Replies
}

func (c *cluster) write(writes []Write) {
	for _, w := range writes {
		if w.Value == nil {
			delete(c.store, w.Key)
		} else {
			c.store[w.Key] = w.Value
		}
	}
}

func (c *cluster) restart() {
	c.queue = nil
	c.reload()
	c.feed(Start{})
}

func (c *cluster) act(call *schedulerpb.Call) {
	switch call.GetType() {
	case schedulerpb.Call_SUBSCRIBE:
		c.asked = true
		c.queue = append(c.queue, Scheduler{&schedulerpb.Event{Type: schedulerpb.Event_SUBSCRIBED.Enum(),
			Subscribed: &schedulerpb.Event_Subscribed{FrameworkId: &mesos.FrameworkID{Value: new("F")}}}})
	case schedulerpb.Call_REVIVE:
		c.asked = true
	case schedulerpb.Call_SUPPRESS:
		c.asked = false
	case schedulerpb.Call_ACCEPT:
		for _, task := range call.GetAccept().GetOperations()[0].GetLaunch().GetTaskInfos() {
			c.become(task.GetTaskId().GetValue(), mesos.TaskState_TASK_STAGING)
		}
	case schedulerpb.Call_KILL:
		id := call.GetKill().GetTaskId().GetValue()
		if _, ok := c.tasks[id]; ok {
			c.become(id, mesos.TaskState_TASK_KILLED)
		} else {
			c.tell(id, mesos.TaskState_TASK_UNKNOWN)
		}
	case schedulerpb.Call_RECONCILE:
		for _, task := range call.GetReconcile().GetTasks() {
			id := task.GetTaskId().GetValue()
			if _, ok := c.tasks[id]; !ok {
				c.tell(id, mesos.TaskState_TASK_GONE)
			}
		}
		for _, id := range sortedKeys(c.tasks) {
			c.tell(id, c.tasks[id])
		}
	}
}

// become changes a task and tells of it, unless that gets lost.
func (c *cluster) become(id string, state mesos.TaskState) {
	if alive(state) || state == mesos.TaskState_TASK_UNREACHABLE {
		c.tasks[id] = state
	} else {
		delete(c.tasks, id)
	}
	if !c.bad || !c.chance(10) {
		c.tell(id, state)
	}
}

func (c *cluster) tell(id string, state mesos.TaskState) {
	c.queue = append(c.queue, Scheduler{status(id, strings.TrimPrefix(state.String(), "TASK_"), "")})
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
	switch n := c.rand.IntN(12); {
	case n < 4:
		c.deliver()
	case n < 6:
		c.serve()
	case n < 7:
		c.tickNow()
	case n < 9:
		for _, id := range sortedKeys(c.tasks) {
			states := []mesos.TaskState{mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_RUNNING, mesos.TaskState_TASK_FAILED,
				mesos.TaskState_TASK_FINISHED, mesos.TaskState_TASK_UNREACHABLE, mesos.TaskState_TASK_LOST}
			if c.chance(40) {
				c.become(id, states[c.rand.IntN(len(states))])
			}
		}
	default:
		c.feed(Request{Op: c.anyRequest()})
	}
}

func (c *cluster) anyRequest() Op {
	id := []string{"/a", "/b", "/c/d"}[c.rand.IntN(3)]
	change := Change{App: id, Manner: Manner(c.rand.IntN(int(Remove) + 1))}
	body := fmt.Sprintf(`{"cmd": "v%d", "instances": %d, "cpus": 0.1, "mem": 1`, c.rand.IntN(2), c.rand.IntN(5))
	if c.chance(30) {
		body += `, "healthChecks": [{"protocol": "TCP", "gracePeriodSeconds": 3, "intervalSeconds": 2}]`
	}
	if c.chance(30) {
		body += `, "upgradeStrategy": {"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0}`
	}
	change.Body, _ = definition.ParsePatch([]byte(body + "}"))
	if c.chance(20) {
		ids := sortedKeys(c.m.tasks)
		return Kill{Tasks: ids[:min(1, len(ids))], Scale: c.chance(50), Force: c.chance(50)}
	}
	return Edit{Changes: []Change{change}, Force: c.chance(60)}
}

// serve offers the agent, when the machine has not said that it wants none.
func (c *cluster) serve() {
	if c.asked && c.m.subscribed {
		c.feed(Scheduler{c.offersEvent([]string{"a,100,1000"})})
	}
}

func (c *cluster) tickNow() {
	if at, ok := c.m.NextDeadline(); ok && !at.After(c.now) {
		c.feed(Tick{})
	}
}

// settle lets everything go well for long enough.
func (c *cluster) settle() {
	for range 3000 {
		c.now = c.now.Add(time.Second)
		c.serve()
		c.tickNow()
		for _, id := range sortedKeys(c.tasks) {
			if c.tasks[id] != mesos.TaskState_TASK_RUNNING {
				c.become(id, mesos.TaskState_TASK_RUNNING)
			}
		}
		for len(c.queue) > 0 {
			c.deliver()
		}
		if c.arrived() {
			return
		}
	}
	c.t.Fatalf("after %d tasks in the cluster: %s", len(c.tasks), c.describe())
}

// arrived says whether all is as it was asked for.
func (c *cluster) arrived() bool {
	total := 0
	for _, info := range c.m.Apps() {
		if info.Running != info.Instances || len(info.Tasks) != info.Instances {
			return false
		}
		total += info.Instances
	}
	return total == len(c.tasks) && total == len(c.m.tasks) && len(c.m.deployments) == 0
}

func (c *cluster) describe() string {
	var b strings.Builder
	for _, info := range c.m.Apps() {
		fmt.Fprintf(&b, "\n%s wants %d: %+v", info.ID, info.Instances, info.Tasks)
	}
	fmt.Fprintf(&b, "\ndeployments %+v\ncluster %v\nqueue %+v", c.m.Deployments(), c.tasks, c.m.Queue(c.now))
	return b.String()
}
