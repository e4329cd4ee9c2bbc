package service

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/sdk/plugin"
	servicepb "github.com/gantry-project/gantry/sdk/proto/gantry/service/v1"
	masterpb "github.com/gantry-project/gantry/sdk/proto/mesos/v1/master"
)

// maxAnswerBytes bounds an answer of the master: the state of some 100,000 tasks.
const maxAnswerBytes = 256 << 20

// RefusedError is an answer of the master that is no success.
type RefusedError struct {
	// Status is that of HTTP.
	Status int
	// Message is what the master said.
	Message string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused with %d: %s", e.Status, e.Message) }

// Kernel is the plugin's end of the conversation. Its methods may be called from any
// goroutine, but Serve only once.
type Kernel struct {
	start *servicepb.Start
	send  func(*servicepb.FromService) error
}

// Start says who the plugin is and where things are. Don't change it.
func (k *Kernel) Start() *servicepb.Start { return k.start }

// Serve answers HTTP with h until ctx ends. It tells the kernel that traffic may come;
// call it once, when h can answer.
func (k *Kernel) Serve(ctx context.Context, h http.Handler) error {
	return plugin.ServeHTTP(ctx, k.start.GetHttpSocket(), h, func() error {
		return k.send(&servicepb.FromService{Body: &servicepb.FromService_Ready{Ready: &servicepb.Ready{}}})
	})
}

// Operate makes a call of the operator API, any but SUBSCRIBE, and returns the answer. A
// refusal is a *RefusedError.
func (k *Kernel) Operate(ctx context.Context, c *masterpb.Call) (*masterpb.Response, error) {
	body, err := proto.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", c.GetType(), err)
	}
	text, err := k.ask(ctx, http.MethodPost, "/api/v1", body)
	if err != nil {
		return nil, fmt.Errorf("call %s: %w", c.GetType(), err)
	}
	answer := new(masterpb.Response)
	if err := proto.Unmarshal(text, answer); err != nil {
		return nil, fmt.Errorf("call %s: %w", c.GetType(), err)
	}
	return answer, nil
}

// Get reads one of the master's other endpoints, such as /gantry/v1/plugins. A refusal is
// a *RefusedError.
func (k *Kernel) Get(ctx context.Context, path string) ([]byte, error) {
	text, err := k.ask(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", path, err)
	}
	return text, nil
}

func (k *Kernel) ask(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+k.start.GetMasterAddress()+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/x-protobuf")
		req.Header.Set("Accept", "application/x-protobuf")
	}
	if credential := k.start.GetMasterCredential(); credential != "" {
		req.Header.Set("Authorization", "Bearer "+credential)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxAnswerBytes:
		return nil, errors.New("the answer is too large")
	case resp.StatusCode != http.StatusOK:
		return nil, &RefusedError{resp.StatusCode, strings.TrimSpace(string(text[:min(len(text), 1000)]))}
	}
	return text, nil
}
