package api

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

const (
	// MaxBody is how many bytes of a request's body are read unless configured.
	MaxBody = 8 << 20

	maxURI = 8 << 10
	// A request must have arrived, and an answer that is no stream must have left, within
	// these times.
	readWithin  = 10 * time.Second
	writeWithin = 30 * time.Second
)

// SecureConfig says whom a listener trusts beyond what it knows by itself.
type SecureConfig struct {
	// Hosts are further names or addresses, without port, that the Host header may have.
	// Loopback names and the address on which a request came in are always allowed.
	Hosts []string
	// Origins may send cross-origin requests: "https://host:port".
	Origins []string
	// MaxBody bounds a request's body in bytes; 0 means the constant MaxBody.
	MaxBody int64
}

// Validate checks the origins.
func (c SecureConfig) Validate() error {
	return c.trust(http.NewCrossOriginProtection())
}

func (c SecureConfig) trust(p *http.CrossOriginProtection) error {
	for _, origin := range c.Origins {
		if err := p.AddTrustedOrigin(origin); err != nil {
			return fmt.Errorf("trust origin %q: %w", origin, err)
		}
	}
	return nil
}

// Secure guards every endpoint of h against what a web page or a careless client on the
// same machine can send: a foreign Host (DNS rebinding) or Origin is refused with 403, too
// long a URI with 414; bodies are bounded in size and time, answers in time; headers keep
// browsers from guessing at content. It panics if cfg does not validate.
func Secure(h http.Handler, cfg SecureConfig) http.Handler {
	origins := http.NewCrossOriginProtection()
	if err := cfg.trust(origins); err != nil {
		panic(err)
	}
	origins.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(w, Reply{403, "This request comes from a web page of another origin, and only the origin itself may send it."})
	}))
	hosts := map[string]bool{"localhost": true}
	for _, name := range cfg.Hosts {
		hosts[canonical(name)] = true
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = MaxBody
	}
	inner := origins.Handler(h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		harden(w.Header())
		bound(w, r, cfg.MaxBody)
		switch {
		case !allowedHost(hosts, r):
			answer(w, Reply{403, fmt.Sprintf("The host %.100q is not one that this server knows: use its address, localhost, or a host that it was started with.", r.Host)})
		case len(r.RequestURI) > maxURI:
			answer(w, Reply{414, fmt.Sprintf("The address of this request is longer than %d bytes.", maxURI)})
		default:
			inner.ServeHTTP(w, r)
		}
	})
}

// harden sets what a handler may still replace.
func harden(h http.Header) {
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}

// allowedHost knows loopback, the configured names, and the address on which the
// connection came in, which is the listener's own even if it listens on all of them. HTTP/1.0
// need not say a host: no browser speaks it, but the checks of load balancers do.
func allowedHost(hosts map[string]bool, r *http.Request) bool {
	if r.Host == "" && !r.ProtoAtLeast(1, 1) {
		return true
	}
	host := canonical(hostname(r.Host))
	if hosts[host] {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false
	}
	if ip.IsLoopback() {
		return true
	}
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	own, err := netip.ParseAddrPort(local.String())
	return err == nil && own.Addr().Unmap().WithZone("") == ip.Unmap()
}

// hostname is the Host header without its port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
}

func canonical(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }

// bound limits the body in size and the whole exchange in time. A stream sets deadlines of
// its own for each write.
func bound(w http.ResponseWriter, r *http.Request, maxBody int64) {
	rc := http.NewResponseController(w)
	_ = rc.SetWriteDeadline(time.Now().Add(writeWithin)) // fails where there is no connection
	if r.Body == nil || r.Body == http.NoBody {
		return
	}
	_ = rc.SetReadDeadline(time.Now().Add(readWithin))
	r.Body = &boundBody{ReadCloser: http.MaxBytesReader(w, r.Body, maxBody), rc: rc}
}

// boundBody lifts the read deadline once the body is read: afterwards the server reads on
// only to notice that the client is gone.
type boundBody struct {
	io.ReadCloser
	rc *http.ResponseController
}

func (b *boundBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		_ = b.rc.SetReadDeadline(time.Time{})
	}
	return n, err
}

// readBody reads a whole body, or says what answers it.
func readBody(r io.Reader) ([]byte, *Reply) {
	body, err := io.ReadAll(r)
	var large *http.MaxBytesError
	var slow net.Error
	switch {
	case err == nil:
		return body, nil
	case errors.Is(err, errNoRoom):
		return nil, &noRoom
	case errors.As(err, &large):
		return nil, &Reply{413, fmt.Sprintf("The body is larger than %d bytes: send less at a time.", large.Limit)}
	case errors.As(err, &slow) && slow.Timeout():
		return nil, &Reply{408, fmt.Sprintf("The body did not arrive within %s.", readWithin)}
	}
	return nil, &Reply{400, "Failed to read the body: " + err.Error()}
}
