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

// newFront listens on address and passes requests to socket once the plugin is ready.
func newFront(name, address, socket string, secure func(http.Handler) http.Handler) (*front, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for plugin %s: %w", name, err)
	}
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
			if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
				http.Error(w, fmt.Sprintf("The request's body is larger than %d bytes.", tooLarge.Limit), http.StatusRequestEntityTooLarge)
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
			proxy.ServeHTTP(w, r)
		})),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          quiet,
	}
	return f, nil
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
