package cli

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/cmd/gantry/internal/client"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

const (
	// awayWithin is how long there may be no master: the next one gives frameworks 75 s to come back.
	awayWithin = time.Minute

	// rejoinPause is the pause before the next attempt to subscribe; it doubles.
	rejoinPause, maxRejoinPause = 50 * time.Millisecond, time.Second

	// askEvery is how often the next master is asked what became of a task, which it may have to learn from the agent.
	askEvery = time.Second
)

// rejoined is the framework's next subscription, or why there is none.
type rejoined struct {
	session *client.Session
	err     error
}

// rejoin subscribes again under the framework's id after its connection ended, as soon as there is a master.
func (r *runner) rejoin(ctx context.Context, ended error) rejoined {
	info := frameworkInfo(r.job)
	info.Id = &mesos.FrameworkID{Value: proto.String(r.scheduler.FrameworkID())}
	r.scheduler.Close()
	begun := time.Now()
	for pause := rejoinPause; ; pause = min(2*pause, maxRejoinPause) {
		session, err := r.client.Subscribe(ctx, info)
		switch {
		case err == nil:
			return rejoined{session: session}
		case !noMaster(err) || time.Since(begun) > awayWithin:
			return rejoined{err: fmt.Errorf("the connection to the master ended (%w), and the task with it: %w", ended, err)}
		}
		select {
		case <-time.After(pause/2 + rand.N(pause/2)):
		case <-ctx.Done():
			return rejoined{err: ctx.Err()}
		}
	}
}

// noMaster tells a master that is away, or does not know the framework again yet, from one that refuses.
func noMaster(err error) bool {
	var status *client.StatusError
	if errors.As(err, &status) {
		return status.Status == http.StatusServiceUnavailable || status.Status == http.StatusForbidden
	}
	return !errors.Is(err, client.ErrRejected)
}

// resume goes on with another master, or a new connection to the same: what was said last may not have been heard.
func (r *runner) resume(ctx context.Context, session *client.Session) error {
	r.scheduler, r.away = session, false
	if !r.launched {
		return nil
	}
	r.unsure = true
	if err := r.suppress(ctx); err != nil {
		return err
	}
	if r.interrupted {
		if err := r.kill(ctx); err != nil {
			return err
		}
	}
	return r.reconcile(ctx)
}

// reconcile asks what became of the task, as long as that is not known.
func (r *runner) reconcile(ctx context.Context) error {
	if !r.unsure {
		return nil
	}
	return r.call(ctx, &schedulerpb.Call{
		Type: schedulerpb.Call_RECONCILE.Enum(),
		Reconcile: &schedulerpb.Call_Reconcile{Tasks: []*schedulerpb.Call_Reconcile_Task{{
			TaskId: &mesos.TaskID{Value: &r.task}, AgentId: r.agent,
		}}},
	})
}

// call makes a call, unless there is no master. That it is not heard is no error: the connection is then given up, and
// resume says again what matters.
func (r *runner) call(ctx context.Context, call *schedulerpb.Call) error {
	if r.away {
		return nil
	}
	err := r.scheduler.Call(ctx, call)
	if err != nil && noMaster(err) {
		r.scheduler.Close() // its reader tells
		return nil
	}
	return err
}
