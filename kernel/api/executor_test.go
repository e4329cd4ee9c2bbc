package api

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
)

// workplace is an agent with executor e of framework F, which has one event to hear.
type workplace struct {
	*host
	heard  []ExecutorCaller
	events chan *executorpb.Event
	left   int
}

func (w *workplace) ID() string                       { return "7" }
func (w *workplace) Events() <-chan *executorpb.Event { return w.events }
func (w *workplace) Close()                           { w.left++ }

func (w *workplace) SubscribeExecutor(ctx context.Context, c ExecutorCaller, call *executorpb.Call) (Stream[*executorpb.Event], Reply) {
	if r := w.CallExecutor(ctx, c, call); r.Status != 202 {
		return nil, r
	}
	return w, Reply{Status: 200}
}

func (w *workplace) CallExecutor(_ context.Context, c ExecutorCaller, call *executorpb.Call) Reply {
	w.heard = append(w.heard, c)
	if call.GetExecutorId().GetValue() != "e" {
		return Reply{400, "Executor cannot be found"}
	}
	return Reply{Status: 202}
}

func newWorkplace(t *testing.T) *workplace {
	w := &workplace{host: newHost(t), events: make(chan *executorpb.Event, 1)}
	w.events <- &executorpb.Event{Type: executorpb.Event_ACKNOWLEDGED.Enum(), Acknowledged: &executorpb.Event_Acknowledged{
		TaskId: &mesos.TaskID{Value: proto.String("t")}, Uuid: []byte("0123456789abcdef"),
	}}
	close(w.events)
	return w
}

func (w *workplace) to(t *testing.T, a ask) (status int, body string, mediaType string) {
	t.Helper()
	cfg := w.config()
	cfg.Executors = w
	r := a.to(t, Secure(NewAgent(cfg), SecureConfig{}))
	return r.StatusCode, bodyOf(t, r), r.Header.Get("Content-Type")
}

func TestExecutorCalls(t *testing.T) {
	const id = `"framework_id":{"value":"F"},"executor_id":{"value":"e"},`
	const acknowledged = `{"type":"ACKNOWLEDGED","acknowledged":{"task_id":{"value":"t"},"uuid":"MDEyMzQ1Njc4OWFiY2RlZg=="}}`
	const path = "/api/v1/executor"
	inProtobuf := wire(t, &executorpb.Call{
		FrameworkId: &mesos.FrameworkID{Value: proto.String("F")}, ExecutorId: &mesos.ExecutorID{Value: proto.String("e")},
		Type: executorpb.Call_MESSAGE.Enum(), Message: &executorpb.Call_Message{Data: []byte("hi")},
	})
	for name, c := range map[string]struct {
		ask     ask
		status  int
		message string // begins the body
	}{
		"method":             {ask{"GET", path, nil, ""}, 405, "405 Method Not Allowed."},
		"no content type":    {ask{"POST", path, nil, ""}, 400, "Expecting 'Content-Type' to be present"},
		"other content type": {ask{"POST", path, []string{"Content-Type: text/html"}, ""}, 415, "Expecting 'Content-Type' of application/json or application/x-protobuf"},
		"not JSON":           {ask{"POST", path, []string{asJSON}, "{"}, 400, "Failed to parse body into JSON: "},
		"not a call":         {ask{"POST", path, []string{asJSON}, "{}"}, 400, "Failed to convert JSON into Call protobuf: "},
		"not protobuf":       {ask{"POST", path, []string{asProtobuf}, "\xff"}, 400, "Failed to parse body into Call protobuf"},
		"no type":            {ask{"POST", path, []string{asJSON}, `{` + id + `"x":0}`}, 400, "Failed to validate executor::Call: Expecting 'type' to be present"},
		"unsound":            {ask{"POST", path, []string{asJSON}, `{` + id + `"type":"UPDATE"}`}, 400, "Failed to validate executor::Call: Expecting 'update' to be present"},
		"of the future":      {ask{"POST", path, []string{asJSON}, `{` + id + `"type":"UNKNOWN"}`}, 501, "The call UNKNOWN is not carried out"},
		"unacceptable":       {ask{"POST", path, []string{asJSON, "Accept: text/html"}, `{` + id + `"type":"SUBSCRIBE","subscribe":{}}`}, 406, "Expecting 'Accept' to allow "},
		"another executor":   {ask{"POST", path, []string{asJSON}, `{"framework_id":{"value":"F"},"executor_id":{"value":"x"},"type":"SUBSCRIBE","subscribe":{}}`}, 400, "Executor cannot be found"},
		"heartbeat":          {ask{"POST", path, []string{asJSON}, `{` + id + `"type":"HEARTBEAT"}`}, 202, ""},
		"message":            {ask{"POST", path, []string{asProtobuf}, inProtobuf}, 202, ""},
		"subscribe":          {ask{"POST", "/slave(1)" + path, []string{asJSON}, `{` + id + `"type":"SUBSCRIBE","subscribe":{}}`}, 200, "98\n" + acknowledged},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorkplace(t)
			status, body, _ := w.to(t, c.ask)
			if status != c.status || !strings.HasPrefix(body, c.message) || c.message == "" && body != "" {
				t.Errorf("got %d %q, want %d %q", status, body, c.status, c.message)
			}
		})
	}
	w := newWorkplace(t)
	w.recovered = false
	if status, body, _ := w.to(t, ask{"GET", path, nil, ""}); status != 503 || body != "Agent has not finished recovery" {
		t.Errorf("while recovering: %d %q", status, body)
	}
}

// The stream is of the form that was asked for, begins without a heartbeat, and is closed once.
func TestExecutorStream(t *testing.T) {
	w := newWorkplace(t)
	call := `{"framework_id":{"value":"F"},"executor_id":{"value":"e"},"type":"SUBSCRIBE","subscribe":{}}`
	status, body, mediaType := w.to(t, ask{"POST", "/api/v1/executor", []string{asJSON, "Accept: application/x-protobuf", "Authorization: Bearer abc"}, call})
	if status != 200 || mediaType != "application/x-protobuf" || !strings.Contains(body, "0123456789abcdef") || strings.Count(body, "\n") == 0 {
		t.Errorf("got %d %s %q", status, mediaType, body)
	}
	if w.left != 1 || len(w.heard) != 1 || w.heard[0].Token != "abc" {
		t.Errorf("closed %d times, heard %+v", w.left, w.heard)
	}
}

// An executor hears something every half hour, however quiet it is, and not before.
func TestExecutorHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		workplace := newWorkplace(t)
		workplace.events = make(chan *executorpb.Event, 1)
		workplace.events <- &executorpb.Event{Type: executorpb.Event_SUBSCRIBED.Enum()}
		cfg := workplace.config()
		cfg.Executors = workplace
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, "POST", "/api/v1/executor",
			strings.NewReader(`{"framework_id":{"value":"F"},"executor_id":{"value":"e"},"type":"SUBSCRIBE","subscribe":{}}`))
		r.Host = "localhost"
		r.Header.Set("Content-Type", jsonType)
		w := &timedWriter{header: http.Header{}, start: time.Now()}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Secure(NewAgent(cfg), SecureConfig{}).ServeHTTP(w, r)
		}()
		time.Sleep(61 * time.Minute)
		cancel()
		<-ended
		if want := "0s 1; 30m0s 1; 1h0m0s 1; "; w.log.String() != want {
			t.Errorf("records written at: %s; want %s", w.log.String(), want)
		}
	})
}

// What can't be written to an executor is told by an ERROR, and ends its stream.
func TestExecutorEventThatCannotBeWritten(t *testing.T) {
	w := newWorkplace(t)
	w.events = make(chan *executorpb.Event, 1)
	w.events <- &executorpb.Event{Type: executorpb.Event_KILL.Enum(), Kill: &executorpb.Event_Kill{}}
	close(w.events)
	_, body, _ := w.to(t, ask{"POST", "/api/v1/executor", []string{asJSON}, `{"framework_id":{"value":"F"},"executor_id":{"value":"e"},"type":"SUBSCRIBE","subscribe":{}}`})
	if !strings.Contains(body, `{"type":"ERROR","error":{"message":"The agent made an event of type KILL that can't be written: `) || w.left != 1 {
		t.Errorf("got %q, and it was closed %d times", body, w.left)
	}
}
