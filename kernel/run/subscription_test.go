package run

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/id"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
)

func errorOf(bytes int) *schedulerpb.Event {
	text := strings.Repeat("x", bytes)
	return &schedulerpb.Event{Type: schedulerpb.Event_ERROR.Enum(), Error: &schedulerpb.Event_Error{Message: &text}}
}

// whatIsLeft reads a subscription to its end.
func whatIsLeft(s *subscription[*schedulerpb.Event]) (events int, last string) {
	for e := range s.Events() {
		events++
		last = e.GetError().GetMessage()
	}
	return events, last
}

// An event may be of any size, and so may be what stands behind it up to the bound: only what
// is more drops the reader, who hears why instead of all of it.
func TestOneReaderIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o, gone := newOutlets(), 0
		s := o.subscribe("s", func(context.Context, id.Stream) { gone++ })
		s.deliver(errorOf(3 * maxUnread))
		for range 15 {
			s.deliver(errorOf(1 << 20))
		}
		synctest.Wait()
		if gone != 0 {
			t.Fatal("dropped before the bound")
		}
		<-s.Events() // the large one
		synctest.Wait()
		for range 3 {
			s.deliver(errorOf(1 << 20))
		}
		synctest.Wait()
		if gone != 1 || o.streams["s"] != nil {
			t.Fatalf("%d readers are gone", gone)
		}
		s.deliver(errorOf(1))
		if events, last := whatIsLeft(s); events != 1 || !strings.HasPrefix(last, "Dropped for reading too slowly: more than ") {
			t.Errorf("%d events were left, the last %.200q", events, last)
		}
		if n := o.unread.Load(); n != 0 {
			t.Errorf("%d bytes are accounted for, and nothing waits", n)
		}
		s.Close()
		if gone != 1 {
			t.Error("told twice that it is gone")
		}
	})
}

// newsOf is news of a framework with a long name.
func newsOf(kind masterpb.Event_Type, bytes int) *masterpb.Event {
	name := strings.Repeat("x", bytes)
	return &masterpb.Event{Type: kind.Enum(), FrameworkAdded: &masterpb.Event_FrameworkAdded{
		Framework: &masterpb.Response_GetFrameworks_Framework{FrameworkInfo: &mesos.FrameworkInfo{Name: &name}},
	}}
}

// All readers of a listener together are bounded: the slowest goes first, whoever it is that
// the last event was for, and those that are left lose nothing.
func TestAllReadersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutlets()
		var gone []id.Stream
		var readers []*subscription[*schedulerpb.Event]
		for _, name := range []id.Stream{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"} {
			readers = append(readers, o.subscribe(name, func(_ context.Context, s id.Stream) { gone = append(gone, s) }))
		}
		watcher := o.watch("watcher", func(s id.Stream) { gone = append(gone, s) })
		megabyte, news := errorOf(1<<20), newsOf(masterpb.Event_FRAMEWORK_ADDED, 1<<20)
		given := make([]int, len(readers))
		give := func(reader, megabytes int) {
			out := &core.Effects{}
			for range megabytes {
				out.Notify = append(out.Notify, core.Notice{Stream: readers[reader].id, Event: megabyte})
			}
			given[reader] += megabytes
			o.deliver(out, nil)
			synctest.Wait()
		}
		for i := range readers {
			give(i, 12)
		}
		give(7, 4)
		give(3, 3) // 127 MiB together
		if len(gone) != 0 {
			t.Fatalf("within the bound %v were dropped", gone)
		}
		give(0, 1)
		if !slices.Equal(gone, []id.Stream{"7"}) {
			t.Fatalf("dropped: %v, want the slowest", gone)
		}
		out := &core.Effects{}
		for range 16 { // 128 MiB again, and a bit
			out.News = append(out.News, core.News{Stream: "watcher", Event: news})
		}
		o.deliver(out, nil)
		synctest.Wait()
		if !slices.Equal(gone, []id.Stream{"7", "watcher"}) {
			t.Fatalf("dropped: %v, want the watcher after it", gone)
		}
		for range watcher.Events() {
			t.Error("the watcher that was dropped gets news")
		}
		if events, last := whatIsLeft(readers[7]); events != 1 || !strings.Contains(last, "the most of all subscribers") {
			t.Errorf("%d events were left to the slowest, the last %.200q", events, last)
		}
		for i, reader := range readers {
			if i == 7 {
				continue
			}
			reader.end()
			if events, last := whatIsLeft(reader); events != given[i] || len(last) != 1<<20 {
				t.Errorf("reader %d got %d events, want %d", i, events, given[i])
			}
		}
		if n := o.unread.Load(); n != 0 {
			t.Errorf("%d bytes are accounted for, and nothing waits", n)
		}
	})
}

// One that is alone has its own bound only: the state of a large cluster may be more than all
// of it.
func TestReaderThatIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := newOutlets()
		watcher := o.watch("watcher", func(id.Stream) { t.Error("dropped") })
		o.deliver(&core.Effects{News: []core.News{{Stream: "watcher", Event: newsOf(masterpb.Event_SUBSCRIBED, maxAllUnread)}}}, nil)
		if got := <-watcher.Events(); proto.Size(got) <= maxAllUnread {
			t.Error("an odd event")
		}
		watcher.end()
		for range watcher.Events() {
			t.Error("another event")
		}
	})
}
