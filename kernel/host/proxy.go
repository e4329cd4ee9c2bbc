package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// principalHeader carries who sent a request to the plugin; only the host may set it.
const principalHeader = "X-Gantry-Principal"

// maxConnections bounds the clients of one plugin's listener.
const maxConnections = 1024

// door passes requests on to one plugin, once it has said that it serves.
type door struct {
	plugin string
	ready  atomic.Bool
	proxy  httputil.ReverseProxy
}

// newDoor leads to the plugin's unix socket.
func newDoor(name, socket string) *door {
	return &door{plugin: name, proxy: httputil.ReverseProxy{
		Rewrite:       rewrite,
		FlushInterval: -1, // events are to arrive when they happen
		ErrorLog:      quiet(),
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", socket)
			},
			MaxIdleConnsPerHost: 64,
			IdleConnTimeout:     time.Minute,
			DisableCompression:  true,
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if client, ok := errors.AsType[*clientError](err); ok {
				client.answer(w)
				return
			}
			if r.Context().Err() != nil { // it may be known before the body's reader says what is wrong
				http.Error(w, "The request's body did not arrive whole, or not in time.", http.StatusBadRequest)
				return
			}
			unavailable(w, name)
		},
	}}
}

// ServeHTTP passes one request on. What the plugin says in a header replaces what the
// host's listener says in every answer: a page has a policy of its own.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !d.ready.Load() {
		unavailable(w, d.plugin)
		return
	}
	r.Body = clientBody{r.Body}
	proxy := d.proxy
	proxy.ModifyResponse = func(answer *http.Response) error {
		for name := range answer.Header {
			w.Header().Del(name)
		}
		return nil
	}
	proxy.ServeHTTP(w, r)
}

// servicePath is where the master's own listener has the pages of a service.
func servicePath(name string) string { return "/plugins/" + name + "/" }

// Pages returns the service that answers a path of the master's own listener, other than
// those that the master itself serves; nil if none does.
func (h *Host) Pages(path string) http.Handler {
	var home *plugin
	for _, p := range h.plugins {
		switch {
		case p.entry.Kind != Service:
		case strings.HasPrefix(path, servicePath(p.entry.Name)):
			return p.door
		case p.entry.Home:
			home = p
		}
	}
	if home == nil || strings.HasPrefix(path, "/plugins/") {
		return nil
	}
	return home.door
}

// quiet is for what a client does wrong: it is answered, not logged.
func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// front is the host's listener of one plugin.
type front struct {
	listener net.Listener
	server   *http.Server
}

// newFront serves a plugin on l.
func newFront(l net.Listener, d *door, secure func(http.Handler) http.Handler) *front {
	return &front{l, &http.Server{
		Handler:           secure(d),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          quiet(),
	}}
}

// rewrite sends the request on with path, query and Host as they came.
func rewrite(r *httputil.ProxyRequest) {
	out := *r.In.URL
	out.Scheme, out.Host, out.User = "http", "plugin", nil
	r.Out.URL = &url.URL{}
	*r.Out.URL = out
	r.Out.Host = r.In.Host
	r.SetXForwarded()
	r.Out.Header.Del(principalHeader)
}

// clientBody marks what goes wrong with a client's body, so that it is not taken for a fault of the plugin.
type clientBody struct{ io.ReadCloser }

func (b clientBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = &clientError{err}
	}
	return n, err
}

type clientError struct{ error }

func (e *clientError) answer(w http.ResponseWriter) {
	tooLarge, large := errors.AsType[*http.MaxBytesError](e.error)
	late, timed := errors.AsType[net.Error](e.error)
	switch {
	case large:
		http.Error(w, fmt.Sprintf("The request's body is larger than %d bytes.", tooLarge.Limit), http.StatusRequestEntityTooLarge)
	case timed && late.Timeout():
		http.Error(w, "The request's body did not arrive in time.", http.StatusRequestTimeout)
	default:
		http.Error(w, "Failed to read the request's body: "+e.Error(), http.StatusBadRequest)
	}
}

func unavailable(w http.ResponseWriter, name string) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, fmt.Sprintf("The plugin %s is not ready; gantry is starting it. Try again in a moment.", name), http.StatusServiceUnavailable)
}

// serve answers until close.
func (f *front) serve() error {
	err := f.server.Serve(netutil.LimitListener(f.listener, maxConnections))
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func (f *front) close() {
	_ = f.server.Close()
	_ = f.listener.Close() // Close of a server that never served does not
}
