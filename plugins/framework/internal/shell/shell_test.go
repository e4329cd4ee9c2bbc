package shell

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/gantry-project/gantry/plugins/framework/internal/machine"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

// ledger is a kernel that notes what it is asked, in order.
type ledger struct {
	events chan *schedulerpb.Event
	asked  []string
	sizes  []int // keys of each transaction
	refuse error
}

func (l *ledger) Events() <-chan *schedulerpb.Event { return l.events }

func (l *ledger) Call(_ context.Context, c *schedulerpb.Call) error {
	l.asked = append(l.asked, c.GetType().String())
	return nil
}

func (l *ledger) List(context.Context, string, string, int) ([]*frameworkpb.Entry, bool, error) {
	return []*frameworkpb.Entry{{Key: "before", Value: []byte("x")}}, false, nil
}

func (l *ledger) Txn(_ context.Context, t *frameworkpb.Txn) (bool, uint64, error) {
	if l.refuse != nil {
		return false, 0, l.refuse
	}
	var keys []string
	for _, put := range t.GetPuts() {
		keys = append(keys, put.GetKey())
	}
	l.sizes = append(l.sizes, len(keys)+len(t.GetDeletes()))
	if len(keys) < 5 {
		l.asked = append(l.asked, "write "+strings.Join(keys, " ")+" erase "+strings.Join(t.GetDeletes(), " "))
	}
	return true, 1, nil
}

// echo is a machine that does what it is asked: a Request's op is the effects of its step.
type echo struct{ loaded []machine.Write }

func (e *echo) Step(_ time.Time, ev machine.Event, out *machine.Effects) {
	if r, ok := ev.(machine.Request); ok {
		op := r.Op.(machine.Effects)
		out.Persist = append(out.Persist, op.Persist...)
		out.Calls = append(out.Calls, op.Calls...)
		out.Replies = append(out.Replies, machine.Reply{Token: r.Token, Value: len(op.Persist)})
		out.Failed += op.Failed
	}
}

func (e *echo) NextDeadline() (time.Time, bool) { return time.Time{}, false }

func run(t *testing.T, l *ledger) (*Owner[*echo], chan error) {
	l.events = make(chan *schedulerpb.Event)
	o, err := Load(t.Context(), l, slog.New(slog.DiscardHandler), func(records []machine.Write) (*echo, error) {
		return &echo{records}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- o.Run(t.Context(), time.Now) }()
	return o, ended
}

func put(key, value string) machine.Write { return machine.Write{Key: key, Value: []byte(value)} }

func TestWritesComeBeforeCallsBeforeReplies(t *testing.T) {
	l := new(ledger)
	o, _ := run(t, l)
	n, err := o.Do(t.Context(), machine.Effects{
		Persist: []machine.Write{put("a", "1"), put("b", "1"), put("a", "2"), {Key: "c"}},
		Calls:   []*schedulerpb.Call{{Type: schedulerpb.Call_REVIVE.Enum()}},
	})
	if err != nil || n != 4 {
		t.Fatal(n, err)
	}
	if want := []string{"write a b erase c", "REVIVE"}; !reflect.DeepEqual(l.asked, want) {
		t.Errorf("the kernel was asked %q, want %q", l.asked, want)
	}
	err = o.View(t.Context(), func(e *echo, _ time.Time) {
		if len(e.loaded) != 1 || e.loaded[0].Key != "before" {
			t.Errorf("loaded %v", e.loaded)
		}
	})
	if err != nil {
		t.Error(err)
	}
}

// What one step writes is in one transaction, however full the one before it is.
func TestAStepIsNotDivided(t *testing.T) {
	l := new(ledger)
	o, _ := run(t, l)
	step := func(name string, n int) []machine.Write {
		var writes []machine.Write
		for i := range n {
			writes = append(writes, put(fmt.Sprint(name, i), "x"))
		}
		return writes
	}
	var writes []machine.Write
	var ends []int
	for i, n := range []int{txnOps - 10, 20, 30, txnOps, txnOps + 5, 1} {
		writes = append(writes, step(fmt.Sprint(i, "-"), n)...)
		ends = append(ends, len(writes))
	}
	if err := o.persist(t.Context(), writes, ends); err != nil {
		t.Fatal(err)
	}
	if want := []int{txnOps - 10, 50, txnOps, txnOps, 6}; !reflect.DeepEqual(l.sizes, want) { // one step is too large for any
		t.Errorf("transactions of %v writes, want %v", l.sizes, want)
	}
}

func TestWhatEndsASession(t *testing.T) {
	l := new(ledger)
	o, ended := run(t, l)
	if _, err := o.Do(t.Context(), machine.Effects{Failed: "no more"}); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "no more") {
		t.Errorf("the session ended with %v", err)
	}
	l = &ledger{refuse: errors.New("no space left")}
	o, ended = run(t, l)
	if _, err := o.Do(t.Context(), machine.Effects{Persist: []machine.Write{put("a", "1")}}); !errors.Is(err, ErrEnded) {
		t.Errorf("what is not durable is answered %v", err)
	}
	if err := <-ended; !errors.Is(err, l.refuse) {
		t.Errorf("the session ended with %v", err)
	}
}
