package framework

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// far is the kernel's end of a conversation in memory.
type far struct {
	toPlugin   chan *frameworkpb.ToFramework
	fromPlugin chan *frameworkpb.FromFramework
	received   chan error // why the plugin's receiving ended
}

func connect(t *testing.T, start *frameworkpb.Start) (*Kernel, *far) {
	f := &far{
		toPlugin:   make(chan *frameworkpb.ToFramework),
		fromPlugin: make(chan *frameworkpb.FromFramework, 1),
		received:   make(chan error, 1),
	}
	k := newKernel(start, func(m *frameworkpb.FromFramework) error {
		f.fromPlugin <- m
		return nil
	})
	go func() {
		f.received <- k.receive(func() (*frameworkpb.ToFramework, error) {
			m, ok := <-f.toPlugin
			if !ok {
				return nil, io.EOF
			}
			return m, nil
		})
	}()
	return k, f
}

func callReply(seq uint64, status int32, message string) *frameworkpb.ToFramework {
	return &frameworkpb.ToFramework{Body: &frameworkpb.ToFramework_CallReply{
		CallReply: &frameworkpb.CallReply{Seq: seq, Status: status, Message: message},
	}}
}

func stateReply(r *frameworkpb.StateReply) *frameworkpb.ToFramework {
	return &frameworkpb.ToFramework{Body: &frameworkpb.ToFramework_StateReply{StateReply: r}}
}

func TestCallsAreAnsweredByTheirOwnReplies(t *testing.T) {
	k, f := connect(t, &frameworkpb.Start{})
	call := &schedulerpb.Call{Type: schedulerpb.Call_REVIVE.Enum()}
	answers := make(chan error, 2)
	go func() { answers <- k.Call(t.Context(), call) }()
	first := (<-f.fromPlugin).GetCall().GetSeq()
	refused := make(chan error, 1)
	go func() { refused <- k.Call(t.Context(), call) }()
	second := (<-f.fromPlugin).GetCall().GetSeq()
	f.toPlugin <- callReply(second, 403, "not you")
	f.toPlugin <- callReply(9999, 202, "to nobody")
	f.toPlugin <- callReply(first, 202, "")
	if err := <-answers; err != nil {
		t.Error(err)
	}
	refusal, ok := errors.AsType[*CallError](<-refused)
	if !ok || refusal.Status != 403 || refusal.Message != "not you" {
		t.Errorf("refused with %v", refusal)
	}
}

func TestState(t *testing.T) {
	k, f := connect(t, &frameworkpb.Start{})
	go func() {
		list := (<-f.fromPlugin).GetState()
		entries := []*frameworkpb.Entry{{Key: list.GetList().GetPrefix() + "x", Revision: uint64(list.GetList().GetLimit())}}
		f.toPlugin <- stateReply(&frameworkpb.StateReply{Seq: list.GetSeq(), Entries: entries, More: true})
		txn := (<-f.fromPlugin).GetState()
		f.toPlugin <- stateReply(&frameworkpb.StateReply{Seq: txn.GetSeq(), Applied: true, Revision: 8})
		bad := (<-f.fromPlugin).GetState()
		f.toPlugin <- stateReply(&frameworkpb.StateReply{Seq: bad.GetSeq(), Error: "the key is too long"})
	}()
	entries, more, err := k.List(t.Context(), "app/", "", 7)
	if err != nil || !more || len(entries) != 1 || entries[0].Key != "app/x" || entries[0].Revision != 7 {
		t.Errorf("List: %v %v %v", entries, more, err)
	}
	if applied, revision, err := k.Txn(t.Context(), &frameworkpb.Txn{}); !applied || revision != 8 || err != nil {
		t.Errorf("Txn: %v %v %v", applied, revision, err)
	}
	if _, _, err := k.Txn(t.Context(), &frameworkpb.Txn{}); err == nil || err.Error() != "write state: the key is too long" {
		t.Errorf("Txn: %v", err)
	}
}

func TestTheKernelHangsUp(t *testing.T) {
	k, f := connect(t, &frameworkpb.Start{})
	waiting := make(chan error, 1)
	go func() { waiting <- k.Call(t.Context(), &schedulerpb.Call{}) }()
	<-f.fromPlugin
	close(f.toPlugin)
	if err := <-waiting; !errors.Is(err, ErrDisconnected) {
		t.Errorf("a call that waits: %v", err)
	}
	if err := k.Call(t.Context(), &schedulerpb.Call{}); !errors.Is(err, ErrDisconnected) {
		t.Errorf("a later call: %v", err)
	}
	if _, open := <-k.Events(); open {
		t.Error("events go on")
	}
}

func TestAPluginThatDoesNotReadIsCutOff(t *testing.T) {
	_, f := connect(t, &frameworkpb.Start{})
	event := &frameworkpb.ToFramework{Body: &frameworkpb.ToFramework_Event{Event: &schedulerpb.Event{}}}
	for range eventQueue + 1 {
		f.toPlugin <- event
	}
	if err := <-f.received; !errors.Is(err, ErrSlow) {
		t.Errorf("receiving ended with %v", err)
	}
}

func TestServe(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "http")
	k, f := connect(t, &frameworkpb.Start{HttpSocket: socket})
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() {
		served <- k.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }))
	}()
	if (<-f.fromPlugin).GetReady() == nil {
		t.Fatal("something before ready")
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	answer, err := client.Get("http://plugin/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); string(body) != "hello" || err != nil {
		t.Errorf("%q %v", body, err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := (&Kernel{start: &frameworkpb.Start{Name: "web"}}).Serve(t.Context(), nil); err == nil {
		t.Error("served without a listener")
	}
}
