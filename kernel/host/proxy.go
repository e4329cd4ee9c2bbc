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
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// principalHeader carries who sent a request to the plugin; only the host may set it.
const principalHeader = "X-Gantry-Principal"

// maxConnections bounds the clients of one plugin's listener.
const maxConnections = 1024

// front is the host's listener of one plugin.
type front struct {
	listener net.Listener
	server   *http.Server
	ready    atomic.Bool // the plugin said that it serves
}

// newFront passes requests from l to socket once the plugin is ready.
func newFront(name string, l net.Listener, socket string, secure func(http.Handler) http.Handler) *front {
	f := &front{listener: l}
	quiet := log.New(io.Discard, "", 0) // what a client does wrong is answered, not logged
	proxy := &httputil.ReverseProxy{
		Rewrite:       rewrite,
		FlushInterval: -1, // events are to arrive when they happen
		ErrorLog:      quiet,
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
	}
	f.server = &http.Server{
		Handler: secure(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !f.ready.Load() {
				unavailable(w, name)
				return
			}
			r.Body = clientBody{r.Body}
			proxy.ServeHTTP(w, r)
		})),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          quiet,
	}
	return f
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
