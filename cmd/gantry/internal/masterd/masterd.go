package masterd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
	"github.com/gantry-project/gantry/cmd/gantry/internal/version"
	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/auth"
	"github.com/gantry-project/gantry/kernel/core"
	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/host"
	"github.com/gantry-project/gantry/kernel/link"
	"github.com/gantry-project/gantry/kernel/run"
	"github.com/gantry-project/gantry/kernel/store"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// shutdownWithin is how long open requests may take when the master ends.
const shutdownWithin = 2 * time.Second

// server is a master in office with everything around it.
type server struct {
	cfg    *Config
	log    *slog.Logger
	token  string
	store  store.Store
	lost   <-chan struct{} // closed when the office is; nil for a master alone
	http   net.Listener
	link   net.Listener
	listen func(plugin, address string) (net.Listener, error) // nil: the plugin host's own
	master *run.Master
	host   *host.Host
}

// serve runs a master until ctx ends or a part of it fails.
func serve(ctx context.Context, cfg *Config, log *slog.Logger) error {
	if err := os.MkdirAll(cfg.WorkDir, 0o700); err != nil {
		return err
	}
	token, err := auth.Token(cfg.TokenFile)
	if err != nil {
		return err
	}
	failpoint.Hit("master.token.known")
	if cfg.several() {
		st, err := newStation(ctx, cfg, log, token)
		if err != nil {
			return err
		}
		defer st.close()
		return st.run(ctx)
	}
	s := &server{cfg: cfg, log: log, token: token}
	defer s.close()
	if err := s.open(); err != nil {
		return err
	}
	return s.serve(ctx)
}

// open takes the store and the addresses of a master alone.
func (s *server) open() error {
	bolt, err := store.OpenBolt(filepath.Join(s.cfg.WorkDir, boltFile))
	if err != nil {
		return err
	}
	s.store = bolt
	if s.http, err = api.Listen(s.cfg.Listen, s.cfg.Insecure); err != nil {
		return err
	}
	s.link, err = api.Listen(s.cfg.LinkListen, s.cfg.Insecure)
	return err
}

// serve recovers the registry, and leads until ctx ends or the office is lost.
func (s *server) serve(ctx context.Context) error {
	mid := uuid.NewString()
	var err error
	s.master, err = run.NewMaster(ctx, run.MasterConfig{
		Core:  core.Config{ID: mid, Info: masterInfo(mid, s.http.Addr()), Heartbeat: api.HeartbeatInterval, OfferTimeout: s.cfg.OfferTimeout},
		Store: s.store, Log: s.log, Check: s.cfg.Check,
	})
	if err != nil {
		return err
	}
	s.host, err = host.New(host.Config{
		Manifest:      s.cfg.manifest.On(host.OnMaster),
		BinDir:        filepath.Join(s.cfg.BinDir, "plugins"),
		Dir:           filepath.Join(s.cfg.WorkDir, "plugins"),
		Cgroup:        s.cfg.Cgroup + "/plugins",
		MasterAddress: func() string { return s.http.Addr().String() },
		Allocators:    s.master,
		Frameworks:    s.master,
		Secure:        s.secure,
		Ephemeral:     s.cfg.EphemeralPlugins,
		Listen:        s.listen,
		Log:           s.log,
	})
	if err != nil {
		return err
	}
	for _, p := range s.host.Problems() {
		s.log.Error(p.String())
	}
	return s.run(ctx)
}

// close gives back what the server was given.
func (s *server) close() {
	for _, l := range []net.Listener{s.http, s.link} {
		if l != nil {
			l.Close() // closed already if it was served
		}
	}
	if s.store != nil {
		if err := s.store.Close(); err != nil {
			s.log.Error("the store did not close", "error", err)
		}
	}
}

// run serves until ctx ends: listeners and plugins first, then the machine, so that the
// last thing heard is recorded.
func (s *server) run(ctx context.Context) error {
	machine, stopMachine := context.WithCancel(context.WithoutCancel(ctx))
	defer stopMachine()
	var failure error // written before ended is closed
	ended := make(chan struct{})
	go func() {
		failure = s.master.Run(machine)
		close(ended)
	}()
	// The master knows that it is leaving before the first connection breaks for it.
	connections, disconnect := context.WithCancel(context.WithoutCancel(ctx))
	defer disconnect()
	outside, ctx := errgroup.WithContext(ctx)
	outside.Go(func() error {
		defer disconnect()
		defer s.master.Leave()
		select {
		case <-ended:
			return failure
		case <-s.lost:
			return store.ErrDeposed
		case <-ctx.Done():
			return nil
		}
	})
	links := link.NewServer(link.ServerConfig{
		Check: func(token string) bool { return auth.Check(s.token, token) },
		Serve: func(ctx context.Context, session *link.Session) error { return s.master.ServeAgent(ctx, session) },
		Log:   s.log,
	})
	web := api.NewServer(s.secure(s.handler()))
	outside.Go(func() error { return links.Serve(s.link) })
	outside.Go(func() error {
		if err := web.Serve(s.http); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve the API: %w", err)
		}
		return nil
	})
	outside.Go(func() error { return s.host.Run(connections) })
	outside.Go(func() error {
		<-connections.Done()
		links.Stop()
		late, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.patience())
		defer cancel()
		if web.Shutdown(late) != nil {
			return web.Close() // streams are open for as long as their clients like
		}
		return nil
	})
	outside.Go(s.publish)
	err := outside.Wait()
	stopMachine()
	<-ended
	return cmp.Or(err, failure)
}

// patience is how long requests may take when the server ends; who has lost the office has no answers.
func (s *server) patience() time.Duration {
	select {
	case <-s.lost:
		return 0
	default:
		return shutdownWithin
	}
}

func (s *server) publish() error {
	s.log.Info("master is ready", "listen", s.http.Addr().String(), "link", s.link.Addr().String(), "epoch", s.master.Epoch())
	if s.cfg.Publish == "" {
		return nil
	}
	failpoint.Hit("master.publishing")
	err := daemon.Publish(s.cfg.Publish, daemon.Addresses{
		Listen: s.http.Addr().String(), Link: s.link.Addr().String(), Plugins: s.host.Listeners(), Epoch: s.master.Epoch(),
	})
	failpoint.Hit("master.published")
	return err
}

func (s *server) secure(h http.Handler) http.Handler { return secure(s.cfg, h) }

func secure(cfg *Config, h http.Handler) http.Handler {
	return api.Secure(h, api.SecureConfig{Hosts: cfg.Hosts})
}

func (s *server) handler() http.Handler {
	return api.NewMaster(api.MasterConfig{
		Scheduler: s.master,
		Operator:  s.master,
		Console:   console{s},
		Readiness: console{s},
		Tracer:    s.master,
		Version:   &mesos.VersionInfo{Version: proto.String(version.String())},
		Flags:     s.flags(),
		Pages:     s.host.Pages,
	})
}

// flags is what anybody may know of how the master was started, under the names that
// clients know where they know such a flag; what was not given is left out.
func (s *server) flags() []*mesos.Flag {
	timeout := ""
	if s.cfg.OfferTimeout > 0 {
		timeout = s.cfg.OfferTimeout.String()
	}
	var list []*mesos.Flag
	for _, f := range [][2]string{
		{"work_dir", s.cfg.WorkDir}, {"listen", s.http.Addr().String()}, {"link_listen", s.link.Addr().String()},
		{"plugins", s.cfg.Plugins}, {"offer_timeout", timeout},
	} {
		if f[1] != "" {
			list = append(list, &mesos.Flag{Name: proto.String(f[0]), Value: proto.String(f[1])})
		}
	}
	return list
}

// console answers what only Gantry's own endpoints ask.
type console struct{ *server }

func (c console) KillTask(ctx context.Context, from api.Caller, framework, task string) api.Reply {
	return c.master.KillTask(ctx, from, framework, task)
}

func (c console) Link() (string, uint64) { return c.link.Addr().String(), c.master.Epoch() }

func (c console) Plugins() any { return c.host.Status() }

// Standing: a server leads from its start, which its registry precedes.
func (c console) Standing() api.Standing {
	return api.Standing{Leading: true, Recovered: true, Leader: c.http.Addr().String()}
}

// masterInfo is what frameworks are told of the master. Ip is the IPv4 address in network
// byte order as the wire has it: its first byte is the lowest.
func masterInfo(mid string, at net.Addr) *mesos.MasterInfo {
	addr, _ := netip.ParseAddrPort(at.String())
	info := &mesos.MasterInfo{
		Id: proto.String(mid), Ip: proto.Uint32(0), Port: proto.Uint32(uint32(addr.Port())),
		Pid: proto.String("master@" + at.String()), Hostname: proto.String(addr.Addr().String()),
		Version: proto.String(version.String()),
		Address: &mesos.Address{Hostname: proto.String(addr.Addr().String()), Ip: proto.String(addr.Addr().String()), Port: proto.Int32(int32(addr.Port()))},
	}
	if ip := addr.Addr().Unmap(); ip.Is4() {
		b := ip.As4()
		info.Ip = proto.Uint32(uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24)
	}
	return info
}
