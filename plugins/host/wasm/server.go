package main

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	allocatorpb "github.com/gantry-project/gantry/sdk/proto/gantry/allocator/v1"
)

// grantsPerMessage bounds what is sent at once; the kernel applies one message at a time.
const grantsPerMessage = 1000

// server is the allocator contract, served by a module.
type server struct {
	allocatorpb.UnimplementedAllocatorServer
	module *module
	// office is held while a stream is served: an allocator has one time in office.
	office sync.Mutex
}

type stream = grpc.BidiStreamingServer[allocatorpb.ToAllocator, allocatorpb.FromAllocator]

// Allocate has the conversation with a fresh instance of the module.
func (s *server) Allocate(st stream) error {
	if !s.office.TryLock() {
		return status.Error(codes.FailedPrecondition, "this allocator already serves a stream")
	}
	defer s.office.Unlock()
	i, err := s.module.instantiate(st.Context())
	if err != nil {
		return status.Error(codes.Internal, err.Error())
	}
	defer i.close()
	for {
		m, err := st.Recv()
		if err != nil {
			return err
		}
		grants, err := i.apply(st.Context(), m)
		if err != nil {
			return status.Error(codes.Internal, err.Error())
		}
		for part := range slices.Chunk(grants, grantsPerMessage) {
			answer := &allocatorpb.FromAllocator{Epoch: m.GetEpoch(), Revision: m.GetRevision(), Grants: part}
			if err := st.Send(answer); err != nil {
				return fmt.Errorf("send %d grants: %w", len(part), err)
			}
		}
		i.heap.tend()
	}
}

// apply has the module take m and returns its grants.
func (i *instance) apply(ctx context.Context, m *allocatorpb.ToAllocator) ([]*allocatorpb.Grant, error) {
	message, err := proto.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode a message for the module: %w", err)
	}
	bytes, err := i.step(ctx, message)
	if err != nil {
		return nil, err
	}
	answer := &allocatorpb.FromAllocator{}
	if err := proto.Unmarshal(bytes, answer); err != nil {
		return nil, fmt.Errorf("the module's answer of %d bytes is no FromAllocator: %w", len(bytes), err)
	}
	return answer.GetGrants(), nil
}
