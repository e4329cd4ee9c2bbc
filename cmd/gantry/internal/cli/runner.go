package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

const (
	// noticeAfter is how long `gantry run` waits for room in silence.
	noticeAfter = 3 * time.Second

	// killWait bounds the wait for a task to end that was asked to; its agent may be away.
	killWait = time.Minute

	// refuseSeconds keeps an offer that is too small away for a while, though not for long: room may be made.
	refuseSeconds = 1.0
)

// runner is the scheduler of one task. One goroutine owns it.
type runner struct {
	client    *client.Client
	scheduler *client.Session // that has ended while away
	job       job
	module    *moduleServer // nil: the job is none
	task      string        // its id
	to        outputs
	notices   io.Writer

	launched    bool           // or at least told to be
	agent       *mesos.AgentID // of the task, once it is launched
	box         client.Sandbox
	seen        bool // an agent has told of the task
	unsure      bool // what became of the task while there was no master
	away        bool // there is no master
	interrupted bool
	patience    *time.Timer  // for an agent with room, then for the end of a task that was asked to end
	largest     *mesos.Offer // the roomiest of those that were too small
	ended       chan struct{}
	followed    chan error // has the tail's end, once there is a tail; nil before
}

// run waits for room, launches the task and returns its last status after its output is complete. The end of ctx is
// the person's wish to end the task; calls are made in conversation.
func (r *runner) run(ctx, conversation context.Context) (*mesos.TaskStatus, error) {
	events := make(chan *schedulerpb.Event)
	broken, back := make(chan error, 1), make(chan rejoined, 1)
	go func(s *client.Session) { broken <- listen(conversation, s, events) }(r.scheduler)

	r.ended = make(chan struct{})
	interrupt := ctx.Done()
	r.patience = time.NewTimer(r.job.wait)
	defer r.patience.Stop()
	notice := time.NewTimer(min(noticeAfter, r.job.wait))
	defer notice.Stop()
	ask := time.NewTicker(askEvery)
	defer ask.Stop()
	for {
		select {
		case event := <-events:
			end, err := r.handle(conversation, event)
			if err != nil {
				return nil, err
			}
			if end != nil {
				r.finish(conversation, end)
				return end, nil
			}
		case err := <-broken:
			r.away = true
			go func() { back <- r.rejoin(conversation, err) }()
		case again := <-back:
			if again.err != nil {
				return nil, again.err
			}
			go func() { broken <- listen(conversation, again.session, events) }()
			if err := r.resume(conversation, again.session); err != nil {
				return nil, err
			}
		case <-ask.C:
			if err := r.reconcile(conversation); err != nil {
				return nil, err
			}
		case <-notice.C:
			if !r.launched {
				fmt.Fprintf(r.notices, "gantry: waiting: %s\n", r.noRoom())
			}
		case <-r.patience.C:
			if !r.launched {
				return nil, fmt.Errorf("gave up after %s: %s", r.job.wait, r.noRoom())
			}
			if r.interrupted {
				return nil, fmt.Errorf("task %s did not end within %s", r.task, killWait)
			}
		case <-interrupt:
			interrupt = nil
			r.interrupted = true
			if !r.launched {
				return nil, ExitStatus(128 + 2)
			}
			r.patience.Reset(killWait)
			if err := r.kill(conversation); err != nil {
				return nil, err
			}
		}
	}
}

// listen passes events on until the conversation or the connection ends.
func listen(ctx context.Context, s *client.Session, events chan<- *schedulerpb.Event) error {
	for {
		event, err := s.Next()
		if err != nil {
			return err
		}
		select {
		case events <- event:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// handle returns the task's last status when the event brings it.
func (r *runner) handle(ctx context.Context, event *schedulerpb.Event) (*mesos.TaskStatus, error) {
	switch event.GetType() {
	case schedulerpb.Event_OFFERS:
		return nil, r.choose(ctx, event.GetOffers().GetOffers())
	case schedulerpb.Event_UPDATE:
		return r.update(ctx, event.GetUpdate().GetStatus())
	case schedulerpb.Event_ERROR:
		return nil, errors.New(event.GetError().GetMessage())
	}
	return nil, nil
}

// choose launches the task on the first offer with room and declines the others.
func (r *runner) choose(ctx context.Context, offers []*mesos.Offer) error {
	var declined []*mesos.OfferID
	for _, offer := range offers {
		resources, fits := r.job.take(offer)
		if r.launched || !fits {
			declined = append(declined, offer.Id)
			r.remember(offer)
			continue
		}
		if err := r.launch(ctx, offer, resources); err != nil {
			return err
		}
	}
	if len(declined) == 0 {
		return nil
	}
	return r.call(ctx, &schedulerpb.Call{
		Type: schedulerpb.Call_DECLINE.Enum(),
		Decline: &schedulerpb.Call_Decline{
			OfferIds: declined, Filters: &mesos.Filters{RefuseSeconds: proto.Float64(refuseSeconds)},
		},
	})
}

func (r *runner) launch(ctx context.Context, offer *mesos.Offer, resources []*mesos.Resource) error {
	r.launched, r.agent = true, offer.AgentId
	r.box = client.Sandbox{Agent: client.OfferAddress(offer), Framework: r.scheduler.FrameworkID(), Task: r.task}
	launch := &mesos.Offer_Operation{
		Type:   mesos.Offer_Operation_LAUNCH.Enum(),
		Launch: &mesos.Offer_Operation_Launch{TaskInfos: []*mesos.TaskInfo{r.taskInfo(offer, resources)}},
	}
	accept := &schedulerpb.Call{
		Type: schedulerpb.Call_ACCEPT.Enum(),
		Accept: &schedulerpb.Call_Accept{
			OfferIds: []*mesos.OfferID{offer.Id}, Operations: []*mesos.Offer_Operation{launch},
		},
	}
	if err := r.call(ctx, accept); err != nil {
		return err
	}
	return r.suppress(ctx)
}

func (r *runner) suppress(ctx context.Context) error {
	return r.call(ctx, &schedulerpb.Call{
		Type: schedulerpb.Call_SUPPRESS.Enum(), Suppress: &schedulerpb.Call_Suppress{},
	})
}

func (r *runner) taskInfo(offer *mesos.Offer, resources []*mesos.Resource) *mesos.TaskInfo {
	command := &mesos.CommandInfo{Shell: proto.Bool(false), Environment: &mesos.Environment{}}
	image := r.job.image
	switch {
	case r.module != nil:
		image = r.module.image()
		command.Arguments, command.Uris = r.job.argv, append(command.Uris, r.module.fetch())
	case len(r.job.argv) > 0:
		command.Value, command.Arguments = proto.String(r.job.argv[0]), r.job.argv
	}
	for _, pair := range r.job.env {
		key, value, _ := strings.Cut(pair, "=")
		command.Environment.Variables = append(command.Environment.Variables,
			&mesos.Environment_Variable{Name: &key, Value: &value})
	}
	for _, uri := range r.job.uris {
		command.Uris = append(command.Uris, &mesos.CommandInfo_URI{Value: &uri})
	}
	return &mesos.TaskInfo{
		Name: &r.job.name, TaskId: &mesos.TaskID{Value: &r.task}, AgentId: offer.AgentId,
		Resources: resources, Command: command, Container: containerOf(image),
	}
}

// containerOf asks for the image, if there is one.
func containerOf(image string) *mesos.ContainerInfo {
	if image == "" {
		return nil
	}
	return &mesos.ContainerInfo{
		Type: mesos.ContainerInfo_MESOS.Enum(),
		Mesos: &mesos.ContainerInfo_MesosInfo{Image: &mesos.Image{
			Type: mesos.Image_DOCKER.Enum(), Docker: &mesos.Image_Docker{Name: &image},
		}},
	}
}

// take returns what the job needs out of an offer, and whether the offer has it.
func (j job) take(offer *mesos.Offer) ([]*mesos.Resource, bool) {
	var taken []*mesos.Resource
	for _, need := range []struct {
		name   string
		amount float64
	}{{"cpus", j.cpus}, {"mem", j.memMB}} {
		found := false
		for _, resource := range offer.GetResources() {
			if resource.GetName() == need.name && resource.GetScalar().GetValue() >= need.amount && !found {
				piece := proto.CloneOf(resource) // with its role, reservation and allocation
				piece.Scalar = &mesos.Value_Scalar{Value: proto.Float64(need.amount)}
				taken, found = append(taken, piece), true
			}
		}
		if !found {
			return nil, false
		}
	}
	return taken, true
}

// remember keeps the roomiest offer, for what noRoom tells.
func (r *runner) remember(offer *mesos.Offer) {
	if r.largest == nil || room(offer) > room(r.largest) {
		r.largest = offer
	}
}

// room compares offers: by processors, and by memory where those are equal.
func room(offer *mesos.Offer) float64 {
	return scalar(offer.GetResources(), "cpus")*1e9 + scalar(offer.GetResources(), "mem")
}

func (r *runner) noRoom() string {
	wanted := fmt.Sprintf("cpus:%s mem:%s", number(r.job.cpus), number(r.job.memMB))
	if r.largest == nil {
		return fmt.Sprintf("no agent offers anything yet, and the task needs %s: `gantry status` shows what is in use", wanted)
	}
	return fmt.Sprintf("no agent offers %s; the largest has cpus:%s mem:%s", wanted,
		number(scalar(r.largest.GetResources(), "cpus")), number(scalar(r.largest.GetResources(), "mem")))
}

// update acknowledges a status and acts on it; it returns the one that is the last.
func (r *runner) update(ctx context.Context, status *mesos.TaskStatus) (*mesos.TaskStatus, error) {
	if len(status.GetUuid()) > 0 {
		err := r.call(ctx, &schedulerpb.Call{
			Type: schedulerpb.Call_ACKNOWLEDGE.Enum(),
			Acknowledge: &schedulerpb.Call_Acknowledge{
				AgentId: status.AgentId, TaskId: status.TaskId, Uuid: status.Uuid,
			},
		})
		if err != nil {
			return nil, err
		}
	}
	if status.GetTaskId().GetValue() != r.task {
		return nil, nil // of an attempt that was given up
	}
	r.unsure = false
	r.seen = r.seen || len(status.GetUuid()) > 0
	switch {
	case r.neverRan(status) && !r.interrupted:
		return nil, r.retry(ctx)
	case terminalState(status.GetState().String()):
		return status, nil
	case status.GetState() == mesos.TaskState_TASK_RUNNING:
		r.follow(ctx)
	}
	return nil, nil
}

// neverRan says whether the offer that was taken had been withdrawn, or the task was lost with a master before its agent heard
// of it.
func (r *runner) neverRan(status *mesos.TaskStatus) bool {
	switch status.GetReason() {
	case mesos.TaskStatus_REASON_INVALID_OFFERS:
		return true
	case mesos.TaskStatus_REASON_RECONCILIATION:
		return !r.seen && terminalState(status.GetState().String())
	}
	return false
}

// retry waits for other offers.
func (r *runner) retry(ctx context.Context) error {
	r.launched = false
	r.patience.Reset(r.job.wait)
	r.nameTask()
	return r.call(ctx, &schedulerpb.Call{
		Type: schedulerpb.Call_REVIVE.Enum(), Revive: &schedulerpb.Call_Revive{},
	})
}

// follow starts to copy the output, once.
func (r *runner) follow(ctx context.Context) {
	if r.followed != nil {
		return
	}
	r.followed = make(chan error, 1)
	go func() {
		r.followed <- tail{client: r.client, box: r.box, done: r.ended}.copy(ctx, r.to)
	}()
}

// finish waits until the output is complete. A task may have ended before it was seen to run.
func (r *runner) finish(ctx context.Context, end *mesos.TaskStatus) {
	close(r.ended)
	if end.GetSource() != mesos.TaskStatus_SOURCE_MASTER {
		r.follow(ctx)
	}
	if r.followed == nil {
		return
	}
	if err := <-r.followed; err != nil {
		fmt.Fprintf(r.notices, "gantry: the output is not complete: %v\n", err)
	}
}

func (r *runner) kill(ctx context.Context) error {
	fmt.Fprintf(r.notices, "gantry: ending task %s\n", r.task)
	return r.call(ctx, &schedulerpb.Call{
		Type: schedulerpb.Call_KILL.Enum(),
		Kill: &schedulerpb.Call_Kill{TaskId: &mesos.TaskID{Value: &r.task}},
	})
}

// tearDown removes the framework, and with it a task that still runs. A master that is away removes what does not come back.
func (r *runner) tearDown(ctx context.Context) error {
	return r.call(ctx, &schedulerpb.Call{Type: schedulerpb.Call_TEARDOWN.Enum()})
}

// exitStatus turns a last status into the exit status of this process, and reports whether that says it all.
func exitStatus(end *mesos.TaskStatus, interrupted bool) (status int, explained bool) {
	for _, l := range end.GetLabels().GetLabels() {
		n, err := strconv.ParseUint(l.GetValue(), 10, 8)
		switch {
		case err != nil:
		case l.GetKey() == "exit_status":
			return int(n), true
		case l.GetKey() == "exit_signal":
			return 128 + int(n), interrupted
		}
	}
	switch {
	case end.GetState() == mesos.TaskState_TASK_FINISHED:
		return 0, true
	case interrupted:
		return 128 + 2, true
	case end.GetReason() == mesos.TaskStatus_REASON_CONTAINER_LIMITATION_MEMORY,
		end.GetState() == mesos.TaskState_TASK_KILLED:
		return 128 + 9, false
	}
	return exitNotRun, false
}
