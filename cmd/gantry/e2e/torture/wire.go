package torture

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
	schedulerpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/scheduler"
	"github.com/gantry-project/gantry/sdk/recordio"
)

const (
	callWithin  = 5 * time.Second // a scheduler that hears nothing for so long tries anew
	quietWithin = 40 * time.Second
	maxEvent    = 16 << 20
	maxAnswer   = 4 << 10
)

// form is one of the two of the wire: JSON or protobuf, as protobuf's own packages write them.
type form string

const (
	inJSON     form = "application/json"
	inProtobuf form = "application/x-protobuf"
)

func (f form) encode(call *schedulerpb.Call) ([]byte, error) {
	if f == inJSON {
		return protojson.MarshalOptions{UseProtoNames: true}.Marshal(call)
	}
	return proto.Marshal(call)
}

func (f form) decode(record []byte) (*schedulerpb.Event, error) {
	event := new(schedulerpb.Event)
	if f == inJSON {
		return event, protojson.Unmarshal(record, event)
	}
	return event, proto.Unmarshal(record, event)
}

// session is one subscription.
type session struct {
	form      form
	master    string // HOST:PORT
	framework *mesos.FrameworkID
	stream    string
	client    *http.Client
	cut       context.CancelFunc
	events    chan *schedulerpb.Event // closed at the end of the stream; why is set then
	why       error
}

// subscribe opens a session of a framework, which keeps the id that it has.
func subscribe(ctx context.Context, f form, master string, info *mesos.FrameworkInfo) (*session, error) {
	body, err := f.encode(&schedulerpb.Call{
		Type: schedulerpb.Call_SUBSCRIBE.Enum(), FrameworkId: info.Id, Subscribe: &schedulerpb.Call_Subscribe{FrameworkInfo: info},
	})
	if err != nil {
		return nil, err
	}
	ctx, cut := context.WithCancel(ctx)
	s := &session{
		form: f, master: master, framework: info.Id, cut: cut, events: make(chan *schedulerpb.Event, 256),
		client: &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: callWithin, MaxIdleConnsPerHost: 2}},
	}
	resp, err := s.post(ctx, body)
	if err != nil {
		s.close()
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		defer s.close()
		defer resp.Body.Close()
		return nil, refusal("SUBSCRIBE", resp)
	}
	s.stream = resp.Header.Get("Mesos-Stream-Id")
	go s.read(ctx, resp.Body)
	return s, nil
}

// close ends the session as a process that dies would: without a word.
func (s *session) close() {
	s.cut()
	s.client.CloseIdleConnections()
}

// read passes the events on until the stream ends, or nothing has come for so long that it may as well have.
func (s *session) read(ctx context.Context, body io.ReadCloser) {
	defer close(s.events)
	defer body.Close()
	silence := time.AfterFunc(quietWithin, func() { body.Close() })
	defer silence.Stop()
	records := recordio.NewReader(body, maxEvent)
	for {
		record, err := records.Next()
		if err != nil {
			s.why = err
			return
		}
		silence.Reset(quietWithin)
		event, err := s.form.decode(record)
		if err != nil {
			s.why = fmt.Errorf("an event that is none: %w", err)
			return
		}
		select {
		case s.events <- event:
		case <-ctx.Done():
			s.why = ctx.Err()
			return
		}
	}
}

func (s *session) post(ctx context.Context, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.master+"/api/v1/scheduler", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", string(s.form))
	r.Header.Set("Accept", string(s.form))
	if s.stream != "" {
		r.Header.Set("Mesos-Stream-Id", s.stream)
	}
	return s.client.Do(r)
}

// call sends a call and returns what was answered if that was not 202.
func (s *session) call(ctx context.Context, call *schedulerpb.Call) error {
	call.FrameworkId = s.framework
	body, err := s.form.encode(call)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callWithin)
	defer cancel()
	resp, err := s.post(ctx, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusAccepted {
		return refusal(call.GetType().String(), resp)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

func refusal(what string, resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // whatever came is what can be told
	return fmt.Errorf("%s: %s: %s", what, resp.Status, bytes.TrimSpace(text))
}
