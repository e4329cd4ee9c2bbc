package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
)

// ErrUnreachable says that nothing answers at the address: no cluster, or not there.
var ErrUnreachable = errors.New("nothing answers")

const (
	// callTimeout bounds one call that is no subscription.
	callTimeout = 15 * time.Second

	// maxAnswerBytes bounds an answer: a state of some hundred thousand tasks.
	maxAnswerBytes = 256 << 20

	protobufType = "application/x-protobuf"
	jsonType     = "application/json"
)

// StatusError is an answer that is neither 2xx nor a redirect.
type StatusError struct {
	// Status is the HTTP status code.
	Status int

	// Message is what the server said, one line without a trailing newline.
	Message string
}

func (e *StatusError) Error() string {
	if e.Message == "" {
		return fmt.Sprintf("the answer was %d %s", e.Status, http.StatusText(e.Status))
	}
	return e.Message
}

// IsNotFound reports whether err is an answer of 404.
func IsNotFound(err error) bool {
	var status *StatusError
	return errors.As(err, &status) && status.Status == http.StatusNotFound
}

// Client speaks to one cluster. It is safe for concurrent use.
type Client struct {
	master   string   // who is meant by whichever leads, if there are others
	masters  []string // all of them
	marathon string
	chronos  string
	http     *http.Client
}

// New returns a client of the master at HOST:PORT and of the Marathon API at another; either may be empty, and
// calls that need it then say so.
func New(master, marathon string) *Client { return Of([]string{master}, marathon) }

// Of returns a client of whichever of several masters leads at the time of a call.
func Of(masters []string, marathon string) *Client {
	return &Client{
		master:   masters[0],
		masters:  masters,
		marathon: marathon,
		http: &http.Client{Transport: &http.Transport{
			DialContext:           (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			ResponseHeaderTimeout: callTimeout,
			MaxIdleConnsPerHost:   4,
		}},
	}
}

// Master returns the address that c was made with, the first of several.
func (c *Client) Master() string { return c.master }

// post sends a protobuf message to http://address/path and decodes the answer into out, which may be nil.
func (c *Client) post(ctx context.Context, address, path string, in, out proto.Message) error {
	body, err := proto.Marshal(in)
	if err != nil {
		return fmt.Errorf("encode the call: %w", err)
	}
	header := http.Header{"Content-Type": {protobufType}, "Accept": {protobufType}}
	answer, err := c.do(ctx, request{http.MethodPost, address, path, header, body})
	if err != nil || out == nil {
		return err
	}
	if err := proto.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decode the answer of %s: %w", address, err)
	}
	return nil
}

// rest sends in as JSON, unless it is nil, and decodes the answer into out, unless that is nil.
func (c *Client) rest(ctx context.Context, r request, in, out any) error {
	r.header = http.Header{"Accept": {jsonType}}
	if in != nil {
		body, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encode the call: %w", err)
		}
		r.body = body
		r.header.Set("Content-Type", jsonType)
	}
	answer, err := c.do(ctx, r)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("decode the answer of %s: %w", r.address, err)
	}
	return nil
}

// request is one HTTP request, before it is sent.
type request struct {
	method  string
	address string // HOST:PORT
	path    string
	header  http.Header
	body    []byte
}

func (r request) build(ctx context.Context) (*http.Request, error) {
	if r.address == "" {
		return nil, fmt.Errorf("no address is known for %s: %w", r.path, ErrUnreachable)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, "http://"+r.address+r.path, bytes.NewReader(r.body))
	if err != nil {
		return nil, fmt.Errorf("%q is not the HOST:PORT of a cluster: %w", r.address, err)
	}
	for key, values := range r.header {
		req.Header[key] = values
	}
	return req, nil
}

// do sends r within callTimeout and returns the body of a 2xx answer.
func (c *Client) do(ctx context.Context, r request) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resp, err := c.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", r.address, err)
	}
	if len(body) > maxAnswerBytes {
		return nil, fmt.Errorf("the answer of %s is larger than %d bytes", r.address, maxAnswerBytes)
	}
	return body, nil
}

// send sends r and returns an answer of 2xx with its body open, or an error.
func (c *Client) send(ctx context.Context, r request) (*http.Response, error) {
	if len(c.masters) > 1 && r.address == c.master {
		var err error
		if r.address, err = c.leader(ctx); err != nil {
			return nil, err
		}
	}
	req, err := r.build(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, dialError(r.address, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 8<<10)) // whatever came is what can be told
	return nil, &StatusError{Status: resp.StatusCode, Message: sentence(text)}
}

// dialError marks the failures that mean that nobody is there.
func dialError(address string, err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return fmt.Errorf("%s: %w: %w", address, ErrUnreachable, op.Err)
	}
	return fmt.Errorf("call %s: %w", address, err)
}

// sentence takes the message out of an error body: Marathon's are JSON, the v1 API's plain text.
func sentence(body []byte) string {
	var said struct {
		Message string          `json:"message"`
		Details json.RawMessage `json:"details"`
	}
	if json.Unmarshal(body, &said) != nil || said.Message == "" {
		return strings.TrimSpace(string(body))
	}
	if len(said.Details) == 0 {
		return said.Message
	}
	return said.Message + ": " + string(said.Details)
}
