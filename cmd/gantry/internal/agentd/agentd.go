package agentd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/gantry-project/gantry/cmd/gantry/internal/daemon"
	"github.com/gantry-project/gantry/cmd/gantry/internal/version"
	"github.com/gantry-project/gantry/isolators/cgroup"
	"github.com/gantry-project/gantry/kernel/api"
	"github.com/gantry-project/gantry/kernel/auth"
	"github.com/gantry-project/gantry/kernel/failpoint"
	"github.com/gantry-project/gantry/kernel/host"
	"github.com/gantry-project/gantry/kernel/keeper"
	"github.com/gantry-project/gantry/kernel/keeper/keeperpb"
	"github.com/gantry-project/gantry/kernel/link"
	"github.com/gantry-project/gantry/kernel/node"
	"github.com/gantry-project/gantry/kernel/run"
	mesos "github.com/gantry-project/gantry/sdk/proto/mesos/v1"
)

const (
	dialWithin   = 15 * time.Second // for a master to let the agent in
	launchWithin = 30 * time.Second // for a new keeper to serve
	helloWithin  = 15 * time.Second // for one that is there to answer, or to be replaced
	cleanWithin  = 30 * time.Second // for what is left of the containers to go
	hangUpWithin = 2 * time.Second  // for answers under way when the agent ends
)

// serve runs an agent until ctx ends; cfg has been validated.
func serve(ctx context.Context, cfg *Config, log *slog.Logger) error {
	checkpoint, err := cfg.openCheckpoint(ctx)
	if err != nil {
		return err
	}
	defer checkpoint.Close()
	token, err := auth.Token(cfg.TokenFile)
	if err != nil {
		return err
	}
	listener, err := api.Listen(cfg.Listen, cfg.Insecure)
	if err != nil {
		return err
	}
	defer listener.Close()
	info, err := cfg.info(listener.Addr())
	if err != nil {
		return err
	}
	boot, err := bootID()
	if err != nil {
		return err
	}
	prepare, err := cfg.containers(listener.Addr(), log)
	if err != nil {
		return err
	}
	defer prepare.gauge.close()
	agent, err := run.NewAgent(ctx, run.AgentConfig{
		Node: node.Config{Info: info, Version: version.String()},
		Boot: boot, Home: cfg.home(),
		Store:      checkpoint,
		Dial:       cfg.dial(token),
		Keeper:     cfg.connectKeeper,
		Containers: prepare,
		Doorkeeper: prepare.door,
		Meter:      prepare.gauge,
		KeepTasks:  cfg.KeepTasks,
		Log:        log,
	})
	if err != nil {
		return err
	}
	plugins, err := cfg.runPlugins(ctx, prepare.images, log)
	if err != nil {
		return err
	}
	defer plugins.end()
	hangUp, err := cfg.serveHTTP(listener, agent, plugins.status)
	if err != nil {
		return err
	}
	defer hangUp()
	if err := cfg.publish(listener.Addr()); err != nil {
		return err
	}
	go cfg.collector(prepare.live, log).run(ctx)
	log.Info("agent is up", "listen", listener.Addr().String(), "masters", cfg.Masters, "cgroup", cfg.Cgroup)
	err = agent.Run(ctx)
	plugins.end()
	if ctx.Err() != nil && !cfg.KeepTasks {
		err = errors.Join(err, cfg.clean(context.WithoutCancel(ctx), prepare))
	}
	return err
}

// containers is what prepares tasks, with all that it needs.
func (c *Config) containers(listening net.Addr, log *slog.Logger) (containers, error) {
	all := containers{
		workDir: c.WorkDir, fetchRoot: c.FetchRoot, fetchBytes: c.FetchBytes,
		cgroup: c.Cgroup, endpoint: endpoint(listening),
	}
	var err error
	if all.door, err = openDoor(c.path("agent", "executor.secret"), c.Cgroup); err != nil {
		return all, err
	}
	if all.images, err = newImages(c.path("images"), c.manifest.Plugins, all.list, log); err != nil {
		return all, err
	}
	if all.old, err = all.list(); err != nil {
		return all, err
	}
	all.gauge, err = openGauge(c.Cgroup, log)
	return all, err
}

// plugins are those of the agent, which run until end is called; that may come more than once.
type plugins struct {
	end    func()
	status func() any
}

func (c *Config) runPlugins(ctx context.Context, sink host.ContainerizerSink, log *slog.Logger) (*plugins, error) {
	if len(c.manifest.Plugins) == 0 {
		return &plugins{end: func() {}}, nil
	}
	h, err := host.New(host.Config{
		Manifest: c.manifest, BinDir: filepath.Join(c.BinDir, "plugins"), Dir: c.path("plugins"),
		Cgroup: c.Cgroup + "/containerizers", Containerizers: sink, Log: log,
	})
	if err != nil {
		return nil, err
	}
	for _, p := range h.Problems() {
		log.Error(p.String())
	}
	// They are needed for as long as the agent cleans up.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := h.Run(ctx); err != nil {
			log.Warn("what the plugins left can't be removed", "error", err)
		}
	}()
	return &plugins{
		end: func() {
			cancel()
			<-ended
		},
		status: func() any { return h.Status() },
	}, nil
}

// info describes the host.
func (c *Config) info(listening net.Addr) (*mesos.AgentInfo, error) {
	hostname, err := c.hostname(listening)
	if err != nil {
		return nil, err
	}
	resources, err := c.resources()
	if err != nil {
		return nil, err
	}
	attributes, err := parseAttributes(c.Attributes)
	if err != nil {
		return nil, err
	}
	info := &mesos.AgentInfo{Hostname: &hostname, Resources: resources, Attributes: attributes}
	if tcp, ok := listening.(*net.TCPAddr); ok {
		info.Port = proto.Int32(int32(tcp.Port))
	}
	return info, nil
}

// dial opens streams to the master.
func (c *Config) dial(token string) func(context.Context) (run.AgentLink, error) {
	return func(ctx context.Context) (run.AgentLink, error) {
		ctx, cancel := context.WithTimeout(ctx, dialWithin)
		defer cancel()
		conn, err := link.Dial(ctx, link.DialConfig{Masters: c.Masters, Token: token})
		if err != nil {
			return nil, err
		}
		return conn, nil
	}
}

// collector removes the sandboxes of containers that do not live.
func (c *Config) collector(live func(container string) bool, log *slog.Logger) collector {
	return collector{
		dir: c.path("slaves"), delay: c.GCDelay, live: live, log: log,
		usage: func() (float64, error) { return diskUsage(c.WorkDir) },
	}
}

// connectKeeper dials the keeper of the work dir, and starts one if there is none.
func (c *Config) connectKeeper(ctx context.Context) (run.AgentKeeper, *keeperpb.Welcome, error) {
	dir := c.path("keeper")
	client, welcome, err := dialKeeper(ctx, dir)
	if errors.Is(err, keeper.ErrNotRunning) {
		within, cancel := context.WithTimeout(ctx, launchWithin)
		defer cancel()
		err = keeper.Launch(within, keeper.LaunchConfig{Binary: c.Keeper, Dir: dir, Cgroup: c.Cgroup + "/keeper"})
		if err != nil && !errors.Is(err, keeper.ErrRunning) {
			return nil, nil, err
		}
		client, welcome, err = dialKeeper(ctx, dir)
	}
	if err != nil {
		return nil, nil, err
	}
	context.AfterFunc(ctx, func() { client.Close() }) // fails only where it was closed before
	return client, welcome, nil
}

func dialKeeper(ctx context.Context, dir string) (*keeper.Client, *keeperpb.Welcome, error) {
	within, cancel := context.WithTimeout(ctx, helloWithin)
	defer cancel()
	client, welcome, err := keeper.Dial(within, dir)
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("%w: why it does not answer is in %s", err, filepath.Join(dir, "keeper.log"))
	}
	return client, welcome, err
}

// serveHTTP serves the agent's API until hangUp is called.
func (c *Config) serveHTTP(l net.Listener, agent *run.Agent, plugins func() any) (hangUp func(), err error) {
	if err := os.MkdirAll(c.path("slaves"), 0o755); err != nil {
		return nil, fmt.Errorf("make the folder of sandboxes: %w", err)
	}
	sandboxes, err := os.OpenRoot(c.path("slaves"))
	if err != nil {
		return nil, fmt.Errorf("open the folder of sandboxes: %w", err)
	}
	version := &mesos.VersionInfo{Version: proto.String(version.String())}
	handler := api.NewAgent(api.AgentConfig{
		State: agent, Executors: agent, Monitor: agent, Tracer: agent, Version: version, Sandboxes: sandboxes, Plugins: plugins,
	})
	server := api.NewServer(api.Secure(withMetrics(handler, agent.Metrics), api.SecureConfig{}))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			slog.Error("the agent's API ended", "error", err)
		}
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), hangUpWithin)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close() // fails only where it is closed
		}
		<-ended
		sandboxes.Close() // read only
	}, nil
}

func (c *Config) publish(listening net.Addr) error {
	if c.Publish == "" {
		return nil
	}
	failpoint.Hit("agent.publishing")
	err := daemon.Publish(c.Publish, daemon.Addresses{Listen: listening.String()})
	failpoint.Hit("agent.published")
	return err
}

// clean removes what must not outlive an agent that has ended its tasks, whatever state
// keeper and containers were in.
func (c *Config) clean(ctx context.Context, prepared containers) error {
	ctx, cancel := context.WithTimeout(ctx, cleanWithin)
	defer cancel()
	groups := []string{c.Cgroup + "/containers", c.Cgroup + "/keeper"}
	if c.ownCgroup {
		groups = append(groups, c.Cgroup)
	}
	var err error
	for _, group := range groups {
		err = errors.Join(err, cgroup.Remove(ctx, group))
	}
	all, listErr := prepared.list()
	prepared.old = all
	return errors.Join(err, listErr, prepared.Retain(ctx, nil))
}
