package api

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// maxConns is how many connections one listener serves at a time; others wait to be
// accepted.
const maxConns = 4096

// keptConns is how many connections are open when no client may keep one for its next
// request: streams are fewer.
const keptConns = maxConns - 512

// ErrExposed is wrapped by the refusal to listen beyond loopback.
var ErrExposed = errors.New("listening beyond loopback is refused")

// CheckListen refuses an address that other machines can reach, because nothing
// authenticates callers yet; insecure says that this is wanted.
func CheckListen(addr string, insecure bool) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("listen on %q: want HOST:PORT, such as 127.0.0.1:5050: %w", addr, err)
	}
	if insecure || strings.EqualFold(host, "localhost") {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("%w: %s can be reached by other machines, and whoever reaches it controls the cluster: listen on 127.0.0.1, or add --insecure if a firewall protects it", ErrExposed, addr)
}

// Listen checks the address and listens on it, for a bounded number of connections.
func Listen(addr string, insecure bool) (net.Listener, error) {
	if err := CheckListen(addr, insecure); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", addr, err)
	}
	return netutil.LimitListener(l, maxConns), nil
}

// NewServer returns a server with the limits that every listener of the kernel has. It has
// no timeout for whole answers, since some are streams: Secure and the streams set
// deadlines. When few connections are left, those that only wait for a next request go.
func NewServer(h http.Handler) *http.Server {
	var open atomic.Int64
	return &http.Server{
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				open.Add(1)
			case http.StateClosed, http.StateHijacked:
				open.Add(-1)
			case http.StateIdle:
				if open.Load() > keptConns {
					c.Close()
				}
			}
		},
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       60 * time.Second,
		MaxHeaderBytes:    64 << 10,
	}
}
