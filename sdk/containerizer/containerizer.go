// Package containerizer is the Go author's side of the containerizer contract: a plugin on
// each agent that makes root filesystems of images.
//
//	type modules struct{ folder string }
//
//	func (m modules) Prepare(ctx context.Context, r *containerizerpb.PrepareRequest) (*containerizerpb.PrepareResponse, error) {
//		...
//	}
//
//	func (m modules) Cleanup(ctx context.Context, container string) error { ... }
//
//	func main() {
//		containerizer.Main(func(r *containerizerpb.OpenRequest) (containerizer.Plugin, error) {
//			return modules{r.GetFolder()}, nil
//		})
//	}
package containerizer

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gantry-project/gantry/sdk/plugin"
	containerizerpb "github.com/gantry-project/gantry/sdk/proto/gantry/containerizer/v1"
)

// Plugin prepares containers. Its methods are called from several goroutines at once.
type Plugin interface {
	// Prepare makes what the container needs and says what to start. It gives up when ctx
	// ends, which it does when the task is killed. An error is a sentence for the task's
	// author; the kernel then asks for Cleanup, too.
	Prepare(ctx context.Context, r *containerizerpb.PrepareRequest) (*containerizerpb.PrepareResponse, error)
	// Cleanup lets go of what only that container had. It may come twice, and for a
	// container that was never prepared.
	Cleanup(ctx context.Context, container string) error
}

// Main serves a plugin and never returns. Open gets the plugin's configuration and its
// folder, and which containers still live; its error is shown to the operator, so it says
// which key is wrong and what to write instead.
func Main(open func(*containerizerpb.OpenRequest) (Plugin, error)) {
	plugin.Serve(func(s *grpc.Server) {
		containerizerpb.RegisterContainerizerServer(s, &server{open: open, exit: func() { os.Exit(1) }})
	})
}

// exitGrace is what a plugin that can't open leaves the host to end it.
const exitGrace = 2 * time.Second

type server struct {
	containerizerpb.UnimplementedContainerizerServer
	open func(*containerizerpb.OpenRequest) (Plugin, error)
	// exit ends the process of a plugin that can't open, if the host has not by then.
	exit func()

	mu     sync.Mutex
	plugin Plugin // nil before Open
}

// Open serves the contract's call of that name.
func (s *server) Open(_ context.Context, r *containerizerpb.OpenRequest) (*containerizerpb.OpenResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plugin != nil {
		return nil, status.Error(codes.FailedPrecondition, "this containerizer is open already")
	}
	p, err := s.open(r)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		time.AfterFunc(exitGrace, s.exit)
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	s.plugin = p
	return &containerizerpb.OpenResponse{}, nil
}

// Prepare serves the contract's call of that name.
func (s *server) Prepare(ctx context.Context, r *containerizerpb.PrepareRequest) (*containerizerpb.PrepareResponse, error) {
	p, err := s.opened()
	if err != nil {
		return nil, err
	}
	answer, err := p.Prepare(ctx, r)
	return answer, said(err)
}

// Cleanup serves the contract's call of that name.
func (s *server) Cleanup(ctx context.Context, r *containerizerpb.CleanupRequest) (*containerizerpb.CleanupResponse, error) {
	p, err := s.opened()
	if err != nil {
		return nil, err
	}
	return &containerizerpb.CleanupResponse{}, said(p.Cleanup(ctx, r.GetContainer()))
}

func (s *server) opened() (Plugin, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plugin == nil {
		return nil, status.Error(codes.FailedPrecondition, "the first call to a containerizer is Open")
	}
	return s.plugin, nil
}

// said has an error arrive as words only: its code would mean something to the kernel.
func said(err error) error {
	if err == nil {
		return nil
	}
	return status.Error(codes.Aborted, status.Convert(err).Message())
}
