package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gantry-project/gantry/kernel/auth"
	"github.com/gantry-project/gantry/kernel/rules"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

// executorHeartbeat is how often an executor hears something, as it always was.
const executorHeartbeat = 30 * time.Minute

// ExecutorCaller is what is known of who sent a call that claims to be an executor's.
type ExecutorCaller struct {
	// Token is the bearer token of the Authorization header, empty without one.
	Token string
	// Remote and Local are the two ends of the connection, as HOST:PORT.
	Remote, Local string
}

// Executors is what the executor API asks of the agent. Calls have passed the checks that
// need no state (rules.ExecutorCall).
type Executors interface {
	// SubscribeExecutor opens an event stream; it is nil unless the status is 200.
	SubscribeExecutor(context.Context, ExecutorCaller, *executorpb.Call) (Stream[*executorpb.Event], Reply)
	// CallExecutor carries out any other call.
	CallExecutor(context.Context, ExecutorCaller, *executorpb.Call) Reply
}

// executor is POST /api/v1/executor. Up to here the order of the checks needs no state;
// the rest of it is in Executors.
func (a *agent) executor(w http.ResponseWriter, r *http.Request) {
	if !a.State.Recovered() {
		answer(w, Reply{503, "Agent has not finished recovery"})
		return
	}
	if r.Method != http.MethodPost {
		wrongMethod(w, r, http.MethodPost)
		return
	}
	call := &executorpb.Call{}
	taken, refused := a.intake.call(r, call)
	if refused != nil {
		answer(w, *refused)
		return
	}
	defer taken.release()
	if err := rules.ExecutorCall(call); err != nil {
		answer(w, Reply{400, "Failed to validate executor::Call: " + err.Error()})
		return
	}
	if call.GetType() != executorpb.Call_SUBSCRIBE {
		if call.GetType() == executorpb.Call_UNKNOWN {
			answer(w, notYet(call.GetType()))
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), callWithin)
		defer cancel()
		answer(w, a.Executors.CallExecutor(ctx, executorCaller(r), call))
		return
	}
	out, ok := acceptCodec(r)
	if !ok {
		answer(w, notAcceptable())
		return
	}
	stream, reply := a.Executors.SubscribeExecutor(r.Context(), executorCaller(r), call)
	if reply.Status != 200 {
		answer(w, reply)
		return
	}
	defer stream.Close()
	taken.release() // the stream may last for ever
	s := &sender[*executorpb.Event]{
		codec:     out,
		heartbeat: &executorpb.Event{Type: executorpb.Event_HEARTBEAT.Enum()},
		// There is none behind SUBSCRIBED: older executors end when they hear what they don't know.
		subscribed: true,
		lastWords: func(e *executorpb.Event, err error) *executorpb.Event {
			text := "The agent made an event of type " + e.GetType().String() + " that can't be written: " + err.Error()
			return &executorpb.Event{Type: executorpb.Event_ERROR.Enum(), Error: &executorpb.Event_Error{Message: &text}}
		},
	}
	s.serve(w, r, stream.Events(), executorHeartbeat)
}

func executorCaller(r *http.Request) ExecutorCaller {
	c := ExecutorCaller{Remote: r.RemoteAddr}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(interface{ String() string }); ok {
		c.Local = local.String()
	}
	if token, ok := auth.Bearer(r.Header.Get("Authorization")); ok {
		c.Token = token
	}
	return c
}
