package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
	"github.com/gantry-project/gantry/sdk/recordio"
)

// served starts a real server for the cluster.
func served(t *testing.T, c *cluster, heartbeat time.Duration) *httptest.Server {
	t.Helper()
	cfg := c.config()
	cfg.Heartbeat = heartbeat
	s := httptest.NewUnstartedServer(nil)
	s.Config = NewServer(Secure(NewMaster(cfg), SecureConfig{}))
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func subscribeTo(t *testing.T, s *httptest.Server, ctx context.Context, accept string) *http.Response {
	t.Helper()
	body := strings.NewReader(wire(t, subscribeCall("x")))
	r, err := http.NewRequestWithContext(ctx, "POST", s.URL+"/api/v1/scheduler", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", protobufType)
	r.Header.Set("Accept", accept)
	response, err := s.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

func subscribed() *schedulerpb.Event {
	return &schedulerpb.Event{Type: schedulerpb.Event_SUBSCRIBED.Enum(), Subscribed: &schedulerpb.Event_Subscribed{
		FrameworkId: frameworkID("F"), HeartbeatIntervalSeconds: proto.Float64(15),
	}}
}

func errorEvent(text string) *schedulerpb.Event {
	return &schedulerpb.Event{Type: schedulerpb.Event_ERROR.Enum(), Error: &schedulerpb.Event_Error{Message: &text}}
}

// readEvents reads to the end of a stream.
func readEvents(t *testing.T, in io.Reader, c codec) []string {
	t.Helper()
	var got []string
	records := recordio.NewReader(in, 1<<20)
	for {
		record, err := records.Next()
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		e := &schedulerpb.Event{}
		if _, err := c.decode(record, e); err != nil {
			t.Fatalf("record %q: %v", record, err)
		}
		got = append(got, e.GetType().String()+e.GetError().GetMessage())
	}
}

func TestSubscribe(t *testing.T) {
	for _, c := range []codec{jsonCodec{}, protobufCodec{}} {
		cluster := newCluster()
		cluster.stream.events <- subscribed()
		cluster.stream.events <- errorEvent(" that's all")
		close(cluster.stream.events)
		r := subscribeTo(t, served(t, cluster, time.Hour), t.Context(), c.mediaType())
		if r.StatusCode != 200 || r.Header.Get("Content-Type") != c.mediaType() || r.Header.Get("Mesos-Stream-Id") != "stream-1" {
			t.Errorf("%s: %d %v", c.mediaType(), r.StatusCode, r.Header)
		}
		got := strings.Join(readEvents(t, r.Body, c), ", ")
		if want := "SUBSCRIBED, HEARTBEAT, ERROR that's all"; got != want {
			t.Errorf("%s: got %s, want %s", c.mediaType(), got, want)
		}
		<-cluster.stream.closed
	}
}

// A subscription that fails behind the checks gets its ERROR, and no heartbeat.
func TestFailedSubscription(t *testing.T) {
	c := newCluster()
	c.stream.events <- errorEvent(" no")
	close(c.stream.events)
	r := subscribeTo(t, served(t, c, time.Nanosecond), t.Context(), jsonType)
	if got := strings.Join(readEvents(t, r.Body, jsonCodec{}), ", "); got != "ERROR no" {
		t.Errorf("got %s", got)
	}
}

// The head of the answer and each event leave at once, not when a buffer is full.
func TestEventsLeaveAtOnce(t *testing.T) {
	c := newCluster()
	r := subscribeTo(t, served(t, c, time.Hour), t.Context(), jsonType) // returns with the head
	records := recordio.NewReader(r.Body, 1<<20)
	for _, text := range []string{"one", "two", "three"} {
		c.stream.events <- errorEvent(text)
		record, err := records.Next()
		if err != nil || !strings.Contains(string(record), text) {
			t.Fatalf("want %s, got %q, %v", text, record, err)
		}
	}
}

func TestEventThatCannotBeWritten(t *testing.T) {
	c := newCluster()
	c.stream.events <- &schedulerpb.Event{Type: schedulerpb.Event_FAILURE.Enum(), Rescind: &schedulerpb.Event_Rescind{}}
	r := subscribeTo(t, served(t, c, time.Hour), t.Context(), protobufType)
	got := readEvents(t, r.Body, protobufCodec{})
	if len(got) != 1 || !strings.HasPrefix(got[0], "ERRORThe master made an event of type FAILURE that can't be written: ") {
		t.Errorf("got %q", got)
	}
	<-c.stream.closed
}

func TestClientThatLeaves(t *testing.T) {
	c := newCluster()
	ctx, leave := context.WithCancel(t.Context())
	subscribeTo(t, served(t, c, time.Hour), ctx, jsonType)
	leave()
	<-c.stream.closed
}

// A client that does not read is dropped once the connection takes no more, for all that
// the stream has to say. Time is the bubble's own.
func TestSlowClientIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		client := piped(t, c) // holds nothing: each write waits for a reader
		subscribeBy(t, client)
		start := time.Now()
		c.stream.events <- subscribed()
		<-c.stream.closed
		if took := time.Since(start); took != drainWithin {
			t.Errorf("dropped after %s, want %s", took, drainWithin)
		}
	})
}

// A stream outlives the times that a request and its answer may take.
func TestLongStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		client := piped(t, c)
		subscribeBy(t, client)
		c.stream.events <- subscribed()
		start, buf := time.Now(), make([]byte, 4096)
		for time.Since(start) < time.Hour {
			if _, err := client.Read(buf); err != nil {
				t.Fatalf("after %s: %v", time.Since(start), err)
			}
		}
		client.Close()
		<-c.stream.closed
	})
}

// piped serves the cluster on a connection in memory, for use in a bubble.
func piped(t *testing.T, c *cluster) net.Conn {
	client, server := net.Pipe()
	l := &oneConn{conns: make(chan net.Conn, 1), done: make(chan struct{})}
	l.conns <- server
	s := NewServer(Secure(NewMaster(c.config()), SecureConfig{Hosts: []string{"test"}}))
	go s.Serve(l)
	t.Cleanup(func() {
		client.Close()
		s.Close()
	})
	return client
}

// subscribeBy sends SUBSCRIBE and reads the head of the answer.
func subscribeBy(t *testing.T, client net.Conn) {
	t.Helper()
	r, err := http.NewRequest("POST", "http://test/api/v1/scheduler", strings.NewReader(wire(t, subscribeCall("x"))))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", protobufType)
	if err := r.Write(client); err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 4096)
	if _, err := client.Read(head); err != nil || !strings.HasPrefix(string(head), "HTTP/1.1 200 OK\r\n") {
		t.Fatalf("%q, %v", head, err)
	}
}

// Heartbeats come with SUBSCRIBED and then at the interval, on a stream that says nothing.
func TestHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster()
		w := &timedWriter{header: http.Header{}, start: time.Now()}
		ctx, cancel := context.WithCancel(t.Context())
		r := httptest.NewRequestWithContext(ctx, "POST", "/api/v1/scheduler", strings.NewReader(wire(t, subscribeCall("x"))))
		r.Host = "localhost"
		r.Header.Set("Content-Type", protobufType)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			c.handler().ServeHTTP(w, r)
		}()
		time.Sleep(5 * time.Second)
		c.stream.events <- subscribed()
		time.Sleep(50 * time.Second)
		cancel()
		<-ended
		<-c.stream.closed
		want := "5s 1; 5s 1; 20s 1; 35s 1; 50s 1; "
		if w.log.String() != want {
			t.Errorf("records written at: %s; want %s", w.log.String(), want)
		}
	})
}

// timedWriter logs when it was written to, and how many records there were.
type timedWriter struct {
	header http.Header
	start  time.Time
	log    strings.Builder
}

func (w *timedWriter) Header() http.Header { return w.header }
func (w *timedWriter) WriteHeader(int)     {}
func (w *timedWriter) Flush()              {}
func (w *timedWriter) Write(p []byte) (int, error) {
	records := strings.Count(string(p), `"type":`)
	w.log.WriteString(time.Since(w.start).String() + " " + string(rune('0'+records)) + "; ")
	return len(p), nil
}

// oneConn is a listener with connections that are there already.
type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *oneConn) Close() error   { close(l.done); return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "test"} }
