// Package service is the Go author's side of the service contract: HTTP as a plugin, at
// the master's own address, with the cluster at hand through the operator API.
//
//	type hello struct{}
//
//	func (hello) Run(ctx context.Context, k *service.Kernel) error {
//		return k.Serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
//			agents, err := k.Operate(r.Context(), &masterpb.Call{Type: masterpb.Call_GET_AGENTS.Enum()})
//			...
//		}))
//	}
//
//	func main() { service.Main(hello{}) }
package service

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
	servicepb "github.com/gantry-project/gantry/sdk/proto/gantry/service/v1"
)

// Plugin is a service.
type Plugin interface {
	// Run is the whole life of the plugin: it returns when ctx ends, which it does when
	// the kernel hangs up. An error, or returning earlier, ends the process; the host
	// shows the error and starts the plugin again.
	Run(ctx context.Context, k *Kernel) error
}

// Main serves p and never returns.
func Main(p Plugin) {
	plugin.Serve(func(s *grpc.Server) {
		servicepb.RegisterServiceServer(s, &server{plugin: p})
	})
}

// exitGrace is what a plugin whose conversation is over leaves the host to end it.
const exitGrace = 2 * time.Second

type server struct {
	servicepb.UnimplementedServiceServer
	plugin Plugin
	// conversation is held while a stream is served: there is one at a time.
	conversation sync.Mutex
}

type stream = grpc.BidiStreamingServer[servicepb.ToService, servicepb.FromService]

// Run serves the contract's one stream.
func (s *server) Run(st stream) error {
	if !s.conversation.TryLock() {
		return status.Error(codes.FailedPrecondition, "this service already serves a stream")
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
		return errors.New("the first message to a service is a start")
	}
	ctx, cancel := context.WithCancel(st.Context())
	defer cancel()
	go func() {
		defer cancel()
		for { // what a later kernel says beside the start is not for this version
			if _, err := st.Recv(); err != nil {
				return
			}
		}
	}()
	err = p.Run(ctx, &Kernel{start: first.GetStart(), send: st.Send})
	if ctx.Err() != nil {
		return nil
	}
	return err
}
