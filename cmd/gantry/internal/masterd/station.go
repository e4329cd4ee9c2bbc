package masterd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"path/filepath"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
	"github.com/gantry-project/gantry/cmd/gantry/internal/version"
	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/store"
	"github.com/gantry-project/gantry/kernel/store/etcd"
	"github.com/gantry-project/gantry/kernel/store/etcd/member"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

// announcement is what the master in office tells the others.
type announcement struct {
	Listen  string            `json:"listen"`  // HOST:PORT of its API
	Plugins map[string]string `json:"plugins"` // and of its plugins' HTTP, by name
}

// station is a master among others: it stands by until it is elected, and again when it is
// not in office any more. Its listeners stay open throughout.
type station struct {
	cfg     *Config
	log     *slog.Logger
	token   string
	cluster *etcd.Cluster
	http    *door
	link    *door
	plugins map[string]*door
}

func newStation(ctx context.Context, cfg *Config, log *slog.Logger, token string) (*station, error) {
	st := &station{cfg: cfg, log: log, token: token, plugins: make(map[string]*door)}
	if err := st.open(ctx); err != nil {
		st.close()
		return nil, err
	}
	return st, nil
}

func (st *station) open(ctx context.Context) error {
	l, err := api.Listen(st.cfg.Listen, st.cfg.Insecure)
	if err != nil {
		return err
	}
	st.http = newDoor(l)
	if l, err = api.Listen(st.cfg.LinkListen, st.cfg.Insecure); err != nil {
		return err
	}
	st.link = newDoor(l)
	for _, p := range st.cfg.manifest.Plugins {
		if p.Listen == "" {
			continue
		}
		l, err := net.Listen("tcp", p.Address(st.cfg.EphemeralPlugins))
		if err != nil {
			return fmt.Errorf("listen for plugin %s: %w", p.Name, err)
		}
		st.plugins[p.Name] = newDoor(l)
	}
	if st.cfg.endpoints != nil {
		st.cluster, err = etcd.Dial(ctx, etcd.Config{Endpoints: st.cfg.endpoints, Prefix: "/gantry/"})
		return err
	}
	st.cluster, err = member.Start(member.Config{
		Dir: filepath.Join(st.cfg.WorkDir, memberDir), Name: st.cfg.Name, Peers: st.cfg.Peers, Log: st.log,
	})
	return err
}

// close gives back what open took.
func (st *station) close() {
	for _, d := range st.doors() {
		d.Close() // it is being closed for good
	}
	if st.cluster != nil {
		if err := st.cluster.Close(); err != nil {
			st.log.Error("the store did not close", "error", err)
		}
	}
}

func (st *station) doors() (open []*door) {
	for _, d := range []*door{st.http, st.link} {
		if d != nil {
			open = append(open, d)
		}
	}
	for _, d := range st.plugins {
		open = append(open, d)
	}
	return open
}

// run stands by and leads, in turn, until ctx ends or something fails.
func (st *station) run(ctx context.Context) error {
	for {
		s, err := st.standBy(ctx)
		if err == nil {
			err = st.lead(ctx, s)
		}
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, store.ErrDeposed):
			return err
		}
		st.log.Warn("another master may lead; standing by", "reason", err)
	}
}

// lead is one time in office.
func (st *station) lead(ctx context.Context, office *etcd.Store) error {
	s := &server{
		cfg: st.cfg, log: st.log, token: st.token, store: office, lost: office.Lost(), http: st.http.lend(), link: st.link.lend(),
		listen: func(plugin, _ string) (net.Listener, error) { return st.plugins[plugin].lend(), nil },
	}
	defer s.close()
	return s.serve(ctx)
}

// standBy answers as a master that does not lead, until this one does.
func (st *station) standBy(ctx context.Context) (*etcd.Store, error) {
	var servers []*http.Server
	serve := func(d *door, h http.Handler) {
		web := api.NewServer(secure(st.cfg, h))
		servers = append(servers, web)
		go web.Serve(d.lend()) // until it is closed
	}
	defer func() {
		for _, web := range servers {
			web.Close() // clients are to come again, to the leader
		}
	}()
	serve(st.http, api.NewMaster(api.MasterConfig{
		Readiness: st, Version: &mesos.VersionInfo{Version: proto.String(version.String())},
	}))
	for name, d := range st.plugins {
		serve(d, st.forward(name))
	}
	links := st.link.lend()
	defer links.Close()
	go refuse(links)
	here := announcement{Listen: st.http.Addr().String(), Plugins: make(map[string]string)}
	for name, d := range st.plugins {
		here.Plugins[name] = d.Addr().String()
	}
	st.log.Info("master stands by", "listen", here.Listen)
	if err := st.publish(here); err != nil {
		return nil, err
	}
	text, err := json.Marshal(here)
	if err != nil {
		return nil, err
	}
	return st.cluster.Lead(ctx, string(text))
}

// refuse hangs up on agents: they are to ask where the leader is.
func refuse(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		conn.Close() // nothing was said
	}
}

func (st *station) publish(here announcement) error {
	if st.cfg.Publish == "" {
		return nil
	}
	return daemon.Publish(st.cfg.Publish, daemon.Addresses{Listen: here.Listen, Link: st.link.Addr().String(), Plugins: here.Plugins})
}

// leader returns where the leader is; nothing if none is known but perhaps this master, which is not in office yet.
func (st *station) leader(ctx context.Context) announcement {
	text, err := st.cluster.Leader(ctx)
	var a announcement
	if err != nil || json.Unmarshal([]byte(text), &a) != nil || a.Listen == st.http.Addr().String() {
		return announcement{}
	}
	return a
}

// Standing implements api.Readiness.
func (st *station) Standing() api.Standing {
	return api.Standing{Leader: st.leader(context.Background()).Listen}
}

// forward passes a plugin's HTTP on to the leader.
func (st *station) forward(plugin string) http.Handler {
	transport := &http.Transport{DisableCompression: true}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at := st.leader(r.Context()).Plugins[plugin]
		if at == "" {
			absent(w, "No leader is elected")
			return
		}
		proxy := httputil.ReverseProxy{
			Transport:     transport,
			FlushInterval: -1, // events are to arrive when they happen
			ErrorLog:      slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo),
			Rewrite: func(p *httputil.ProxyRequest) {
				p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", at, p.In.Host
				p.SetXForwarded()
			},
			ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
				absent(w, "The leader does not answer")
			},
		}
		proxy.ServeHTTP(w, r)
	})
}

func absent(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", "1")
	http.Error(w, why+"; try again in a moment.", http.StatusServiceUnavailable)
}
