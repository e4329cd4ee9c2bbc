package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/gantry-project/gantry/plugins/framework/marathon/apps"
)

// prober makes health checks. It follows no redirects, keeps no connections and knows no
// proxies: only the instance's own answer counts.
type prober struct{ client *http.Client }

func newProber() *prober {
	return &prober{client: &http.Client{
		Transport:     &http.Transport{DisableKeepAlives: true, MaxResponseHeaderBytes: 64 << 10},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (p *prober) probe(ctx context.Context, probe apps.Probe) apps.Probed {
	ctx, cancel := context.WithTimeout(ctx, probe.Timeout)
	defer cancel()
	check := dial
	if probe.HTTP {
		check = p.get
	}
	err := check(ctx, probe)
	result := apps.Probed{Task: probe.Task, Check: probe.Check, Alive: err == nil}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		result.Cause = fmt.Sprintf("no answer within %s", probe.Timeout)
	case err != nil:
		result.Cause = err.Error()
	}
	return result
}

// get finds an answer of 200 to 399 healthy; informational ones before it are passed over.
func (p *prober) get(ctx context.Context, probe apps.Probe) error {
	url := "http://" + address(probe) + "/" + strings.TrimPrefix(probe.Path, "/")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 399 {
		return fmt.Errorf("it answered %s", resp.Status)
	}
	return nil
}

func dial(ctx context.Context, probe apps.Probe) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", address(probe))
	if err != nil {
		return err
	}
	return conn.Close()
}

func address(probe apps.Probe) string {
	return net.JoinHostPort(probe.Host, strconv.Itoa(probe.Port))
}
