package host

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	sdk "github.com/gantry-project/gantry/sdk/plugin"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
	servicepb "github.com/gantry-project/gantry/sdk/proto/gantry/service/v1"
)

// State is where a plugin stands.
type State string

// The states of a plugin.
const (
	Starting State = "starting"
	Running  State = "running"
	Backoff  State = "backoff"  // it failed, and will be started again
	GivenUp  State = "given up" // it failed too often; restarting gantry tries again
	Missing  State = "missing"  // there is no usable binary
	Stopped  State = "stopped"  // the host has ended
)

// Status is how a plugin fares.
type Status struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	State State  `json:"state"`
	// Pid of the process; 0 when there is none.
	Pid int `json:"pid"`
	// Restarts counts the starts after the first.
	Restarts int `json:"restarts"`
	// Since is when it came into this state.
	Since time.Time `json:"since"`
	// Listen is the actual host:port, or empty.
	Listen string `json:"listen"`
	// Message says why it is not running.
	Message string `json:"message"`
	// Digest is the sha256 in hex of what decides: the module or the runner, or else the binary.
	Digest string `json:"digest"`
}

// maxMessage bounds Status.Message.
const maxMessage = 500

// environment names the variables that a plugin inherits.
var environment = []string{"PATH", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR"}

// plugin is one entry and its process.
type plugin struct {
	entry   Entry
	host    *Host
	dir     string   // for sockets; emptied at each start
	files   []pinned // the binary, and the module or the runner if it has one; empty when it can't run
	group   *group
	door    *door  // nil: it serves no HTTP
	front   *front // nil: no listener of its own
	journal *journal

	mu       sync.Mutex
	state    State
	since    time.Time
	message  string
	pid      int
	restarts int
}

func (p *plugin) socket() string { return filepath.Join(p.dir, "http") }

func (p *plugin) set(s State, message string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state, p.since = s, time.Now()
	p.message = message[:min(len(message), maxMessage)]
}

func (p *plugin) setPid(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid = pid
}

func (p *plugin) status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Status{
		Name: p.entry.Name, Kind: p.entry.Kind, State: p.state, Pid: p.pid,
		Restarts: p.restarts, Since: p.since, Message: p.message,
	}
	if n := len(p.files); n > 0 {
		s.Digest = p.files[n-1].digest
	}
	if p.front != nil {
		s.Listen = p.front.listener.Addr().String()
	}
	return s
}

// supervise starts the plugin again and again until ctx ends or it has failed too often
// in a row.
func (p *plugin) supervise(ctx context.Context) {
	pace, log := p.host.pace, p.host.cfg.Log.With("plugin", p.entry.Name)
	for failures := 0; ; {
		began := time.Now()
		err := p.session(ctx)
		if ctx.Err() != nil {
			p.set(Stopped, "")
			return
		}
		if time.Since(began) >= pace.settled {
			failures = 0
		}
		failures++
		message := p.reason(err)
		if failures >= pace.maxFailures || errors.Is(err, errSwapped) {
			p.set(GivenUp, message)
			log.Error("a plugin is given up", "failures", failures, "reason", message)
			return
		}
		pause := min(pace.minPause<<(failures-1), pace.maxPause)
		pause = pause/2 + rand.N(pause/2+1)
		p.set(Backoff, message)
		log.Warn("a plugin ended and will be started again", "after", pause, "reason", message)
		select {
		case <-ctx.Done():
			p.set(Stopped, "")
			return
		case <-time.After(pause):
		}
		p.mu.Lock()
		p.restarts++
		p.mu.Unlock()
		p.set(Starting, message)
	}
}

// reason makes a sentence of err and of the last that the plugin had to say.
func (p *plugin) reason(err error) string {
	message := clean([]byte(err.Error()))
	if last := p.journal.lastLine(); last != "" {
		message += "; its last words: " + last
	}
	return message
}

// session is one run of the plugin's process, from start to end. It never returns nil.
func (p *plugin) session(ctx context.Context) error {
	if err := emptyDir(p.dir); err != nil {
		return err
	}
	defer os.RemoveAll(p.dir)
	run, err := p.start()
	if err != nil {
		return err
	}
	defer run.end(p.host.pace.stop)
	p.setPid(run.process.pid)
	defer p.setPid(0)
	p.set(Running, "")

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var watching sync.WaitGroup
	defer watching.Wait()
	watching.Go(func() { cancel(p.watch(ctx, run)) })
	err = p.converse(ctx, run)
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("the plugin ended the conversation")
	}
	if status.Code(err) == codes.Unavailable { // the process is ending, and how says more
		select {
		case <-run.process.done:
			err = run.process.ended()
		case <-time.After(p.host.pace.stop):
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(nil)
	if said, ok := errors.AsType[interface {
		error
		GRPCStatus() *status.Status
	}](err); ok {
		return errors.New(said.GRPCStatus().Message())
	}
	return err
}

// converse hands the conversation to whoever serves the plugin's contract.
func (p *plugin) converse(ctx context.Context, run *run) error {
	cfg := p.host.cfg
	if p.door != nil {
		defer p.door.ready.Store(false)
	}
	switch p.entry.Kind {
	case Containerizer:
		return cfg.Containerizers.ServeContainerizer(ctx, p.entry, containerizerpb.NewContainerizerClient(run.conn))
	case Allocator:
		s, err := allocatorpb.NewAllocatorClient(run.conn).Allocate(ctx)
		if err != nil {
			return err
		}
		return cfg.Allocators.ServeAllocator(ctx, p.entry.Name, p.entry.Config, s)
	case Service:
		s, err := servicepb.NewServiceClient(run.conn).Run(ctx)
		if err != nil {
			return err
		}
		return p.serveService(s)
	}
	s, err := frameworkpb.NewFrameworkClient(run.conn).Run(ctx)
	if err != nil {
		return err
	}
	start := &frameworkpb.Start{Name: p.entry.Name, ConfigJson: p.entry.Config, MasterAddress: cfg.MasterAddress()}
	if p.front != nil {
		start.HttpSocket, start.HttpAddress = p.socket(), p.front.listener.Addr().String()
	}
	return cfg.Frameworks.ServeFramework(ctx, start, readyStream{s, p.door})
}

// readyStream opens the door when the plugin says that it serves.
type readyStream struct {
	FrameworkStream
	door *door
}

func (s readyStream) Recv() (*frameworkpb.FromFramework, error) {
	m, err := s.FrameworkStream.Recv()
	if m.GetReady() != nil && s.door != nil {
		s.door.ready.Store(true)
	}
	return m, err
}

// serveService has the whole conversation with a service: it is told where things are,
// and says when it serves.
func (p *plugin) serveService(s grpc.BidiStreamingClient[servicepb.ToService, servicepb.FromService]) error {
	start := &servicepb.Start{
		Name: p.entry.Name, ConfigJson: p.entry.Config, HttpSocket: p.socket(),
		HttpPath: servicePath(p.entry.Name), Home: p.entry.Home, MasterAddress: p.host.cfg.MasterAddress(),
	}
	if p.front != nil {
		start.HttpAddress = p.front.listener.Addr().String()
	}
	err := s.Send(&servicepb.ToService{Body: &servicepb.ToService_Start{Start: start}})
	for err == nil {
		var m *servicepb.FromService
		if m, err = s.Recv(); m.GetReady() != nil {
			p.door.ready.Store(true)
		}
	}
	return err
}

// watch returns when the process has ended or no longer answers, and says so.
func (p *plugin) watch(ctx context.Context, run *run) error {
	ticks := time.NewTicker(p.host.pace.health)
	defer ticks.Stop()
	for missed := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-run.process.done:
			return run.process.ended()
		case <-ticks.C:
		}
		if err := run.ping(ctx, p.host.pace.health); err == nil {
			missed = 0
			continue
		}
		if missed++; missed == p.host.pace.missed {
			return fmt.Errorf("the plugin failed %d health checks in a row", missed)
		}
	}
}

// run is a started process and the connection to it.
type run struct {
	client  *goplugin.Client
	process *process
	conn    *grpc.ClientConn
}

// start starts the process and waits until it is healthy.
func (p *plugin) start() (*run, error) {
	r := &run{}
	r.client = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  sdk.Handshake(),
		Plugins:          sdk.Set(nil),
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			r.process = p.process(cmd)
			return r.process, nil
		},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     p.host.pace.start,
		Logger:           hclog.NewNullLogger(),
		Stderr:           p.journal.stream(),
		SyncStdout:       p.journal.stream(),
		SyncStderr:       p.journal.stream(),
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: p.dir},
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(sdk.MaxMessageBytes)),
		},
	})
	if _, err := r.client.Start(); err != nil {
		r.end(0)
		return nil, fmt.Errorf("start: %w", err)
	}
	// From here on nothing in go-plugin has a deadline; a dead process ends it all.
	late := time.AfterFunc(p.host.pace.start, func() { _ = r.process.Kill(context.Background()) })
	defer late.Stop()
	protocol, err := r.client.Client()
	if err == nil {
		r.conn = protocol.(*goplugin.GRPCClient).Conn
		err = r.ping(context.Background(), p.host.pace.start)
	}
	if err != nil {
		r.end(0)
		return nil, fmt.Errorf("connect: %w", err)
	}
	return r, nil
}

// process makes the runner of what go-plugin wants started: the private copy, in a
// private folder, with little from the host's environment. Who runs a module or has a
// runner is told of it by flags.
func (p *plugin) process(cmd *exec.Cmd) *process {
	cmd.Path = p.files[0].path
	cmd.Args = []string{p.entry.Kind + "-" + p.entry.Name}
	if m := p.entry.Module; m != nil {
		cmd.Args = append(cmd.Args, "-module", p.files[1].path, "-cache", p.host.cache(),
			fmt.Sprintf("-memory-mb=%d", m.MemoryMB), fmt.Sprintf("-deadline=%dms", m.DeadlineMillis))
	}
	if p.entry.Runner != "" {
		cmd.Args = append(cmd.Args, "-runner", p.files[1].path)
	}
	cmd.Dir = p.dir
	cmd.Env = append(cmd.Env, "HOME="+p.dir, "TMPDIR="+p.dir)
	for _, name := range environment {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	cmd.Err = nil // of looking up the name that there was not
	return &process{cmd: cmd, files: p.files, group: p.group}
}

// ping asks for the plugin's health.
func (r *run) ping(ctx context.Context, patience time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	answer, err := grpc_health_v1.NewHealthClient(r.conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{
		Service: goplugin.GRPCServiceName,
	})
	if err != nil {
		return err
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("the plugin says that it is %s", answer.GetStatus())
	}
	return nil
}

// end asks the process to end, kills it after patience, and waits until it is gone.
func (r *run) end(patience time.Duration) {
	kill := func() {
		if r.process != nil {
			_ = r.process.Kill(context.Background())
		}
	}
	if patience == 0 {
		kill()
	}
	late := time.AfterFunc(patience, kill)
	defer late.Stop()
	r.client.Kill()
}
