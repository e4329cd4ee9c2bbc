package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
	"github.com/gantry-project/gantry/sdk/recordio"
)

const (
	schedulerPath  = "/api/v1/scheduler"
	streamIDHeader = "Mesos-Stream-Id"

	// maxEventBytes bounds one event: an offer of every agent of a large cluster.
	maxEventBytes = 64 << 20
)

// ErrRejected says that the master does not let the framework subscribe.
var ErrRejected = errors.New("the master rejected the framework")

// Session is one subscription of a scheduler. Next is for one goroutine; Call may be used by others beside it.
type Session struct {
	client    *Client
	framework *mesos.FrameworkID
	streamID  string
	body      io.Closer
	records   *recordio.Reader
}

// Subscribe registers a framework, or one that has an id again, and waits for SUBSCRIBED: ErrRejected if the master answers
// with an error instead. The session ends with ctx, with Close, or when the
// master goes.
func (c *Client) Subscribe(ctx context.Context, info *mesos.FrameworkInfo) (*Session, error) {
	call := &schedulerpb.Call{
		Type:        schedulerpb.Call_SUBSCRIBE.Enum(),
		FrameworkId: info.Id,
		Subscribe:   &schedulerpb.Call_Subscribe{FrameworkInfo: info},
	}
	body, err := proto.Marshal(call)
	if err != nil {
		return nil, fmt.Errorf("encode SUBSCRIBE: %w", err)
	}
	header := http.Header{"Content-Type": {protobufType}, "Accept": {protobufType}}
	resp, err := c.send(ctx, request{http.MethodPost, c.master, schedulerPath, header, body})
	if err != nil {
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s := &Session{
		client:   c,
		streamID: resp.Header.Get(streamIDHeader),
		body:     resp.Body,
		records:  recordio.NewReader(resp.Body, maxEventBytes),
	}
	event, err := s.Next()
	switch {
	case err != nil:
	case event.GetType() == schedulerpb.Event_ERROR:
		err = fmt.Errorf("%w: %s", ErrRejected, event.GetError().GetMessage())
	case event.GetType() != schedulerpb.Event_SUBSCRIBED:
		err = fmt.Errorf("the first event was %s", event.GetType())
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("subscribe: %w", err)
	}
	s.framework = event.GetSubscribed().GetFrameworkId()
	return s, nil
}

// FrameworkID returns the id that the master gave.
func (s *Session) FrameworkID() string { return s.framework.GetValue() }

// Next waits for an event; io.EOF says that the master ended the subscription.
func (s *Session) Next() (*schedulerpb.Event, error) {
	record, err := s.records.Next()
	if err != nil {
		return nil, err
	}
	event := new(schedulerpb.Event)
	if err := proto.Unmarshal(record, event); err != nil {
		return nil, fmt.Errorf("decode an event: %w", err)
	}
	return event, nil
}

// Call sends a call of this framework; what it leads to comes as events.
func (s *Session) Call(ctx context.Context, call *schedulerpb.Call) error {
	call.FrameworkId = s.framework
	body, err := proto.Marshal(call)
	if err != nil {
		return fmt.Errorf("encode %s: %w", call.GetType(), err)
	}
	header := http.Header{
		"Content-Type": {protobufType}, "Accept": {protobufType}, streamIDHeader: {s.streamID},
	}
	if _, err := s.client.do(ctx, request{http.MethodPost, s.client.master, schedulerPath, header, body}); err != nil {
		return fmt.Errorf("%s: %w", call.GetType(), err)
	}
	return nil
}

// Close drops the connection: the framework is then disconnected, not torn down.
func (s *Session) Close() error { return s.body.Close() }
