package bench

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// refuseSeconds is for what is left of an offer when no task fits any more; more than that is offered all the same.
const refuseSeconds = 5.0

// load is what a driver launches.
type load struct {
	name  string
	argv  []string
	cpus  float64
	memMB float64
	tasks int
	// window is how many tasks may be in flight at once.
	window int
	// stay says that tasks are not to end, and that all is done when all run.
	stay bool
}

// outcome is what became of a load.
type outcome struct {
	// toRunning is the time from ACCEPT to RUNNING of each task that ran.
	toRunning []time.Duration
	// took is the time from the first ACCEPT to the last status.
	took time.Duration
	// framework is the id of the framework that launched the tasks.
	framework string
	// exited counts the tasks whose exit status was told to be 0.
	exited int
}

// driver is the scheduler of one load. One goroutine owns it.
type driver struct {
	load
	session *client.Session
	offers  []*mesos.Offer
	sent    map[string]time.Time
	flying  int
	ended   int
	begun   time.Time
	outcome outcome
}

// drive subscribes a framework and launches a load. The framework remains; end removes it.
func drive(ctx context.Context, c *client.Client, l load) (*driver, error) {
	session, err := c.Subscribe(ctx, &mesos.FrameworkInfo{
		User: proto.String("root"), Name: proto.String("bench-" + l.name), Roles: []string{"*"},
		Capabilities: []*mesos.FrameworkInfo_Capability{{Type: mesos.FrameworkInfo_Capability_MULTI_ROLE.Enum()}},
	})
	if err != nil {
		return nil, err
	}
	d := &driver{load: l, session: session, sent: make(map[string]time.Time)}
	d.outcome.framework = session.FrameworkID()
	if err := d.run(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("after %d of %d tasks: %w", d.ended, l.tasks, err), d.end(ctx))
	}
	return d, nil
}

// end removes the framework, and with it what still runs.
func (d *driver) end(ctx context.Context) error {
	err := d.session.Call(ctx, &schedulerpb.Call{Type: schedulerpb.Call_TEARDOWN.Enum()})
	d.session.Close()
	return err
}

func (d *driver) run(ctx context.Context) error {
	for !d.done() {
		event, err := d.session.Next()
		if err != nil {
			return errors.Join(err, ctx.Err())
		}
		switch event.GetType() {
		case schedulerpb.Event_OFFERS:
			d.offers = append(d.offers, event.GetOffers().GetOffers()...)
		case schedulerpb.Event_RESCIND:
			d.rescind(event.GetRescind().GetOfferId())
		case schedulerpb.Event_UPDATE:
			err = d.update(ctx, event.GetUpdate().GetStatus())
		case schedulerpb.Event_ERROR:
			err = errors.New(event.GetError().GetMessage())
		}
		if err == nil {
			err = d.use(ctx)
		}
		if err != nil {
			return err
		}
	}
	d.outcome.took = time.Since(d.begun)
	return nil
}

func (d *driver) done() bool {
	if d.stay {
		return len(d.outcome.toRunning) == d.tasks
	}
	return d.ended == d.tasks
}

func (d *driver) rescind(id *mesos.OfferID) {
	for i, offer := range d.offers {
		if offer.GetId().GetValue() == id.GetValue() {
			d.offers = append(d.offers[:i], d.offers[i+1:]...)
			return
		}
	}
}

// use launches what may fly on the offers at hand, and keeps those that it does not need yet.
func (d *driver) use(ctx context.Context) error {
	for len(d.offers) > 0 {
		n := min(d.window-d.flying, d.tasks-len(d.sent))
		if n == 0 {
			return nil
		}
		offer := d.offers[0]
		d.offers = d.offers[1:]
		fits := min(n, d.fits(offer))
		if fits == 0 {
			if err := d.decline(ctx, offer); err != nil {
				return err
			}
			continue
		}
		if err := d.launch(ctx, offer, fits); err != nil {
			return err
		}
	}
	return nil
}

// fits is how many tasks an offer has room for.
func (d *driver) fits(offer *mesos.Offer) int {
	room := func(name string, need float64) int {
		for _, r := range offer.GetResources() {
			if r.GetName() == name {
				return int((r.GetScalar().GetValue() + 1e-6) / need) // sums of decimal fractions are not exact
			}
		}
		return 0
	}
	return min(room("cpus", d.cpus), room("mem", d.memMB))
}

func (d *driver) launch(ctx context.Context, offer *mesos.Offer, n int) error {
	infos := make([]*mesos.TaskInfo, n)
	for i := range infos {
		id := d.name + "-" + strconv.Itoa(len(d.sent)+i)
		infos[i] = d.task(id, offer)
	}
	now := time.Now()
	if d.begun.IsZero() {
		d.begun = now
	}
	for _, info := range infos {
		d.sent[info.GetTaskId().GetValue()] = now
	}
	d.flying += n
	return d.session.Call(ctx, &schedulerpb.Call{
		Type: schedulerpb.Call_ACCEPT.Enum(),
		Accept: &schedulerpb.Call_Accept{
			OfferIds: []*mesos.OfferID{offer.Id},
			Operations: []*mesos.Offer_Operation{{
				Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{TaskInfos: infos},
			}},
			Filters: &mesos.Filters{RefuseSeconds: proto.Float64(0)},
		},
	})
}

func (d *driver) task(id string, offer *mesos.Offer) *mesos.TaskInfo {
	info := &mesos.TaskInfo{
		Name: &d.name, TaskId: &mesos.TaskID{Value: &id}, AgentId: offer.AgentId,
		Command: &mesos.CommandInfo{Shell: proto.Bool(false), Value: &d.argv[0], Arguments: d.argv},
	}
	for name, amount := range map[string]float64{"cpus": d.cpus, "mem": d.memMB} {
		for _, r := range offer.GetResources() {
			if r.GetName() == name {
				piece := proto.CloneOf(r) // with its role and allocation
				piece.Scalar = &mesos.Value_Scalar{Value: &amount}
				info.Resources = append(info.Resources, piece)
				break
			}
		}
	}
	return info
}

func (d *driver) decline(ctx context.Context, offer *mesos.Offer) error {
	return d.session.Call(ctx, &schedulerpb.Call{
		Type: schedulerpb.Call_DECLINE.Enum(),
		Decline: &schedulerpb.Call_Decline{
			OfferIds: []*mesos.OfferID{offer.Id}, Filters: &mesos.Filters{RefuseSeconds: proto.Float64(refuseSeconds)},
		},
	})
}

func (d *driver) update(ctx context.Context, status *mesos.TaskStatus) error {
	now := time.Now()
	id := status.GetTaskId().GetValue()
	if len(status.GetUuid()) > 0 {
		err := d.session.Call(ctx, &schedulerpb.Call{
			Type: schedulerpb.Call_ACKNOWLEDGE.Enum(),
			Acknowledge: &schedulerpb.Call_Acknowledge{
				AgentId: status.AgentId, TaskId: status.TaskId, Uuid: status.Uuid,
			},
		})
		if err != nil {
			return err
		}
	}
	switch status.GetState() {
	case mesos.TaskState_TASK_STARTING, mesos.TaskState_TASK_STAGING:
	case mesos.TaskState_TASK_RUNNING:
		d.outcome.toRunning = append(d.outcome.toRunning, now.Sub(d.sent[id]))
	case mesos.TaskState_TASK_FINISHED:
		d.ended++
		d.flying--
		for _, l := range status.GetLabels().GetLabels() {
			if l.GetKey() == "exit_status" && l.GetValue() == "0" {
				d.outcome.exited++
			}
		}
	default:
		return fmt.Errorf("task %s is %s: %s", id, status.GetState(), status.GetMessage())
	}
	return nil
}
