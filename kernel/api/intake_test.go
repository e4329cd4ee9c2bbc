package api

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	executorpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/executor"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// heavy are bodies of 6 MB that ask for hundreds.
func heavy() map[string]struct {
	codec codec
	body  []byte
	into  message
} {
	repeat := func(open, part, end string) []byte {
		return []byte(open + strings.Repeat(part, (6<<20)/len(part)) + end)
	}
	wrapped := func(tag byte, inner []byte) []byte {
		var n []byte
		for rest := uint(len(inner)); ; rest >>= 7 {
			if rest < 0x80 {
				n = append(n, byte(rest))
				break
			}
			n = append(n, byte(rest)|0x80)
		}
		return append(append([]byte{tag}, n...), inner...)
	}
	return map[string]struct {
		codec codec
		body  []byte
		into  message
	}{
		"empty operations, protobuf": {protobufCodec{}, wrapped(0x22, repeat("", "\x12\x00", "")), &schedulerpb.Call{}}, // accept.operations
		"empty operations, JSON":     {jsonCodec{}, repeat(`{"accept":{"operations":[`, "{},", "{}]}}"), &schedulerpb.Call{}},
		"empty tasks of an executor": {protobufCodec{}, wrapped(0x22, repeat("", "\x0a\x00", "")), &executorpb.Call{}}, // subscribe.unacknowledged_tasks
		"empty strings":              {jsonCodec{}, repeat(`{"revive":{"roles":[`, `"",`, `""]}}`), &schedulerpb.Call{}},
		"lists in lists":             {jsonCodec{}, repeat(`{"accept":{"operations":[`, "[{}],", "{}]}}"), &schedulerpb.Call{}},
		"one list after the other":   {jsonCodec{}, repeat(`{"accept":{`, `"operations":{},`, `"operations":{}}}`), &schedulerpb.Call{}},
	}
}

// What asks for more than a message may have is refused before it has taken that.
func TestHeavyMessagesAreRefused(t *testing.T) {
	for name, test := range heavy() {
		t.Run(name, func(t *testing.T) {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := test.codec.decode(test.body, test.into)
			runtime.ReadMemStats(&after)
			taken := after.TotalAlloc - before.TotalAlloc
			if err == nil || taken > 4*maxMessage {
				t.Errorf("%v; %d MB were taken", err, taken>>20)
			}
		})
	}
}

// The large calls that clients really send are no trouble.
func TestLargeHonestCalls(t *testing.T) {
	f := &mesos.FrameworkID{Value: proto.String("F")}
	launch := &mesos.Offer_Operation{Type: mesos.Offer_Operation_LAUNCH.Enum(), Launch: &mesos.Offer_Operation_Launch{}}
	for i := range 1000 {
		scalar := func(name string, v float64) *mesos.Resource {
			return &mesos.Resource{Name: &name, Type: mesos.Value_SCALAR.Enum(), Scalar: &mesos.Value_Scalar{Value: &v}, Role: proto.String("*")}
		}
		launch.Launch.TaskInfos = append(launch.Launch.TaskInfos, &mesos.TaskInfo{
			Name: proto.String("t"), TaskId: &mesos.TaskID{Value: proto.String(fmt.Sprint("task-", i))}, AgentId: &mesos.AgentID{Value: proto.String("A")},
			Resources: []*mesos.Resource{scalar("cpus", 1), scalar("mem", 64), scalar("disk", 1)},
			Command:   &mesos.CommandInfo{Value: proto.String("true")}, Data: bytes.Repeat([]byte{byte(i)}, 4096),
		})
	}
	reconcile := &schedulerpb.Call_Reconcile{}
	for i := range 50_000 {
		reconcile.Tasks = append(reconcile.Tasks, &schedulerpb.Call_Reconcile_Task{
			TaskId:  &mesos.TaskID{Value: proto.String(fmt.Sprintf("service_instance-0123456789abcdef._app.%d", i))},
			AgentId: &mesos.AgentID{Value: proto.String("01234567-89ab-cdef-0123-456789abcdef-S0")},
		})
	}
	for name, call := range map[string]*schedulerpb.Call{
		"a launch of 1,000 tasks with 4 kB of data": {FrameworkId: f, Type: schedulerpb.Call_ACCEPT.Enum(), Accept: &schedulerpb.Call_Accept{
			OfferIds: []*mesos.OfferID{{Value: proto.String("O")}}, Operations: []*mesos.Offer_Operation{launch},
		}},
		"50,000 tasks to reconcile": {FrameworkId: f, Type: schedulerpb.Call_RECONCILE.Enum(), Reconcile: reconcile},
	} {
		for _, c := range []codec{jsonCodec{}, protobufCodec{}} {
			t.Run(name+" as "+c.mediaType(), func(t *testing.T) {
				body, err := c.encode(nil, call)
				if err != nil {
					t.Fatal(err)
				}
				cluster := newCluster()
				r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1/api/v1/scheduler", bytes.NewReader(body))
				r.Header.Set("Content-Type", c.mediaType())
				r.Header.Set(streamHeader, "stream-1")
				w := httptest.NewRecorder()
				cluster.handler().ServeHTTP(w, r)
				if w.Code != 202 || len(cluster.calls) != 1 {
					t.Fatalf("%d bytes: %d %s", len(body), w.Code, w.Body)
				}
				if back, err := c.encode(nil, cluster.calls[0]); err != nil || !bytes.Equal(back, body) {
					t.Errorf("the call of %d bytes came as one of %d: %v", len(body), len(back), err)
				}
			})
		}
	}
}

// Every answer leaves the intake as it was: whatever the body was, and while a stream goes on.
func TestIntakeIsGivenBack(t *testing.T) {
	cluster := newCluster()
	m := &master{cluster.config(), newIntake()}
	empty := func() bool {
		for of, all := range map[interface {
			TryAcquire(int64) bool
			Release(int64)
		}]int64{m.intake.reading: maxReading, m.intake.small: maxSmall, m.intake.large: maxLarge} {
			if !of.TryAcquire(all) {
				return false
			}
			of.Release(all)
		}
		return true
	}
	post := func(ctx context.Context, contentType string, body []byte) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/api/v1/scheduler", bytes.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		w := httptest.NewRecorder()
		m.scheduler(w, r)
		return w
	}
	bodies := map[string][]byte{
		"{": []byte("{"), "no call": []byte("{}"), "no JSON, large": bytes.Repeat([]byte("x"), 1<<20), "no framework": []byte(`{"type":"TEARDOWN","framework_id":{"value":"G"}}`),
	}
	for name, test := range heavy() {
		bodies[name] = test.body
	}
	for name, body := range bodies {
		for _, contentType := range []string{jsonType, protobufType} {
			if w := post(t.Context(), contentType, body); w.Code < 400 || !empty() {
				t.Errorf("%s as %s: %d, and the intake is empty: %t", name, contentType, w.Code, empty())
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	over := make(chan struct{})
	go func() {
		defer close(over)
		post(ctx, jsonType, []byte(`{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"u","name":"n"}}}`))
	}()
	cluster.stream.events <- &schedulerpb.Event{Type: schedulerpb.Event_HEARTBEAT.Enum()}
	for len(cluster.stream.events) > 0 { // until the stream is served
		runtime.Gosched()
	}
	if !empty() {
		t.Error("a stream holds what its SUBSCRIBE took")
	}
	cancel()
	<-over
}

// Who finds no room waits, and goes when the client does; what is small goes on beside it.
func TestNoRoom(t *testing.T) {
	cluster := newCluster()
	m := &master{cluster.config(), newIntake()}
	if !m.intake.large.TryAcquire(maxLarge) {
		t.Fatal("no room at the start")
	}
	post := func(size int, within time.Duration) int {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		body := `{"type":"TEARDOWN","framework_id":{"value":"F"}}` + strings.Repeat(" ", size)
		r := httptest.NewRequestWithContext(ctx, http.MethodPost, "http://127.0.0.1/api/v1/scheduler", strings.NewReader(body))
		r.Header.Set("Content-Type", jsonType)
		r.Header.Set(streamHeader, "stream-1")
		w := httptest.NewRecorder()
		m.scheduler(w, r)
		return w.Code
	}
	if status := post(1<<20, time.Millisecond); status != 503 {
		t.Errorf("a large body: %d", status)
	}
	if status := post(100, time.Minute); status != 202 {
		t.Errorf("a small one: %d", status)
	}
	m.intake.large.Release(maxLarge)
	if status := post(1<<20, time.Minute); status != 202 {
		t.Errorf("a large body where there is room: %d", status)
	}
}
