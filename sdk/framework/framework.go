// Package framework is the Go author's side of the framework contract: a scheduler as a
// plugin, with its calls and events, keyed state in the kernel's store and HTTP routes.
//
//	type scheduler struct{}
//
//	func (scheduler) Run(ctx context.Context, k *framework.Kernel) error {
//		if err := k.Call(ctx, subscribe(k.Start())); err != nil {
//			return err
//		}
//		for e := range k.Events() {
//			...
//		}
//		return ctx.Err()
//	}
//
//	func main() { framework.Main(scheduler{}) }
package framework

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gantry-project/gantry/sdk/plugin"
	frameworkpb "github.com/gantry-project/gantry/sdk/proto/gantry/framework/v1"
)

// Plugin is a scheduler.
type Plugin interface {
	// Run is the whole life of the plugin: it returns when ctx ends, which it does when
	// the kernel hangs up. An error, or returning earlier, ends the process; the host
	// shows the error and starts the plugin again.
	Run(ctx context.Context, k *Kernel) error
}

// Main serves p and never returns.
func Main(p Plugin) {
	plugin.Serve(func(s *grpc.Server) {
		frameworkpb.RegisterFrameworkServer(s, &server{plugin: p})
	})
}

// exitGrace is what a plugin whose conversation is over leaves the host to end it.
const exitGrace = 2 * time.Second

type server struct {
	frameworkpb.UnimplementedFrameworkServer
	plugin Plugin
	// conversation is held while a stream is served: there is one at a time.
	conversation sync.Mutex
}

type stream = grpc.BidiStreamingServer[frameworkpb.ToFramework, frameworkpb.FromFramework]

// Run serves the contract's one stream.
func (s *server) Run(st stream) error {
	if !s.conversation.TryLock() {
		return status.Error(codes.FailedPrecondition, "this framework already serves a stream")
	}
	defer s.conversation.Unlock()
	err := converse(st, s.plugin)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		err = status.Error(codes.Aborted, err.Error())
	}
	time.AfterFunc(exitGrace, func() { os.Exit(1) })
	return err
}

// converse runs p over st until either ends.
func converse(st stream, p Plugin) error {
	first, err := st.Recv()
	if err != nil {
		return fmt.Errorf("receive the start: %w", err)
	}
	if first.GetStart() == nil {
		return errors.New("the first message to a framework is a start")
	}
	ctx, cancel := context.WithCancelCause(st.Context())
	defer cancel(nil)
	k := newKernel(first.GetStart(), st.Send)
	go func() { cancel(k.receive(st.Recv)) }()
	err = p.Run(ctx, k)
	if cause := context.Cause(ctx); errors.Is(cause, ErrSlow) {
		return cause
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}
