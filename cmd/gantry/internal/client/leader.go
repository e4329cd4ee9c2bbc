package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// leaderWithin is how long masters may take to say who leads; one that is stopped never does.
const leaderWithin = 3 * time.Second

// leader asks every master at once and believes the first that knows.
func (c *Client) leader(ctx context.Context) (address string, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaderWithin)
	defer cancel()
	type answer struct {
		leader string
		err    error
	}
	answers := make(chan answer, len(c.masters))
	for _, master := range c.masters {
		go func() {
			leader, err := c.ask(ctx, master)
			answers <- answer{leader, err}
		}()
	}
	var failed, undecided error
	for range c.masters {
		a := <-answers
		if a.err == nil {
			return a.leader, nil
		}
		if status, ok := errors.AsType[*StatusError](a.err); ok {
			undecided = status // it is there, and knows no leader
		}
		failed = errors.Join(failed, a.err)
	}
	return "", cmp.Or(undecided, failed)
}

// ask asks one master where the leader is.
func (c *Client) ask(ctx context.Context, master string) (string, error) {
	req, err := request{method: http.MethodGet, address: master, path: "/redirect"}.build(ctx)
	if err != nil {
		return "", err
	}
	resp, err := c.http.Transport.RoundTrip(req) // a redirect is the answer
	if err != nil {
		return "", dialError(master, err)
	}
	resp.Body.Close() // the header has it
	leader, found := strings.CutPrefix(resp.Header.Get("Location"), "//")
	if !found {
		return "", &StatusError{Status: resp.StatusCode, Message: fmt.Sprintf("no master leads (%s says %s)", master, resp.Status)}
	}
	return leader, nil
}
