package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/gantry-project/gantry/kernel/link/linkpb"
)

const (
	// maxStreams is how many agents one server takes.
	maxStreams = 20_000
	// flushWithin is how long the other end may take to read what was sent before a Close.
	flushWithin = 5 * time.Second
	// A connection is probed after probeAfter of silence, and given up probeWithin later.
	probeAfter, probeWithin = 20 * time.Second, 10 * time.Second
	// handshakeWithin is how long a new connection may take to become one of HTTP/2.
	handshakeWithin = 10 * time.Second
)

// ServerConfig says who may attach and what then happens.
type ServerConfig struct {
	// Check tells whether a token is the right one, in constant time.
	Check func(token string) bool
	// Serve speaks with one agent, on a goroutine of its own. Ctx ends with the stream,
	// and the stream, after what is queued, with Serve.
	Serve func(ctx context.Context, s *Session) error
	Log   *slog.Logger
	// MaxStreams is how many agents are served at once; zero means 20,000.
	MaxStreams int
}

// Server takes the streams of agents.
type Server struct {
	linkpb.UnimplementedLinkServer
	cfg   ServerConfig
	grpc  *grpc.Server
	slots chan struct{}
}

// NewServer returns a server that listens nowhere yet.
func NewServer(cfg ServerConfig) *Server {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = maxStreams
	}
	s := &Server{cfg: cfg, slots: make(chan struct{}, cfg.MaxStreams)}
	s.grpc = grpc.NewServer(
		grpc.MaxRecvMsgSize(MaxMessage),
		grpc.MaxSendMsgSize(MaxMessage),
		grpc.MaxConcurrentStreams(uint32(cfg.MaxStreams)),
		grpc.ConnectionTimeout(handshakeWithin),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: probeAfter, Timeout: probeWithin, MaxConnectionIdle: time.Minute}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: probeAfter / 2, PermitWithoutStream: true}),
	)
	linkpb.RegisterLinkServer(s.grpc, s)
	return s
}

// Serve takes connections from l until Stop, and closes it.
func (s *Server) Serve(l net.Listener) error {
	err := s.grpc.Serve(netutil.LimitListener(l, s.cfg.MaxStreams))
	if err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serve the link on %s: %w", l.Addr(), err)
	}
	return nil
}

// Stop ends every stream and every Serve.
func (s *Server) Stop() { s.grpc.Stop() }

// Attach is called by gRPC for each stream.
func (s *Server) Attach(stream linkpb.Link_AttachServer) error {
	if !s.cfg.Check(bearer(stream.Context())) {
		return status.Error(codes.Unauthenticated, "the token is not the master's: give the agent the master's token file")
	}
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return status.Errorf(codes.ResourceExhausted, "the master serves %d agents already", s.cfg.MaxStreams)
	}
	// So that a dialling agent knows at once that it is let in.
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	session, _, written := pump(stream)
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		<-session.end.done
		cancel()
	}()
	err := s.cfg.Serve(ctx, session)
	session.Close()
	select {
	case <-written:
	case <-time.After(flushWithin):
	}
	if err != nil && stream.Context().Err() == nil {
		s.cfg.Log.Warn("an agent's stream ended", "agent", address(stream.Context()), "error", err)
	}
	return nil
}

func bearer(ctx context.Context) string {
	for _, header := range metadata.ValueFromIncomingContext(ctx, "authorization") {
		if scheme, token, ok := strings.Cut(header, " "); ok && strings.EqualFold(scheme, "bearer") {
			return token
		}
	}
	return ""
}

func address(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}
