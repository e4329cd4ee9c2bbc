package sandbox

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

const (
	// stallAfter is how long a server may be silent, before its answer and within it.
	stallAfter   = time.Minute
	maxRedirects = 10
)

func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: stallAfter}).DialContext,
			TLSHandshakeTimeout:    stallAfter,
			ResponseHeaderTimeout:  stallAfter,
			MaxResponseHeaderBytes: 1 << 20,
			// What is fetched is kept as it is, compressed or not.
			DisableCompression: true,
		},
		CheckRedirect: func(_ *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("%w: more than %d redirects", ErrDenied, maxRedirects)
			}
			return nil
		},
	}
}

// get begins to download.
func (f *fetcher) get(ctx context.Context, u *url.URL) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, err
	}
	response, err := f.web.Do(request)
	switch {
	case err != nil:
	case response.StatusCode != http.StatusOK:
		err = fmt.Errorf("the server answered %s", response.Status)
	case response.ContentLength > f.left:
		err = fmt.Errorf("%w: more than %d bytes to fetch", ErrDenied, f.limit())
	}
	if err != nil {
		cancel(nil)
		if response != nil {
			response.Body.Close()
		}
		return nil, err
	}
	d := &download{body: response.Body, ctx: ctx, cancel: cancel}
	d.stalled = time.AfterFunc(stallAfter, func() {
		cancel(fmt.Errorf("the server has sent nothing for %s", stallAfter))
	})
	return d, nil
}

// download is a body that ends with an error when nothing comes for long.
type download struct {
	body    io.ReadCloser
	ctx     context.Context // of the request, whose end it explains
	cancel  context.CancelCauseFunc
	stalled *time.Timer
}

func (d *download) Read(p []byte) (int, error) {
	n, err := d.body.Read(p)
	if err != nil && err != io.EOF && d.ctx.Err() != nil {
		err = context.Cause(d.ctx)
	}
	d.stalled.Reset(stallAfter)
	return n, err
}

func (d *download) Close() error {
	d.stalled.Stop()
	d.cancel(nil)
	return d.body.Close()
}
