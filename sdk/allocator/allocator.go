// Package allocator is the Go author's side of the allocator contract: write a Policy,
// hand its constructor to Main, and the process is a plugin.
//
//	func main() {
//		allocator.Main(func(configJSON []byte) (allocator.Policy, error) {
//			return mypolicy.New(configJSON)
//		})
//	}
package allocator

import (
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/gantry-project/gantry/sdk/plugin"
	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

// Policy decides who is offered what. It is pure: no clock but the message's, no
// goroutines. One goroutine calls it, with every message of the kernel in order.
type Policy interface {
	// Apply takes m into account and returns the grants that follow from it, which it
	// counts as held at once. A snapshot replaces all that was known but filters and
	// the numbering of grants. m belongs to the policy from here on.
	Apply(m *allocatorpb.ToAllocator) []*allocatorpb.Grant
}

// Main serves the policy as a plugin and never returns. newPolicy gets the plugin's
// table of plugins.toml as JSON (empty or {} when there is none); its error is shown
// to the operator, so it says which key is wrong and what to write instead.
func Main(newPolicy func(configJSON []byte) (Policy, error)) {
	plugin.Serve(func(s *grpc.Server) {
		allocatorpb.RegisterAllocatorServer(s, &server{newPolicy: newPolicy})
	})
}

// grantsPerMessage bounds an answer; the kernel applies one message at a time.
const grantsPerMessage = 1000

// exitGrace is what a plugin whose conversation failed leaves the host to end it.
const exitGrace = 2 * time.Second

type server struct {
	allocatorpb.UnimplementedAllocatorServer
	newPolicy func([]byte) (Policy, error)
	// office is held while a stream is served: a plugin has one time in office.
	office sync.Mutex
}

type stream = grpc.BidiStreamingServer[allocatorpb.ToAllocator, allocatorpb.FromAllocator]

func (s *server) Allocate(st stream) error {
	if !s.office.TryLock() {
		return status.Error(codes.FailedPrecondition, "this allocator already serves a stream")
	}
	defer s.office.Unlock()
	err := serve(st, s.newPolicy)
	if err != nil && st.Context().Err() == nil {
		fmt.Fprintln(os.Stderr, status.Convert(err).Message())
		time.AfterFunc(exitGrace, func() { os.Exit(1) })
	}
	return err
}

func serve(st stream, newPolicy func([]byte) (Policy, error)) error {
	var policy Policy
	for {
		m, err := st.Recv()
		if err != nil {
			return err
		}
		if policy == nil {
			snapshot := m.GetSnapshot()
			if snapshot == nil {
				return status.Error(codes.FailedPrecondition, "the first message to an allocator is a snapshot")
			}
			if policy, err = newPolicy(snapshot.GetConfigJson()); err != nil {
				return status.Errorf(codes.InvalidArgument, "configuration: %v", err)
			}
		}
		for grants := range slices.Chunk(policy.Apply(m), grantsPerMessage) {
			answer := &allocatorpb.FromAllocator{Epoch: m.GetEpoch(), Revision: m.GetRevision(), Grants: grants}
			if err := st.Send(answer); err != nil {
				return fmt.Errorf("send %d grants: %w", len(grants), err)
			}
		}
	}
}
